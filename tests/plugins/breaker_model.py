"""The breaker's rules in the plainest form, and a breaker driven beside them, call by call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule
from tests.plugins.surroundings import Surroundings, attempt, subscription

from squall.core.delivery import Attempts, Permits, WaitUntil
from squall.core.errors import Reject
from squall.plugins.breaker import BUCKETS, Breaker, BreakerOptions

SLOW_S = 2.0
HALF_OPEN_PERMITS = 4
ENDS = ("ok", "slow", "error", "timeout", "reject")
TIME_WINDOWS = (None, 10.0)
FAILURE_RATES = (0.2, 0.5, 1.0)
SLOW_CALL_RATES = (0.5, 1.0)
OPEN_FACTORS = (1.0, 3.0)
WAITS_S = (0.5, 1.0, 2.0, 5.0, 30.0)


@dataclass
class Model:
    """The rules in the plainest form: every call is kept and every rate computed anew after each."""

    options: BreakerOptions
    now_s: float = 0.0
    state: str = "closed"
    generation: int = 0
    calls: list[tuple[float, bool, bool]] = field(default_factory=list)
    trial: list[tuple[float, bool, bool]] = field(default_factory=list)
    given: int = 0
    until_s: float = 0.0
    failed_trials: int = 0

    def acquire(self, n: int) -> int | float:
        """A number of permits (int), or the time to ask again (float)."""
        if self.state == "half_open" and self.given and self.now_s >= self.until_s:
            self.judge()
        elif self.state == "open" and self.now_s >= self.until_s:
            self.enter("half_open")
        if self.state == "closed":
            return n
        if self.state == "open":
            return self.until_s
        if self.given == 0:
            self.until_s = self.now_s + self.options.half_open_for
        n = min(n, self.options.half_open_permits - self.given)
        self.given += n
        return n or self.until_s

    def finish(self, generation: int, failed: bool, slow: bool) -> None:
        if generation != self.generation:
            return
        if self.state == "half_open":
            self.trial.append((self.now_s, failed, slow))
            if len(self.trial) == self.options.half_open_permits:
                self.judge()
            return
        self.calls.append((self.now_s, failed, slow))
        window = self.window()
        if len(window) >= self.options.min_calls and self.over(window):
            self.open()

    def release(self, generation: int, n: int) -> None:
        if generation == self.generation and self.state == "half_open":
            self.given -= n

    def window(self) -> list[tuple[float, bool, bool]]:
        if self.options.time_window is None:
            return self.calls[-self.options.window :]
        width_s = self.options.time_window / BUCKETS
        oldest = int(self.now_s / width_s) - BUCKETS + 1
        return [call for call in self.calls if int(call[0] / width_s) >= oldest]

    def over(self, calls: list[tuple[float, bool, bool]]) -> bool:
        failures, slow = (sum(call[i] for call in calls) / len(calls) for i in (1, 2))
        return failures >= self.options.failure_rate or slow >= self.options.slow_call_rate

    def judge(self) -> None:
        if self.trial and not self.over(self.trial):
            self.failed_trials = 0
            self.enter("closed")
        else:
            self.failed_trials += 1
            self.open()

    def open(self) -> None:
        grown_s = self.options.open_for * self.options.open_factor**self.failed_trials
        self.until_s = self.now_s + min(grown_s, max(self.options.open_cap, self.options.open_for))
        self.enter("open")

    def enter(self, state: str) -> None:
        self.state, self.given, self.calls, self.trial = state, 0, [], []
        self.generation += 1


@dataclass
class Held:
    """Permits that the machine has not used up."""

    permits: Permits
    generation: int
    left: int
    given_ns: int


class Comparison:
    """A breaker and the model, driven alike: batches of any mix, late results, releases, jumps of time."""

    def __init__(self, kind: type[Breaker], chosen: Mapping[str, float | None]) -> None:
        options = BreakerOptions.of(
            "breaker",
            {
                "window": 8, "slow_call_duration": SLOW_S, "open_for": 5, "open_cap": 20, "half_open_for": 30,
                "half_open_permits": HALF_OPEN_PERMITS, **chosen,
            },
        )  # fmt: skip
        self.around = Surroundings()
        self.clock = self.around.clock
        self.breaker = kind(options, self.around.ctx, subscription())
        self.model = Model(options, self.clock.monotonic_ns() / 1e9)
        self.held: list[Held] = []

    def wait(self, seconds: float) -> None:
        self.clock.move(seconds)
        self.model.now_s += seconds
        self.check()

    def acquire(self, n: int) -> None:
        answer, expected = self.breaker.try_acquire(n), self.model.acquire(n)
        if isinstance(answer, WaitUntil):
            assert answer.at_ns == pytest.approx(expected * 1e9, abs=10), (answer, expected)
            assert isinstance(expected, float)
        else:
            assert answer.n == expected
            self.held.append(Held(answer, self.model.generation, answer.n, self.clock.monotonic_ns()))
        self.check()

    def finish(self, held: Held, ends: Sequence[str]) -> None:
        now_ns, batch = self.clock.monotonic_ns(), Attempts()
        for end in ends[: held.left]:
            begun_ns = held.given_ns if end == "slow" else now_ns
            outcome = "timeout" if end == "timeout" else "error" if end in ("error", "reject") else "ok"
            error = Reject() if end == "reject" else None
            batch.append(attempt(begun_ns, now_ns, outcome, error))
            slow = now_ns - begun_ns >= SLOW_S * 1e9
            self.model.finish(held.generation, end in ("error", "timeout"), slow)
        self.breaker.record(held.permits, batch)
        self._used(held, len(batch))

    def release(self, held: Held, n: int) -> None:
        self.breaker.release(held.permits, n)
        self.model.release(held.generation, n)
        self._used(held, n)

    def _used(self, held: Held, n: int) -> None:
        held.left -= n
        if held.left == 0:
            self.held = [other for other in self.held if other is not held]
        self.check()

    def check(self) -> None:
        assert self.breaker.state == self.model.state
        assert len(self.around.changes) == self.model.generation
        assert not self.around.changes or self.around.changes[-1] == ("s-1", "breaker", self.model.state)
        out = sum(held.left for held in self.held if held.generation == self.model.generation)
        assert self.model.state != "half_open" or out + len(self.model.trial) <= HALF_OPEN_PERMITS


class BreakerMachine(RuleBasedStateMachine):
    """The comparison, as hypothesis drives it."""

    @initialize(
        time_window=st.sampled_from(TIME_WINDOWS), min_calls=st.integers(1, 6),
        failure_rate=st.sampled_from(FAILURE_RATES), slow_call_rate=st.sampled_from(SLOW_CALL_RATES),
        open_factor=st.sampled_from(OPEN_FACTORS),
    )  # fmt: skip
    def make(self, **chosen: float | None) -> None:
        self.pair = Comparison(Breaker, chosen)

    @rule(seconds=st.sampled_from(WAITS_S))
    def wait(self, seconds: float) -> None:
        self.pair.wait(seconds)

    @rule(n=st.integers(1, 12))
    def acquire(self, n: int) -> None:
        self.pair.acquire(n)

    @precondition(lambda self: self.pair.held)
    @rule(data=st.data(), ends=st.lists(st.sampled_from(ENDS), min_size=1))
    def finish(self, data: st.DataObject, ends: list[str]) -> None:
        self.pair.finish(data.draw(st.sampled_from(self.pair.held)), ends)

    @precondition(lambda self: self.pair.held)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(self.pair.held))
        self.pair.release(held, data.draw(st.integers(1, held.left)))


def drive(kind: type[Breaker], sequences: int) -> None:
    """The comparison, driven by a seed: shallower in choice than hypothesis, and a hundred times as often."""
    for seed in range(sequences):
        random = Random(seed)
        chosen = {
            "time_window": random.choice(TIME_WINDOWS), "min_calls": random.randint(1, 6),
            "failure_rate": random.choice(FAILURE_RATES), "slow_call_rate": random.choice(SLOW_CALL_RATES),
            "open_factor": random.choice(OPEN_FACTORS),
        }  # fmt: skip
        pair = Comparison(kind, chosen)
        usual = random.choice(ENDS)
        for _ in range(60):
            what = random.random()
            if what < 0.2:
                pair.wait(random.choice(WAITS_S))
            elif what < 0.4 or not pair.held:
                pair.acquire(random.randint(1, 12))
            elif what < 0.9:
                ends = [random.choice((usual, "ok", random.choice(ENDS))) for _ in range(random.randint(1, 12))]
                pair.finish(random.choice(pair.held), ends)
            else:
                held = random.choice(pair.held)
                pair.release(held, random.randint(1, held.left))
