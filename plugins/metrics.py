"""Metrics: counters, rates and latency histograms of a router, cheap enough to be always on."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from pydantic import Field

from squall.core.clock import Clock
from squall.core.delivery import ACK, Attempt, Attempts, Nak, Observer, Term
from squall.core.event import Event, Priority
from squall.core.options import Options as BaseOptions
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.queue import PriorityEventQueue
from squall.core.store import DeadLetter
from squall.core.subscription import Subscription
from squall.core.units import Seconds

SUB_BUCKET_BITS = 5
RELATIVE_ERROR = 2.0 ** -(SUB_BUCKET_BITS + 1)
SAMPLED = 4
FAST_NS = 10_000
TIMED_AT_ONCE = 64
_NS = 1_000_000_000


class MetricsOptions(BaseOptions):
    """What the numbers cover."""

    noun: ClassVar[str] = "metrics"

    rate_window: Annotated[Seconds, Field(ge=1, description="rates are means over this time")] = 10.0
    max_subscriptions: Annotated[
        int,
        Field(ge=1, description="subscriptions that are remembered, ended ones included; then the oldest is forgotten"),
    ] = 10_000


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

    def add(self, values_ns: Sequence[int], weight: int = 1) -> None:
        """Count durations, each standing for `weight` of them."""
        counts, max_ns = self._counts, self._max_ns
        for value_ns in values_ns:
            shift = value_ns.bit_length() - SUB_BUCKET_BITS - 1
            bucket = (shift << SUB_BUCKET_BITS) + (value_ns >> shift) if shift > 0 else value_ns
            if bucket in counts:
                counts[bucket] += weight
            else:
                counts[bucket] = weight
            if value_ns > max_ns:  # noqa: PLR1730  a call of max() costs as much as all the rest
                max_ns = value_ns
        self._max_ns = max_ns

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
    that it did not, each time that it was asked. redriven: dead letters that were given back. handled_rate: attempts
    per second. latency: from publish to the handler's end; handler: its own time. gates: the state of each gate that
    ever changed. queue_depths: events that wait in memory, by priority; processing_rates: deliveries begun per second,
    by priority, over the last whole second.
    """

    label: str
    attempts: Mapping[str, int]
    acked: int
    naked: int
    dead_lettered: Mapping[str, int]
    redriven: int
    refused: int
    dropped: Mapping[str, int]
    handled_rate: float
    latency: Latency
    handler: Latency
    gates: Mapping[str, str]
    gate_changes: int
    queue_depths: Mapping[Priority, int]
    processing_rates: Mapping[Priority, float]


@dataclass(frozen=True)
class MetricsSnapshot:
    """The router's numbers so far. dropped counts by reason what no subscription was given; rates are per second."""

    published: int
    dropped: Mapping[str, int]
    published_rate: float
    subscriptions: Mapping[str, SubscriptionSnapshot]


