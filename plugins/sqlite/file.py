"""The file itself: who holds it, whether it is squall's, and how connections to it are made."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import apsw

from squall.core.clock import Clock
from squall.core.errors import ConfigError, StoreFileError
from squall.plugins.sqlite import schema

MAGIC = b"SQLite format 3\x00"
Role = Literal["writer", "reader", "checkpointer"]
_DAMAGED = (
    "; the file is damaged. It was left as it is: move it and its -wal and -shm files aside together, "
    "recover what can be with `sqlite3 FILE .recover`, and start with another path or a backup"
)


class DatabaseFile:
    """One database file on disk, taken by one store at a time. `vfs` names another way to the disk (tests)."""

    def __init__(
        self,
        path: Path,
        durability: Literal["process", "disk"],
        indexes: frozenset[schema.IndexName],
        clock: Clock,
        vfs: str | None = None,
    ) -> None:
        self.path = path
        self.durability: Literal["process", "disk"] = durability
        self.indexes = indexes
        try:
            self._real = path.resolve()
        except (OSError, RuntimeError, ValueError) as error:
            raise ConfigError(f"path: expected the path of a file, got {str(path)!r:.80} ({error})") from error
        self._log = Path(f"{self._real}-wal")
        self._clock = clock
        self._vfs = vfs
        self._lock: int | None = None

    def take(self) -> apsw.Connection:
        """Lock the file, make or check it, and connect. Raises StoreFileError, leaving what is not squall's alone."""
        try:
            self._real.parent.mkdir(parents=True, exist_ok=True)
            self._acquire()
            if not _size_bytes(self._real):
                self._create()
            self._check_header()
            db = self.connect("writer")
            try:
                self._check_version(db)
                schema.migrate(db)
                schema.set_indexes(db, self.indexes)
            except BaseException:
                db.close()
                raise
        except OSError as error:
            self.release()
            raise StoreFileError(
                f"{self.path}: cannot be opened for writing: {error.strerror} ({error.filename}); "
                "expected a folder and files that this process may write, give another path or change their owner"
            ) from error
        except apsw.Error as error:
            self.release()
            raise self.unusable(error) from error
        except StoreFileError:
            self.release()
            raise
        return db

    def release(self) -> None:
        """Let others take the file."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def connect(self, role: Role) -> apsw.Connection:
        """A connection. The writer's never waits for a lock: it would hold up the event loop."""
        db = apsw.Connection(str(self._real), flags=apsw.SQLITE_OPEN_READWRITE, vfs=self._vfs)
        try:
            db.set_busy_timeout(0 if role == "writer" else 1000)
            if db.execute("PRAGMA journal_mode = WAL").get != "wal":
                raise StoreFileError(f"{self.path}: its file system cannot share memory, which SQLite's log needs")
            full = self.durability == "disk"
            db.execute(f"PRAGMA synchronous = {'FULL' if full else 'NORMAL'}; PRAGMA fullfsync = {int(full)};")
            db.wal_autocheckpoint(0)
            if role == "writer":
                db.execute("PRAGMA cache_size = -16000")  # a group fits, so nothing is written before its commit
            elif role == "reader":
                db.execute("PRAGMA query_only = 1")
        except BaseException:
            db.close()
            raise
        return db

    def unusable(self, error: Exception, where: str = "") -> StoreFileError:
        """The error to raise when the file cannot be used, or what was read in it is nonsense."""
        text = f"{self.path}{where}: {error}"
        damaged = isinstance(error, apsw.CorruptError | apsw.NotADBError) or not isinstance(error, apsw.Error)
        return StoreFileError(text + _DAMAGED if damaged else text)

    def _acquire(self) -> None:
        lock = os.open(f"{self._real}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(lock, 1000)
            os.close(lock)
            raise StoreFileError(
                f"{self.path}: in use by {_describe(holder)}; a store has one writer at a time: stop that process, "
                "or give this one another path"
            ) from error
        self._lock = lock
        since = datetime.fromtimestamp(self._clock.time_ns() // 10**9, UTC).isoformat()
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since}).encode()
        os.ftruncate(lock, 0)
        os.pwrite(lock, holder, 0)

    def _create(self) -> None:
        """Made aside and renamed, so that a file under this name is always whole."""
        if _size_bytes(self._log):
            raise StoreFileError(
                f"{self.path}: missing or empty, but there is its log, {self._log}, with stored events in it; "
                "put the database back beside it, or move the log away to begin anew"
            )
        new = Path(f"{self._real}.new")
        for leftover in (new, Path(f"{new}-journal")):
            leftover.unlink(missing_ok=True)
        db = apsw.Connection(str(new))
        schema.create(db)
        db.close()
        new.replace(self._real)
        folder = os.open(self._real.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)

    def _check_header(self) -> None:
        """Looked at before SQLite sees the file: opening alone could change a foreign one."""
        with self._real.open("rb") as file:
            header = file.read(100)
        if not header.startswith(MAGIC):
            raise StoreFileError(f"{self.path}: not a SQLite database; left as it is, give another path")
        if len(header) < 100 or struct.unpack_from(">I", header, 68)[0] != schema.APPLICATION_ID:
            raise StoreFileError(f"{self.path}: a SQLite database of another program; left as it is, give another path")
        (page_bytes,), (pages,) = struct.unpack_from(">H", header, 16), struct.unpack_from(">I", header, 28)
        expected, got = page_bytes * pages, self._real.stat().st_size
        if got < expected and not _size_bytes(self._log):  # else the rest may be in the log
            raise StoreFileError(f"{self.path}: {expected} bytes expected, {got} are there{_DAMAGED}")

    def _check_version(self, db: apsw.Connection) -> None:
        version = schema.user_version(db)
        if version > schema.VERSION:
            raise StoreFileError(
                f"{self.path}: written by a newer squall (schema {version}, this one knows up to {schema.VERSION}); "
                "upgrade squall, or give another path"
            )


def _size_bytes(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _describe(holder: bytes) -> str:
    with suppress(ValueError, KeyError, TypeError):
        told = json.loads(holder)
        return f"process {told['pid']} on {told['host']} since {told['since']}"
    return "another process"
