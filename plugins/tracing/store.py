"""The store, looked at from before it: how long it takes over traced events, and what of history is read."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial

from squall.core.event import Event
from squall.core.store import Capabilities, EventStore, Page, Query
from squall.plugins.tracing.context import read
from squall.plugins.tracing.records import Published, Replayed
from squall.plugins.tracing.tracer import Tracer, is_sampled

MAX_LINKS = 128


class TracedStore:
    """Does what the store behind it does. Where no traced event is on its way, an append costs one question more."""

    def __init__(self, store: EventStore, tracer: Tracer) -> None:
        self._store, self._tracer = store, tracer
        self._waiting, self._inner_append = tracer.waiting, store.append
        self.open, self.close, self.settle = store.open, store.close, store.settle
        self.attach, self.detach = store.attach, store.detach
        self.dead_letters, self.counts = store.dead_letters, store.counts
        self.redrive = store.redrive
        tracer.next_seq = lambda: store.next_seq

    @property
    def capabilities(self) -> Capabilities:
        return self._store.capabilities

    @property
    def next_seq(self) -> int:
        return self._store.next_seq

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        return self._traced(events) if self._waiting else self._inner_append(events)

    def _traced(self, events: Sequence[Event]) -> Awaitable[None] | None:
        take, tracer = self._waiting.pop, self._tracer
        records = [record for event in events if (record := take(event.id, None)) is not None]
        if not records:
            return self._inner_append(events)
        begun_ns = tracer.now_ns()
        try:
            pending = self._inner_append(events)
        except Exception as error:
            tracer.stored(records, begun_ns, error)
            raise
        if pending is None:
            tracer.stored(records, begun_ns, None)
            return None
        answer = asyncio.ensure_future(pending)
        answer.add_done_callback(partial(self._answered, records, begun_ns))
        return answer

    def _answered(self, records: Sequence[Published], begun_ns: int, answer: asyncio.Future[None]) -> None:
        error = asyncio.CancelledError() if answer.cancelled() else answer.exception()
        self._tracer.stored(records, begun_ns, error)

    async def read(self, query: Query) -> Page:
        """Reading up to a bound, other than by the kernel for itself, is a replay of history."""
        if query.before_seq is None or query.own_id:
            return await self._store.read(query)
        tracer, begun_ns = self._tracer, self._tracer.now_ns()
        context, parent = tracer.here()
        found: Sequence[Event] = ()
        failed: BaseException | None = None
        try:
            page = await self._store.read(query)
            found = page.events
        except BaseException as error:
            failed = error
            raise
        finally:
            links = [origin for event in found if is_sampled(event) and (origin := read(event.metadata))]
            tracer.keep(
                Replayed(query, context, parent, begun_ns, tracer.now_ns(), len(found), links[:MAX_LINKS], failed)
            )
        return page
