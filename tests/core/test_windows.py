"""What a subscription is given through a window on the store: each level its share, and no retry holds the others."""

from __future__ import annotations

import asyncio
import logging
from itertools import pairwise

import pytest
from tests.core.world import FromAnswers, Heard, KeptMemory, Policy, StoreWrapper, World

from squall import Event, Filter, Priority
from squall.core.store import Page, Query

BOUNDS = {Priority.CRITICAL: 7, Priority.HIGH: 8, Priority.NORMAL: 11, Priority.LOW: 18}


def worst_waits(seen: list[Priority]) -> dict[Priority, int]:
    """The most others that were given between two events of a level, while that level had events left."""
    waits = {}
    for level in Priority:
        places = [-1, *(place for place, one in enumerate(seen) if one == level)]
        waits[level] = max(after - before - 1 for before, after in pairwise(places))
    return waits


@pytest.mark.parametrize("name", [None, "billing"])
async def test_no_level_starves_behind_a_backlog(name: str | None) -> None:
    """All four have a backlog of several windows: each comes as often as when all of it waits in memory."""
    seen = list[Priority]()

    async def handle(event: Event) -> None:
        seen.append(event.priority)

    async with World(Policy(), store=KeptMemory()) as world:
        for level in Priority:
            for _ in range(400):
                await world.publish("a", priority=level)
        await world.subscriber.subscribe(">", handle, name=name, start="earliest", in_flight=60)
        await world.clock.advance(5)
    assert len(seen) == 1600
    waits = worst_waits(seen[:700])  # until the first level has nothing left
    assert all(waits[level] <= BOUNDS[level] for level in Priority), waits


@pytest.mark.parametrize("name", [None, "billing"])
async def test_retries_that_wait_hold_nobody(name: str | None) -> None:
    """As many failures as may be in flight: the healthy are given meanwhile."""
    handler = FromAnswers(*[ValueError("broken")] * 3)
    async with World(Policy(), store=KeptMemory()) as world:
        await world.subscriber.subscribe(">", handler, name=name, in_flight=3)
        await world.publish(*"abcdefgh")
        await world.clock.advance(0.5)
        assert [event.type for event in handler.events] == [*"abcdefgh"]
        await world.clock.advance(10)
        assert sorted(event.type for event in handler.events) == sorted("abcabcdefgh")


async def test_a_key_that_is_held_by_a_retry_is_held_over_a_restart() -> None:
    """With block_key nobody of its key passes it, in this life or the next."""
    kept = KeptMemory()
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", Heard(ValueError("broken")), name="billing", on_retry="block_key")
        await world.publish("first", key="k")
        await world.clock.advance(0.5)
    heard = Heard()
    async with World(Policy(), store=kept) as world:
        await world.publish("second", key="k")
        await world.subscriber.subscribe(">", heard, name="billing", on_retry="block_key")
        await world.clock.advance(30)
    assert heard.types == ["first", "second"]


async def test_what_is_not_durable_leaves_no_mark_of_keys() -> None:
    """Events that had their key handed to them are noted for the store only: else they would pile up for ever."""

    async def suspend(event: Event) -> None:
        await asyncio.sleep(0)

    async with World(Policy()) as world:
        found = await world.subscriber.subscribe(">", suspend, concurrency=4)
        for number in range(200):
            await world.publish("a", key=f"k-{number % 2}")
        await world.clock.advance(5)
        assert world.router.subscriptions.get(found).progress.returned == {}


@pytest.mark.parametrize("in_flight", [2, 50])
async def test_the_backlog_is_counted_as_what_is_wanted_of_it(in_flight: int) -> None:
    """What waits in memory and what is only in the store add up to what is owed, whatever else is stored."""
    async with World(store=KeptMemory()) as world:
        own = await world.subscriber.subscribe(
            "a", Heard(), name="billing", filters=[Filter(source="shop")], in_flight=in_flight
        )
        await world.subscriber.pause_subscription(own)
        for _ in range(600):
            await world.publish("a", "b")
            await world.router.publisher("other").publish("a", b"")
        dispatcher = world.router.subscriptions.get(own)
        assert dispatcher.pending <= 2 * in_flight
        assert dispatcher.pending + await dispatcher.backlog() == 600


class ReadsNothing(StoreWrapper):
    """Answers that it has searched nothing."""

    reads = 0

    async def read(self, query: Query) -> Page:
        self.reads += 1
        if self.reads > 20:
            raise AssertionError("it is read again and again")
        return Page([], query.after_seq)


async def test_a_store_that_reads_nothing_is_told_and_tried_later() -> None:
    """It does not hold the loop: one error, and one more try a second."""
    kept = KeptMemory(ReadsNothing)
    async with World(store=kept) as world:
        await world.publish("a")
        await world.subscriber.subscribe(">", Heard(), start="earliest")
        await world.clock.advance(2.5)
        assert kept.store.reads == 3
        assert all("read nothing from seq 1 up to 1" in message for message in world.log.at_least(logging.ERROR))
