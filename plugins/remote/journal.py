"""Publishes on disk while there is no connection: what one process could not send, the next one does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import apsw

from squall.core.clock import Clock
from squall.core.errors import StoreError, StoreFileError
from squall.plugins.remote.pending import Pending
from squall.protos import wire_pb2 as pb

APPLICATION_ID = 0x73716F62  # "sqob"
_SCHEMA = "CREATE TABLE publish(n INTEGER PRIMARY KEY AUTOINCREMENT, frame BLOB, made_ns INTEGER, sent_ns INTEGER)"


class Journal:
    """A SQLite file of one process. What is in it survives the process, killed or not, but not a power cut: nothing in
    it has been acknowledged to anybody, and a sync per publish would hold the loop up."""

    def __init__(self, path: Path) -> None:
        """Raises StoreFileError for a file that another process uses, or that is none of these."""
        self._path = path
        try:
            self._file = apsw.Connection(str(path))
            self._file.execute("PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF")
            found = self._file.pragma("application_id")
            if found == 0 and not self._file.execute("SELECT 1 FROM sqlite_schema").fetchone():
                with self._file:
                    self._file.execute(f"{_SCHEMA}; PRAGMA application_id={APPLICATION_ID}")
            elif found != APPLICATION_ID:
                raise StoreFileError(f"{path}: expected a publish buffer of squall's, got another database")
        except apsw.BusyError as error:
            raise StoreFileError(f"{path}: another process uses this publish buffer: give each its own") from error
        except apsw.Error as error:
            raise StoreFileError(f"{path}: the publish buffer cannot be opened: {error}") from error

    def load(self, clock: Clock) -> Iterator[Pending]:
        """What waits, in its order."""
        wall_ns = clock.monotonic_ns() - clock.time_ns()
        for row, frame, made_ns, sent_ns in self._file.execute(
            "SELECT n, frame, made_ns, sent_ns FROM publish ORDER BY n"
        ):
            publish = pb.Publish.FromString(frame)
            pending = Pending(list(publish.events), atomic=publish.atomic, made_ns=made_ns + wall_ns, deadline_ns=None)
            pending.row, pending.unanswered = row, bool(sent_ns)
            if sent_ns:
                pending.first_sent_ns = sent_ns + wall_ns
            yield pending

    def add(self, batch: Sequence[Pending], clock: Clock) -> None:
        """Write publishes down, and their places in the file into them. Raises StoreError."""
        wall_ns = clock.time_ns() - clock.monotonic_ns()
        try:
            with self._writing():
                for one in batch:
                    frame = pb.Publish(events=one.events, atomic=one.atomic).SerializeToString()
                    sent_ns = one.first_sent_ns + wall_ns if one.first_sent_ns else 0
                    values = (frame, one.aged_ns + wall_ns, sent_ns)
                    self._file.execute("INSERT INTO publish(frame, made_ns, sent_ns) VALUES (?, ?, ?)", values)
                    one.row = self._file.last_insert_rowid()
        except StoreError:
            for one in batch:
                one.row = 0
            raise

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            with self._file:
                yield
        except apsw.Error as error:
            raise StoreError(f"the publish buffer {self._path} cannot be written: {error}") from error

    def mark_sent(self, rows: Sequence[int], now_ns: int) -> None:
        """They are on their way: from now on it is not known whether they are stored."""
        with self._writing():
            self._file.executemany(
                "UPDATE publish SET sent_ns = ? WHERE n = ? AND sent_ns = 0", [(now_ns, n) for n in rows]
            )

    def remove(self, rows: Sequence[int]) -> None:
        """They have their answer."""
        with self._writing():
            self._file.executemany("DELETE FROM publish WHERE n = ?", [(n,) for n in rows])

    def close(self) -> None:
        self._file.close()
