"""Breaker: held against a plain model of its rules, call by call."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from tests.plugins.surroundings import Surroundings, attempt, subscription

from squall.core.delivery import Attempt, Attempts, Permits, WaitUntil
from squall.core.errors import ConfigError, Reject
from squall.core.subscription import Subscription
from squall.plugins.breaker import BUCKETS, Breaker, BreakerOptions, BreakerPlugin, TimeWindow

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


def make(**options: object) -> tuple[Breaker, Surroundings]:
    around = Surroundings()
    return Breaker(BreakerOptions.of("breaker", options), around.ctx, subscription()), around


def state(breaker: Breaker) -> str:
    return breaker.state


def permits_of(breaker: Breaker, n: int = 64) -> Permits:
    answer = breaker.try_acquire(n)
    assert isinstance(answer, Permits)
    return answer


def end(breaker: Breaker, around: Surroundings, permits: Permits, *outcomes: str) -> None:
    now_ns = around.clock.monotonic_ns()
    breaker.record(permits, Attempts(attempt(now_ns, now_ns, outcome) for outcome in outcomes))


def test_it_opens_at_the_failure_rate_and_not_before_min_calls() -> None:
    """Nineteen failures of nineteen leave the default closed; the twentieth call opens it."""
    breaker, around = make()
    permits = permits_of(breaker)
    end(breaker, around, permits, *["error"] * 19)
    assert state(breaker) == "closed"
    end(breaker, around, permits, "ok")
    assert state(breaker) == "open"
    assert breaker.try_acquire(1) == WaitUntil(around.clock.monotonic_ns() + 5_000_000_000)


def test_a_whole_outage_and_its_end() -> None:
    """closed → open → half_open → closed, each told once, and a full window is needed to open again."""
    breaker, around = make(window=20, half_open_permits=3)
    end(breaker, around, permits_of(breaker), *["timeout"] * 20)
    around.clock.move(5)
    trial = permits_of(breaker)
    assert trial.n == 3
    end(breaker, around, trial, "ok", "ok", "error")
    assert [state for _, _, state in around.changes] == ["open", "half_open", "closed"]
    end(breaker, around, permits_of(breaker), *["error"] * 19)
    assert state(breaker) == "closed"


def test_half_open_permits_are_bounded_over_many_askers() -> None:
    """Whoever asks, no more than half_open_permits are out; released ones may be had again."""
    breaker, around = make(half_open_permits=5)
    end(breaker, around, permits_of(breaker), *["error"] * 20)
    around.clock.move(5)
    first, second = permits_of(breaker, 3), permits_of(breaker, 3)
    assert (first.n, second.n) == (3, 2)
    assert isinstance(breaker.try_acquire(1), WaitUntil)
    breaker.release(second, 2)
    assert permits_of(breaker, 9).n == 2


def test_a_late_result_of_an_earlier_state_is_dropped() -> None:
    """Calls that began before the outage neither close nor reopen the breaker of after it."""
    breaker, around = make(half_open_permits=2)
    early, failing = permits_of(breaker), permits_of(breaker)
    end(breaker, around, failing, *["error"] * 20)
    around.clock.move(5)
    trial = permits_of(breaker)
    end(breaker, around, early, *["ok"] * 10)
    assert state(breaker) == "half_open"
    end(breaker, around, trial, "ok", "ok")
    end(breaker, around, early, *["error"] * 40)
    assert state(breaker) == "closed"


def test_a_trial_that_hangs_ends_at_its_limit() -> None:
    """Permits that never come back cannot hold the subscription for ever."""
    breaker, around = make(half_open_permits=2, half_open_for=30, open_for=5)
    end(breaker, around, permits_of(breaker), *["error"] * 20)
    around.clock.move(5)
    assert permits_of(breaker).n == 2
    limit_ns = around.clock.monotonic_ns() + 30_000_000_000
    assert breaker.try_acquire(1) == WaitUntil(limit_ns)
    around.clock.move(30)
    assert breaker.try_acquire(1) == WaitUntil(limit_ns + 5_000_000_000)
    assert state(breaker) == "open"


def test_a_slow_but_quiet_trial_closes_at_its_limit() -> None:
    """Few events, all handled well: the trial's end is not a failure."""
    breaker, around = make(half_open_permits=10, half_open_for=30)
    end(breaker, around, permits_of(breaker), *["error"] * 20)
    around.clock.move(5)
    end(breaker, around, permits_of(breaker, 2), "ok", "ok")
    around.clock.move(30)
    assert permits_of(breaker, 50).n == 50
    assert state(breaker) == "closed"


