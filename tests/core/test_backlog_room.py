"""max_events bounds a durable subscription's backlog over restarts too."""

from __future__ import annotations

import asyncio

import pytest
from tests.core.world import Heard, Held, KeptMemory, Policy, Stepwise, World

from squall import Nak, Overflow, Priority
from squall.core.config import Backlog
from squall.core.store import AttemptRow

FULL = Backlog(max_events=5, timeout=1.0)


async def fill(kept: KeptMemory, handler: Heard | Held | None = None, events: int = 5) -> None:
    """Leave events behind for the subscription named billing, which is paused unless it has a handler."""
    async with World(store=kept, backlog=FULL) as world:
        own = await world.subscriber.subscribe(">", handler or Heard(), name="billing")
        if handler is None:
            await world.subscriber.pause_subscription(own)
        for number in range(events):
            await world.publish("a", priority=Priority(number % 4))


async def blocked(world: World) -> bool:
    """Is there no room for one more event?"""
    publishing = world.publishing("a")
    await world.clock.settle()
    if not publishing.done():
        await world.clock.advance(1.1)
    (answer,) = await asyncio.gather(publishing, return_exceptions=True)
    return isinstance(answer, Overflow)


@pytest.mark.parametrize("in_flight", [1, 1000])
async def test_a_backlog_keeps_its_room_over_a_restart(in_flight: int) -> None:
    """What is in the store takes up room, whether or not the window holds it; each that is settled gives its room back,
    and in the end all is there again."""
    kept, held = KeptMemory(), Held()
    await fill(kept)
    async with World(store=kept, backlog=FULL) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", in_flight=in_flight)
        assert await blocked(world)
        held.calls[0].finish()
        await world.clock.settle()
        assert not await blocked(world)
        assert await blocked(world)
        await drained(world, held)
        assert await world.places(own, 20) == 5


async def drained(world: World, held: Held) -> None:
    """Finish every call until none is left."""
    while held.running:
        held.finish_all()
        await world.clock.advance(0.1)


async def test_retries_and_what_was_in_hand_count_once() -> None:
    """They come back with their attempts, and are in the store as well."""
    kept, retried = KeptMemory(), Heard(ValueError("broken"))
    policy = Policy(lambda delivery, error: Nak(9.0))
    async with World(policy, store=kept, backlog=FULL) as world:
        await world.subscriber.subscribe(">", retried, name="billing")
        await world.publish("a", "a", "a")
        await world.clock.advance(0.1)
    async with World(policy, store=kept, backlog=FULL) as world:
        retried.fail = None
        own = await world.subscriber.subscribe(">", retried, name="billing")
        await world.subscriber.pause_subscription(own)
        assert [await blocked(world) for _ in range(3)] == [False, False, True]
        await world.subscriber.resume_subscription(own)
        await world.clock.advance(20)
        assert await world.places(own, 20) == 5


async def test_a_retry_that_no_cursor_has_passed_counts_once() -> None:
    """A store may name by its attempts an event that the cursor leaves for reading: it is given once, counted once."""
    kept, heard = KeptMemory(), Heard()
    await fill(kept)
    assert kept.memory is not None
    kept.memory._durable["billing"].attempts[3] = AttemptRow(3, 1, 0, "ValueError")
    async with World(store=kept, backlog=FULL) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(1)
        assert sorted(heard.seqs) == [1, 2, 3, 4, 5]
        assert await world.places(own, 20) == 5


async def test_who_has_fallen_behind_far_catches_up_first() -> None:
    """While nobody attends a subscription nobody holds its publishers; when it is back they wait until it has caught up
    to max_events."""
    kept, held = KeptMemory(), Held()
    await fill(kept)
    async with World(store=kept, backlog=FULL) as world:
        await world.publish(*["a"] * 5)
    async with World(store=kept, backlog=FULL) as world:
        await world.subscriber.subscribe(">", held, name="billing")
        for _ in range(5):
            assert await blocked(world)
            held.running[0].finish()
            await world.clock.settle()
        assert await blocked(world)
        held.running[0].finish()
        await world.clock.settle()
        assert not await blocked(world)
        await drained(world, held)


async def test_the_past_that_a_new_one_asks_for_holds_nobody() -> None:
    """It was never its backlog: a late reader of a long history must not stop those who publish now."""
    kept, held = KeptMemory(), Held()
    async with World(store=kept, backlog=FULL) as world:
        await world.publish(*["a"] * 20)
        await world.subscriber.subscribe(">", held, name="billing", start="earliest")
        assert not await blocked(world)
        await drained(world, held)


@pytest.mark.parametrize("early_s", [-5.0, 0.02, 0.03, 0.04])
@pytest.mark.parametrize("attempts", [0, 1])
async def test_room_is_right_though_all_is_due_at_once_after_a_restart(attempts: int, early_s: float) -> None:
    """Retries, and what waited for its time, are handled while the rest is still counted: nothing is counted twice."""
    kept, heard = KeptMemory(Stepwise), Heard(ValueError("broken") if attempts else None)
    policy = Policy(lambda delivery, error: Nak(5.0))
    async with World(policy, store=kept, backlog=FULL) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing", concurrency=4)
        due_ns = world.clock.monotonic_ns() + 5 * 10**9
        for _ in range(3):
            await world.publisher.publish("a", b"", delay_s=0.0 if attempts else 5.0)
        await world.clock.settle()
        await world.clock.advance(1)
        assert world.router.get_metrics().delayed == 3
        await world.subscriber.pause_subscription(own)
        await world.publish("b", "b")
        clock = world.clock
    await clock.advance((due_ns - clock.monotonic_ns()) / 1e9 - early_s)
    async with World(policy, store=kept, backlog=FULL, clock=clock) as world:
        heard.fail = None
        kept.store.turns = 50
        subscribing = asyncio.ensure_future(world.subscriber.subscribe(">", heard, name="billing", concurrency=4))
        while not subscribing.done():
            await world.clock.advance(0.01)
        own = await subscribing
        await world.clock.advance(10)
        assert sorted(heard.types[-5:]) == ["a", "a", "a", "b", "b"]
        assert world.router.subscriptions.get(own).room == 5
        assert await world.places(own, 20) == 5
