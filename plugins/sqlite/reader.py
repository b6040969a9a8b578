"""Reading: from memory near the head, else on a connection and in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from logging import Logger
from typing import TypeVar

import apsw
import msgspec

from squall.core.errors import StoreError
from squall.core.event import Event
from squall.core.quarantine import Undecodable
from squall.core.query import bounds, page_of
from squall.core.recent import RecentEvents
from squall.core.store import AttemptRow, Cursor, DeadLetter, Page, Query, StoreCounts
from squall.plugins.sqlite import queries, records
from squall.plugins.sqlite.codec import Row, TypeNumbers, decode_event, row_stand_in
from squall.plugins.sqlite.file import DatabaseFile
from squall.plugins.sqlite.threads import Link, Worker

T = TypeVar("T")


class EventReader:
    """Answers from what was announced, also where the file holds more already: readers and the live stream meet at
    `head` without gap or overlap."""

    def __init__(
        self, file: DatabaseFile, types: Callable[[], TypeNumbers], logger: Logger, recent_events: int
    ) -> None:
        self._recent_events = recent_events
        self.link = Link(partial(file.connect, "reader"), logger)
        self.head = 0
        self._file = file
        self._types = types

    def start(self, head: int) -> None:
        """Read from now on; head is the greatest stored seq."""
        self.head = head
        self._recent = RecentEvents(head + 1, self._recent_events)
        self._worker = Worker("squall-sqlite-reader")

    async def stop(self) -> None:
        """Read no more."""
        await self._worker.run(self.link.close)
        await self._worker.stop()

    def add(self, events: Sequence[Event], size_bytes: int) -> None:
        """These are stored now."""
        self.head = events[-1].seq
        self._recent.add(events, size_bytes)

    async def read(self, query: Query) -> Page:
        """See EventStore.read."""
        low, high = bounds(query, 1, self.head)
        least = low if query.seqs is None else max(low, min(query.seqs, default=high + 1))
        recent = self._recent
        if least >= recent.first or low > high:
            return recent.page(query, low, high)
        if query.newest_first and high >= recent.first:
            page = recent.page(query, recent.first, high)
            if page.events:
                return page
            high = recent.first - 1
        return await self._run(partial(self._page, query, low, high), f", reading seq {low} to {high}")

    async def dead_letters(self, subscription: str | None, after: int, limit: int) -> list[DeadLetter]:
        """See EventStore.dead_letters."""
        types = self._types()
        return await self._run(lambda db: records.dead_letters(db, subscription, after, limit, types))

    async def progress(self, subscription_id: str) -> tuple[list[Cursor], list[AttemptRow]]:
        """How far a named subscription came, as stored."""
        return await self._run(lambda db: records.progress(db, subscription_id))

    async def counts(self, inactive_before_ns: int) -> StoreCounts:
        """Counted in parts: one count of everything would hold a snapshot, and with it the log, for long."""
        head, events = self.head, 0
        for low in range(1, head + 1, queries.MAX_SEARCHED):
            high = min(head, low + queries.MAX_SEARCHED - 1)
            events += await self._run(partial(queries.count_events, low=low, high=high))
        unattended = await self._run(partial(records.unattended, before_ns=inactive_before_ns))
        dead_letters = await self._run(records.count_dead_letters)
        return StoreCounts(events, dead_letters, head, tuple(name for name, _ in unattended))

    def _page(self, query: Query, low: int, high: int, db: apsw.Connection) -> Page:
        types = self._types()
        rows, low, high = queries.select_events(db, query, low, high, types, self._file.indexes)
        return page_of([self._event(row, types) for row in rows], query, low, high)

    def _event(self, row: Row, types: TypeNumbers) -> Event:
        try:
            return decode_event(row, types)
        except ValueError as error:
            raise Undecodable(str(self._file.unusable(error)), row_stand_in(row, types)) from error

    async def _run(self, job: Callable[[apsw.Connection], T], where: str = "") -> T:
        def read() -> T:
            try:
                with self.link.use() as db:
                    return job(db)
            except (apsw.CorruptError, apsw.NotADBError) as error:
                raise self._file.unusable(error, where + self._damage()) from error
            except apsw.Error as error:
                raise StoreError(f"{self._file.path}{where}: {error}; nothing is lost, try again") from error
            except (TypeError, ValueError, msgspec.MsgspecError) as error:
                raise self._file.unusable(error, where) from error

        return await self._worker.run(read)

    def _damage(self) -> str:
        """Where SQLite's own check meets the first damage."""
        try:
            with self.link.use() as db:
                return f" ({db.execute('PRAGMA quick_check(1)').get})"
        except apsw.Error as error:
            return f" (its check ended with: {error})"
