"""What every store promises, one coroutine a promise: each takes a Bench and fails with an AssertionError.

A store of one's own is held to them by a StoreKind that makes it: the same folder gives the same stored events.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

import pytest

from squall.core.errors import StoreError, SubscriptionError
from squall.core.event import Event, Priority
from squall.core.identity import system_id
from squall.core.patterns import compile_pattern
from squall.core.query import every_page
from squall.core.store import (
    Attached,
    AttemptRow,
    Cursor,
    DeadLetter,
    DurableSpec,
    EventStore,
    Page,
    Query,
    Settlement,
)

SECOND_NS = 1_000_000_000
NOW_NS = 1_767_225_600 * SECOND_NS


@dataclass(frozen=True)
class StoreKind:
    """A store under test. `make(folder)` is called again to reopen what is in the folder."""

    name: str
    make: Callable[[Path], EventStore]


@dataclass
class FakeProgress:
    """A subscription's side of settling, that remembers what it was asked and told."""

    subscription_id: str
    durable: bool = True
    cursors: list[Cursor] = field(default_factory=list)
    naks: list[AttemptRow] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    cleared: list[int] = field(default_factory=list)
    taken: list[Settlement] = field(default_factory=list)
    told: list[tuple[Settlement, Exception | None]] = field(default_factory=list)

    __hash__ = object.__hash__

    def take(self) -> Settlement:
        settlement = Settlement(self.subscription_id, self.durable, self.cursors, self.naks, self.dead, self.cleared)
        self.naks, self.dead, self.cleared = [], [], []
        self.taken.append(settlement)
        return settlement

    def committed(self, settlement: Settlement, error: Exception | None) -> None:
        self.told.append((settlement, error))


