"""What a router has done since it started, summed over its subscriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from squall.core.dispatch import Dispatcher
from squall.core.event import Priority
from squall.core.subscription import Subscription


@dataclass(frozen=True)
class RouterMetrics:
    """The router's sums since it started, over all its subscriptions.

    queue_depths: events that wait in memory, by priority. processing_rates: deliveries begun per second, by priority,
    a mean over the last whole window of a second.
    """

    published: int
    refused: int
    delivered: int
    failed: int
    dead_lettered: int
    dropped: int
    cancelled: int
    expired: int
    pending: int
    delayed: int
    abandoned: int
    subscriptions: int
    queue_depths: dict[Priority, int]
    processing_rates: dict[Priority, float]


@dataclass(frozen=True)
class SubscriptionMetrics:
    """The sums of one subscription. `pending`: owed and not ended, what waits in the store alone included."""

    acked: int
    dead_lettered: int
    dropped: int
    cancelled: int
    expired: int
    pending: int


class Meter:
    """Reads one subscription's sums, after its end too: what ran at the end is counted when it ends."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    @property
    def subscription(self) -> Subscription:
        """Whose sums they are."""
        return self._dispatcher.subscription

    @property
    def longest_wait_s(self) -> float:
        """How long it may legally take, without any progress, until an event is delivered again."""
        return self._dispatcher.longest_wait_s

    @property
    def max_attempts(self) -> int | None:
        """How often an event is tried at most, as its settle policy says; None: no limit is known."""
        return self._dispatcher.endings.max_attempts

    @property
    def stands_by(self) -> bool:
        """Whether another router delivers it just now, or none: what it is owed then is not counted here."""
        one = self._dispatcher
        return one.subscription.durable and one.window is None and not one.closed

    async def read(self) -> SubscriptionMetrics:
        """The sums by now. Raises StoreError when the store does not say what waits in it."""
        one = self._dispatcher
        waiting = one.kept if one.closed else one.pending
        return SubscriptionMetrics(
            one.progress.acked,
            one.progress.dead_lettered,
            one.dropped,
            one.cancelled,
            one.expired,
            0 if waiting is None else waiting + await one.backlog(),
        )


@dataclass
class Totals:
    """What outlives a subscription of its counts."""

    delivered: int = 0
    failed: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    cancelled: int = 0
    expired: int = 0
    pending: int = 0
    abandoned: int = 0

    def add(self, one: Dispatcher) -> None:
        """Count this subscription in."""
        self.delivered += one.subscription.delivery_count
        self.failed += one.subscription.error_count
        self.dead_lettered += one.progress.dead_lettered
        self.dropped += one.dropped
        self.cancelled += one.cancelled
        self.expired += one.expired
        self.pending += one.pending
        self.abandoned += len(one.workers.abandoned)


def router_metrics(published: int, refused: int, totals: Totals, live: Sequence[Dispatcher]) -> RouterMetrics:
    """Everything together."""
    return RouterMetrics(
        published,
        refused,
        totals.delivered,
        totals.failed,
        totals.dead_lettered,
        totals.dropped,
        totals.cancelled,
        totals.expired,
        totals.pending,
        sum(len(one.delayed) for one in live),
        totals.abandoned,
        len(live),
        {p: sum(len(one.queue.levels[p]) for one in live) for p in Priority},
        {p: sum(one.queue.processing_rates[p] for one in live) for p in Priority},
    )
