"""What a router has done since it started, summed over its subscriptions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from squall.core.dispatch import Dispatcher
from squall.core.event import Priority


@dataclass(frozen=True)
class RouterMetrics:
    """The router's sums since it started, over all its subscriptions."""

    published: int
    refused: int
    delivered: int
    failed: int
    dead_lettered: int
    dropped: int
    cancelled: int
    pending: int
    delayed: int
    abandoned: int
    subscriptions: int
    queue_depths: dict[Priority, int]
    processing_rates: dict[Priority, float]


@dataclass
class Totals:
    """What outlives a subscription of its counts."""

    delivered: int = 0
    failed: int = 0
    dead_lettered: int = 0
    dropped: int = 0
    cancelled: int = 0
    pending: int = 0
    abandoned: int = 0

    def add(self, one: Dispatcher) -> None:
        """Count this subscription in."""
        self.delivered += one.subscription.delivery_count
        self.failed += one.subscription.error_count
        self.dead_lettered += one.progress.dead_lettered
        self.dropped += one.dropped
        self.cancelled += one.cancelled
        self.pending += one.pending
        self.abandoned += one.workers.abandoned


def router_metrics(
    published: int, refused: int, totals: Totals, live: Sequence[Dispatcher], now_ns: int
) -> RouterMetrics:
    """Everything together; processing rates are means since the last time."""
    for one in live:
        one.queue.measure(now_ns)
    return RouterMetrics(
        published,
        refused,
        totals.delivered,
        totals.failed,
        totals.dead_lettered,
        totals.dropped,
        totals.cancelled,
        totals.pending,
        sum(len(one.delayed) for one in live),
        totals.abandoned,
        len(live),
        {p: sum(len(one.queue.levels[p]) for one in live) for p in Priority},
        {p: sum(one.queue.processing_rates[p] for one in live) for p in Priority},
    )
