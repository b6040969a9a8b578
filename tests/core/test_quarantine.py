"""Stored events that cannot be decoded: what a subscription does about those that its store tells of."""

from __future__ import annotations

import logging

import pytest
from tests.core.world import Heard, KeptMemory, Policy, StoreWrapper, World

from squall import EventStore, Priority, Query
from squall.core.config import Backlog
from squall.core.quarantine import Undecodable, stand_in
from squall.core.store import Page


class Damaged(StoreWrapper):
    """Events of the seqs in `bad` cannot be decoded."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.bad: set[int] = set()
        self.reads = 0

    async def read(self, query: Query) -> Page:
        self.reads += 1
        page = await self.inner.read(query)
        for event in page.events:
            if event.seq in self.bad:
                raise Undecodable(f"row {event.seq}: broken", stand_in(event.seq, event.priority, b"raw"))
        return page


async def left_behind(world: World, number: int) -> None:
    """A subscription that was left, and so many events that it is owed."""
    own = await world.subscriber.subscribe(">", Heard(), name="billing")
    await world.subscriber.detach(own)
    for at in range(number):
        await world.publish(f"e{at + 1}", priority=Priority.HIGH if at % 3 == 2 else Priority.NORMAL)


@pytest.mark.parametrize("in_flight", [1, 2, 3, 1000])
@pytest.mark.parametrize("bad", [{1}, {10}, {4, 5}, set(range(1, 11)), {3, 6}])
async def test_everything_else_is_delivered_once_and_it_is_dead_once(in_flight: int, bad: set[int]) -> None:
    """Wherever it stands in a page, and however small the pages are; the room is whole afterwards."""
    kept, heard = KeptMemory(Damaged), Heard()
    async with World(store=kept, backlog=Backlog(max_events=50, overflow="reject")) as world:
        await left_behind(world, 10)
        kept.store.bad = bad
        own = await world.subscriber.subscribe(">", heard, name="billing", in_flight=in_flight, overflow="reject")
        await world.clock.advance(1)
        assert sorted(heard.seqs) == sorted(set(range(1, 11)) - bad)
        dead = await world.dead()
        assert sorted(one.event.seq for one in dead) == sorted(bad)
        assert {(one.reason, one.event.payload, one.attempts) for one in dead} == {("undecodable", b"raw", 0)}
        assert await world.router.backlog(own) == 0
        metrics = world.router.get_metrics()
        assert (metrics.dead_lettered, metrics.pending) == (len(bad), 0)
        assert len(world.log.at_least(logging.ERROR)) == 1
        assert await world.places(own, 60) == 50


async def test_what_waits_is_counted_with_it() -> None:
    """Before it is come to, it is owed as all others are."""
    kept = KeptMemory(Damaged)
    async with World(store=kept) as world:
        await left_behind(world, 10)
        kept.store.bad = {5, 6}
        own = await world.subscriber.subscribe(">", Heard(), name="billing", in_flight=1)
        await world.subscriber.pause_subscription(own)
        assert await world.router.backlog(own) == 10


@pytest.mark.parametrize("held", [True, False])
async def test_one_that_waited_for_its_time_is_dead_once(held: bool) -> None:
    """It has a row of its own; whether a cursor has passed it or not, it does not come again by being read."""
    kept, heard = KeptMemory(Damaged), Heard()
    async with World(Policy(), store=kept) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing")
        if held:  # so that the first waits for its turn, and no cursor passes it
            await world.subscriber.pause_subscription(own)
        await world.publish("a")
        await world.publisher.publish("late", b"", delay_s=100)
        await world.clock.settle()
        await world.subscriber.detach(own)
        kept.store.bad = {2}
        for _ in range(3):
            own = await world.subscriber.subscribe(">", heard, name="billing")
            await world.clock.advance(1)
            await world.subscriber.detach(own)
        assert (heard.types, [one.event.seq for one in await world.dead()]) == (["a"], [2])


async def test_one_that_is_met_again_before_its_dead_letter_is_stored_is_not_lost() -> None:
    """The store refuses settlements just then: it is owed until they are taken."""
    kept, heard = KeptMemory(Damaged), Heard()
    async with World(store=kept) as world:
        await left_behind(world, 3)
        kept.store.bad = {2}
        settle, kept.store.settle = kept.store.settle, lambda progress: None
        own = await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(1)
        assert await world.dead() == []
        kept.store.settle = settle
        await world.subscriber.detach(own)
        assert [one.event.seq for one in await world.dead()] == [2]
