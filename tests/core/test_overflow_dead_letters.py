"""Overflow that ends in the dead letters: the newest, what waits longest, or what is least urgent."""

from __future__ import annotations

import asyncio
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import Heard, Held, KeptMemory, ManualStore, Policy, World, paused, until

from squall import EventData, Nak, Priority, SubscriptionError
from squall.core.config import Backlog

Policies = Literal["dead_letter_new", "drop_old", "drop_lowest"]
URGENCY = {"c": Priority.CRITICAL, "h": Priority.HIGH, "n": Priority.NORMAL, "l": Priority.LOW}


async def published(world: World, *names: str) -> None:
    """Events whose first letter is their priority."""
    for name in names:
        await world.publisher.publish(name, b"", URGENCY[name[0]])
    await world.clock.settle()


async def dead(world: World) -> list[str]:
    """Types of the dead letters, in their order; all of them for overflow."""
    await world.clock.settle()
    letters = await world.router.store.dead_letters()
    assert {letter.reason for letter in letters} <= {"overflow"}
    return [letter.event.type for letter in letters]


@pytest.mark.parametrize(
    ("policy", "kept", "lost"),
    [
        ("dead_letter_new", ["n1", "l1"], ["h1", "n2"]),
        ("drop_old", ["h1", "n2"], ["n1", "l1"]),
        ("drop_lowest", ["h1", "n2"], ["l1", "n1"]),
    ],
)
async def test_who_is_lost(policy: Policies, kept: list[str], lost: list[str]) -> None:
    """Two have room; the others end as dead letters, and the sums agree."""
    heard = Heard()
    async with World(backlog=Backlog(max_events=2)) as world:
        own = await world.subscriber.subscribe(">", heard, overflow=policy)
        await world.subscriber.pause_subscription(own)
        await published(world, "n1", "l1", "h1", "n2")
        assert await dead(world) == lost
        metrics = world.router.get_metrics()
        assert (metrics.dead_lettered, metrics.dropped, metrics.pending) == (2, 0, 2)
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert sorted(heard.types) == sorted(kept)


async def test_the_least_urgent_gives_way_even_when_it_is_the_newest() -> None:
    async with World(backlog=Backlog(max_events=2)) as world:
        await paused(world, overflow="drop_lowest")
        await published(world, "c1", "h1", "l1", "c2")
        assert await dead(world) == ["l1", "h1"]


async def test_a_batch_past_the_bound_keeps_its_last() -> None:
    """Its room comes back with what is handled: the bound holds afterwards too."""
    heard = Heard()
    async with World(backlog=Backlog(max_events=2)) as world:
        own = await world.subscriber.subscribe(">", heard, overflow="drop_old")
        await world.subscriber.pause_subscription(own)
        await world.publisher.publish_batch([EventData(one, b"") for one in "abcde"])
        assert await dead(world) == ["a", "b", "c"]
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert heard.types == ["d", "e"]
        await world.subscriber.pause_subscription(own)
        await published(world, "n1", "n2", "n3")
        assert await dead(world) == ["a", "b", "c", "n1"]


async def test_nothing_gives_way_before_the_new_one_is_stored() -> None:
    """A store that refuses has cost nobody anything."""
    kept = KeptMemory(ManualStore)
    async with World(store=kept, backlog=Backlog(max_events=1)) as world:
        await paused(world, overflow="drop_old")
        for word in ("commit", "fail", "commit"):
            publishing = world.publishing({"commit": "a", "fail": "refused"}[word])
            await until(lambda: kept.store.waiting)
            assert await dead(world) == []
            getattr(kept.store, word)()
            await asyncio.gather(publishing, return_exceptions=True)
        assert await dead(world) == ["a"]
        assert world.router.get_metrics().pending == 1


async def test_a_retry_that_gives_way_tells_its_attempts() -> None:
    async with World(Policy(), backlog=Backlog(max_events=1)) as world:
        own = await world.subscriber.subscribe(">", Heard(ValueError("no")), overflow="drop_old")
        await published(world, "n1")
        await world.subscriber.pause_subscription(own)
        await world.clock.advance(1.5)  # its retry is due, and waits
        await published(world, "n2")
        [letter] = await world.router.store.dead_letters()
        assert (letter.event.type, letter.attempts, letter.error_type) == ("n1", 1, "Overflow")


@pytest.mark.parametrize("policy", ["dead_letter_new", "drop_old", "drop_lowest"])
async def test_what_a_durable_one_is_owed_is_kept(policy: Policies) -> None:
    async with World(backlog=Backlog(max_events=1, overflow=policy)) as world:
        with pytest.raises(SubscriptionError, match=f"{policy} is for subscriptions without a name"):
            await paused(world, name="durable", overflow=policy)
        await paused(world, name="other")  # the backlog's default means block for it
        await published(world, "n1")
        waiting = world.publishing("n2")
        await world.clock.settle()
        assert not waiting.done()
        waiting.cancel()


