"""The plugins around a delivery at work: a real router, the memory store, a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from squall import EventData, EventRouter, Priority, Reject, Retry
from squall.core.clock import VirtualClock
from squall.core.errors import ConfigError, Refused
from squall.core.event import Event
from squall.core.plugin import Plugin
from squall.plugins.breaker import BreakerPlugin
from squall.plugins.faults import FaultsPlugin
from squall.plugins.memory import MemoryPlugin
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.rate_limit import RateLimitPlugin
from squall.plugins.retry import RetryPlugin

NS = 1_000_000_000


class Routed:
    """A router with these plugins, whose time is moved by hand, and what its one handler does."""

    def __init__(self, *plugins: Plugin) -> None:
        self.clock = VirtualClock()
        self.router = EventRouter([MemoryPlugin(), *plugins], clock=self.clock, seed=11)
        self.calls_s: list[float] = []
        self.fail: BaseException | None = None
        self.began_ns = self.clock.monotonic_ns()

    async def handle(self, event: Event) -> None:
        self.calls_s.append((self.clock.monotonic_ns() - self.began_ns) / NS)
        if event.type.endswith("json"):
            _ = event.data
        if self.fail is not None:
            raise self.fail

    async def subscribe(self, subscriber: str = "billing", *, concurrency: int = 1, timeout_s: float = 30) -> None:
        await self.router.subscriber(subscriber).subscribe(
            "order.>", self.handle, concurrency=concurrency, timeout_s=timeout_s
        )

    async def publish(self, n: int = 1, event_type: str = "order.created", payload: object = b"") -> None:
        for _ in range(n):
            await self.router.publisher("shop").publish(event_type, payload)

    async def dead(self) -> list[str]:
        return [letter.reason for letter in await self.router.store.dead_letters()]

    async def stop(self) -> None:
        """Stopping waits for what runs, in virtual time."""
        stopping = asyncio.ensure_future(self.router.stop(timeout_s=1))
        while not stopping.done():
            await self.clock.advance(0.1)
        await stopping


async def test_retries_come_after_their_delays_and_end_in_the_dead_letters() -> None:
    """Five attempts, each no later after the one before than the backoff allows, then delivery_limit."""
    routed = Routed(RetryPlugin(base=1, factor=2, cap=3))
    async with routed.router:
        routed.fail = ValueError("broken")
        await routed.subscribe()
        await routed.publish()
        await routed.clock.advance(30)
        assert len(routed.calls_s) == 5
        gaps_s = [later - earlier for earlier, later in itertools.pairwise(routed.calls_s)]
        assert all(0 < gap_s <= upper_s for gap_s, upper_s in zip(gaps_s, (1, 2, 3, 3), strict=True)), gaps_s
        assert await routed.dead() == ["delivery_limit"]
        await routed.stop()


async def test_a_handlers_word_on_its_failure_counts() -> None:
    """Retry(delay_s) is kept to the moment; Reject and an undecodable payload are not tried again."""
    routed = Routed(RetryPlugin(attempts=2))
    async with routed.router:
        await routed.subscribe()
        routed.fail = Retry(7.5)
        await routed.publish()
        await routed.clock.advance(20)
        assert routed.calls_s == pytest.approx([0, 7.5])
        routed.fail = Reject("no such customer")
        await routed.publish()
        await routed.clock.advance(20)
        routed.fail = None
        await routed.router.publisher("shop").publish(
            "order.json", b"{broken", metadata={"content-type": "application/json"}
        )
        await routed.clock.advance(20)
        assert len(routed.calls_s) == 4
        assert await routed.dead() == ["delivery_limit", "rejected", "undecodable"]
        await routed.stop()


async def test_an_open_breaker_holds_events_without_burning_their_attempts() -> None:
    """During an outage only trials are called; after it everything is delivered and nothing dead-lettered."""
    routed = Routed(
        RetryPlugin(attempts=100, base=0.1, factor=1),
        BreakerPlugin(min_calls=4, window=10, open_for=5, half_open_permits=2),
        MetricsPlugin(),
    )
    async with routed.router:
        await routed.subscribe()
        routed.fail = ConnectionError("gateway gone")
        await routed.publish(50)
        await routed.clock.advance(60)
        during = len(routed.calls_s)
        assert during <= 64 + 2 * 12, "an open breaker let calls through"
        (snapshot,) = routed.router.plugin(MetricsPlugin).snapshot().subscriptions.values()
        assert snapshot.gates == {"breaker": "open"}
        routed.fail = None
        await routed.clock.advance(60)
        (snapshot,) = routed.router.plugin(MetricsPlugin).snapshot().subscriptions.values()
        assert snapshot.acked == 50
        assert snapshot.gates == {"breaker": "closed"}
        assert await routed.dead() == []
        await routed.stop()


async def test_half_open_lets_no_more_through_than_its_permits() -> None:
    """With many workers and a full queue, a trial is as many calls as it says."""
    routed = Routed(RetryPlugin(attempts=100), BreakerPlugin(min_calls=4, window=10, open_for=5, half_open_permits=3))
    async with routed.router:
        await routed.subscribe(concurrency=16)
        routed.fail = ConnectionError("gateway gone")
        await routed.publish(400)
        await routed.clock.advance(4.9)
        before = len(routed.calls_s)
        await routed.clock.advance(0.2)
        assert len(routed.calls_s) - before == 3
        await routed.stop()


async def test_the_rate_limit_refuses_a_publish_before_it_is_stored() -> None:
    """What is refused has no seq, no delivery, and says when to come back."""
    routed = Routed(RateLimitPlugin(rate=10, burst=3))
    async with routed.router:
        await routed.subscribe()
        await routed.publish(3)
        with pytest.raises(Refused) as refused:
            await routed.publish()
        assert refused.value.retry_after_s == pytest.approx(0.1)
        await routed.clock.advance(0.1)
        await routed.publish()
        await routed.clock.settle()
        assert len(routed.calls_s) == (await routed.router.store.counts()).events == 4
        await routed.stop()


async def test_a_batch_beyond_the_limit_is_refused_whole() -> None:
    """Of an atomic batch with one event too many nothing is stored."""
    routed = Routed(RateLimitPlugin(rate=10, burst=3))
    async with routed.router:
        with pytest.raises(Refused):
            await routed.router.publisher("shop").publish_batch([EventData("order.created", b"")] * 4)
        assert (await routed.router.store.counts()).events == 0
        await routed.stop()


async def test_queued_publishes_are_acknowledged_at_the_rate() -> None:
    """In queue mode a publish returns when its turn has come."""
    routed = Routed(RateLimitPlugin(rate=10, burst=1, mode="queue", timeout=5))
    async with routed.router:
        await routed.subscribe()
        publishes = [asyncio.ensure_future(routed.publish()) for _ in range(4)]
        await routed.clock.advance(1)
        await asyncio.gather(*publishes)
        assert routed.calls_s == pytest.approx([0, 0.1, 0.2, 0.3])
        await routed.stop()


async def test_metrics_add_up_with_what_the_router_did() -> None:
    """Published, acked, naked and dead-lettered are what happened; latency counts from the publish."""
    routed = Routed(RetryPlugin(attempts=2, base=0.5), MetricsPlugin())
    async with routed.router:
        await routed.subscribe()
        await routed.publish(20)
        await routed.clock.advance(1)
        routed.fail = ValueError("broken")
        await routed.publish(5)
        await routed.clock.advance(5)
        snapshot = routed.router.plugin(MetricsPlugin).snapshot()
        (billing,) = snapshot.subscriptions.values()
        assert (snapshot.published, billing.label) == (25, "billing")
        assert billing.attempts == {"ok": 20, "error": 10}
        assert (billing.acked, billing.naked, billing.dead_lettered) == (20, 5, {"delivery_limit": 5})
        assert billing.latency.count == billing.handler.count == 30
        assert 0 < billing.latency.max_ns <= 0.5 * NS * 1.01
        await routed.stop()


async def test_a_crash_ends_a_worker_and_the_event_is_delivered_again() -> None:
    """The kernel replaces the worker, counts the attempt as died, and loses nothing."""
    faults = FaultsPlugin(inject=[{"on": "billing", "do": "crash", "probability": 0.5}])
    routed = Routed(RetryPlugin(attempts=100, base=0.01, factor=1), faults, MetricsPlugin())
    async with routed.router:
        await routed.subscribe(concurrency=4)
        await routed.publish(40)
        await routed.clock.advance(10)
        (billing,) = routed.router.plugin(MetricsPlugin).snapshot().subscriptions.values()
        assert billing.acked == len(routed.calls_s) == 40
        assert billing.attempts["died"] > 10
        await routed.stop()


async def test_a_hung_handler_times_out_and_others_are_not_held() -> None:
    """The hang meets only the subscription that it names; its attempts time out and are dead-lettered as such."""
    routed = Routed(
        RetryPlugin(attempts=2, base=0.1), FaultsPlugin(inject=[{"on": "billing", "do": "hang"}]), MetricsPlugin()
    )
    async with routed.router:
        await routed.subscribe("billing", timeout_s=1)
        await routed.subscribe("audit")
        await routed.publish(3)
        await routed.clock.settle()
        assert len(routed.calls_s) == 3
        await routed.clock.advance(20)
        by_label = {one.label: one for one in routed.router.plugin(MetricsPlugin).snapshot().subscriptions.values()}
        assert by_label["billing"].attempts == {"ok": 0, "timeout": 6}
        assert by_label["billing"].dead_lettered == {"timeout": 3}
        assert by_label["audit"].acked == 3
        await routed.stop()


def test_every_plugin_is_configured_by_its_section(tmp_path: Path) -> None:
    """squall.yaml names them, and a mistake is placed at its line."""
    file = tmp_path / "squall.yaml"
    sections = [
        "retry: {attempts: 3, base: 100ms, deadline: 1m, non_retryable: [ValueError]}",
        "breaker: {time_window: 30s, open_factor: 2}", "rate_limit: {rate: 1000, per: source, mode: queue}",
        "metrics: {rate_window: 30s}", "faults: {inject: [{on: billing, do: slow, by: 10ms, probability: 0.1}]}",
    ]  # fmt: skip
    file.write_text("version: 1\nplugins:\n" + "".join(f"  - {section}\n" for section in sections))
    router = EventRouter.from_config(file)
    assert router.plugin(RetryPlugin).options.base == 0.1
    assert router.plugin(FaultsPlugin).options.inject[0].probability == 0.1
    file.write_text("version: 1\nplugins:\n  - breaker: {failure_rat: 0.5}\n")
    with pytest.raises(
        ConfigError, match=r"squall\.yaml:3:.*'failure_rat' is not an option of breaker(.|\n)*failure_rate"
    ):
        EventRouter.from_config(file)


async def test_metrics_show_what_waits_before_anything_has_ended() -> None:
    """By priority, of each subscription; and how many deliveries a second begin, whoever looks how often."""
    metrics = MetricsPlugin()
    routed = Routed(metrics)
    async with routed.router:
        hang = asyncio.Event()
        subscriber, publisher = routed.router.subscriber("billing"), routed.router.publisher("shop")

        async def handle(event: Event) -> None:
            await hang.wait()

        own = await subscriber.subscribe("order.>", handle)
        for priority in (Priority.HIGH, Priority.LOW, Priority.LOW):
            await publisher.publish("order.created", b"", priority)
            await routed.clock.settle()
        seen = metrics.snapshot().subscriptions[own]
        assert {priority: n for priority, n in seen.queue_depths.items() if n} == {Priority.LOW: 2}
        hang.set()
        await routed.clock.advance(1.1)
        rates = metrics.snapshot().subscriptions[own].processing_rates
        assert rates == metrics.snapshot().subscriptions[own].processing_rates
        assert rates[Priority.LOW] == pytest.approx(2, rel=0.1)
        await subscriber.unsubscribe(own)
        await routed.clock.advance(2.2)
        assert set(metrics.snapshot().subscriptions[own].processing_rates.values()) == {0}