class Bench:
    """A store, what it announced, and short words for using it."""

    def __init__(self, kind: StoreKind, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.announced: list[Event] = []
        self.head = 0
        self.store: EventStore

    async def open(self) -> None:
        self.store = self.kind.make(self.folder)
        self.head = await self.store.open(self.announced.extend)

    async def reopen(self) -> None:
        await self.store.close()
        await self.open()

    async def append(self, *events: Event) -> None:
        done = self.store.append(events)
        if done is not None:
            await done

    async def fill(self, number: int, event: Callable[[int], Event] | None = None) -> list[Event]:
        """Append that many events, some alone and some in batches."""
        events = [(event or make_event)(index) for index in range(number)]
        at, sizes = 0, [1, 1, 3, 1, 20, 1, 1, 7]
        waits = []
        while at < number:
            sizes.append(size := sizes.pop(0))
            waits.append(asyncio.ensure_future(self.append(*events[at : at + size])))
            at += size
        await asyncio.gather(*waits)
        return events

    async def settle(self, progress: FakeProgress) -> None:
        """Ask for a settlement, and wait until the store has told its result."""
        told = len(progress.told)
        self.store.settle(progress)
        await until(lambda: len(progress.told) > told)
        assert progress.told[-1][1] is None, f"the settlement failed: {progress.told[-1][1]}"

    async def attach(self, name: str = "billing", pattern: str = ">", **values: object) -> Attached:
        spec: dict[str, object] = {"subscriber_id": "shop", "filters": "[]"} | values
        return await self.store.attach(DurableSpec(id=system_id(), name=name, pattern=pattern, **spec))  # type: ignore[arg-type]

    def _paged(self) -> EventStore:
        """The store, its pages held to the limit that was asked for."""
        paged, read = copy(self.store), self.store.read

        async def limited(query: Query) -> Page:
            page = await read(query)
            assert len(page.events) <= query.limit, f"asked for {query.limit} events, got {len(page.events)}"
            return page

        paged.read = limited  # type: ignore[method-assign]
        return paged

    async def all(self, query: Query) -> list[Event]:
        """Every event that answers the query, page by page."""
        head = self.announced[-1].seq if self.announced else self.head
        end = head + 1 if query.before_seq is None else min(query.before_seq, head + 1)
        return [event async for event in every_page(self._paged(), replace(query, before_seq=end))]


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, at most ten seconds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  conditions are of any kind
            await asyncio.sleep(0.001)


def make_event(index: int = 0, **values: object) -> Event:
    event_id = str(UUID(int=random.Random(index).getrandbits(128), version=4))
    fields: dict[str, object] = {
        "id": event_id,
        "type": "order.created",
        "source": "shop",
        "timestamp": NOW_NS + index * SECOND_NS,
        "priority": Priority.NORMAL,
        "correlation_id": event_id,
        "metadata": {},
        "payload": b"%d" % index,
        "version": "1",
    }
    return Event(**(fields | values))  # type: ignore[arg-type]


def dead_letter(event: Event, attached: Attached, name: str = "billing") -> DeadLetter:
    return DeadLetter(
        event,
        attached.id,
        name,
        ">",
        "delivery_limit",
        5,
        NOW_NS,
        NOW_NS + 7,
        "ValueError",
        "no such order",
        "Traceback…",
    )


def same(event: Event, other: Event) -> bool:
    return as_tuple(event) == as_tuple(other)


def as_tuple(event: Event) -> tuple[object, ...]:
    return (
        event.seq, event.id, event.type, event.source, event.time_ns, event.timestamp, event.priority,
        event.correlation_id, event.metadata, event.payload, event.version, event.key,
    )  # fmt: skip


def assert_same(got: Sequence[Event], expected: Sequence[Event]) -> None:
    assert [event.seq for event in got] == [event.seq for event in expected]
    assert [as_tuple(event) for event in got] == [as_tuple(event) for event in expected]


Promise = Callable[[Bench], Awaitable[None]]


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
            index, type=made.type, source=made.source, priority=made.priority,
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


async def a_new_durable_subscription_is_owed_what_comes_after(bench: Bench) -> None:
    """Not what was appended before, even when that is not committed yet."""
    events = [make_event(index) for index in range(3)]
    waits = [asyncio.ensure_future(bench.append(event)) for event in events]
    await asyncio.sleep(0)
    attached = await bench.attach()
    await asyncio.gather(*waits)
    assert attached.from_seq == events[-1].seq + 1
    following = make_event(3)
    await bench.append(following)
    assert following.seq >= attached.from_seq
    assert (list(attached.cursors), list(attached.attempts)) == ([], [])


async def a_durable_subscription_starts_where_it_asks(bench: Bench) -> None:
    assert (await bench.attach("before", start="earliest")).from_seq <= bench.head + 1
    events = await bench.fill(20)
    assert (await bench.attach("early", start="earliest")).from_seq <= events[0].seq
    assert (await bench.attach("at", start=events[9].seq)).from_seq == events[9].seq
    assert (await bench.attach("later", start=events[-1].seq + 50)).from_seq == events[-1].seq + 50
    await bench.append(more := make_event(20))
    assert more.seq == events[-1].seq + 1, "a subscription's start changed how events are numbered"


async def attaching_again_finds_where_it_stood(bench: Bench) -> None:
    """The same id and start, the cursors with their open seqs, the attempts; `start` counts only the first time."""
    events = await bench.fill(30)
    attached = await bench.attach(start=events[0].seq)
    progress = FakeProgress(attached.id)
    progress.cursors = [Cursor(0, events[3].seq), Cursor(2, events[20].seq, (events[5].seq, events[9].seq))]
    progress.naks = [AttemptRow(events[6].seq, 2, NOW_NS, "ValueError: no"), AttemptRow(events[8].seq, 1, 0, "")]
    await bench.settle(progress)
    again = await bench.attach(start="new")
    assert (again.id, again.from_seq) == (attached.id, attached.from_seq)
    assert sorted(again.cursors) == progress.cursors
    assert sorted(again.attempts) == progress.taken[0].naks


async def the_latest_settlement_counts(bench: Bench) -> None:
    """A cursor replaces the one before it; an attempt row is updated, and goes when it is cleared."""
    events = await bench.fill(30)
    attached = await bench.attach(start="earliest")
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[9].seq, (events[1].seq,))])
    progress.naks = [AttemptRow(events[index].seq, 1, index, "first") for index in range(5)]
    await bench.settle(progress)
    progress.cursors = [Cursor(2, events[20].seq)]
    progress.naks = [AttemptRow(events[0].seq, 2, 77, "second")]
    progress.cleared = [events[1].seq, events[2].seq]
    await bench.settle(progress)
    again = await bench.attach()
    assert list(again.cursors) == [Cursor(2, events[20].seq)]
    assert sorted(again.attempts) == [
        AttemptRow(events[0].seq, 2, 77, "second"),
        AttemptRow(events[3].seq, 1, 3, "first"),
        AttemptRow(events[4].seq, 1, 4, "first"),
    ]


