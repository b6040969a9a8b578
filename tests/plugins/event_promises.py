"""What every store promises of events: their order, their announcement, reading them, and that they are counted."""

from __future__ import annotations

import asyncio
import random

import pytest
from tests.plugins.store_bench import (
    NOW_NS,
    SECOND_NS,
    Bench,
    FakeProgress,
    Promise,
    assert_dead,
    assert_same,
    dead_letter,
    make_event,
    until,
)

from squall.core.errors import StoreError
from squall.core.event import Event, Priority
from squall.core.patterns import compile_pattern
from squall.core.quarantine import Undecodable, read_around
from squall.core.store import (
    Cursor,
    Query,
    StoreCounts,
)


async def seq_follows_the_order_of_append(bench: Bench) -> None:
    """Alone, in batches and from many publishers at once: every event gets a greater seq than those before it."""
    events = await bench.fill(300)
    seqs = [event.seq for event in events]
    assert seqs[0] > bench.head
    assert seqs == sorted(set(seqs))


async def every_event_is_announced_once_in_seq_order(bench: Bench) -> None:
    events = await bench.fill(300)
    assert [event.seq for event in bench.announced] == [event.seq for event in events]
    assert all(announced is event for announced, event in zip(bench.announced, events, strict=True))


async def an_event_is_announced_and_found_before_its_publisher_goes_on(bench: Bench) -> None:
    for index in range(5):
        event = make_event(index)
        await bench.append(event)
        assert event.seq in [announced.seq for announced in bench.announced], "acknowledged before it was announced"
        page = await bench.store.read(Query(after_seq=event.seq - 1))
        assert_same(page.events, [event])


async def what_can_be_read_was_announced(bench: Bench) -> None:
    """A subscription that reads up to the head and then goes live must meet every event in one of the two."""
    waits = [asyncio.ensure_future(bench.append(make_event(index))) for index in range(50)]
    after = 0
    while not all(wait.done() for wait in waits):
        page = await bench.store.read(Query(after_seq=after))
        assert page.searched_to <= (bench.announced[-1].seq if bench.announced else bench.head)
        after = page.searched_to
        await asyncio.sleep(0)
    await asyncio.gather(*waits)


async def events_come_back_as_they_were(bench: Bench) -> None:
    """Every field, also where it is empty, odd or long; ids that are no UUIDs, or unusual texts of one, too."""
    other = "0d8de1d6-94a5-4f0c-b0b5-f5d9e7a3b0b1"
    events = [
        make_event(0),
        make_event(1, correlation_id=other, metadata={"content-type": "application/json", "n": [1, {"a": None}]}),
        make_event(2, id="order-17", correlation_id="order-17", source="läden/βeta 🛒", type="größe.geändert"),
        make_event(3, id=other.upper(), correlation_id="x" * 256, payload=bytes(range(256)), key="k" * 256),
        make_event(4, id=other.replace("-", ""), correlation_id=other.replace("-", ""), version="2.0-β", key=""),
        make_event(5, id=" " * 36, payload=b"", timestamp=0),
        make_event(6, id="x" * 8 + "-aaaa-aaaa-aaaa-" + "a" * 12, payload=b"\x00" * 1_048_576),
        make_event(7, id="\x00", source="a\x00b", timestamp=NOW_NS + 123_456_789),
        make_event(20, own_id=True),
        make_event(21, due_ns=NOW_NS + 1),
        make_event(22, own_id=True, due_ns=NOW_NS + 1, expires_ns=2**62),
        *(make_event(8 + level, priority=level) for level in Priority),
    ]
    for event in events[:4]:
        await bench.append(event)
    await bench.append(*events[4:])
    found = await bench.all(Query())
    assert_same(found, events)
    assert all(type(event.priority) is Priority for event in found)
    if bench.store.capabilities.durability != "memory":
        await bench.reopen()
        assert_same(await bench.all(Query()), events)


async def a_batch_is_stored_whole_and_together(bench: Bench) -> None:
    """Whatever is appended meanwhile, and also when it is larger than any group."""
    batches = [[make_event(100_000 + size * 2000 + index) for index in range(size)] for size in (1000, 2, 499, 500)]
    waits = []
    for number, batch in enumerate(batches):
        waits.append(asyncio.ensure_future(bench.append(make_event(number))))
        waits.append(asyncio.ensure_future(bench.append(*batch)))
    await asyncio.gather(*waits)
    for batch in batches:
        first = batch[0].seq
        assert [event.seq for event in batch] == list(range(first, first + len(batch)))
        assert_same(await bench.all(Query(after_seq=first - 1, before_seq=first + len(batch))), batch)


