"""Small runs by hand: a clean one, to which each test does one thing."""

from __future__ import annotations

from tests.chaos.check.model import Attempt, Counter, History, Interval, Publish, in_memory

from squall.chaos.check.engine import judge
from squall.chaos.check.expectations import Expectation
from squall.chaos.check.facts import RunFacts, Span
from squall.chaos.check.verdict import Finding, Verdict
from squall.core.target import Claims

MS = 1_000_000
CLAIMS = Claims(durability="disk")
FACTS = RunFacts(
    load=Span(0, 1000 * MS), healed_ns=1000 * MS, drain=Span(1000 * MS, 2000 * MS), drained=True, stall_s=0.5
)
DURABLE = Interval(join_invoked=-20, join_ok=-10, from_seq=1, timeout=50 * MS, max_attempts=3)


def published(event: int, key: int | None = 1, priority: int = 2, topic: str = "order.created") -> Publish:
    """Event n is published at 10n ms, acknowledged one millisecond later with seq n."""
    return Publish(event, 10 * event * MS, (10 * event + 1) * MS, "ok", event, key, priority, topic)


def handled(event: int, subscription: int = 0, begun_ms: float | None = None, attempt: int = 1) -> Attempt:
    """Delivered two milliseconds after it was published, handled in three, settled in one more."""
    begun = round((10 * event + 2 if begun_ms is None else begun_ms) * MS)
    settled, confirmed = begun + 3 * MS, begun + 4 * MS
    return Attempt(
        event, begun, settled, "ok", "ack", settled, confirmed, "ok", subscription, attempt, key=1, seq=event
    )


def failed(event: int, subscription: int = 0, begun_ms: float | None = None, attempt: int = 1) -> Attempt:
    """The same, but its handler raises, and it is given back."""
    one = handled(event, subscription, begun_ms, attempt)
    one.result, one.settlement = "error", "nak"
    return one


def abandoned(event: int, ended_ms: float | None = None) -> Attempt:
    """The same, but its handler ignores its cancellation, and runs on (for good, or until then) when it is given back,
    60 ms after its begin."""
    one = handled(event)
    one.result = None if ended_ms is None else "error"
    one.ended = None if ended_ms is None else round(ended_ms * MS)
    one.settlement, one.settle_invoked, one.settle_ok = "nak", one.begun + 60 * MS, one.begun + 61 * MS
    return one


def clean(events: int = 10, *intervals: Interval) -> History:
    """A run with nothing wrong: every event goes to every subscription."""
    history = History(intervals=list(intervals) or [DURABLE])
    history.publishes = [published(event) for event in range(1, events + 1)]
    numbers = sorted({interval.subscription for interval in history.intervals})
    history.attempts = [handled(event, number) for event in range(1, events + 1) for number in numbers]
    history.counters = [Counter(2000 * MS, "pending", number, 0) for number in numbers]
    return history


def without(history: History, event: int, subscription: int = 0) -> History:
    """The history without the event's attempts at one subscription."""
    history.attempts = [a for a in history.attempts if (a.event, a.subscription) != (event, subscription)]
    return history


def swap_two_of_a_key(history: History) -> None:
    """Events 5 and 6 begin the other way round."""
    history.attempts[4].begun, history.attempts[5].begun = history.attempts[5].begun, history.attempts[4].begun
    history.attempts[4].ended, history.attempts[5].ended = history.attempts[5].ended, history.attempts[4].ended
    history.attempts[5].begun = 61 * MS
    for one in history.attempts[4:6]:
        one.settle_invoked, one.settle_ok = one.ended, one.ended


def verdict_of(history: History, *expected: Expectation, claims: Claims = CLAIMS, facts: RunFacts = FACTS) -> Verdict:
    """What the checker says of the history."""
    with in_memory(history) as db:
        return judge(db, claims, expected, facts)


def finding_of(verdict: Verdict, name: str) -> Finding:
    """The last finding of that name: a scenario's own, where it expects something."""
    return next(finding for finding in reversed(verdict.findings) if finding.name == name)


def invalid(verdict: Verdict) -> set[str]:
    """The names of all invariants that are broken."""
    return {finding.name for finding in verdict.findings if finding.state == "invalid"}
