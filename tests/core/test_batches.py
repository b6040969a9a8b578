"""Batches: stored whole and together, or refused whole."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import pytest
from tests.core.world import Heard, Held, KeptMemory, ManualStore, StoreWrapper, World, paused, stored, until

from squall import (
    Event,
    EventData,
    InvalidEvent,
    StoreError,
)
from squall.core.config import Backlog
from squall.core.errors import Overflow


class Appends(StoreWrapper):
    """Remembers how many events each append had."""

    sizes: list[int]

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        self.sizes.append(len(events))
        return self.inner.append(events)


@pytest.mark.parametrize("number", [1, 3, 6, 100, 1000])
async def test_a_batch_is_one_append(number: int) -> None:
    """All or none is the store's to keep: it is given all at once, in order, however many they are."""
    Appends.sizes = []
    heard = Heard()
    types = [f"type-{one}" for one in range(number)]
    async with World(store=KeptMemory(Appends)) as world:
        await world.subscriber.subscribe(">", heard)
        ids = await world.publisher.publish_batch([EventData(one, b"") for one in types])
        await until(lambda: len(heard.events) == number)
        assert Appends.sizes == [number]
        assert (heard.types, heard.ids) == (types, ids)


async def test_a_batch_waits_until_there_is_room_for_all_of_it() -> None:
    """Nothing of it is stored before; a part of it never is."""
    held = Held()
    async with World(backlog=Backlog(max_events=2, timeout=60)) as world:
        await world.subscriber.subscribe(">", held)
        await world.publish("a", "b")
        waiting = world.publishing_batch(2, "c")
        await world.clock.settle()
        held.finish_all()
        await world.clock.settle()
        assert await stored(world) == ["a", "b"]
        held.finish_all()
        await waiting
        assert await stored(world) == ["a", "b", "c", "c"]
        for _ in range(2):
            await world.clock.settle()
            held.finish_all()


async def test_a_batch_that_can_never_have_room_is_refused_at_once() -> None:
    """Waiting would not help."""
    async with World(backlog=Backlog(max_events=2, timeout=60)) as world:
        await paused(world)
        with pytest.raises(Overflow):
            await world.publisher.publish_batch([EventData("a", b"") for _ in range(3)])
        assert await stored(world) == []


@pytest.mark.parametrize("overflow", ["block", "reject"])
async def test_a_batch_that_is_refused_leaves_all_room_as_it_was(overflow: str) -> None:
    """Of the subscriptions that had room for it too."""
    async with World(backlog=Backlog(max_events=3, timeout=1)) as world:
        await paused(world, "a", overflow=overflow)
        await paused(world, ">", overflow=overflow)
        await world.publish("b", "b")
        waiting = world.publishing_batch(2, "a")
        await world.clock.advance(2)
        with pytest.raises(Overflow):
            await waiting
        assert await stored(world) == ["b", "b"]
        await world.publish("a")
        assert world.router.get_metrics().pending == 4


async def test_a_batch_has_at_most_a_thousand_events() -> None:
    """One more is refused with the limit; none is no event at all."""
    async with World() as world:
        assert await world.publisher.publish_batch([]) == []
        with pytest.raises(InvalidEvent, match="expected at most 1000, got 1001"):
            await world.publisher.publish_batch([EventData("a", b"")] * 1001)
        assert len(set(await world.publisher.publish_batch([EventData("a", b"")] * 1000))) == 1000
        assert (await world.router.store.counts()).events == 1000


async def test_a_batch_that_the_store_refuses_is_refused_whole() -> None:
    """And its room is free again."""
    kept = KeptMemory(ManualStore)
    async with World(store=kept, backlog=Backlog(max_events=2, timeout=1)) as world:
        await paused(world)
        for _ in range(3):
            waiting = world.publishing_batch(2)
            await world.clock.settle()
            kept.store.fail()
            with pytest.raises(StoreError):
                await waiting
        assert world.router.get_metrics().pending == 0