async def a_cancelled_publisher_takes_nothing_back(bench: Bench) -> None:
    events = [make_event(index) for index in range(20)]
    waits = [asyncio.ensure_future(bench.append(event)) for event in events]
    await asyncio.sleep(0)
    for wait in waits[::2]:
        wait.cancel()
    await asyncio.wait(waits)
    await until(lambda: len(bench.announced) == 20)
    assert_same(await bench.all(Query()), events)


async def pages_add_up_to_the_whole(bench: Bench) -> None:
    """In both directions, for every size of page, between any bounds."""
    events = await bench.fill(60)
    first = events[0].seq
    for limit in (1, 7, 60, 500):
        assert_same(await bench.all(Query(limit=limit)), events)
        assert_same(await bench.all(Query(limit=limit, newest_first=True)), events[::-1])
        between = Query(after_seq=first + 9, before_seq=first + 50, limit=limit)
        assert_same(await bench.all(between), events[10:50])
        assert_same(await bench.all(Query(**(vars(between) | {"newest_first": True}))), events[10:50][::-1])
    beyond = await bench.store.read(Query(after_seq=first + 1000))
    assert list(beyond.events) == []


async def chosen_seqs_are_found(bench: Bench) -> None:
    events = await bench.fill(40)
    wanted = (events[30].seq, events[2].seq, events[7].seq, events[-1].seq + 100)
    expected = [events[2], events[7], events[30]]
    assert_same((await bench.store.read(Query(seqs=wanted))).events, expected)
    assert_same(await bench.all(Query(seqs=wanted, limit=1)), expected)
    assert_same(await bench.all(Query(seqs=wanted, limit=2, newest_first=True)), expected[::-1])
    assert_same(await bench.all(Query(seqs=wanted, after_seq=events[2].seq)), expected[1:])
    assert_same(await bench.all(Query(seqs=())), [])


def matches(event: Event, query: Query) -> bool:
    """The plain meaning of a query."""
    return (
        (query.pattern is None or compile_pattern(query.pattern)(event.type))
        and query.source in (None, event.source)
        and query.correlation_id in (None, event.correlation_id)
        and query.priority in (None, event.priority)
        and (query.since_ns is None or event.time_ns >= query.since_ns)
        and (query.until_ns is None or event.time_ns < query.until_ns)
        and (event.own_id or not query.own_id)
        and event.seq > query.after_seq
        and (query.before_seq is None or event.seq < query.before_seq)
    )


