"""Room: reserved before an event is stored; block, reject or drop, and what a durable backlog does about it."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.core.world import Drops, Heard, Held, KeptMemory, ManualStore, Policy, World, paused, stored, until

from squall import (
    EventData,
    Nak,
    SquallError,
    StoreError,
    SubscriptionError,
)
from squall.core.config import Backlog
from squall.core.errors import Overflow


async def test_block_waits_for_room() -> None:
    """The publish returns when a delivery has made room, and not before."""
    held = Held()
    async with World(backlog=Backlog(max_events=2)) as world:
        await world.subscriber.subscribe(">", held)
        await world.publish("a", "b")
        waiting = world.publishing("c")
        await world.clock.settle()
        assert not waiting.done()
        assert await stored(world) == ["a", "b"]
        held.calls[0].finish()
        await waiting
        for _ in range(2):
            held.finish_all()
            await world.clock.settle()
        assert [call.event.type for call in held.calls] == ["a", "b", "c"]


async def test_block_gives_up_after_its_time() -> None:
    """With outcome `fail`, who is full, how much may wait and what to do; nothing was stored."""
    async with World(backlog=Backlog(max_events=2, timeout=5)) as world:
        await paused(world, name="invoices")
        await world.publish("a", "b")
        waiting = world.publishing("c")
        await world.clock.advance(4.9)
        assert not waiting.done()
        await world.clock.advance(0.2)
        with pytest.raises(
            Overflow, match=r"invoices: no room for 1 more, at most 2 .* nothing was stored .*max_events"
        ) as caught:
            await waiting
        assert caught.value.outcome == "fail"
        assert await stored(world) == ["a", "b"]
        assert world.router.get_metrics().refused == 1


async def test_publishers_that_wait_get_in_in_their_order() -> None:
    """One a free place, the first to ask first."""
    held = Held()
    async with World(backlog=Backlog(max_events=1, timeout=60)) as world:
        await world.subscriber.subscribe(">", held)
        await world.publish("a")
        waiting = [world.publishing(one) for one in "bcd"]
        for n in range(4):
            await until(lambda n=n: len(held.calls) == n + 1)  # type: ignore[misc]
            held.finish_all()
        await asyncio.gather(*waiting)
        assert [call.event.type for call in held.calls] == ["a", "b", "c", "d"]


async def test_reject_refuses_at_once() -> None:
    """No time passes; others who would have room are not given it either."""
    heard = Heard()
    async with World(backlog=Backlog(max_events=1)) as world:
        await paused(world, overflow="reject")
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        with pytest.raises(Overflow):
            await world.publish("b")
        await world.clock.settle()
        assert heard.types == await stored(world) == ["a"]


async def test_drop_new_loses_the_event_for_this_subscription_alone() -> None:
    """Counted and told; others get it, and the publish succeeds."""
    heard, slow, drops = Heard(), Heard(), Drops()
    async with World(drops, backlog=Backlog(max_events=1)) as world:
        own = await world.subscriber.subscribe(">", slow, overflow="drop_new")
        await world.subscriber.pause_subscription(own)
        await world.subscriber.subscribe(">", heard)
        for one in "ab":
            await world.publish(one)
            await world.clock.settle()
        await world.publisher.publish_batch([EventData("c", b"")])
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        await world.publish("d")
        await world.clock.settle()
        assert (heard.types, slow.types) == (["a", "b", "c", "d"], ["a", "d"])
        assert world.router.get_metrics().dropped == 2
        assert drops.told == [("b", own, "overflow"), ("c", own, "overflow")]


async def test_the_backlogs_own_overflow_is_the_default() -> None:
    """Each subscription may say otherwise; what a durable one is owed is never dropped."""
    async with World(backlog=Backlog(max_events=1, overflow="drop_new", timeout=1)) as world:
        await paused(world)
        await world.publish("a", "b")
        assert world.router.get_metrics().dropped == 1
        await paused(world, name="durable")
        await world.publish("c")
        waiting = world.publishing("d")
        await world.clock.advance(2)
        with pytest.raises(Overflow, match="durable"):
            await waiting
        with pytest.raises(SubscriptionError, match="drop_new is for subscriptions without a name"):
            await paused(world, name="other", overflow="drop_new")


async def test_a_drop_is_decided_once() -> None:
    """While the publish waits for another subscription, the drop is not counted again and again; a place that becomes
    free meanwhile is either used or not, and comes back."""
    fast, held = Heard(), Held()
    async with World(backlog=Backlog(max_events=1, timeout=60)) as world:
        dropper = await world.subscriber.subscribe(">", fast, overflow="drop_new")
        await world.subscriber.pause_subscription(dropper)
        await world.subscriber.subscribe(">", held)
        await world.publish("a")
        waiting = [world.publishing("b"), world.publishing("c")]
        await world.clock.settle()
        for _ in range(3):
            held.finish_all()
            await world.clock.settle()
        await asyncio.gather(*waiting)
        dropped_while_full = world.router.get_metrics().dropped
        await world.subscriber.resume_subscription(dropper)
        await world.clock.settle()
        assert dropped_while_full == 2
        for n in range(3):
            waiting = [world.publishing(f"later{n}")]
            await world.clock.settle()
            held.finish_all()
            await world.clock.settle()
        assert fast.types == ["a", "later0", "later1", "later2"]


async def test_a_place_that_becomes_free_while_another_is_waited_for_is_not_lost() -> None:
    """The event is dropped, or delivered, by whoever had no room at first; never both, never neither."""
    fast, held = Heard(), Held()
    async with World(backlog=Backlog(max_events=1, timeout=60)) as world:
        dropper = await world.subscriber.subscribe(">", fast, overflow="drop_new")
        await world.subscriber.pause_subscription(dropper)
        await world.subscriber.subscribe(">", held)
        await world.publish("a")
        waiting = world.publishing("b")
        await world.clock.settle()
        await world.subscriber.resume_subscription(dropper)
        await world.clock.settle()
        held.finish_all()
        await waiting
        await world.clock.settle()
        held.finish_all()
        await world.clock.settle()
        ended = len(fast.events) + world.router.get_metrics().dropped
        await world.publish("c")
        await world.clock.settle()
        held.finish_all()
        assert ended == 2
        assert fast.types[-1] == "c"


async def test_a_publish_that_fails_has_dropped_nothing() -> None:
    """Refused by one subscription, or by the store: nobody lost an event that does not exist."""
    kept = KeptMemory(lambda store: ManualStore(store, auto=True))
    async with World(store=kept, backlog=Backlog(max_events=1, timeout=1)) as world:
        await paused(world, "a.*", overflow="drop_new")
        await paused(world, "a.b", overflow="block")
        await world.publish("a.b")
        waiting = world.publishing("a.b")
        await world.clock.advance(2)
        with pytest.raises(Overflow):
            await waiting
        kept.store.error_at_append = StoreError("the disk is gone")
        with pytest.raises(StoreError):
            await world.publish("a.c")
        assert world.router.get_metrics().dropped == 0


async def test_in_flight_bounds_what_runs_at_once() -> None:
    """However many workers were asked for."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", held, concurrency=10, in_flight=2)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcde")
        await world.subscriber.resume_subscription(own)
        for n in (2, 4, 5):
            await world.clock.settle()
            assert len(held.calls) == n
            held.finish_all()


