"""The breaker does what the plain model of its rules does, whatever comes; wrong ones do not."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from tests.plugins.breaker_model import BreakerMachine, drive

from squall.core.delivery import Attempt, Permits, WaitUntil
from squall.plugins.breaker import Breaker, TimeWindow


class CreditsStaleResults(Breaker):
    def _is_stale(self, permits: Permits) -> bool:
        return False


class LetsEveryoneThrough(Breaker):
    def try_acquire(self, n: int) -> Permits | WaitUntil:
        answer = super().try_acquire(n)
        return Permits(n, self._generation) if self._state == "half_open" else answer


class KeepsReleasedPermits(Breaker):
    def release(self, permits: Permits, n: int) -> None: ...


class ForgetsSlowCalls(Breaker):
    def _judged(self, attempt: Attempt) -> tuple[bool, bool]:
        return super()._judged(attempt)[0], False


class CountsRejects(Breaker):
    def _judged(self, attempt: Attempt) -> tuple[bool, bool]:
        return attempt.outcome != "ok", super()._judged(attempt)[1]


class LooksOncePerBatch(Breaker):
    def _add_mixed(self, attempts: object) -> None:
        assert isinstance(attempts, list)
        for one in attempts:
            self._window.add(1, *self._judged(one))
        if self._window.calls >= self._options.min_calls and self._is_over(self._window):
            self._open()


class KeepsItsWindow(Breaker):
    def _new_window(self) -> object:  # type: ignore[override]
        return getattr(self, "_window", None) or super()._new_window()


class NeverOpensOnAGoodCall(Breaker):
    def _add_good(self, calls: int) -> None:
        self._window.add(calls)


class TrialNeverEnds(Breaker):
    def _notice(self, now_ns: int) -> None:
        if self._state == "open":
            super()._notice(now_ns)


class BucketsStay(TimeWindow):
    def move_to(self, now_ns: int) -> None:
        """Drop what is old as of two buckets ago, then begin the bucket of now."""
        super().move_to(now_ns - 2 * self._width_ns)
        kept, self._buckets = self._buckets, deque()
        super().move_to(now_ns)
        self._buckets.extendleft(reversed(kept))


class ForgetsLate(Breaker):
    def _new_window(self) -> object:  # type: ignore[override]
        window = super()._new_window()
        return BucketsStay(round(self._options.time_window * 1e9)) if self._options.time_window else window


def test_it_does_what_the_model_does() -> None:
    """States, permits and waits agree with the plain rules, whatever comes."""
    run_state_machine_as_test(BreakerMachine, settings=settings(max_examples=60, stateful_step_count=30))
    drive(Breaker, 400)


@pytest.mark.parametrize(
    "broken",
    [
        CreditsStaleResults, LetsEveryoneThrough, KeepsReleasedPermits, ForgetsSlowCalls, CountsRejects,
        LooksOncePerBatch, KeepsItsWindow, NeverOpensOnAGoodCall, TrialNeverEnds, ForgetsLate,
    ],
)  # fmt: skip
def test_a_wrong_breaker_is_noticed(broken: type[Breaker]) -> None:
    """The same run fails for breakers with the known mistakes of others."""
    with pytest.raises(AssertionError):
        drive(broken, 400)
