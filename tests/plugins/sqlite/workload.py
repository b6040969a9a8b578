"""Publishers and a subscription at work on a store, and what they were told: to be held against the file later."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from tests.plugins.store_bench import as_tuple, make_event

from squall.core.clock import SystemClock
from squall.core.errors import Outcome, StoreError
from squall.core.event import Event, Priority
from squall.core.store import AttemptRow, Cursor, DurableSpec, Query, Settlement
from squall.plugins.sqlite.file import DatabaseFile
from squall.plugins.sqlite.store import SqliteStore

BILLING = DurableSpec("own", "billing", "shop", ">", "[]", "earliest")
LIMIT_S = 20.0


@dataclass
class Settling:
    """A subscription that settles all it was offered, and gives again what was not stored, as the kernel's does."""

    store: SqliteStore
    subscription_id: str
    high: int = 0
    naks: list[AttemptRow] = field(default_factory=list)
    told_high: int = 0
    told_naks: dict[int, int] = field(default_factory=dict)
    refused: bool = False

    __hash__ = object.__hash__

    def settle(self, upto: int) -> None:
        """Everything up to this seq is handled; every tenth had to be tried again."""
        self.naks += [AttemptRow(seq, 1, 0, "") for seq in range(self.high + 1, upto + 1) if seq % 10 == 0]
        self.high = upto
        self.store.settle(self)

    def take(self) -> Settlement:
        settlement = Settlement(self.subscription_id, True, [Cursor(Priority.NORMAL, self.high)], self.naks)
        self.naks = []
        return settlement

    def committed(self, settlement: Settlement, error: Exception | None) -> None:
        self.refused = error is not None
        if error is None:
            self.told_high = max(self.told_high, settlement.cursors[0].high)
            self.told_naks.update((nak.seq, nak.attempts) for nak in settlement.naks)
        else:
            self.naks = settlement.naks + self.naks


@dataclass
class Publish:
    """One append, and what its publisher was told. Without an outcome it still waits."""

    events: Sequence[Event]
    outcome: Outcome | None = None


class Workload:
    """Appends alone and together, then settling them; all that was told is kept."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.refused: Callable[[], None] = lambda: None  # called as soon as a publisher was told fail or info
        self.publishes: list[Publish] = []
        self.announced: list[Event] = []
        self.progress: Settling
        self._made = 0

    async def open(self) -> None:
        await self.store.open(self.announced.extend)
        attached = await self.store.attach(BILLING)
        self.progress = Settling(self.store, attached.id)

    async def publish(self, number: int) -> Publish:
        """Append so many events at once, and note the answer."""
        publish = Publish([make_event(self._made + index) for index in range(number)])
        self._made += number
        self.publishes.append(publish)
        try:
            done = self.store.append(publish.events)
            if done is not None:
                await done
        except StoreError as error:
            publish.outcome = error.outcome
            self.refused()
        else:
            publish.outcome = "ok"
        return publish

    async def work(self, rounds: int) -> None:
        """Rounds of publishing, one by one and several at once, each with settlements."""
        for index in range(rounds):
            if index % 3 == 2:
                await asyncio.gather(*(self.publish(size) for size in (1, 30, 1)))
            else:
                await self.publish(1 + index % 2 * 6)
            if self.announced:
                self.progress.settle(self.announced[-1].seq)

    async def go_on(self) -> None:
        """The fault is over: publish until the store takes it, and settle until that is stored."""
        while (await self.publish(2)).outcome != "ok":  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        progress = self.progress
        assert self.announced, "acknowledged, not announced"
        progress.settle(self.announced[-1].seq)
        while progress.told_high < progress.high or progress.naks:
            if progress.refused:
                progress.settle(progress.high)
            await asyncio.sleep(0.001)

    @property
    def told(self) -> Told:
        """What everybody knows by now. It may be asked from any thread."""
        publishes = [replace(publish) for publish in list(self.publishes)]
        return Told(publishes, list(self.announced), self.progress.told_high, dict(self.progress.told_naks))


@dataclass
class Told:
    """What publishers and the subscription were told."""

    publishes: Sequence[Publish]
    announced: Sequence[Event]
    high: int
    naks: dict[int, int]

    @property
    def outcomes(self) -> list[Outcome | None]:
        return [publish.outcome for publish in self.publishes]


@dataclass
class Stored:
    """What a file holds when it is opened anew: events by seq, and how far billing has settled."""

    events: dict[int, Event]
    high: int
    attempts: dict[int, int]


async def stored(path: Path) -> Stored:
    store = make_store(path)
    await store.open(lambda events: None)
    try:
        events = (await store.read(Query(limit=100_000))).events
        attached = await store.attach(BILLING)
        high = max((cursor.high for cursor in attached.cursors), default=0)
        attempts = {row.seq: row.attempts for row in attached.attempts}
        return Stored({event.seq: event for event in events}, high, attempts)
    finally:
        await store.close()


def check(told: Told, found: Stored) -> None:
    """Hold what was told against what is stored."""
    ids = {event.id for event in found.events.values()}
    for publish in told.publishes:
        there = [event.id in ids for event in publish.events]
        assert all(there) or not any(there), f"half of a batch is stored: {there}"
        assert publish.outcome != "ok" or there[0], f"seq {publish.events[0].seq} was acknowledged and is lost"
        assert publish.outcome != "fail" or not there[0], f"seq {publish.events[0].seq} was refused and is stored"
    announced = {event.id for event in told.announced}
    for publish in told.publishes:
        if publish.outcome == "ok":
            assert publish.events[0].id in announced, f"seq {publish.events[0].seq} was acknowledged, not announced"
    seqs = [event.seq for event in told.announced]
    assert seqs == sorted(set(seqs)), "announced twice or out of order"
    for event in told.announced:
        assert event.seq in found.events, f"seq {event.seq} was announced and is lost"
        assert as_tuple(found.events[event.seq]) == as_tuple(event)
    assert found.high >= told.high, "what was settled is owed again"
    for seq, attempts in told.naks.items():
        assert found.attempts.get(seq) == attempts, f"the failed attempt of seq {seq} is forgotten"


def make_store(path: Path, durability: Literal["process", "disk"] = "disk", vfs: str | None = None) -> SqliteStore:
    """With a logger of its own: what it says of planned faults is of no interest."""
    logger = logging.Logger("quiet", logging.CRITICAL)
    clock = SystemClock()
    return SqliteStore(DatabaseFile(path, durability, frozenset(), clock, vfs), clock, logger)