async def test_a_key_is_free_when_its_holder_gives_way() -> None:
    """A retry that keeps its key's others waiting is dropped: they go on."""
    heard = Heard(ValueError("no"))
    async with World(Policy(), backlog=Backlog(max_events=1)) as world:
        own = await world.subscriber.subscribe(">", heard, overflow="drop_old", on_retry="block_key")
        await world.publish("a", key="k")
        await world.clock.settle()
        await world.subscriber.pause_subscription(own)
        await world.clock.advance(1.5)  # its retry is due, and waits
        heard.fail = None
        await world.publish("b", key="k")
        await world.subscriber.resume_subscription(own)
        await world.clock.advance(1)
        assert heard.types == ["a", "b"]
        assert world.router.get_metrics().pending == 0


async def full(world: World, handler: Held, **options: object) -> None:
    await world.subscriber.subscribe(">", handler, **options)  # type: ignore[arg-type]


async def dropped(world: World) -> list[tuple[str, int]]:
    return [(letter.event.type, letter.attempts) for letter in await world.dead() if letter.reason == "overflow"]


@pytest.mark.parametrize("overflow", ["drop_old", "drop_lowest"])
async def test_what_waits_for_its_key_is_dropped_in_its_turn(overflow: str) -> None:
    """Taken from the queue and parked behind another it waits all the same; the room is kept to."""
    held = Held()
    async with World(backlog=Backlog(max_events=5)) as world:
        await full(world, held, concurrency=3, overflow=overflow)
        for number in range(20):
            await world.publish(f"e{number}", key="k")
            await world.clock.settle()
        assert [one for one, _ in await dropped(world)] == [f"e{number}" for number in range(1, 16)]
        assert world.router.get_metrics().pending == 5
        while held.running:
            held.finish_all()
            await world.clock.settle()
        assert [call.event.type for call in held.calls] == ["e0", *(f"e{number}" for number in range(16, 20))]
        assert world.router.get_metrics().pending == 0


async def test_what_waits_for_its_time_is_dropped_in_its_turn() -> None:
    """Delayed by its publisher or after a failure: what was published first goes first."""
    held = Held()
    async with World(Policy(lambda delivery, error: Nak(60.0)), backlog=Backlog(max_events=3)) as world:
        await full(world, held, overflow="drop_old")
        await world.publish("failed")
        await until(lambda: held.running)
        held.running[0].fail(ValueError("broken"))
        await world.clock.settle()
        await world.publisher.publish("late", b"", delay_s=30)
        await world.publish("runs")
        await until(lambda: held.running)
        await world.publish("a", "b", "c")
        await world.clock.settle()
        assert await dropped(world) == [("failed", 1), ("late", 0), ("a", 0)]
        while held.running:
            held.finish_all()
            await world.clock.advance(20)
        assert [call.event.type for call in held.calls] == ["failed", "runs", "b", "c"]


async def test_the_least_urgent_goes_first_wherever_it_waits() -> None:
    held = Held()
    async with World(backlog=Backlog(max_events=4)) as world:
        await full(world, held, overflow="drop_lowest")
        await world.publish("runs")
        await until(lambda: held.running)
        await world.publisher.publish("late", b"", Priority.LOW, delay_s=30)
        await world.publish("high", priority=Priority.HIGH)
        await world.publish("a", "b", "c")
        await world.clock.settle()
        assert await dropped(world) == [("late", 0), ("a", 0)]


async def test_a_dropped_retry_frees_its_key() -> None:
    """It held its key while it waited to be tried again."""
    held = Held()
    async with World(Policy(lambda delivery, error: Nak(600.0)), backlog=Backlog(max_events=2)) as world:
        await full(world, held, overflow="drop_old", on_retry="block_key")
        await world.publish("a", key="k")
        await until(lambda: held.running)
        held.running[0].fail(ValueError("broken"))
        await world.clock.settle()
        await world.publish("b", "c", key="k")
        await world.clock.settle()
        assert [call.event.type for call in held.running] == ["b"]
        held.finish_all()


@pytest.mark.slow  # sixty routers, each of which is run twice
@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(Priority), st.sampled_from([None, "k"]), st.booleans()), max_size=40))
def test_the_same_are_dropped_as_if_all_waited_in_one_place(events: list[tuple[Priority, str | None, bool]]) -> None:
    """By age, or by urgency and age; also after much of what waits aside is over."""

    async def run(overflow: str) -> None:
        held = Held()
        async with World(backlog=Backlog(max_events=4)) as world:
            await full(world, held, overflow=overflow, concurrency=2)
            waiting: list[tuple[int, int]] = []
            lost: list[int] = []
            for seq, (priority, key, late) in enumerate(events, start=1):
                if len(held.running) < 2:
                    await world.clock.settle()
                running = {call.event.seq for call in held.running}
                await world.publisher.publish("a", b"", priority, key=key, delay_s=1000 if late else 0.0)
                await world.clock.settle()
                waiting.append((-priority if overflow == "drop_lowest" else 0, seq))
                begun = {call.event.seq for call in held.running} | running
                waiting = [one for one in waiting if one[1] not in begun]
                if len(waiting) + len(held.running) > 4:
                    waiting.sort()
                    lost.append(waiting.pop(0)[1])
            assert [letter.event.seq for letter in await world.dead()] == lost

    for overflow in ("drop_old", "drop_lowest"):
        asyncio.run(run(overflow))
