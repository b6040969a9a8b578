"""Metrics: exact counts, and percentiles within the error that is promised."""

from __future__ import annotations

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.plugins.surroundings import Surroundings, attempt, event, subscription

from squall.core.delivery import Attempts, Nak, Term
from squall.core.store import DeadLetter
from squall.plugins.metrics import (
    FAST_NS,
    RELATIVE_ERROR,
    SAMPLED,
    Histogram,
    MetricsObserver,
    MetricsPlugin,
    MetricsSnapshot,
    SubscriptionSnapshot,
)

SHARES = (0.5, 0.9, 0.99, 0.999)


def check_percentiles(kind: type[Histogram]) -> None:
    """Every percentile is within RELATIVE_ERROR of the nearest-rank percentile of the sorted durations."""
    random = Random(3)
    for spread in (0.1, 1.0, 3.0):
        for size in (1, 2, 10, 1000, 3000):
            values_ns = [round(random.lognormvariate(math.log(1e5), spread)) for _ in range(size)]
            histogram = kind()
            histogram.add(values_ns)
            summary = histogram.summary()
            found = (summary.p50_ns, summary.p90_ns, summary.p99_ns, summary.p999_ns)
            for share, found_ns in zip(SHARES, found, strict=True):
                exact_ns = sorted(values_ns)[math.ceil(share * size) - 1]
                assert abs(found_ns - exact_ns) <= RELATIVE_ERROR * exact_ns + 1, (share, size)
            assert (summary.count, summary.max_ns) == (size, max(values_ns))


class TooCoarse(Histogram):
    def add(self, values_ns: object, weight: int = 1) -> None:
        assert isinstance(values_ns, list)
        rounded = [value_ns >> (shift := max(0, value_ns.bit_length() - 4)) << shift for value_ns in values_ns]
        super().add(rounded, weight)
        self._max_ns = max(self._max_ns, *values_ns)


class ForgetsWeights(Histogram):
    def add(self, values_ns: object, weight: int = 1) -> None:
        assert isinstance(values_ns, list)
        super().add(values_ns[::2] or values_ns, weight)
        self._max_ns = max(self._max_ns, *values_ns)


def test_percentiles_are_within_the_promised_error() -> None:
    """Against sorting all durations, which is the definition."""
    check_percentiles(Histogram)


@pytest.mark.parametrize("broken", [TooCoarse, ForgetsWeights])
def test_a_wrong_histogram_is_noticed(broken: type[Histogram]) -> None:
    """The check above fails for coarser buckets and for lost durations."""
    with pytest.raises(AssertionError):
        check_percentiles(broken)


@given(st.integers(0, 2**62))
def test_any_single_duration_is_kept_within_the_error(value_ns: int) -> None:
    """From nothing to a hundred years, small ones exactly."""
    histogram = Histogram()
    histogram.add([value_ns, 2**63 - 1])
    error_ns = abs(histogram.summary().p50_ns - value_ns)
    assert error_ns <= (0 if value_ns < 64 else RELATIVE_ERROR * value_ns)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=30), st.integers(1, 9))
def test_a_weight_stands_for_that_many(values_ns: list[int], weight: int) -> None:
    """A duration counted with weight k is the same as that duration k times."""
    weighted, repeated = Histogram(), Histogram()
    weighted.add(values_ns, weight)
    repeated.add(values_ns * weight)
    assert weighted.summary() == repeated.summary()


def test_no_durations_have_no_percentiles() -> None:
    """An empty histogram is all zero."""
    summary = Histogram().summary()
    assert (summary.count, summary.p50_ns, summary.p999_ns, summary.max_ns) == (0, 0, 0, 0)


def watched() -> tuple[MetricsPlugin, MetricsObserver, Surroundings]:
    plugin, around = MetricsPlugin(), Surroundings()
    observer = plugin.squall_observer(around.ctx)
    assert isinstance(observer, MetricsObserver)
    return plugin, observer, around


def only(plugin: MetricsPlugin) -> SubscriptionSnapshot:
    (snapshot,) = plugin.snapshot().subscriptions.values()
    return snapshot


def settled(decisions: list[Nak | Term | None]) -> Attempts:
    made = Attempts(attempt(0, 10) for _ in decisions)
    for one, decision in zip(made, decisions, strict=True):
        if decision is not None:
            one.decision = decision
    return made


def test_everything_is_counted_exactly() -> None:
    """Attempts by outcome, settlements by kind, drops by reason, publishes."""
    plugin, observer, _ = watched()
    billing = subscription("billing")
    observer.published([event(), event(), event()])
    observer.dropped(event(), None, "rule")
    observer.dropped(event(), billing.id, "overflow")
    observer.dropped(event(), billing.id, "overflow")
    observer.attempted(
        billing, Attempts([attempt(0, 5), attempt(5, 9, "error"), attempt(9, 12, "timeout"), attempt(12, 13)]), 20
    )
    observer.settled(
        billing, settled([None, Nak(1.0), Term("rejected"), Term("timeout"), None, Term("timeout")]), 30, "ok"
    )
    observer.settled(billing, settled([None, Nak(1.0)]), 40, "refused")
    letter = DeadLetter(event(), billing.id, "billing", ">", "rejected", 1, 0, 0, "", "", "")
    observer.redriven(billing.id, [letter, letter], "")
    snapshot, counts = plugin.snapshot(), only(plugin)
    assert (snapshot.published, snapshot.dropped) == (3, {"rule": 1})
    assert counts.label == "billing"
    assert counts.attempts == {"ok": 2, "error": 1, "timeout": 1}
    assert (counts.acked, counts.naked, counts.refused) == (2, 1, 2)
    assert (counts.dead_lettered, counts.redriven) == ({"rejected": 1, "timeout": 2}, 2)
    assert 'squall_redriven_total{subscription="billing",id="' in plugin.squall_metrics_text()
    assert counts.dropped == {"overflow": 2}


