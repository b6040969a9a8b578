"""Metrics: counters, rates and latency histograms of a router, cheap enough to be always on."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from pydantic import Field

from squall.core.clock import Clock
from squall.core.delivery import ACK, Attempt, Nak, Observer, Term
from squall.core.event import Event
from squall.core.options import Options as BaseOptions
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.subscription import Subscription
from squall.core.units import Seconds

SUB_BUCKET_BITS = 5
RELATIVE_ERROR = 2.0 ** -(SUB_BUCKET_BITS + 1)
SAMPLED = 16
FAST_NS = 10_000
_NS = 1_000_000_000


class MetricsOptions(BaseOptions):
    """What the numbers cover."""

    noun: ClassVar[str] = "metrics"

    rate_window: Annotated[Seconds, Field(ge=1)] = Field(10.0, description="rates are means over this time")
    max_subscriptions: Annotated[int, Field(ge=1)] = Field(
        10_000, description="subscriptions that are remembered, those that ended included; the oldest is forgotten"
    )


@dataclass(frozen=True)
class Latency:
    """A distribution of durations, ns. Percentiles are within 1.6 % of a duration that was measured (nearest rank)."""

    count: int
    p50_ns: int
    p90_ns: int
    p99_ns: int
    p999_ns: int
    max_ns: int


class Histogram:
    """Durations in buckets whose width is 1/32 of their lower bound or less, as in HdrHistogram (Tene).

    A value v in [2^(k+5), 2^(k+6)) has the bucket 32·k + (v >> k). A bucket stands for its middle: a percentile is at
    most RELATIVE_ERROR (1.6 %) off, below 64 ns not at all. Memory grows with the buckets in use, at most 1,888.
    """

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._max_ns = 0

    def add(self, value_ns: int, weight: int = 1) -> None:
        """Count a duration, standing for `weight` of them."""
        shift = value_ns.bit_length() - SUB_BUCKET_BITS - 1
        bucket = (shift << SUB_BUCKET_BITS) + (value_ns >> shift) if shift > 0 else value_ns
        self._counts[bucket] = self._counts.get(bucket, 0) + weight
        if value_ns > self._max_ns:  # noqa: PLR1730  a call of max() costs as much as all the rest
            self._max_ns = value_ns

    def summary(self) -> Latency:
        """Count, percentiles and the greatest duration."""
        total = sum(self._counts.values())
        buckets = sorted(self._counts)
        found: list[int] = []
        seen, index = 0, -1
        for percent in (0.5, 0.9, 0.99, 0.999):
            while seen < percent * total:
                index += 1
                seen += self._counts[buckets[index]]
            found.append(min(self._max_ns, _middle(buckets[index])) if total else 0)
        return Latency(total, found[0], found[1], found[2], found[3], self._max_ns)


def _middle(bucket: int) -> int:
    shift = max(0, (bucket >> SUB_BUCKET_BITS) - 1)
    low = (bucket - (shift << SUB_BUCKET_BITS)) << shift
    return low + (1 << shift >> 1)


@dataclass(frozen=True)
class SubscriptionSnapshot:
    """One subscription's numbers so far.

    attempts: handler calls by outcome. acked, naked, dead_lettered: settlements that the store took; refused: those
    it did not. handled_rate: attempts per second. latency: from publish to the handler's end; handler: its own time.
    gates: the state of each gate that ever changed.
    """

    label: str
    attempts: Mapping[str, int]
    acked: int
    naked: int
    dead_lettered: Mapping[str, int]
    refused: int
    dropped: Mapping[str, int]
    handled_rate: float
    latency: Latency
    handler: Latency
    gates: Mapping[str, str]
    gate_changes: int


@dataclass(frozen=True)
class MetricsSnapshot:
    """The router's numbers so far. dropped counts by reason what no subscription was given; rates are per second."""

    published: int
    dropped: Mapping[str, int]
    published_rate: float
    subscriptions: Mapping[str, SubscriptionSnapshot]


