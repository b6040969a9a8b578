"""A disk for tests: every call that changes it is counted, may be made to fail, and the power may be cut at any."""

# ruff: noqa: N802  the names are those of apsw

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

import apsw

SECTOR = 512
KINDS = Literal["write", "truncate", "sync", "delete"]

_names = map("disk-{}".format, itertools.count())


class Call(NamedTuple):
    """A change that SQLite asks for. `number` counts them from 0; `suffix` is that of the file: "", "-wal"."""

    number: int
    kind: KINDS
    suffix: str


@dataclass
class FileState:
    """What of a file would survive a power cut for sure, and the writes since, which may or may not. A truncation is
    a write of None at the new size."""

    synced: bytes
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)
    failed_syncs: int = 0


class Disk(apsw.VFS):
    """`on_call` is told each change before it is made, in whatever thread makes it; what it raises is SQLite's error.

    A sync that fails drops what it should have written, as Linux does: it can still be read, no later sync writes it,
    and everybody who has the file open is told once, by the next sync.
    """

    def __init__(self) -> None:
        self.name = next(_names)
        self.on_call: Callable[[Call], None] | None = None
        self.fail_read: apsw.Error | None = None
        self.calls = 0
        self._lock = threading.RLock()
        self._files: dict[str, FileState] = {}
        super().__init__(self.name, base="")

    def xOpen(self, name: str | apsw.URIFilename | None, flags: list[int]) -> apsw.VFSFile:
        path = name.filename() if isinstance(name, apsw.URIFilename) else str(name)
        file = DiskFile(self, name, path, flags)
        with self._lock:
            state = self._files.setdefault(path, FileState(b""))
            if not state.synced and not state.unsynced:
                state.synced = Path(path).read_bytes()
            file.failed_syncs = state.failed_syncs
        return file

    def xDelete(self, name: str, sync_folder: bool) -> None:
        self.count("delete", name)
        super().xDelete(name, sync_folder)
        with self._lock:
            self._files.pop(name, None)

    def count(self, kind: KINDS, path: str) -> None:
        """Tell on_call."""
        with self._lock:
            call = Call(self.calls, kind, path[path.rindex(".db") + 3 :])
            self.calls += 1
        if self.on_call is not None:
            self.on_call(call)

    def changed(self, path: str, offset: int, data: bytes | None) -> None:
        """A write or a truncation was made."""
        with self._lock:
            if path in self._files:
                self._files[path].unsynced.append((offset, data))

    def failed_syncs(self, path: str) -> int:
        """How many syncs of the file failed."""
        with self._lock:
            return self._files[path].failed_syncs

    def synced(self, path: str, ok: bool) -> None:
        """A sync was made, or failed."""
        with self._lock:
            state = self._files[path]
            if ok:
                state.synced = applied(state.synced, state.unsynced)
            else:
                state.failed_syncs += 1
            state.unsynced.clear()

    def copy(self, folder: Path) -> None:
        """Write to folder what another process would find if this one died now."""
        with self._lock:
            for path in self._files:
                if not path.endswith("-shm"):
                    (folder / Path(path).name).write_bytes(Path(path).read_bytes())

    def cut(self, folder: Path, chance: Random | None = None) -> None:
        """Write to folder what the disk would hold if the power were cut now: all that was synced; of the rest
        nothing, or any sectors of any writes that chance picks."""
        with self._lock:
            for path, state in self._files.items():
                if path.endswith("-shm"):
                    continue
                survived: list[tuple[int, bytes | None]] = []
                for offset, data in state.unsynced if chance is not None else ():
                    assert chance is not None
                    if data is None:
                        survived += [(offset, None)] if chance.random() < 0.5 else []
                        continue
                    for start in range(0, len(data), SECTOR):
                        if chance.random() < 0.7:
                            survived.append((offset + start, data[start : start + SECTOR]))
                (folder / Path(path).name).write_bytes(applied(state.synced, survived))


class DiskFile(apsw.VFSFile):
    """One open file of a Disk."""

    def __init__(self, disk: Disk, name: str | apsw.URIFilename | None, path: str, flags: list[int]) -> None:
        self._disk, self._path = disk, path
        self.failed_syncs = 0
        super().__init__("", name, flags)

    def xRead(self, amount: int, offset: int) -> bytes:
        if self._disk.fail_read is not None:
            raise self._disk.fail_read
        return super().xRead(amount, offset)

    def xWrite(self, data: bytes, offset: int) -> None:
        self._disk.count("write", self._path)
        super().xWrite(data, offset)
        self._disk.changed(self._path, offset, bytes(data))

    def xTruncate(self, size: int) -> None:
        self._disk.count("truncate", self._path)
        super().xTruncate(size)
        self._disk.changed(self._path, size, None)

    def xSync(self, flags: int) -> None:
        try:
            self._disk.count("sync", self._path)
        except apsw.Error:
            self._disk.synced(self._path, ok=False)
            self.failed_syncs += 1
            raise
        failed_before, self.failed_syncs = self.failed_syncs, self._disk.failed_syncs(self._path)
        if self.failed_syncs > failed_before:
            raise error_of(apsw.SQLITE_IOERR_FSYNC)
        self._disk.synced(self._path, ok=True)  # the real sync would only take time


def error_of(code: int) -> apsw.Error:
    """SQLite's error of this extended code."""
    error = apsw.exception_for(code)
    assert isinstance(error, apsw.Error)
    return error


def applied(content: bytes, writes: list[tuple[int, bytes | None]]) -> bytes:
    """The content after these writes and truncations."""
    image = bytearray(content)
    for offset, data in writes:
        if data is None:
            del image[offset:]
            image.extend(bytes(max(0, offset - len(image))))
        else:
            image.extend(bytes(max(0, offset - len(image))))
            image[offset : offset + len(data)] = data
    return bytes(image)