def test_latency_counts_from_the_publish_and_handler_time_from_the_begin() -> None:
    """Two distributions; an event of unknown publish time is in one of them only."""
    plugin, observer, _ = watched()
    observer.attempted(
        subscription(), Attempts([attempt(1_000, 1_040, published_ns=940), attempt(1_040, 1_050)]), 1_060
    )
    counts = only(plugin)
    assert (counts.handler.count, counts.handler.max_ns) == (2, 40)
    assert (counts.latency.count, counts.latency.max_ns) == (1, 100)


def batch(durations_ns: list[int]) -> Attempts:
    """Calls one after the other."""
    made, now_ns = Attempts(), 1_000_000
    for duration_ns in durations_ns:
        made.append(attempt(now_ns, now_ns + duration_ns, published_ns=now_ns - 5_000))
        now_ns += duration_ns
    return made


def test_large_fast_batches_are_sampled_and_counted_whole() -> None:
    """Every k-th stands for k; counts of attempts stay exact."""
    plugin, observer, _ = watched()
    for _ in range(50):
        observer.attempted(subscription(), batch([1_000] * 64), 2_000_000)
    counts = only(plugin)
    assert counts.attempts["ok"] == 3200
    assert counts.handler.count == 3200
    assert counts.handler.p999_ns == pytest.approx(1_000, rel=RELATIVE_ERROR)


def test_sampling_reaches_every_place_of_a_batch() -> None:
    """What always stands at one place of a batch is seen as often as it occurs."""
    plugin, observer, _ = watched()
    durations_ns = [1_000] * 63 + [9_000]
    for _ in range(640):
        observer.attempted(subscription(), batch(durations_ns), 2_000_000)
        observer.attempted(subscription(), batch([1_000]), 2_000_000)
    counts = only(plugin)
    assert counts.handler.max_ns == 9_000
    assert counts.handler.p90_ns == pytest.approx(1_000, rel=RELATIVE_ERROR)
    assert counts.handler.p999_ns == pytest.approx(9_000, rel=RELATIVE_ERROR)


@given(
    size=st.integers(1, 200), place=st.integers(0, 199), usual_ns=st.integers(1, 3 * FAST_NS),
    slow_ns=st.integers(FAST_NS, 10**8),
)  # fmt: skip
def test_no_slow_call_escapes(size: int, place: int, usual_ns: int, slow_ns: int) -> None:
    """Whatever is sampled: a call longer than FAST_NS times its batch is measured."""
    plugin, observer, _ = watched()
    durations_ns = [usual_ns] * size
    durations_ns[place % size] = slow_ns
    observer.attempted(subscription(), batch(durations_ns), 0)
    if slow_ns >= FAST_NS * size or size < 2 * SAMPLED:
        assert only(plugin).handler.max_ns == max(durations_ns)
    if sum(durations_ns) >= FAST_NS * size:
        assert only(plugin).handler.count == size


def test_rates_are_means_over_the_window() -> None:
    """300 a second for a minute is a rate of 300; ten seconds after the last it is 0."""
    plugin, observer, around = watched()
    billing, one = subscription(), [attempt(0, 1)]
    for _ in range(6000):
        now_ns = around.clock.monotonic_ns()
        observer.published([event(), event()])
        observer.attempted(billing, Attempts(one * 3), now_ns)
        around.clock.move(0.01)
    assert plugin.snapshot().published_rate == pytest.approx(200, rel=0.1)
    assert only(plugin).handled_rate == pytest.approx(300, rel=0.1)
    around.clock.move(5)
    assert 100 < only(plugin).handled_rate < 200
    around.clock.move(7)
    assert (only(plugin).handled_rate, plugin.snapshot().published_rate) == (0, 0)


def test_a_young_rate_is_not_diluted() -> None:
    """The first two seconds are not divided by the whole window."""
    plugin, observer, around = watched()
    for _ in range(200):
        observer.published([event()])
        around.clock.move(0.01)
    assert plugin.snapshot().published_rate == pytest.approx(100, rel=0.05)


def test_gate_states_are_kept_and_repeats_not_counted() -> None:
    """The last state of each gate, and how often one changed."""
    plugin, observer, _ = watched()
    for state in ("open", "half_open", "half_open", "closed"):
        observer.gate_changed(subscription(), "breaker", state)
    counts = only(plugin)
    assert (counts.gates, counts.gate_changes) == ({"breaker": "closed"}, 3)


def test_memory_is_bounded_by_max_subscriptions() -> None:
    """Of subscriptions that come and go, the oldest are forgotten."""
    plugin = MetricsPlugin(max_subscriptions=3)
    observer = plugin.squall_observer(Surroundings().ctx)
    for number in range(10):
        observer.attempted(subscription(f"s{number}", subscription_id=f"id-{number}"), Attempts([attempt(0, 1)]), 5)
    assert list(plugin.snapshot().subscriptions) == ["id-7", "id-8", "id-9"]


def test_a_snapshot_stands_still_and_a_new_start_begins_at_zero() -> None:
    """What was returned does not change; before and after a start there is nothing."""
    plugin, observer, around = watched()
    before = plugin.snapshot()
    observer.published([event()])
    observer.attempted(subscription(), Attempts([attempt(0, 1)]), 5)
    assert before == MetricsSnapshot(0, {}, 0.0, {})
    assert plugin.snapshot().published == 1
    plugin.squall_observer(around.ctx)
    assert plugin.snapshot() == MetricsPlugin().snapshot() == before
