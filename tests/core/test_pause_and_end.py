"""Pause, resume and the end of a subscription, under load and from inside."""

from __future__ import annotations

import asyncio

import pytest
from tests.core.world import FromAnswers, Heard, Held, KeptMemory, Policy, Stepwise, World, until

from squall import (
    Event,
    Priority,
    SubscriptionError,
)
from squall.core.config import Backlog


async def test_a_paused_subscription_is_owed_everything() -> None:
    """Nothing begins, what runs may end, retries wait; then all of it comes."""
    handler = FromAnswers(ValueError("broken"))
    async with World(Policy()) as world:
        own = await world.subscriber.subscribe(">", handler)
        await world.publish("a")
        await world.clock.settle()
        await world.subscriber.pause_subscription(own)
        await world.subscriber.pause_subscription(own)
        await world.publish("b")
        await world.clock.advance(10)
        assert [one.type for one in handler.events] == ["a"]
        assert world.router.get_metrics().pending == 2
        await world.subscriber.resume_subscription(own)
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert [one.type for one in handler.events] == ["a", "a", "b"]


async def test_a_handler_that_runs_may_end_after_a_pause() -> None:
    """Its event is settled; the next one waits."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", held)
        await world.publish("a", "b")
        await world.clock.settle()
        await world.subscriber.pause_subscription(own)
        held.finish_all()
        await world.clock.settle()
        metrics = world.router.get_metrics()
        assert (len(held.calls), metrics.delivered, metrics.pending) == (1, 1, 1)
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        held.finish_all()


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_handler_may_pause_its_own_subscription(concurrency: int) -> None:
    """Nothing begins after it."""
    heard = Heard()

    async def handle(event: Event) -> None:
        await heard(event)
        if event.type == "stop":
            await world.subscriber.pause_subscription(own)

    async with World() as world:
        own = await world.subscriber.subscribe(">", handle, concurrency=concurrency)
        await world.publish("a", "stop", "b", "c")
        await world.clock.advance(1)
        assert heard.types == ["a", "stop"]
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert heard.types == ["a", "stop", "b", "c"]


@pytest.mark.parametrize("name", [None, "durable"])
async def test_a_handler_may_end_its_own_subscription(name: str | None) -> None:
    """Its own event is settled, the rest is cancelled and counted, and no task is left behind."""
    heard = Heard()

    async def handle(event: Event) -> None:
        await heard(event)
        await world.subscriber.unsubscribe(own)

    async with World() as world:
        own = await world.subscriber.subscribe(">", handle, name=name)
        await world.publish("a", "b", "c")
        await world.clock.advance(1)
        await world.publish("d")
        await world.clock.advance(1)
        metrics = world.router.get_metrics()
        assert heard.types == ["a"]
        assert (metrics.delivered, metrics.cancelled, metrics.subscriptions) == (1, 2, 0)
        await world.stop()
        await assert_nothing_runs()


async def assert_nothing_runs() -> None:
    """No task but the test's own, once the loop had its turns."""
    for _ in range(20):
        await asyncio.sleep(0)
    others = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert others == []


@pytest.mark.parametrize("name", [None, "durable"])
async def test_ending_a_subscription_under_load_ends_its_tasks(name: str | None) -> None:
    """The handler that runs may end; nothing begins after it."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", held, concurrency=2, name=name)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcd")
        await world.clock.settle()
        await world.subscriber.resume_subscription(own)
        await until(lambda: len(held.running) == 2)
        await world.subscriber.unsubscribe(own)
        await world.clock.settle()
        assert len(held.running) == 2
        held.finish_all()
        await world.clock.advance(1)
        assert len(held.calls) == 2
        metrics = world.router.get_metrics()
        assert (metrics.delivered, metrics.cancelled) == (2, 2)
        await world.stop()
        await assert_nothing_runs()


async def test_a_handler_of_an_ended_subscription_has_its_time_and_no_more() -> None:
    """It is still cancelled when its time is over."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", held, timeout_s=1)
        await world.publish("a")
        await until(lambda: held.running)
        await world.subscriber.unsubscribe(own)
        await world.clock.advance(5)
        cancelled = held.cancelled
        held.finish_all()
        assert cancelled == 1


