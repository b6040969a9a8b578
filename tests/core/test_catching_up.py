"""Catching up: from where a subscription is told to begin to what is live, without gap or overlap."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.world import Heard, KeptMemory, OnStored, Stepwise, StoreWrapper, World, until

from squall import (
    Event,
    EventData,
    Priority,
    StoreError,
)
from squall.core.store import Page, Query


class LateToTell(StoreWrapper):
    """Announces what it has stored when the test says so: until then it can be read already."""

    async def open(self, on_stored: OnStored) -> int:
        self.untold: list[Event] = []
        self.on_stored = on_stored
        return await self.inner.open(self.untold.extend)

    def tell(self) -> None:
        events = [*self.untold]
        self.untold.clear()
        self.on_stored(events)


async def test_an_event_that_was_read_before_it_was_announced_is_delivered_once() -> None:
    """A store may let it be seen a moment early."""
    kept, heard = KeptMemory(LateToTell), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, start="earliest")
        await world.publish("a", "b")
        await world.subscriber.subscribe(">", heard, name="late", start="earliest")
        await world.clock.settle(50)
        kept.store.tell()
        await world.clock.settle(50)
        await world.publish("c")
        kept.store.tell()
        await world.clock.settle(50)
        assert sorted(heard.types) == ["a", "a", "b", "b", "c", "c"]


@pytest.mark.parametrize("name", [None, "billing"])
@pytest.mark.parametrize(
    ("start", "wanted"), [("new", [6]), ("earliest", [1, 2, 3, 4, 5, 6]), (3, [3, 4, 5, 6]), (9, [])]
)
async def test_a_subscription_begins_where_it_is_told(
    name: str | None, start: int | Literal["new", "earliest"], wanted: list[int]
) -> None:
    """With what comes, with all there is, or with a seq, in the past or to come."""
    heard = Heard()
    async with World() as world:
        await world.publish(*"abcde")
        await world.subscriber.subscribe(">", heard, start=start, name=name)
        await world.publish("f")
        await world.clock.settle(60)
        assert heard.seqs == wanted


steps = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from([*Priority]), st.integers(1, 5)),
    st.tuples(st.just("turn"), st.integers(1, 12)),
    st.tuples(st.sampled_from(["pause", "resume", "restart"])),
)


@pytest.mark.parametrize("start", ["earliest", "seq"])
@given(
    before=st.integers(0, 12),
    ops=st.lists(steps, max_size=25),
    in_flight=st.integers(1, 6),
    turns=st.tuples(st.integers(0, 4), st.integers(0, 4)),
)
@example(before=2, ops=[], in_flight=1, turns=(0, 0))
@example(before=0, ops=[("turn", 3), *[("publish", Priority.CRITICAL, 1)] * 2], in_flight=1, turns=(2, 0))
@example(before=0, ops=[("turn", 3), ("publish", Priority.CRITICAL, 3)], in_flight=2, turns=(2, 0))
@example(before=2, ops=[("turn", 2), ("publish", Priority.NORMAL, 1)], in_flight=4, turns=(0, 3))
@example(before=0, ops=[("turn", 1), ("publish", Priority.CRITICAL, 1)], in_flight=1, turns=(0, 1))
@settings(max_examples=40)
def test_catching_up_leaves_no_gap_and_no_overlap(
    start: str, before: int, ops: list[tuple[Any, ...]], in_flight: int, turns: tuple[int, int]
) -> None:
    """However slow the reads, however small the window, whatever is published, paused or restarted meanwhile: each
    event once, each priority in order."""

    async def run() -> list[tuple[int, int]]:
        kept, heard, todo = KeptMemory(Stepwise), Heard(), [*ops]
        first: Any = "earliest" if start == "earliest" else before // 2 + 1
        published = before
        while True:
            async with World(store=kept) as world:
                kept.store.turns, kept.store.late = turns
                if published == before:
                    await world.publish(*["a"] * (before - (await world.router.store.counts()).events))
                own = await world.subscriber.subscribe(">", heard, name="late", start=first, in_flight=in_flight)
                while todo:
                    match todo.pop(0):
                        case "publish", priority, n:
                            published += n
                            await world.publisher.publish_batch([EventData("a", b"", priority)] * n)
                        case "turn", n:
                            await world.clock.settle(n)
                        case ("restart",):
                            break
                        case (word,):
                            await getattr(world.subscriber, f"{word}_subscription")(own)
                else:
                    await world.subscriber.resume_subscription(own)
                    least = 1 if first == "earliest" else first
                    wanted = published - least + 1
                    await until(lambda wanted=wanted: len(heard.events) >= wanted)  # type: ignore[misc]
                    await world.clock.settle(50)
                    assert sorted(heard.seqs) == [*range(least, published + 1)]
                    return [(int(one.priority), one.seq) for one in heard.events]
                await world.clock.settle(50)

    delivered = asyncio.run(run())
    for priority in Priority:
        seqs = [seq for level, seq in delivered if level == priority]
        assert seqs == sorted(seqs)


class BrokenReads(StoreWrapper):
    """Reading fails as often as `failures` says."""

    failures = 1

    async def read(self, query: Query) -> Page:
        if self.failures:
            self.failures -= 1
            raise StoreError("the disk is gone")
        return await self.inner.read(query)


async def test_a_backlog_that_cannot_be_read_is_read_later() -> None:
    """Loudly, and by the router's own clock."""
    heard = Heard()
    async with World(store=KeptMemory(BrokenReads)) as world:
        await world.publish("a")
        await world.subscriber.subscribe(">", heard, start="earliest")
        await world.clock.settle()
        assert heard.types == []
        assert any("the disk is gone" in message for message in world.log.at_least(logging.ERROR))
        await world.clock.advance(60)
        assert heard.types == ["a"]


async def test_a_planted_gap_would_be_noticed() -> None:
    """The check of catching up fails for a store that skips an event when it is read."""

    class Skips(Stepwise):
        async def read(self, query: Query) -> Page:
            page = await super().read(query)
            return Page([one for one in page.events if one.seq != 3], page.searched_to)

    heard = Heard()
    async with World(store=KeptMemory(Skips)) as world:
        await world.publish(*"abcde")
        await world.subscriber.subscribe(">", heard, start="earliest")
        await world.clock.settle(60)
        assert heard.seqs == [1, 2, 4, 5]


class ShortSighted(StoreWrapper):
    """Looks through no more than two events a read, as a store may that shares its time."""

    async def read(self, query: Query) -> Page:
        end = query.after_seq + 3
        return await self.inner.read(replace(query, before_seq=min(query.before_seq or end, end)))


@pytest.mark.parametrize("name", [None, "billing"])
async def test_a_page_that_ends_before_the_head_is_not_the_end_of_the_backlog(name: str | None) -> None:
    """What is wanted stands far apart: the search goes on until it has come to the head, and only then is it live."""
    heard = Heard()
    async with World(store=KeptMemory(ShortSighted)) as world:
        await world.publish("a", *"bbbbbbbbb", "a", *"bbbb")
        await world.subscriber.subscribe("a", heard, name=name, start="earliest")
        await world.publish("a")
        await world.clock.settle(100)
        await world.publish("a")
        await world.clock.settle(100)
        assert heard.seqs == [1, 11, 16, 17]