async def queries_find_what_they_ask_for(bench: Bench) -> None:
    """Random queries over events of a clock that jumps by days, judged by the plain meaning of each condition."""
    chance = random.Random(7)
    types = ["order.created", "order.paid", "order.line.added", "user.created", "$squall.started", "order"]

    def event(index: int) -> Event:
        made = make_event(index, type=chance.choice(types), source=chance.choice(("shop", "web")))
        made.priority = chance.choice((*Priority, Priority.NORMAL, Priority.NORMAL))
        return make_event(
            index, type=made.type, source=made.source, priority=made.priority, own_id=chance.random() < 0.1,
            correlation_id=chance.choice((made.id, make_event(index // 10 * 10).id)),
            timestamp=NOW_NS + index * SECOND_NS + (index // 100 % 3) * chance.choice((1, -1)) * 86_400 * SECOND_NS,
        )  # fmt: skip

    events = await bench.fill(700, event)
    patterns = [None, ">", "*", "order.*", "order.>", "order.created", "*.created", "$squall.*", "$squall.>", "none.>"]
    for _ in range(150):
        pick = chance.choice(events)
        query = Query(
            pattern=chance.choice(patterns),
            source=chance.choice((None, None, "web", "nobody")),
            correlation_id=chance.choice((None, None, pick.correlation_id)),
            priority=chance.choice((None, None, None, *Priority)),
            own_id=chance.random() < 0.2,
            since_ns=chance.choice((None, None, pick.time_ns)),
            until_ns=chance.choice((None, None, chance.choice(events).time_ns)),
            after_seq=chance.choice((0, 0, pick.seq)),
            before_seq=chance.choice((None, None, chance.choice(events).seq)),
            newest_first=chance.random() < 0.4,
            limit=chance.choice((1, 13, 500)),
        )
        expected = [event for event in events if matches(event, query)]
        found = await bench.all(query)
        wanted = expected[::-1] if query.newest_first else expected
        assert [e.seq for e in found] == [e.seq for e in wanted], query


async def counts_are_counted(bench: Bench) -> None:
    assert (await bench.store.counts())[:2] == (0, 0)
    events = await bench.fill(25)
    attached = await bench.attach()
    progress = FakeProgress(attached.id, dead=[dead_letter(event, attached) for event in events[:3]])
    await bench.settle(progress)
    assert await bench.store.counts() == StoreCounts(25, 3, events[-1].seq)


async def closing_stores_what_waits(bench: Bench) -> None:
    """Every append is answered, and settled progress is told; afterwards the store refuses, knowing nothing stored."""
    attached = await bench.attach()
    progress = FakeProgress(attached.id, cursors=[Cursor(2, 9)])
    waits = [asyncio.ensure_future(bench.append(make_event(index))) for index in range(30)]
    await asyncio.sleep(0)
    bench.store.settle(progress)
    await bench.store.close()
    await bench.store.close()
    assert all(wait.done() for wait in waits)
    for wait in waits:
        await wait
    assert len(bench.announced) == 30
    assert [error for _, error in progress.told] == [None]
    with pytest.raises(StoreError) as refused:
        await bench.append(make_event(31))
    assert refused.value.outcome == "fail"
    assert len(bench.announced) == 30


async def what_cannot_be_decoded_is_told_with_its_bytes(bench: Bench) -> None:
    """By every read that comes to it, and by none that does not; whoever passes over it finds all the others."""
    if bench.kind.damage is None:
        return
    events = await bench.fill(30)
    await bench.store.close()
    seqs = [event.seq for event in events]
    raw = {at: bench.kind.damage(bench.folder, seqs[at]) for at in (10, 11)}
    await bench.open()
    for query in (Query(), Query(pattern="order.*"), Query(seqs=tuple(seqs)), Query(after_seq=seqs[9], limit=1)):
        with pytest.raises(Undecodable, match=rf"\b{seqs[10]}\b") as told:
            await bench.store.read(query)
        assert (told.value.event.seq, told.value.event.payload) == (seqs[10], raw[10])
        assert told.value.event.priority is Priority.NORMAL
    assert_same((await bench.store.read(Query(before_seq=seqs[10]))).events, events[:10])
    assert_same((await bench.store.read(Query(after_seq=seqs[11]))).events, events[12:])
    for limit in (1, 5, 10, 500):
        found, broken, after = list[Event](), list[Undecodable](), 0
        while after < seqs[-1]:
            page, passed = await read_around(bench.store, Query(after_seq=after, limit=limit))
            found += page.events
            broken += passed
            after = page.searched_to
        assert_same(found, events[:10] + events[12:])
        assert [(one.event.seq, one.event.payload) for one in broken] == [(seqs[at], raw[at]) for at in (10, 11)]
    page, passed = await read_around(bench.store, Query(seqs=tuple(seqs[9:13])))
    assert_same(page.events, [events[9], events[12]])
    assert [one.event.seq for one in passed] == seqs[10:12]
    attached = await bench.attach()
    progress = FakeProgress(attached.id, dead=[dead_letter(one.event, attached) for one in passed])
    letters = list(progress.dead)
    await bench.settle(progress)
    assert_dead(await bench.store.dead_letters("billing"), letters)


EVENT_PROMISES: tuple[Promise, ...] = (
    seq_follows_the_order_of_append,
    every_event_is_announced_once_in_seq_order,
    an_event_is_announced_and_found_before_its_publisher_goes_on,
    what_can_be_read_was_announced,
    events_come_back_as_they_were,
    a_batch_is_stored_whole_and_together,
    a_cancelled_publisher_takes_nothing_back,
    pages_add_up_to_the_whole,
    chosen_seqs_are_found,
    queries_find_what_they_ask_for,
    counts_are_counted,
    closing_stores_what_waits,
    what_cannot_be_decoded_is_told_with_its_bytes,
)