async def a_retry_that_ended_before_its_failure_was_stored_leaves_nothing(bench: Bench) -> None:
    """One settlement may hold the failed attempt, and that the event was settled after all."""
    events = await bench.fill(5)
    attached = await bench.attach(start="earliest")
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[4].seq)])
    progress.naks = [AttemptRow(events[index].seq, 1, 0, "") for index in range(3)]
    progress.cleared, progress.dead = [events[0].seq, events[1].seq], [dead_letter(events[1], attached)]
    await bench.settle(progress)
    assert list((await bench.attach()).attempts) == [AttemptRow(events[2].seq, 1, 0, "")]


async def a_settlement_is_taken_and_answered_once(bench: Bench) -> None:
    """Neither within the call that asks for it, and both soon, though nothing else is to be stored."""
    attached = await bench.attach()
    progress = FakeProgress(attached.id, cursors=[Cursor(2, 5)])
    for _ in range(3):
        bench.store.settle(progress)
    assert (progress.taken, progress.told) == ([], [])
    await until(lambda: bool(progress.told))
    await bench.append(make_event(0))
    assert len(progress.taken) == 1
    assert [(settlement is progress.taken[0], error) for settlement, error in progress.told] == [(True, None)]


async def settlements_do_not_mix(bench: Bench) -> None:
    events = await bench.fill(10)
    names = ("one", "two", "three")
    progresses = {}
    for index, name in enumerate(names):
        progress = progresses[name] = FakeProgress((await bench.attach(name, start="earliest")).id)
        progress.cursors = [Cursor(2, events[index + 3].seq, (events[index].seq,))]
        progress.naks = [AttemptRow(events[index].seq, index + 1, index, name)]
        bench.store.settle(progress)
    await until(lambda: all(progress.told for progress in progresses.values()))
    for name in names:
        again = await bench.attach(name)
        assert (again.id, list(again.cursors)) == (progresses[name].subscription_id, progresses[name].cursors)
        assert list(again.attempts) == progresses[name].taken[0].naks


async def a_changed_subscription_must_say_so(bench: Bench) -> None:
    """Another pattern or other filters are refused, and with update=True they count from the head on."""
    attached = await bench.attach(pattern="order.>", start="earliest")
    events = await bench.fill(10)
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[4].seq)])
    progress.naks = [AttemptRow(events[0].seq, 1, 0, "")]
    await bench.settle(progress)
    for values in ({"pattern": "user.>"}, {"pattern": "order.>", "filters": '[{"source":"web"}]'}):
        with pytest.raises(SubscriptionError, match="billing"):
            await bench.attach(**values)
        assert (await bench.attach(pattern="order.>")).from_seq == attached.from_seq
    updated = await bench.attach(pattern="user.>", update=True)
    assert (updated.id, updated.from_seq) == (attached.id, events[-1].seq + 1)
    assert (list(updated.cursors), list(updated.attempts)) == ([], [])
    assert (await bench.attach(pattern="user.>", update=True)).from_seq == updated.from_seq


async def a_detached_subscription_is_forgotten(bench: Bench) -> None:
    attached = await bench.attach(start="earliest")
    events = await bench.fill(10)
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[4].seq)])
    progress.naks = [AttemptRow(events[0].seq, 1, 0, "")]
    await bench.settle(progress)
    await bench.store.detach(attached.id)
    again = await bench.attach(pattern="other.>")
    assert again.id != attached.id
    assert (again.from_seq, list(again.cursors), list(again.attempts)) == (events[-1].seq + 1, [], [])


