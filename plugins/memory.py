"""A store that keeps the latest events in memory: replay, catching up and dead letters, for the process's life."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Annotated

from pydantic import Field

from squall.core.errors import StoreError
from squall.core.event import Event
from squall.core.options import Options
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.query import bounds, search
from squall.core.store import (
    Attached,
    AttemptRow,
    Capabilities,
    Cursor,
    DeadLetter,
    DurableSpec,
    EventStore,
    Page,
    Progress,
    Query,
    Redrive,
    Settlement,
    StoreCounts,
)
from squall.core.units import Bytes, Seconds

MAX_SEARCHED = 10_000
"""Events that one `read` looks at: about a millisecond of the loop."""
WEIGHED_AT_ONCE = 64


class MemoryOptions(Options):
    """How much is kept. Past a bound the oldest go first."""

    noun = "the memory store"

    max_events: Annotated[int, Field(ge=1)] = 100_000
    max_bytes: Annotated[Bytes, Field(ge=1)] = 1_000_000_000
    max_dead_letters: Annotated[int, Field(ge=1)] = 10_000
    dedupe_window: Annotated[
        Seconds,
        Field(ge=0, description="for how long an event_id that is given again is stored once; 0: not at all"),
    ] = 120.0


class MemoryPlugin(Plugin):
    """Events in memory only: nothing survives the process, and receipts say so."""

    Options = MemoryOptions
    options: MemoryOptions

    @hookimpl
    def squall_event_store(self, ctx: Context) -> EventStore:
        return MemoryStore(self.options)


@dataclass
class _Durable:
    """A named subscription."""

    id: str
    spec: DurableSpec
    from_seq: int
    cursors: dict[int, Cursor] = field(default_factory=dict)
    attempts: dict[int, AttemptRow] = field(default_factory=dict)


class MemoryStore:
    """The protocol at level `memory`. Events that made room are not found any more, and nobody is owed them: a named
    subscription that comes back late is told the first seq that is still here."""

    def __init__(self, options: MemoryOptions) -> None:
        self.capabilities = Capabilities("memory", options.dedupe_window, max_events=options.max_events)
        self._options = options
        self._seq = 0
        self._events: deque[Event] = deque(maxlen=options.max_events)
        self._retain: Callable[[Event], None] = _refuse
        self._on_stored: Callable[[Sequence[Event]], None] = _refuse
        self._weights: deque[tuple[int, int]] = deque()
        self._weigh_at = WEIGHED_AT_ONCE
        self._bytes = 0
        self._dead: OrderedDict[tuple[str, int], DeadLetter] = OrderedDict()
        self.dropped_dead_letters = 0
        self._durable: dict[str, _Durable] = {}
        self._dirty: dict[Progress, None] = {}

    @property
    def next_seq(self) -> int:
        return self._seq + 1

    async def open(self, on_stored: Callable[[Sequence[Event]], None]) -> int:
        self._on_stored = on_stored
        self._retain = self._events.append
        return self._seq

    async def close(self) -> None:
        self._retain = _refuse
        self._settle()

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        retain, tell, seq = self._retain, self._on_stored, self._seq
        for event in events:
            retain(event)
            event.seq = seq = seq + 1
        self._seq = seq
        if seq >= self._weigh_at:
            self._weigh()
        tell(events)
        return None

    def _weigh(self) -> None:
        """Drop the oldest events past max_bytes. Weighed by the dozen: per event it would cost as much as append."""
        new = min(len(self._events), WEIGHED_AT_ONCE + self._seq - self._weigh_at)
        self._weigh_at = self._seq + WEIGHED_AT_ONCE
        size = sum([len(event.payload) for event in islice(reversed(self._events), new)])
        self._weights.append((self._seq, size))
        self._bytes += size
        while self._weights[0][0] < self._first or (self._bytes > self._options.max_bytes and len(self._weights) > 1):
            last, size = self._weights.popleft()
            self._bytes -= size
            while self._first <= last:
                self._events.popleft()

    @property
    def _first(self) -> int:
        """The first seq kept; the next one to come when there is none."""
        return self._seq - len(self._events) + 1

    def settle(self, progress: Progress) -> None:
        if not self._dirty:
            asyncio.get_running_loop().call_soon(self._settle)
        self._dirty[progress] = None

    def _settle(self) -> None:
        dirty, self._dirty = self._dirty, {}
        for progress in dirty:
            settlement = progress.take()
            self._keep(settlement)
            progress.committed(settlement, None)

    def _keep(self, settlement: Settlement) -> None:
        for letter in settlement.dead:
            place = letter.subscription_id, letter.event.seq
            before = self._dead.get(place, letter)
            # What is settled a second time is not another failure after a redrive.
            again = letter.last_ns == before.last_ns < before.redriven_ns
            self._dead[place] = letter._replace(
                redrives=max(before.redrives, letter.redrives), redriven_ns=before.redriven_ns if again else 0
            )
        while len(self._dead) > self._options.max_dead_letters:
            self._dead.popitem(last=False)
            self.dropped_dead_letters += 1
        durable = next((d for d in self._durable.values() if d.id == settlement.subscription_id), None)
        if not settlement.durable or durable is None:
            return
        durable.cursors.update((cursor.priority, cursor) for cursor in settlement.cursors)
        durable.attempts.update((row.seq, row) for row in settlement.naks)
        for seq in settlement.cleared:
            durable.attempts.pop(seq, None)

    async def attach(self, spec: DurableSpec) -> Attached:
        durable, given_up = self._durable.get(spec.name), 0
        if durable is None:
            durable = self._durable[spec.name] = _Durable(spec.id, spec, self._start(spec))
        elif spec.differs(durable.spec.pattern, durable.spec.filters):
            settled = min((cursor.high for cursor in durable.cursors.values()), default=0)
            given_up = self._seq - max(durable.from_seq - 1, settled)
            durable = self._durable[spec.name] = _Durable(durable.id, spec, self._seq + 1)
        durable.from_seq = max(durable.from_seq, self._first)
        return Attached(
            durable.id, durable.from_seq, list(durable.cursors.values()), sorted(durable.attempts.values()), given_up
        )

    def _start(self, spec: DurableSpec) -> int:
        if spec.start == "new":
            return self._seq + 1
        return self._first if spec.start == "earliest" else spec.start

    async def detach(self, subscription_id: str) -> None:
        self._settle()
        self._durable = {name: d for name, d in self._durable.items() if d.id != subscription_id}

    async def read(self, query: Query) -> Page:
        first = self._first
        low, high = bounds(query, first, self._seq)
        if low > high:
            return Page([], low if query.newest_first else high)
        if query.seqs is not None:
            seqs = [seq for seq in sorted(set(query.seqs), reverse=query.newest_first) if low <= seq <= high]
            return search([self._events[seq - first] for seq in seqs], query, low, high)
        if query.newest_first:
            low = max(low, high - MAX_SEARCHED + 1)
            return search(islice(reversed(self._events), self._seq - high, self._seq - low + 1), query, low, high)
        high = min(high, low + MAX_SEARCHED - 1)
        return search(islice(self._events, low - first, high - first + 1), query, low, high)

    async def dead_letters(self, subscription: str | None = None, after: int = 0, limit: int = 500) -> list[DeadLetter]:
        wanted = (d for d in self._dead.values() if subscription in (None, d.subscription_id, d.subscription))
        return list(islice(wanted, after, after + limit))

    async def redrive(self, wanted: Sequence[Redrive]) -> list[Redrive]:
        self._settle()
        durables = {durable.id: durable for durable in self._durable.values()}
        given: list[Redrive] = []
        for one in wanted:
            place = one.subscription_id, one.seq
            letter, durable = self._dead.get(place), durables.get(one.subscription_id)
            if letter is None or letter.redriven_ns or letter.redrives != one.redrives or one.durable > bool(durable):
                continue
            self._dead[place] = letter._replace(redrives=letter.redrives + 1, redriven_ns=one.now_ns)
            if durable is not None:
                durable.attempts[one.seq] = AttemptRow(one.seq, 0, one.due_ns, "")
            given.append(one)
        return given

    async def counts(self) -> StoreCounts:
        waiting = sum(not letter.redriven_ns for letter in self._dead.values())
        return StoreCounts(len(self._events), waiting, self._seq)


def _refuse(events: Event | Sequence[Event]) -> None:
    raise StoreError("the memory store is not open: nothing was stored; start the router first")
