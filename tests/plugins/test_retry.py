"""Retry: delays as the formula says, and the right end for each kind of failure."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.surroundings import Surroundings, event, subscription

from squall.core.delivery import FailedDelivery, Nak, Outcome, Term
from squall.core.errors import ConfigError, Reject, Retry
from squall.core.event import CONTENT_TYPE
from squall.plugins.retry import Backoff, RetryOptions, RetryPlugin

DRAWS = 4000


def policy(kind: type[Backoff] = Backoff, **options: object) -> Backoff:
    return kind(RetryOptions.of("retry", options), Surroundings().ctx.random("retry"))


def failed(attempt: int, outcome: Outcome = "error", elapsed_s: float = 0.0) -> FailedDelivery:
    return FailedDelivery(event(), subscription(), attempt, outcome, 5_000, 5_000 + round(elapsed_s * 1e9))


def delays(backoff: Backoff, attempt: int) -> list[float]:
    """Delays in seconds after the attempt-th failure, many of them."""
    decisions = [backoff.decide(failed(attempt), ValueError("x")) for _ in range(DRAWS)]
    assert all(isinstance(decision, Nak) for decision in decisions)
    return sorted(decision.delay_s for decision in decisions if isinstance(decision, Nak))


def check_full_jitter(kind: type[Backoff]) -> None:
    """After the n-th failure delays are uniform between 0 and min(cap, base·factor^(n-1))."""
    backoff = policy(kind, base=1, factor=3, cap=20, attempts=8)
    for attempt, upper_s in enumerate((1, 3, 9, 20, 20, 20, 20), start=1):
        drawn = delays(backoff, attempt)
        assert drawn[0] >= 0
        assert drawn[-1] <= upper_s
        for tenth in range(1, 10):  # 4 standard errors of a share among 4,000 draws are at most 0.032
            share = sum(delay <= upper_s * tenth / 10 for delay in drawn) / DRAWS
            assert share == pytest.approx(tenth / 10, abs=0.032), (attempt, tenth)


class JitterBeforeCap(Backoff):
    def _delay_s(self, attempt: int, error: BaseException) -> float:
        return min(20.0, self._random.uniform(0, 3.0 ** (attempt - 1)))


class NoJitter(Backoff):
    def _delay_s(self, attempt: int, error: BaseException) -> float:
        return self._ceilings_s[attempt - 1]


class HalfJitter(Backoff):
    def _delay_s(self, attempt: int, error: BaseException) -> float:
        return self._random.uniform(0.5, 1.0) * self._ceilings_s[attempt - 1]


class OneStepLate(Backoff):
    def _delay_s(self, attempt: int, error: BaseException) -> float:
        return self._random.uniform(0.0, self._ceilings_s[max(0, attempt - 2)])


def test_delays_have_full_jitter_under_the_cap() -> None:
    """Every attempt's delays are spread evenly from zero to the capped exponential."""
    check_full_jitter(Backoff)


@pytest.mark.parametrize("broken", [JitterBeforeCap, NoJitter, HalfJitter, OneStepLate])
def test_a_wrong_backoff_is_noticed(broken: type[Backoff]) -> None:
    """The check above fails for backoffs that are almost right."""
    with pytest.raises(AssertionError):
        check_full_jitter(broken)


def test_defaults_are_the_contracts() -> None:
    """1 s, doubled, at most 100 s, 5 attempts; so the longest delay of the default is that after the fourth attempt."""
    options = RetryOptions()
    assert (options.base, options.factor, options.cap, options.attempts) == (1, 2, 100, 5)
    assert policy().longest_delay_s == 8
    assert policy(attempts=20).longest_delay_s == 100
    assert policy(attempts=1).longest_delay_s == 0


@given(
    base=st.floats(0.001, 1000), factor=st.floats(1, 1000), cap=st.floats(0.001, 1000), attempts=st.integers(1, 1000),
    attempt=st.integers(1, 1200),
)  # fmt: skip
def test_no_delay_exceeds_what_the_policy_announces(
    base: float, factor: float, cap: float, attempts: int, attempt: int
) -> None:
    """A bench relies on longest_delay_s; and no exponent is too large."""
    backoff = policy(base=base, factor=factor, cap=cap, attempts=attempts)
    decision = backoff.decide(failed(attempt), ValueError("x"))
    if attempt >= attempts:
        assert decision == Term("delivery_limit")
    else:
        assert isinstance(decision, Nak)
        assert 0 <= decision.delay_s <= backoff.longest_delay_s <= cap


def test_the_same_seed_gives_the_same_delays_and_subscriptions_differ() -> None:
    """Delays repeat with the seed, and two subscriptions don't retry in step."""

    def drawn(seed: int, subscriber: str) -> list[object]:
        made = RetryPlugin().squall_settle_policy(Surroundings(seed=seed).ctx, subscription(subscriber))
        return [made.decide(failed(1), ValueError("x")) for _ in range(5)]

    assert drawn(1, "billing") == drawn(1, "billing")
    assert drawn(1, "billing") != drawn(2, "billing")
    assert drawn(1, "billing") != drawn(1, "audit")


