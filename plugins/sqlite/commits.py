"""Groups and the connection that commits them: whether one is stored is answered from the file, never guessed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from logging import Logger
from typing import Any, Literal

import apsw

from squall.core.errors import StoreError, StoreFileError
from squall.core.event import Event
from squall.core.store import Progress, Settlement
from squall.plugins.sqlite import records
from squall.plugins.sqlite.codec import PLACES, TypeNumbers, encode_events, pack_id
from squall.plugins.sqlite.file import DatabaseFile
from squall.plugins.sqlite.queries import SPAN_BITS, note_spans
from squall.plugins.sqlite.threads import Link, close

Fate = Literal["stored", "absent", "unknown"]
Work = Callable[[apsw.Connection], Any]

_INSERT = f"INSERT INTO event VALUES({PLACES})"
_LOG_WRITE_FAILED = (apsw.SQLITE_FULL, apsw.SQLITE_IOERR_WRITE)


@dataclass(slots=True)
class Group:
    """What one transaction stores, and who waits for it. `refused` are those of them that alone could not be stored."""

    events: list[Event] = field(default_factory=list)
    appends: list[tuple[asyncio.Future[None], Sequence[Event]]] = field(default_factory=list)
    settlements: list[tuple[Progress, Settlement]] = field(default_factory=list)
    works: list[tuple[asyncio.Future[Any], Work]] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)
    refused_appends: list[tuple[asyncio.Future[None], Exception]] = field(default_factory=list)
    refused_settlements: list[tuple[Progress, Settlement, Exception]] = field(default_factory=list)

    @property
    def size_bytes(self) -> int:
        """Of all payloads."""
        return sum([len(event.payload) for event in self.events])

    def __bool__(self) -> bool:
        return bool(self.events or self.settlements or self.works)


class Committer:
    """The writing connection. At most one of its methods runs at a time: `insert` on the loop, since it is short and
    a thread would have to be waited for, the others in the writer's thread."""

    def __init__(self, file: DatabaseFile, links: Sequence[Link], logger: Logger) -> None:
        self._file = file
        self._links = links
        self._logger = logger
        self._db: apsw.Connection | None = None
        self._next_span = 0
        self.broken = False
        self.log_pages = 0
        self.types = TypeNumbers(())

    def open(self, now_ns: int, inactive_after_ns: int) -> tuple[int, int, list[tuple[str, int]]]:
        """Take the file. Returns the greatest stored seq, the greatest given, and the subscriptions that nobody has
        handled for so long, with since when. Raises StoreFileError."""
        db = self._file.take()
        try:
            self._use(db)
            self.types = TypeNumbers(db.execute("SELECT id, name FROM type ORDER BY id"))
            records.note_unattended(db, now_ns)
            return *records.head_seq(db), records.unattended(db, now_ns - inactive_after_ns)
        except (apsw.Error, TypeError, ValueError) as error:
            self.close()
            raise self._file.unusable(error) from error

    def close(self) -> None:
        """Let the file go. The last connection to close carries the log over into the database."""
        for link in self._links:
            link.close()
        self._drop()
        self._file.release()

    @property
    def is_up(self) -> bool:
        """Whether there is a connection to write to."""
        return self._db is not None

    def insert(self, group: Group) -> None:
        """Begin a transaction and write the group into it. When SQLite cannot, it is rolled back and apsw.Error
        raised; if even that failed, the connection is `broken` and to be recovered."""
        try:
            try:
                self._insert_all(group)
            except Exception as error:
                if not _is_one_items_fault(error):
                    raise
                self._logger.warning("%s: something cannot be stored (%s); sorting it out", self._file.path, error)
                self._roll_back()
                self._insert_one_by_one(group)
        except apsw.Error:
            self._roll_back()
            raise

    def commit(self, group: Group, insert_first: bool) -> tuple[Fate, Exception | None]:
        """Commit what was inserted: whether it is stored now, and what went wrong."""
        try:
            if insert_first:
                self.insert(group)
        except apsw.Error as error:
            return (self.recover(group, error) if self.broken else "absent"), error
        try:
            if group.events and group.events[-1].seq + 1 >> SPAN_BITS > self._next_span:
                note_spans(self._writer, group.events[-1].seq)
            self._writer.execute("COMMIT")
        except apsw.Error as error:
            return self.recover(group, error), error
        if group.events:
            self._next_span = max(self._next_span, group.events[-1].seq + 1 >> SPAN_BITS)
        self.types.unsaved.clear()
        return "stored", None

    def recover(self, group: Group, cause: Exception) -> Fate:
        """Close every connection and read the log anew from the file; then look whether the group is there.

        After a failed fsync the log may hold the group although the connection says it does not, and may lose it
        although it says it does. So the log is first carried over into the database and emptied, and that it is empty
        is synced by a commit (else a power cut could bring its old part back, over the new pages): what is found then
        stays, and what is not found cannot come back. Only a log that could not be written whole needs no such care.
        """
        self._logger.error("%s: writing failed (%s); reopening", self._file.path, cause)
        with ExitStack() as held:
            for link in self._links:
                held.enter_context(link.lock)
                link.close()
            self._drop()
            try:
                db = self._file.connect("writer")
            except (apsw.Error, StoreFileError) as error:
                self._logger.error("%s: reopening failed: %s", self._file.path, error)
                return "unknown"
            try:
                if getattr(cause, "extendedresult", 0) not in _LOG_WRITE_FAILED:
                    db.set_busy_timeout(1000)
                    db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
                    db.execute("UPDATE head SET seq = seq + 1")  # some change: SQLite does not write the same again
                    db.set_busy_timeout(0)
                fate = self._look_up(db, group)
                self._use(db)
            except (apsw.Error, StoreFileError) as error:
                self._logger.error("%s: reopened, but not usable: %s", self._file.path, error)
                close(db, self._logger)
                return "unknown"
        if fate == "stored":
            self.types.unsaved.clear()
        return fate

    @property
    def _writer(self) -> apsw.Connection:
        if self._db is None:
            raise StoreError(f"{self._file.path}: not open")
        return self._db

    def _use(self, db: apsw.Connection) -> None:
        def committed(_connection: apsw.Connection, _name: str, pages: int) -> int:
            self.log_pages = pages
            return apsw.SQLITE_OK

        self._next_span = db.execute("SELECT coalesce(max(number) + 1, 0) FROM span").get
        db.set_wal_hook(committed)
        self._db, self.broken = db, False

    def _drop(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            close(db, self._logger)

    def _roll_back(self) -> None:
        try:
            if self._writer.in_transaction:
                self._writer.execute("ROLLBACK")
        except apsw.Error as error:
            self.broken = True
            self._logger.error("%s: rolling back failed: %s", self._file.path, error)

    def _insert_all(self, group: Group) -> None:
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        if group.events:
            rows = encode_events(group.events, self.types)
            records.save_types(db, self.types)
            db.executemany(_INSERT, rows)
        records.save_settlements(db, [settlement for _, settlement in group.settlements], self.types)
        group.results = [_result(db, work) for _, work in group.works]

    def _insert_one_by_one(self, group: Group) -> None:
        """Each append and each settlement behind a savepoint of its own, so that one cannot fail the others."""
        db = self._writer
        db.execute("BEGIN IMMEDIATE")
        appends, group.appends, group.events = group.appends, [], []
        for future, events in appends:
            try:
                with db:
                    rows = encode_events(events, self.types)
                    records.save_types(db, self.types)
                    db.executemany(_INSERT, rows)
            except Exception as error:
                if not _is_one_items_fault(error):
                    raise
                group.refused_appends.append((future, error))
            else:
                group.appends.append((future, events))
                group.events.extend(events)
        settlements, group.settlements = group.settlements, []
        for progress, settlement in settlements:
            try:
                with db:
                    records.save_settlements(db, [settlement], self.types)
            except Exception as error:
                if not _is_one_items_fault(error):
                    raise
                group.refused_settlements.append((progress, settlement, error))
            else:
                group.settlements.append((progress, settlement))
        group.results = [_result(db, work) for _, work in group.works]

    def _look_up(self, db: apsw.Connection, group: Group) -> Fate:
        if not group.events:
            return "unknown"
        bounds = group.events[0].seq, group.events[-1].seq
        found = dict(db.execute("SELECT seq, id FROM event WHERE seq BETWEEN ? AND ?", bounds))
        here = sum(found.get(event.seq) == pack_id(event.id) for event in group.events)
        if 0 < here < len(group.events):
            raise StoreFileError(
                f"{self._file.path}: of {len(group.events)} events that were committed together (seq {bounds[0]} to "
                f"{bounds[1]}) {here} are there; the file is damaged"
            )
        return "stored" if here else "absent"


def _result(db: apsw.Connection, work: Work) -> Any:
    """What work returns, or its error; that must not fail what others store."""
    try:
        with db:
            return work(db)
    except Exception as error:
        if not _is_one_items_fault(error):
            raise
        return error


def _is_one_items_fault(error: Exception) -> bool:
    """Whether an event or settlement, and not the store, is to blame."""
    return not isinstance(error, apsw.Error) or isinstance(
        error, apsw.ConstraintError | apsw.MismatchError | apsw.TooBigError
    )
