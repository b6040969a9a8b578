"""A gate for tests that keeps account of its permits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from squall import Attempt, Permits, WaitUntil


class Bulkhead:
    """Gives at most `size` permits at a time, in steps of at most `step`, and keeps account of every one.

    `mistakes` names what should not have happened: more attempts than permits, foreign or stale generations.
    """

    longest_wait_s = 1.0

    def __init__(self, now_ns: Callable[[], int], size: int = 1 << 30, step: int = 1 << 30) -> None:
        self.now_ns = now_ns
        self.size, self.step = size, step
        self.open = True
        self.asked: list[int] = []
        self.given: dict[int, Permits] = {}
        self.left: dict[int, int] = {}
        self.recorded: list[Attempt] = []
        self.mistakes: list[str] = []
        self.released = 0

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        self.asked.append(n)
        n = min(n, self.step, self.size - sum(self.left.values()))
        if not self.open or n <= 0:
            return WaitUntil(self.now_ns() + 1_000_000_000)
        generation = len(self.given) + 1
        self.given[generation] = Permits(n, generation)
        self.left[generation] = n
        return self.given[generation]

    def record(self, permits: Permits, attempts: Sequence[Attempt]) -> None:
        self._take_back(permits, len(attempts))
        self.recorded.extend(attempts)

    def release(self, permits: Permits, n: int) -> None:
        self._take_back(permits, n)
        self.released += n

    def _take_back(self, permits: Permits, n: int) -> None:
        if self.given.get(permits.generation) is not permits:
            self.mistakes.append(f"{permits} were never given")
            return
        self.left[permits.generation] -= n
        if self.left[permits.generation] < 0:
            self.mistakes.append(f"more came back of {permits} than were given")

    @property
    def out(self) -> int:
        """Permits that did not come back yet."""
        return sum(self.left.values())
