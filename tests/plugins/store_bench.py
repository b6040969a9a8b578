"""A store under test, what it announced, and short words for using it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from uuid import UUID

from squall.core.event import Event, Priority
from squall.core.identity import system_id
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
    """A store under test. `make(folder)` is called again to reopen what is in the folder. `damage(folder, seq)` makes
    the event of that seq undecodable while the store is closed, and returns the bytes that are then to be told; None
    where a store keeps nothing that could be damaged."""

    name: str
    make: Callable[[Path], EventStore]
    damage: Callable[[Path, int], bytes] | None = None


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
        redrives=2,
    )


def same(event: Event, other: Event) -> bool:
    return as_tuple(event) == as_tuple(other)


def as_tuple(event: Event) -> tuple[object, ...]:
    return (
        event.seq, event.id, event.type, event.source, event.time_ns, event.timestamp, event.priority,
        event.correlation_id, event.metadata, event.payload, event.version, event.key, event.own_id, event.due_ns,
        event.expires_ns,
    )  # fmt: skip


def assert_same(got: Sequence[Event], expected: Sequence[Event]) -> None:
    assert [event.seq for event in got] == [event.seq for event in expected]
    assert [as_tuple(event) for event in got] == [as_tuple(event) for event in expected]


def assert_dead(got: list[DeadLetter], expected: list[DeadLetter]) -> None:
    assert [(letter.event.seq, *letter[1:]) for letter in got] == [(d.event.seq, *d[1:]) for d in expected]
    assert_same([letter.event for letter in got], [letter.event for letter in expected])


Promise = Callable[[Bench], Awaitable[None]]
