"""Stores for tests: in memory, and with a mind of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.core.events import event

from squall import (
    Context,
    Event,
    EventStore,
    Plugin,
    StoreError,
    StoreFileError,
    hookimpl,
)
from squall.core.store import (
    Attached,
    Capabilities,
    DeadLetter,
    DurableSpec,
    Page,
    Progress,
    Query,
    Redrive,
    Settlement,
    StoreCounts,
)
from squall.plugins.memory import MemoryOptions, MemoryStore

OnStored = Callable[[Sequence[Event]], None]


class StoreWrapper:
    """A store that does what the one behind it does; a test overrides what it wants otherwise."""

    def __init__(self, store: EventStore) -> None:
        self.inner = store
        self.capabilities: Capabilities = store.capabilities

    @property
    def next_seq(self) -> int:
        return self.inner.next_seq

    async def open(self, on_stored: OnStored) -> int:
        return await self.inner.open(on_stored)

    async def close(self) -> None:
        await self.inner.close()

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        return self.inner.append(events)

    def settle(self, progress: Progress) -> None:
        self.inner.settle(progress)

    async def attach(self, spec: DurableSpec) -> Attached:
        return await self.inner.attach(spec)

    async def detach(self, subscription_id: str) -> None:
        await self.inner.detach(subscription_id)

    async def read(self, query: Query) -> Page:
        return await self.inner.read(query)

    async def dead_letters(self, subscription: str | None = None, after: int = 0, limit: int = 500) -> list[DeadLetter]:
        return await self.inner.dead_letters(subscription, after, limit)

    async def redrive(self, wanted: Sequence[Redrive]) -> list[Redrive]:
        return await self.inner.redrive(wanted)

    async def counts(self) -> StoreCounts:
        return await self.inner.counts()


class ManualStore(StoreWrapper):
    """Appends wait until the test commits or fails them, in their order; `auto` passes them through at once.

    A failed append's seqs are burnt, as a store that numbers before it commits burns them.
    """

    def __init__(self, store: EventStore, *, auto: bool = False) -> None:
        super().__init__(store)
        self.auto = auto
        self.waiting: list[tuple[list[Event], asyncio.Future[None]]] = []
        self.error_at_append: Exception | None = None
        self.muted = False

    @property
    def next_seq(self) -> int:
        return self.inner.next_seq + sum(len(events) for events, _ in self.waiting)

    async def open(self, on_stored: OnStored) -> int:
        def announce(events: Sequence[Event]) -> None:
            if not self.muted:
                on_stored(events)

        return await self.inner.open(announce)

    async def close(self) -> None:
        self.commit_all()
        await self.inner.close()

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        if self.error_at_append is not None:
            raise self.error_at_append
        if self.auto:
            return self.inner.append(events)
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append((list(events), answer))
        return asyncio.shield(answer)

    def commit(self) -> None:
        """Store the oldest waiting append."""
        events, answer = self.waiting.pop(0)
        self.inner.append(events)
        if not answer.done():
            answer.set_result(None)

    def commit_all(self) -> None:
        while self.waiting:
            self.commit()

    def fail(self, error: Exception | None = None) -> None:
        """Refuse the oldest waiting append."""
        events, answer = self.waiting.pop(0)
        self.muted = True
        self.inner.append([event("$burnt") for _ in events])
        self.muted = False
        answer.set_exception(error or StoreError("the disk is gone"))
        answer.exception()  # a cancelled publisher does not ask for it


class KeptMemory(Plugin):
    """The memory store, kept by its plugin: what was stored is there again when the router is started again."""

    def __init__(
        self, wrap: Callable[[EventStore], EventStore] = lambda store: store, *, dedupe_window_s: float = 120.0
    ) -> None:
        super().__init__()
        self._wrap, self._dedupe_window_s = wrap, dedupe_window_s
        self.memory: MemoryStore | None = None
        self.store: Any = None

    @hookimpl
    def squall_event_store(self, ctx: Context) -> EventStore:
        if self.memory is None:
            self.memory = MemoryStore(MemoryOptions(dedupe_window=self._dedupe_window_s))
            self.store = self._wrap(self.memory)
        store: EventStore = self.store
        return store


class SlowToSettle(StoreWrapper):
    """Refuses settlements while `refuse` is set."""

    refuse = False

    def settle(self, progress: Progress) -> None:
        if not self.refuse:
            self.inner.settle(progress)
            return
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: progress.committed(progress.take(), StoreError("no settlements today")))


class Settlements(StoreWrapper):
    """Remembers what subscriptions settled, commit by commit."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.taken: list[Settlement] = []

    def settle(self, progress: Progress) -> None:
        self.inner.settle(_Noted(progress, self.taken))


@dataclass(frozen=True)
class _Noted:
    """A progress whose settlements are noted. One asked for twice is the same."""

    progress: Progress
    taken: list[Settlement] = field(compare=False, hash=False)

    def take(self) -> Settlement:
        settlement = self.progress.take()
        self.taken.append(settlement)
        return settlement

    def committed(self, settlement: Settlement, error: Exception | None) -> None:
        self.progress.committed(settlement, error)


class Stepwise(StoreWrapper):
    """Reads take as many turns as the test says: `turns` until they look, `late` until they answer what they saw."""

    turns = 3
    late = 0

    async def read(self, query: Query) -> Page:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        page = await self.inner.read(query)
        for _ in range(self.late):
            await asyncio.sleep(0)
        return page


class OpensThenFails(StoreWrapper):
    """Opens the store behind it, then finds something wrong."""

    closed = 0

    async def open(self, on_stored: OnStored) -> int:
        await self.inner.open(on_stored)
        raise StoreFileError("the audit file is locked")

    async def close(self) -> None:
        self.closed += 1
        await self.inner.close()
