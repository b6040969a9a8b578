"""The bench's clock, as it is known on another machine.

Clocks differ between machines, and so does their pace. The bench is asked for its time again and again; half of how
long the answer took, and a ten-thousandth of its age, bounds how wrong it is (F. Cristian, "Probabilistic clock
synchronization", Distributed Computing 3, 1989). What is noted there is widened by that: a publish begins as early, and
ends as late, as it may have. So nothing that overlapped within the error looks as if one came after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

KEPT = 16
DRIFT = 10_000
"""Clocks gain or lose less than one part in so many on each other."""


class BenchClock:
    """The bench's monotonic time, ns: it is not before `earliest`, and not after `latest`, each within `error_ns` of
    what is likely. Until it was `asked`, it is as here. here: monotonic ns of this machine."""

    def __init__(self, here: Callable[[], int]) -> None:
        self._here = here
        self._answers: deque[tuple[int, int, int]] = deque(maxlen=KEPT)

    @property
    def known(self) -> bool:
        """Whether the bench has answered."""
        return bool(self._answers)

    def asked(self, sent_ns: int, bench_ns: int) -> None:
        """The bench was asked at sent_ns of here, and its answer has come now."""
        now_ns = self._here()
        self._answers.append((now_ns, (now_ns - sent_ns) // 2 + 1, bench_ns - (sent_ns + now_ns) // 2))

    @property
    def error_ns(self) -> int:
        """How wrong it may be, by the best answer."""
        return self._best(self._here())[0]

    def earliest(self) -> int:
        now_ns = self._here()
        error, offset = self._best(now_ns)
        return now_ns + offset - error

    def latest(self) -> int:
        now_ns = self._here()
        error, offset = self._best(now_ns)
        return now_ns + offset + error

    def _best(self, now_ns: int) -> tuple[int, int]:
        return min(((error + (now_ns - at) // DRIFT, offset) for at, error, offset in self._answers), default=(0, 0))
