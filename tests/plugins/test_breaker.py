"""Breaker: when it opens, how it is tried again, and what it tells."""

from __future__ import annotations

from collections import deque

import pytest
from tests.plugins.surroundings import Surroundings, attempt, subscription

from squall.core.delivery import Attempts, Permits, WaitUntil
from squall.core.errors import ConfigError
from squall.core.subscription import Subscription
from squall.plugins.breaker import Breaker, BreakerOptions, BreakerPlugin


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