@pytest.mark.parametrize(
    ("outcome", "reason"), [("timeout", "timeout"), ("error", "delivery_limit"), ("died", "delivery_limit")]
)
def test_spent_attempts_end_in_the_dead_letters_under_their_reason(outcome: Outcome, reason: str) -> None:
    """The last attempt's outcome names the reason."""
    backoff = policy(attempts=3)
    assert isinstance(backoff.decide(failed(2, outcome), ValueError("x")), Nak)
    assert backoff.decide(failed(3, outcome), ValueError("x")) == Term(reason)  # type: ignore[arg-type]


def test_no_attempt_begins_after_the_deadline() -> None:
    """A delay that would end behind the deadline is not waited for."""
    backoff = policy(base=10, factor=1, cap=10, attempts=1000, deadline=30)
    for elapsed_s in (0.0, 12.0, 25.0, 29.9):
        for _ in range(200):
            decision = backoff.decide(failed(1, elapsed_s=elapsed_s), ValueError("x"))
            if isinstance(decision, Nak):
                assert elapsed_s + decision.delay_s <= 30
            else:
                assert decision == Term("delivery_limit")
                assert elapsed_s + 10 > 30
    assert backoff.decide(failed(1, "timeout", elapsed_s=31), ValueError("x")) == Term("timeout")


def test_a_handlers_own_delay_is_kept_and_announced() -> None:
    """Retry(delay_s) overrules the backoff and the cap, but not the number of attempts."""
    backoff = policy(attempts=3, cap=10)
    assert backoff.decide(failed(1), Retry(60.0)) == Nak(60.0)
    assert backoff.longest_delay_s == 60
    assert backoff.decide(failed(1), Retry(0.5)) == Nak(0.5)
    assert backoff.longest_delay_s == 60
    assert backoff.decide(failed(3), Retry(60.0)) == Term("delivery_limit")
    without = backoff.decide(failed(1), Retry())
    assert isinstance(without, Nak)
    assert without.delay_s <= 1


def test_a_rejected_event_is_not_tried_again() -> None:
    """Reject ends it at once, with the handler's words."""
    assert policy().decide(failed(1), Reject("no such customer")) == Term("rejected", "no such customer")


@pytest.mark.parametrize("named", ["ConnectionRefusedError", "OSError", "builtins.OSError", "ConnectionError"])
def test_a_non_retryable_type_is_not_tried_again(named: str) -> None:
    """By its own name or a base's, short or full."""
    decision = policy(non_retryable=(named,)).decide(failed(1), ConnectionRefusedError("refused"))
    assert isinstance(decision, Term)
    assert decision.reason == "rejected"


def test_other_types_are_tried_again() -> None:
    """A name that is not among the type's names changes nothing."""
    assert isinstance(policy(non_retryable=("Error", "os.OSError")).decide(failed(1), OSError("x")), Nak)


def error_of(payload: bytes, content_type: str) -> BaseException:
    broken = event(payload=payload)
    broken.metadata[CONTENT_TYPE] = content_type
    with pytest.raises(Exception) as caught:  # noqa: PT011  which one is the decoder's business
        _ = broken.data
    return caught.value


@pytest.mark.parametrize("content_type", ["application/json", "application/protobuf; type=no.such.Message"])
def test_an_undecodable_payload_is_dead_lettered_at_once(content_type: str) -> None:
    """What event.data cannot decode, no later attempt will decode."""
    assert policy().decide(failed(1), error_of(b"{broken", content_type)) == Term("undecodable")


def test_a_handlers_own_decoding_error_is_tried_again() -> None:
    """An answer of a flaky service that cannot be decoded says nothing about the event."""
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(b"<html>")
    assert isinstance(policy().decide(failed(1), caught.value), Nak)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"attempts": 0}, "attempts: expected at least 1"),
        ({"base": "fast"}, "base: expected a duration"),
        ({"factor": 0.5}, "factor: expected at least 1"),
        ({"atempts": 3}, "did you mean 'attempts'"),
        ({"deadline": 0}, "deadline: expected more than 0"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], said: str) -> None:
    """An option out of range is one clear error."""
    with pytest.raises(ConfigError, match=said):
        RetryPlugin(RetryOptions.of("retry", options))


def test_options_are_given_by_keyword_in_python() -> None:
    """Lists and durations as in a file."""
    options = RetryPlugin(base="250ms", non_retryable=["ValueError"]).options
    assert (options.base, options.non_retryable) == (0.25, ("ValueError",))


def test_it_says_how_often_it_lets_a_delivery_be_tried() -> None:
    """The first attempt included: a bench holds the router to it."""
    for attempts in (1, 2, 7):
        assert policy(attempts=attempts).max_attempts == attempts