def test_the_open_time_grows_with_each_failed_trial_and_starts_anew() -> None:
    """5, 15, 20 (the cap) seconds, and 5 again after it was closed."""
    breaker, around = make(half_open_permits=1, open_for=5, open_factor=3, open_cap=20)

    def opened_for_s() -> float:
        answer = breaker.try_acquire(1)
        assert isinstance(answer, WaitUntil)
        around.clock.move((answer.at_ns - around.clock.monotonic_ns()) / 1e9)
        return answer.at_ns / 1e9 - before_s

    waits: list[float] = []
    end(breaker, around, permits_of(breaker), *["error"] * 20)
    for outcome in ("error", "error", "error", "ok"):
        before_s = around.clock.monotonic_ns() / 1e9
        waits.append(opened_for_s())
        end(breaker, around, permits_of(breaker), outcome)
    end(breaker, around, permits_of(breaker), *["error"] * 20)
    before_s = around.clock.monotonic_ns() / 1e9
    waits.append(opened_for_s())
    assert waits == pytest.approx([5, 15, 20, 20, 5])


def test_it_announces_how_long_it_may_hold() -> None:
    """The open time, or its cap where it grows: a bench calls no stall before that."""
    assert make()[0].longest_wait_s == 5
    assert make(open_factor=2)[0].longest_wait_s == 60
    assert make(open_factor=2, open_for=90)[0].longest_wait_s == 90


def test_each_subscription_has_a_breaker_of_its_own() -> None:
    """One failing subscription holds no other."""
    around, plugin = Surroundings(), BreakerPlugin()

    def gate(of: Subscription) -> Breaker:
        made = plugin.squall_gate(around.ctx, of)
        assert isinstance(made, Breaker)
        return made

    billing, audit = (
        gate(subscription("billing", subscription_id="b")),
        gate(subscription("audit", subscription_id="a")),
    )
    end(billing, around, permits_of(billing), *["error"] * 20)
    assert (billing.state, audit.state) == ("open", "closed")
    assert around.changes == [("b", "breaker", "open")]


def test_old_failures_leave_a_time_window() -> None:
    """With a time window, what is longer ago than that no longer counts."""
    breaker, around = make(time_window=10, min_calls=4)
    permits = permits_of(breaker)
    end(breaker, around, permits, "error", "error", "error")
    around.clock.move(10)
    end(breaker, around, permits, "error", "ok", "ok", "ok", "ok")
    assert state(breaker) == "closed"
    around.clock.move(5)
    end(breaker, around, permits, *["error"] * 3)
    assert state(breaker) == "open"


def test_a_window_that_could_never_open_is_refused() -> None:
    """min_calls beyond the window is a mistake; with a time window it is not."""
    with pytest.raises(ConfigError, match=r"min_calls \(30\) is more than the window holds \(10\)"):
        BreakerPlugin(window=10, min_calls=30)
    BreakerPlugin(window=10, min_calls=30, time_window=60)


def test_the_kernel_may_give_permits_back_while_it_is_told() -> None:
    """A change is told from inside record and try_acquire; a release from there changes no count."""
    breaker, around = make(half_open_permits=4)
    permits = permits_of(breaker)
    out: deque[Permits] = deque([permits])
    around.when_changed = lambda *_: breaker.release(out[0], 5)
    end(breaker, around, permits, *["error"] * 20)
    around.clock.move(5)
    assert permits_of(breaker).n == 4
    assert isinstance(breaker.try_acquire(1), WaitUntil)