class _Rate:
    """How many per second lately: counts of whole seconds."""

    def __init__(self, window_s: int) -> None:
        self._window_s = window_s
        self._seconds: deque[list[int]] = deque(maxlen=window_s + 1)
        self._first_ns: int | None = None

    def add(self, count: int, now_ns: int) -> None:
        second = now_ns // _NS
        if self._seconds and self._seconds[-1][0] >= second:
            self._seconds[-1][1] += count
            return
        self._seconds.append([second, count])
        if self._first_ns is None:
            self._first_ns = now_ns

    def per_second(self, now_ns: int) -> float:
        """The mean over the window, or since the first count, but over a second at least."""
        if self._first_ns is None:
            return 0.0
        since_ns = max(self._first_ns, (now_ns // _NS - self._window_s) * _NS)
        total = sum(count for second, count in self._seconds if second >= since_ns // _NS)
        return total / max(1.0, (now_ns - since_ns) / _NS)


@dataclass
class _Counts:
    rate: _Rate
    label: str = ""
    attempts: Counter[str] = field(default_factory=Counter)
    settled: Counter[str] = field(default_factory=Counter)
    dead_lettered: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    latency: Histogram = field(default_factory=Histogram)
    handler: Histogram = field(default_factory=Histogram)
    gates: dict[str, str] = field(default_factory=dict)
    gate_changes: int = 0

    def measure(self, attempts: Sequence[Attempt], weight: int) -> None:
        for attempt in attempts:
            ended_ns = attempt.ended_ns
            self.handler.add(max(0, ended_ns - attempt.begun_ns), weight)
            published_ns = attempt.event.published_ns
            if published_ns:  # unknown for what an earlier process published
                self.latency.add(max(0, ended_ns - published_ns), weight)

    def snapshot(self, now_ns: int) -> SubscriptionSnapshot:
        return SubscriptionSnapshot(
            label=self.label,
            attempts=dict(self.attempts),
            acked=self.settled["ack"],
            naked=self.settled["nak"],
            dead_lettered=dict(self.dead_lettered),
            refused=self.settled["refused"],
            dropped=dict(self.dropped),
            handled_rate=self.rate.per_second(now_ns),
            latency=self.latency.summary(),
            handler=self.handler.summary(),
            gates=dict(self.gates),
            gate_changes=self.gate_changes,
        )


class MetricsObserver(Observer):
    """Counts everything, and times every attempt, except in batches of more than 2 · SAMPLED attempts that took less
    than FAST_NS each on average: there it times every k-th, about SAMPLED of them, each standing for k. So timing
    never costs more than some 3 % of the time that it measures, and what escapes it cannot have taken long: no
    handler longer than FAST_NS times the batch's attempts.
    """

    def __init__(self, options: MetricsOptions, clock: Clock) -> None:
        self._options = options
        self._now_ns = clock.monotonic_ns
        self._published = 0
        self._rate = self._new_rate()
        self._dropped: Counter[str] = Counter()
        self._subscriptions: dict[str, _Counts] = {}

    def published(self, events: Sequence[Event]) -> None:
        self._published += len(events)
        self._rate.add(len(events), self._now_ns())

    def dropped(self, event: Event, subscription_id: str | None, why: str) -> None:
        if subscription_id is None:
            self._dropped[why] += 1
        else:
            self._counts(subscription_id).dropped[why] += 1

    def attempted(self, subscription: Subscription, attempts: Sequence[Attempt], settle_invoked_ns: int) -> None:
        if not attempts:
            return
        counts, total = self._of(subscription), len(attempts)
        bad = [attempt.outcome for attempt in attempts if attempt.outcome != "ok"]
        counts.attempts["ok"] += total - len(bad)
        if bad:
            counts.attempts.update(bad)
        counts.rate.add(total, settle_invoked_ns)
        if total > 2 * SAMPLED and attempts[-1].ended_ns - attempts[0].begun_ns < FAST_NS * total:
            step = total // SAMPLED
            counts.measure(attempts[counts.attempts["ok"] % step :: step], step)
        else:
            counts.measure(attempts, 1)

    def settled(self, subscription: Subscription, attempts: Sequence[Attempt], ok_ns: int, answer: str) -> None:
        counts, total = self._of(subscription), len(attempts)
        if answer != "ok":
            counts.settled["refused"] += total
            return
        others = [attempt.decision for attempt in attempts if attempt.decision is not ACK]
        counts.settled["ack"] += total - len(others)
        for decision in others:
            if isinstance(decision, Term):
                counts.dead_lettered[decision.reason] += 1
            else:
                counts.settled["nak" if isinstance(decision, Nak) else "ack"] += 1

    def gate_changed(self, subscription: Subscription, gate: str, state: str) -> None:
        counts = self._of(subscription)
        if counts.gates.get(gate) != state:
            counts.gates[gate] = state
            counts.gate_changes += 1

    def snapshot(self) -> MetricsSnapshot:
        """The numbers now; what is returned does not change any more."""
        now_ns = self._now_ns()
        subscriptions = {key: counts.snapshot(now_ns) for key, counts in self._subscriptions.items()}
        return MetricsSnapshot(self._published, dict(self._dropped), self._rate.per_second(now_ns), subscriptions)

    def _of(self, subscription: Subscription) -> _Counts:
        counts = self._counts(subscription.id)
        if not counts.label:
            counts.label = subscription.label
        return counts

    def _counts(self, subscription_id: str) -> _Counts:
        counts = self._subscriptions.get(subscription_id)
        if counts is None:
            if len(self._subscriptions) >= self._options.max_subscriptions:
                del self._subscriptions[next(iter(self._subscriptions))]
            counts = self._subscriptions[subscription_id] = _Counts(self._new_rate())
        return counts

    def _new_rate(self) -> _Rate:
        return _Rate(round(self._options.rate_window))


class MetricsPlugin(Plugin):
    """Watches a router; `router.plugin(MetricsPlugin).snapshot()` says what it saw since the router's start."""

    summary: ClassVar[str] = "observer: counters, rates, latency percentiles and gate states"
    Options = MetricsOptions
    options: MetricsOptions

    def __init__(self, options: BaseOptions | None = None, **values: object) -> None:
        super().__init__(options, **values)
        self._observer: MetricsObserver | None = None

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        self._observer = MetricsObserver(self.options, ctx.clock)
        return self._observer

    def snapshot(self) -> MetricsSnapshot:
        """The numbers since the router's last start; all zero before the first."""
        return self._observer.snapshot() if self._observer else MetricsSnapshot(0, {}, 0.0, {})