async def dead_letters_keep_everything(bench: Bench) -> None:
    """In the order of their arrival, paged, by subscription's id or name, also those of an unnamed subscription."""
    events = await bench.fill(12, lambda index: make_event(index, metadata={"n": index}, key=f"k{index}"))
    one, two = await bench.attach("one"), await bench.attach("two")
    progress, other = FakeProgress(one.id), FakeProgress("live-1", durable=False)
    first = [dead_letter(event, one, "one") for event in events[:5]]
    second = [
        dead_letter(event, two, "two")._replace(subscription_id="live-1", subscription="") for event in events[3:8]
    ]
    progress.dead, other.dead = first[:3], list(second)
    await bench.settle(progress)
    await bench.settle(other)
    progress.dead = first[3:]
    await bench.settle(progress)
    store = bench.store
    assert_dead(await store.dead_letters(), first[:3] + second + first[3:])
    assert_dead(await store.dead_letters("one"), first)
    assert_dead(await store.dead_letters(one.id), first)
    assert_dead(await store.dead_letters("live-1"), second)
    assert_dead(await store.dead_letters(two.id), [])
    assert_dead(await store.dead_letters("one", after=2, limit=2), first[2:4])
    assert_dead(await store.dead_letters(after=4, limit=3), second[1:4])


def assert_dead(got: list[DeadLetter], expected: list[DeadLetter]) -> None:
    assert [(letter.event.seq, *letter[1:]) for letter in got] == [(d.event.seq, *d[1:]) for d in expected]
    assert_same([letter.event for letter in got], [letter.event for letter in expected])


async def an_unnamed_subscription_leaves_dead_letters_only(bench: Bench) -> None:
    """Its cursors and attempts are nobody's; storing them would leave rows that nothing ever clears."""
    events = await bench.fill(3)
    attached = await bench.attach(start="earliest")
    progress = FakeProgress(attached.id, durable=False, cursors=[Cursor(2, 3)], naks=[AttemptRow(1, 1, 0, "")])
    progress.dead = [dead_letter(events[0], attached)]
    await bench.settle(progress)
    again = await bench.attach()
    assert (list(again.cursors), list(again.attempts)) == ([], [])
    assert (await bench.store.counts()).dead_letters == 1


async def counts_are_counted(bench: Bench) -> None:
    assert (await bench.store.counts())[:2] == (0, 0)
    events = await bench.fill(25)
    attached = await bench.attach()
    progress = FakeProgress(attached.id, dead=[dead_letter(event, attached) for event in events[:3]])
    await bench.settle(progress)
    assert await bench.store.counts() == (25, 3, events[-1].seq)


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


async def everything_survives_reopening(bench: Bench) -> None:
    """Events, subscriptions, cursors, attempts, dead letters; and numbering goes on above all that was ever given."""
    if bench.store.capabilities.durability == "memory":
        return
    events = await bench.fill(50)
    attached = await bench.attach(start=events[0].seq)
    ahead = await bench.attach("ahead")
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[30].seq, (events[4].seq,))])
    progress.naks = [AttemptRow(events[7].seq, 3, NOW_NS, "ValueError")]
    progress.dead = letters = [dead_letter(events[8], attached)]
    await bench.settle(progress)
    await bench.reopen()
    assert bench.head == events[-1].seq
    assert_same(await bench.all(Query()), events)
    again = await bench.attach()
    assert (again.id, again.from_seq) == (attached.id, attached.from_seq)
    assert list(again.cursors) == progress.cursors
    assert list(again.attempts) == progress.taken[0].naks
    assert_dead(await bench.store.dead_letters("billing"), letters)
    more = await bench.fill(3, lambda index: make_event(1000 + index))
    assert more[0].seq == ahead.from_seq == events[-1].seq + 1
    assert_same(await bench.all(Query()), events + more)
    assert json.dumps([e.seq for e in bench.announced]) == json.dumps([e.seq for e in events + more])


PROMISES: tuple[Promise, ...] = (
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
    a_new_durable_subscription_is_owed_what_comes_after,
    a_durable_subscription_starts_where_it_asks,
    attaching_again_finds_where_it_stood,
    the_latest_settlement_counts,
    a_retry_that_ended_before_its_failure_was_stored_leaves_nothing,
    a_settlement_is_taken_and_answered_once,
    settlements_do_not_mix,
    a_changed_subscription_must_say_so,
    a_detached_subscription_is_forgotten,
    dead_letters_keep_everything,
    an_unnamed_subscription_leaves_dead_letters_only,
    counts_are_counted,
    closing_stores_what_waits,
    everything_survives_reopening,
)


async def hold(promise: Promise, kind: StoreKind, folder: Path) -> None:
    """Hold one store to one promise. Raises AssertionError when it does not keep it."""
    bench = Bench(kind, folder)
    await bench.open()
    try:
        await promise(bench)
    finally:
        await bench.store.close()
