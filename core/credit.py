"""Leave to deliver: how many deliveries may begin now, and under which of the gate's permits."""

from __future__ import annotations

from collections.abc import Callable
from logging import Logger

from squall.core.clock import Clock, Timer
from squall.core.delivery import Attempts, Gate, Permits, WaitUntil
from squall.core.trouble import Trouble

UNLIMITED = 1 << 60
GATE_FAILED_S = 1.0
SOONEST_NS = 1_000_000


class Credit:
    """What a subscription's gate permits. `left` deliveries may begin under `permits`; no gate permits all.

    A gate that says when to ask again is asked no sooner, by one timer; `open_again` is called then.
    """

    def __init__(
        self, gate: Gate | None, clock: Clock, logger: Logger, label: str, open_again: Callable[[], None]
    ) -> None:
        self.left = 0
        self.permits: Permits | None = None
        self._gate, self._clock = gate, clock
        self._trouble, self._untold = Trouble(logger, label), Trouble(logger, label)
        self._open_again = open_again
        self._timer: Timer | None = None

    @property
    def longest_wait_s(self) -> float:
        """How long the gate may hold the subscription at a time."""
        return 0.0 if self._gate is None else self._gate.longest_wait_s

    def ask(self, n: int) -> bool:
        """Leave for up to n deliveries; whether there is any."""
        if self._gate is None:
            self.left = UNLIMITED
        elif self._timer is None:
            try:
                answer = self._gate.try_acquire(n)
                if not isinstance(answer, Permits | WaitUntil):
                    raise TypeError(f"try_acquire: expected Permits or WaitUntil, got {answer!r:.80}")
                self._trouble.over("the gate answers again")
            except Exception:  # noqa: BLE001  logged, once
                self._trouble.add("a gate raised; it is asked again every second, and the subscription held")
                answer = WaitUntil(self._clock.monotonic_ns() + round(GATE_FAILED_S * 1e9))
            if isinstance(answer, WaitUntil):
                wait_ns = max(SOONEST_NS, answer.at_ns - self._clock.monotonic_ns())
                self._timer = self._clock.call_later(wait_ns / 1e9, self._due)
            else:
                self.permits, self.left = answer, answer.n
        return self.left > 0

    def withdraw(self) -> None:
        """Let nothing more begin until it is asked again; what was not used is given back."""
        unused, self.left = self.left, 0
        if unused and self.permits is not None:
            self.give_back(self.permits, unused)

    def give_back(self, permits: Permits | None, n: int) -> None:
        """n of these permits were not used, or what they were used for was cancelled."""
        if self._gate is not None and permits is not None:
            self._gate.release(permits, n)

    def changed(self) -> None:
        """The gate's answer may be another now: withdraw what it gave, and ask it again."""
        self.close()
        self._open_again()

    def close(self) -> None:
        """Withdraw, and forget when to ask again."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.withdraw()

    def _due(self) -> None:
        self._timer = None
        self._open_again()

    def record(self, batch: Attempts, *, in_order: bool) -> None:
        """Tell the gate how deliveries ended, permit by permit. `in_order`: they ended as they began."""
        if self._gate is None:
            return
        try:
            for permits, attempts in _by_permits(batch, in_order=in_order):
                self._gate.record(permits, attempts)
            self._untold.over("the gate takes outcomes again")
        except Exception:  # noqa: BLE001  logged, once
            self._untold.add("a gate raised about outcomes; it does not know of them")


def _by_permits(batch: Attempts, *, in_order: bool) -> list[tuple[Permits, Attempts]]:
    first = batch[0].permits
    if first is not None and (batch[-1].permits is first if in_order else all(one.permits is first for one in batch)):
        return [(first, batch)]
    found: dict[int, tuple[Permits, Attempts]] = {}
    for attempt in batch:
        if attempt.permits is not None:
            fresh = Attempts(unusual=None if batch.unusual else [])
            _, attempts = found.setdefault(id(attempt.permits), (attempt.permits, fresh))
            attempts.append(attempt)
    return list(found.values())