async def test_a_router_that_stops_waits_for_handlers_of_ended_subscriptions() -> None:
    """As for all others: it does not leave them running."""
    held = Held()
    world = World()
    await world.router.start()
    own = await world.subscriber.subscribe(">", held)
    await world.publish("a")
    await until(lambda: held.running)
    await world.subscriber.unsubscribe(own)
    await world.stop(timeout_s=0.2)
    running = len(held.running)
    held.finish_all()
    await world.clock.settle()
    assert running == 0


async def test_a_subscription_may_end_while_it_catches_up() -> None:
    """It reads no more, and nothing is delivered after its end."""
    heard, kept = Heard(), KeptMemory(Stepwise)
    async with World(store=kept) as world:
        await world.publish(*["a"] * 20)
        kept.store.turns = 5
        own = await world.subscriber.subscribe(">", heard, start="earliest", in_flight=2)
        await world.clock.settle(7)
        await world.subscriber.unsubscribe(own)
        already = len(heard.events)
        await world.clock.settle(100)
        assert len(heard.events) == already
        await world.stop()
        await assert_nothing_runs()


async def test_a_retry_of_an_ended_subscription_is_counted_as_cancelled() -> None:
    """Whether it waited for its time, or failed after the end."""
    handler, held = FromAnswers(ValueError("broken")), Held()
    async with World(Policy()) as world:
        one = await world.subscriber.subscribe("a", handler)
        two = await world.subscriber.subscribe("b", held)
        await world.publish("a", "b")
        await world.clock.settle()
        await world.subscriber.unsubscribe(one)
        await world.subscriber.unsubscribe(two)
        held.calls[0].fail(ValueError("broken"))
        await world.clock.advance(5)
        metrics = world.router.get_metrics()
        assert (len(handler.events), len(held.calls)) == (1, 1)
        assert metrics.cancelled == 2


async def test_a_subscriptions_sums_can_be_read_after_its_end() -> None:
    """What ran when it ended is counted when it ends; what waited was cancelled then, and nothing is pending."""
    held = Held()
    async with World() as world:
        found = await world.subscriber.subscribe("a", held)
        meter = world.router.subscriptions.meter(found)
        await world.publish("a", "a", "a")
        await world.clock.settle()
        sums = await meter.read()
        assert (sums.acked, sums.cancelled, sums.pending) == (0, 0, 3)
        await world.subscriber.unsubscribe(found)
        held.running[0].finish()
        await world.clock.advance(1)
        sums = await meter.read()
        assert (sums.acked, sums.cancelled, sums.pending) == (1, 2, 0)
        with pytest.raises(SubscriptionError, match="there is no subscription"):
            world.router.subscriptions.meter(found)


@pytest.mark.parametrize("name", [None, "durable"])
async def test_the_end_of_a_subscription_takes_nothing_from_the_others(name: str | None) -> None:
    """What waits for them in any of their levels is delivered, whatever waited for the one that ended."""
    heard = Heard()
    async with World() as world:
        gone, other = [
            await world.subscriber.subscribe(">", handler, name=name and f"{name}-{number}")
            for number, handler in enumerate((Heard(), heard))
        ]
        for own in (gone, other):
            await world.subscriber.pause_subscription(own)
        for level in (*Priority, *Priority):
            await world.publish("a", priority=level)
        await world.clock.settle()
        await world.subscriber.unsubscribe(gone)
        await world.subscriber.resume_subscription(other)
        await world.clock.advance(1)
        assert sorted(heard.seqs) == [*range(1, 9)]


async def test_nothing_is_offered_to_a_subscription_that_has_ended() -> None:
    """No publisher waits for room in it, and nothing is pending for it, whether its events were published before or
    are the first of their type."""
    async with World(backlog=Backlog(max_events=1)) as world:
        own = await world.subscriber.subscribe(">", Heard())
        await world.publish("before")
        await world.clock.settle()
        await world.subscriber.unsubscribe(own)
        publishing = [world.publishing(one) for one in ("before", "before", "first", "first")]
        await world.clock.settle()
        assert all(one.done() for one in publishing)
        assert world.router.get_metrics().pending == 0