async def test_a_durable_backlog_stays_in_the_store() -> None:
    """Of a hundred owed events no more than in_flight are in memory; all come, in order, each once."""
    heard = Heard()
    async with World() as world:
        own = await world.subscriber.subscribe(">", heard, name="billing", in_flight=5)
        await world.subscriber.pause_subscription(own)
        await world.publish(*["a"] * 100)
        assert world.router.get_metrics().pending <= 5
        await world.subscriber.resume_subscription(own)
        await until(lambda: len(heard.events) >= 100)
        await world.clock.settle()
        assert heard.seqs == [*range(1, 101)]


async def test_a_retry_that_waits_keeps_its_room() -> None:
    """So what fails again and again stays bounded, though nothing of it runs."""
    heard = Heard(ValueError("broken"))
    async with World(Policy(lambda delivery, error: Nak(100.0)), backlog=Backlog(max_events=2, timeout=1)) as world:
        own = await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        await world.clock.settle()
        assert world.router.get_metrics().delayed == 1
        assert await world.places(own, 3) == 1
        heard.fail = None
        await world.clock.advance(150)
        assert await world.places(own, 3) == 2
        await world.clock.settle()


async def test_unsubscribing_lets_waiting_publishers_go_on() -> None:
    """Nobody is left to have room."""
    async with World(backlog=Backlog(max_events=1, timeout=60)) as world:
        own = await paused(world)
        await world.publish("a")
        waiting = world.publishing("b")
        await world.clock.settle()
        await world.subscriber.unsubscribe(own)
        await waiting
        assert await stored(world) == ["a", "b"]


