"""What plugins see of a delivery: the settle policy, gates, and what observers are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import msgspec

from squall.core.event import Event
from squall.core.store import DeadLetter, DeadReason

if TYPE_CHECKING:
    from squall.core.subscription import Subscription

Outcome = Literal["ok", "error", "timeout", "died", "cancelled"]
SubscriptionChange = Literal["subscribed", "unsubscribed", "detached", "paused", "resumed"]


class Ack(NamedTuple):
    """The delivery is done."""


class Nak(NamedTuple):
    """Deliver again, no sooner than after delay_s."""

    delay_s: float = 0.0


class Term(NamedTuple):
    """Never deliver again: to the dead letters."""

    reason: DeadReason = "rejected"
    text: str = ""


Decision = Ack | Nak | Term
ACK = Ack()


class Attempt(msgspec.Struct, gc=False):
    """One call of a handler, over. Times are monotonic ns; `attempt` counts from 1; `permits` are the gate's."""

    event: Event
    begun_ns: int
    ended_ns: int
    permits: Permits | None = None
    attempt: int = 1
    outcome: Outcome = "ok"
    error: BaseException | None = None
    decision: Decision = ACK


class Attempts(list[Attempt]):
    """Attempts that ended since the last batch, in the order of their ends."""

    def __init__(self, attempts: Iterable[Attempt] = (), unusual: list[Attempt] | None = None) -> None:
        super().__init__(attempts)
        self._unusual = unusual

    @property
    def unusual(self) -> Sequence[Attempt]:
        """Those that did not end well, were not acknowledged, or were not the first try: mostly few, so that nobody
        needs to look at each of the others."""
        if self._unusual is None:
            self._unusual = [one for one in self if one.outcome != "ok" or one.decision is not ACK or one.attempt > 1]
        return self._unusual

    def add(self, later: Attempts) -> None:
        """Attempts that ended afterwards."""
        self._unusual = [*self.unusual, *later.unusual]
        self.extend(later)


class FailedDelivery(NamedTuple):
    """What a settle policy decides about. `first_ns` and `now_ns` are monotonic: the first attempt's begin, and now."""

    event: Event
    subscription: Subscription
    attempt: int
    outcome: Outcome
    first_ns: int
    now_ns: int


class SettlePolicy(Protocol):
    """Decides what becomes of a delivery that failed."""

    @property
    def longest_delay_s(self) -> float:
        """The greatest delay that a Nak of this policy can have: a bench calls no stall before that."""

    @property
    def max_attempts(self) -> int | None:
        """How often it lets a delivery be tried in all; None where it sets no limit."""

    def decide(self, delivery: FailedDelivery, error: BaseException) -> Decision: ...


@dataclass(slots=True)
class Permits:
    """Leave to deliver up to n events. `generation` is the gate's own: what it was when it gave them."""

    n: int
    generation: int = 0
    parts: tuple[Permits, ...] = ()


class WaitUntil(NamedTuple):
    """No permit before this monotonic time, in ns (the gate may also call `changed` sooner)."""

    at_ns: int


class Gate(Protocol):
    """Holds a subscription without burning attempts: a breaker, a bulkhead."""

    @property
    def longest_wait_s(self) -> float:
        """How long it may hold the subscription at a time, legally: a bench calls no stall before that."""

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        """Leave for up to n deliveries, or when to ask again."""

    def record(self, permits: Permits, attempts: Attempts) -> None:
        """How deliveries under these permits ended. Cancelled ones are given back by `release` instead."""

    def release(self, permits: Permits, n: int) -> None:
        """n of these permits were not used."""


class Observer:
    """Told in batches what happened; override what is wanted. It must not block, and is disabled when it raises."""

    def published(self, events: Sequence[Event]) -> None:
        """Events were acknowledged."""

    def dropped(self, event: Event, subscription_id: str | None, why: str) -> None:
        """An event was not taken by a subscription (None: by the router as a whole)."""

    def attempted(self, subscription: Subscription, attempts: Attempts, settle_invoked_ns: int) -> None:
        """Handlers ended and their settlements were asked for."""

    def settled(self, subscription: Subscription, attempts: Attempts, ok_ns: int, answer: str) -> None:
        """The store answered for a batch of `attempted`: 'ok', or 'refused': then it is asked again, until 'ok'."""

    def redriven(self, subscription_id: str, letters: Sequence[DeadLetter], origin: str) -> None:
        """Dead letters were given back to this subscription, which may have nobody here who handles it just now.
        `origin` says who asked, or from where; empty where that is not told."""

    def subscription_changed(self, subscription: Subscription, change: SubscriptionChange) -> None:
        """Somebody has subscribed, or done with the subscription what its owner may; the store has it already."""

    def gate_changed(self, subscription: Subscription, gate: str, state: str) -> None:
        """A gate of the subscription is in another state, named as a breaker's: open holds all deliveries back."""
