"""The bench's time on another machine: however slow the answers are, and whichever clock is faster."""

from __future__ import annotations

from random import Random

import pytest

from squall.plugins.locust.bench_clock import BenchClock

MS = 1_000_000


class Machines:
    """Two clocks of one time: the bench's, and one that began elsewhen and goes at another pace. ns."""

    def __init__(self, offset_ns: int, faster: float) -> None:
        self.offset_ns, self.faster = offset_ns, faster
        self.bench_ns = 5_000 * MS

    def here(self) -> int:
        return round(self.bench_ns * (1 + self.faster)) + self.offset_ns

    def ask(self, clock: BenchClock, there_ns: int, back_ns: int) -> None:
        sent_ns = self.here()
        self.bench_ns += there_ns
        answer_ns = self.bench_ns
        self.bench_ns += back_ns
        clock.asked(sent_ns, answer_ns)


@pytest.mark.parametrize("seed", range(20))
def test_the_true_time_lies_between_earliest_and_latest(seed: int) -> None:
    """Whether it is the question or the answer that takes long; the error is no more than the best answer's."""
    random = Random(seed)
    machines = Machines(random.randint(-(10**15), 10**15), random.uniform(-5e-5, 5e-5))
    clock = BenchClock(machines.here)
    assert not clock.known
    for _ in range(60):
        machines.ask(clock, random.randint(0, 40 * MS), random.randint(0, 40 * MS))
        for _ in range(5):
            machines.bench_ns += random.randint(0, 400 * MS)
            assert clock.earliest() <= machines.bench_ns <= clock.latest()
            assert clock.latest() - clock.earliest() <= 2 * clock.error_ns + 1
    assert clock.known
    assert clock.error_ns < 20 * MS


def test_an_old_answer_is_worth_less() -> None:
    """A quick one is kept, until one that is slower is the better, since the clocks have run apart."""
    machines = Machines(7 * MS, 0.0)
    clock = BenchClock(machines.here)
    machines.ask(clock, MS, MS)
    assert clock.error_ns == pytest.approx(MS, abs=5)
    machines.bench_ns += 50_000 * MS
    assert clock.error_ns == pytest.approx(6 * MS, abs=5)
    machines.ask(clock, 3 * MS, 3 * MS)
    assert clock.error_ns == pytest.approx(3 * MS, abs=5)