async def test_a_new_full_subscription_is_not_forgotten_by_those_who_wait() -> None:
    """Who waits for room looks anew at who gets the event when it has it."""
    late = Heard()
    async with World(backlog=Backlog(max_events=1, timeout=60)) as world:
        own = await paused(world)
        await world.publish("a")
        waiting = world.publishing("b")
        await world.clock.settle()
        await world.subscriber.subscribe(">", late)
        await world.subscriber.resume_subscription(own)
        await waiting
        await world.clock.settle()
        assert late.types == ["b"]


async def test_a_filter_that_answers_differently_each_time_costs_no_room() -> None:
    """Sampling by a function is asked once an event: what it said for the room is what counts for the delivery."""
    chance, heard = random.Random(5), Heard()
    async with World(backlog=Backlog(max_events=10, timeout=1)) as world:
        await world.subscriber.subscribe(">", heard, filters=[lambda event: chance.random() < 0.5])
        for _ in range(200):
            publishing = world.publishing("a")
            await world.clock.settle()
            if not publishing.done():
                await world.clock.advance(2)
            await publishing
        assert 50 < len(heard.events) < 150


async def test_a_publisher_that_waits_when_the_router_stops_learns_what_became_of_its_event() -> None:
    """Delivered, or refused: not acknowledged and forgotten."""
    heard = Heard()
    world = World(backlog=Backlog(max_events=1, timeout=60))
    await world.router.start()
    own = await world.subscriber.subscribe(">", heard)
    await world.subscriber.pause_subscription(own)
    await world.publish("a")
    waiting = world.publishing("b")
    await world.clock.settle()
    await world.subscriber.resume_subscription(own)
    await world.stop()
    await world.clock.advance(61)
    (answer,) = await asyncio.gather(waiting, return_exceptions=True)
    refused = isinstance(answer, SquallError)
    assert heard.types == (["a"] if refused else ["a", "b"])


async def test_all_who_wait_for_room_look_when_there_is_room_for_all() -> None:
    """Two places are free at once: neither of two publishers waits for a third."""
    held = Held()
    async with World(backlog=Backlog(max_events=2, timeout=60)) as world:
        await world.subscriber.subscribe(">", held, concurrency=2)
        await world.publish("a", "b")
        waiting = [world.publishing(one) for one in "cd"]
        await until(lambda: len(held.running) == 2)
        held.finish_all()
        await until(lambda: len(held.calls) == 4)
        assert all(one.done() for one in waiting)
        held.finish_all()


async def test_a_durable_store_of_failures_stays_bounded() -> None:
    """No more retries wait in memory than there is room for: the rest stays in the store until one of them is over."""
    heard = Heard(ValueError("broken"))
    async with World(Policy(lambda delivery, error: Nak(100.0)), backlog=Backlog(max_events=3, timeout=1)) as world:
        await world.publish(*"abcdefgh")
        await world.subscriber.subscribe(">", heard, name="billing", start="earliest", in_flight=1)
        await world.clock.advance(1)
        assert heard.types == ["a", "b", "c"]
        heard.fail = None
        await world.clock.advance(101)
        assert sorted(heard.types) == [*"aabbccdefgh"]