class _Rate:
    """How many per second lately: counts of whole seconds."""

    __slots__ = ("_before", "_count", "_first_ns", "_second", "_window_s")

    def __init__(self, window_s: int) -> None:
        self._window_s = window_s
        self._before: deque[tuple[int, int]] = deque(maxlen=window_s)
        self._second = self._count = self._first_ns = 0

    def add(self, count: int, now_ns: int) -> None:
        second = now_ns // _NS
        if second == self._second:
            self._count += count
        else:
            self._before.append((self._second, self._count))
            self._second, self._count = second, count
            self._first_ns = self._first_ns or now_ns

    def per_second(self, now_ns: int) -> float:
        """The mean over the window, or since the first count, but over a second at least."""
        since_ns = max(self._first_ns, (now_ns // _NS - self._window_s) * _NS)
        counted = (*self._before, (self._second, self._count))
        total = sum(count for second, count in counted if second >= since_ns // _NS)
        return total / max(1.0, (now_ns - since_ns) / _NS)


class _Counts:
    """What is counted of one subscription."""

    __slots__ = (
        "acked", "dead_lettered", "dropped", "failed", "gate_changes", "gates", "handler", "label", "latency", "naked",
        "ok", "queue", "rate", "redriven", "refused", "untimed",
    )  # fmt: skip

    def __init__(self, label: str, rate: _Rate) -> None:
        self.label = label
        self.rate = rate
        self.ok = self.acked = self.naked = self.refused = self.redriven = self.gate_changes = 0
        self.untimed: list[Attempt] = []
        self.failed: Counter[str] = Counter()
        self.dead_lettered: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.latency = Histogram()
        self.handler = Histogram()
        self.gates: dict[str, str] = {}
        self.queue = PriorityEventQueue()

    def measure(self, attempts: Sequence[Attempt], weight: int) -> None:
        self.handler.add([attempt.ended_ns - attempt.begun_ns for attempt in attempts], weight)
        # What an earlier process published has no publish time that this clock knows.
        known = [a.ended_ns - published_ns for a in attempts if (published_ns := a.event.published_ns)]
        if known:
            self.latency.add(known, weight)

    def measure_untimed(self) -> None:
        untimed, self.untimed = self.untimed, []
        self.measure(untimed, 1)

    def snapshot(self, now_ns: int) -> SubscriptionSnapshot:
        self.measure_untimed()
        return SubscriptionSnapshot(
            label=self.label,
            attempts={"ok": self.ok, **self.failed},
            acked=self.acked,
            naked=self.naked,
            dead_lettered=dict(self.dead_lettered),
            redriven=self.redriven,
            refused=self.refused,
            dropped=dict(self.dropped),
            handled_rate=self.rate.per_second(now_ns),
            latency=self.latency.summary(),
            handler=self.handler.summary(),
            gates=dict(self.gates),
            gate_changes=self.gate_changes,
            queue_depths=self.queue.queue_depths,
            processing_rates=dict(self.queue.processing_rates),
        )


class MetricsObserver(Observer):
    """Counts everything, and times every attempt, except in batches of 2 · SAMPLED attempts or more that took less
    than FAST_NS each on average: there it times every k-th, about SAMPLED of them, each standing for k. So timing
    never costs more than some 5 % of the time that it measures, and what escapes it cannot have taken long: no
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

    def attempted(self, subscription: Subscription, attempts: Attempts, settle_invoked_ns: int) -> None:
        counts, total = self._of(subscription), len(attempts)
        failed = [attempt.outcome for attempt in attempts.unusual if attempt.outcome != "ok"]
        if failed:
            counts.failed.update(failed)
        counts.ok += total - len(failed)
        counts.rate.add(total, settle_invoked_ns)
        if total >= 2 * SAMPLED and attempts[-1].ended_ns - attempts[0].begun_ns < FAST_NS * total:
            step = total // SAMPLED
            counts.measure(attempts[counts.ok % step :: step], step)
        else:
            # The few attempts of a small batch wait for others: starting to measure costs more than measuring.
            counts.untimed += attempts
            if len(counts.untimed) >= TIMED_AT_ONCE:
                counts.measure_untimed()

    def settled(self, subscription: Subscription, attempts: Attempts, ok_ns: int, answer: str) -> None:
        counts, total = self._of(subscription), len(attempts)
        if answer != "ok":
            counts.refused += total
            return
        others = [attempt.decision for attempt in attempts.unusual if attempt.decision is not ACK]
        counts.acked += total - len(others)
        for decision in others:
            if isinstance(decision, Term):
                counts.dead_lettered[decision.reason] += 1
            elif isinstance(decision, Nak):
                counts.naked += 1
            else:
                counts.acked += 1

    def redriven(self, subscription_id: str, letters: Sequence[DeadLetter], origin: str) -> None:
        self._counts(subscription_id).redriven += len(letters)

    def wired(self, subscription: Subscription) -> None:
        """A subscription is there, of which nothing may have ended yet: what waits for it counts from now on."""
        self._of(subscription)

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
        counts = self._subscriptions.get(subscription.id)
        if counts is None or not counts.label:
            counts = self._counts(subscription.id)
            counts.label, counts.queue = subscription.label, subscription.queue
        return counts

    def _counts(self, subscription_id: str) -> _Counts:
        counts = self._subscriptions.get(subscription_id)
        if counts is None:
            if len(self._subscriptions) >= self._options.max_subscriptions:
                del self._subscriptions[next(iter(self._subscriptions))]
            counts = self._subscriptions[subscription_id] = _Counts("", self._new_rate())
        return counts

    def _new_rate(self) -> _Rate:
        return _Rate(round(self._options.rate_window))


class _Exposition:
    """Samples by family, in Prometheus' text format, version 0.0.4."""

    def __init__(self) -> None:
        self._families: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, about: str, value: float, suffix: str = "", **labels: str) -> None:
        head = f"# HELP squall_{name} {about}\n# TYPE squall_{name} {kind}\n"
        shown = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels.items())
        line = f"squall_{name}{suffix}{{{shown}}} {value}\n" if shown else f"squall_{name}{suffix} {value}\n"
        self._families.setdefault(head, []).append(line)

    def add_latency(self, name: str, about: str, latency: Latency, **who: str) -> None:
        quantiles = {"0.5": latency.p50_ns, "0.9": latency.p90_ns, "0.99": latency.p99_ns, "0.999": latency.p999_ns}
        for quantile, value_ns in quantiles.items():
            self.add(name, "summary", about, value_ns / _NS, **who, quantile=quantile)
        self.add(name, "summary", about, latency.count, "_count", **who)

    def __str__(self) -> str:
        return "".join(head + "".join(lines) for head, lines in self._families.items())


def metrics_text(snapshot: MetricsSnapshot) -> str:
    """The numbers in Prometheus' text format: counters, and latencies as summaries in seconds."""
    out = _Exposition()
    out.add("published_total", "counter", "Events that the store took.", snapshot.published)
    for reason, count in snapshot.dropped.items():
        out.add("dropped_total", "counter", "Events that the router as a whole let go.", count, reason=reason)
    for key, one in snapshot.subscriptions.items():
        _add_subscription(out, one, subscription=one.label, id=key)
    return str(out)


def _add_subscription(out: _Exposition, one: SubscriptionSnapshot, **who: str) -> None:
    for outcome, count in one.attempts.items():
        out.add("attempts_total", "counter", "Handler calls by outcome.", count, **who, outcome=outcome)
    for how, count in (("acked", one.acked), ("naked", one.naked), ("refused", one.refused)):
        out.add("settlements_total", "counter", "Settlements; refused: by the store.", count, **who, how=how)
    for reason, count in one.dead_lettered.items():
        out.add("dead_lettered_total", "counter", "Events given up.", count, **who, reason=reason)
    if one.redriven:
        out.add("redriven_total", "counter", "Dead letters given back.", one.redriven, **who)
    for reason, count in one.dropped.items():
        about = "Events that a subscription had no room for."
        out.add("subscription_dropped_total", "counter", about, count, **who, reason=reason)
    out.add_latency("latency_seconds", "From publish to the handler's end.", one.latency, **who)
    out.add_latency("handler_seconds", "The handler's own time.", one.handler, **who)
    for gate, state in one.gates.items():
        about = "Whether a gate holds all deliveries back."
        out.add("gate_open", "gauge", about, int(state == "open"), **who, gate=gate)


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


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

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> None:
        if self._observer is not None:
            self._observer.wired(subscription)

    @hookimpl
    def squall_metrics_text(self) -> str:
        return metrics_text(self.snapshot())

    def snapshot(self) -> MetricsSnapshot:
        """The numbers since the router's last start; all zero before the first."""
        return self._observer.snapshot() if self._observer else MetricsSnapshot(0, {}, 0.0, {})
