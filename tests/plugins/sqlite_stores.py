"""SQLite stores for tests."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Literal

import apsw

from squall.core.clock import Clock, SystemClock
from squall.core.recent import MAX_EVENTS_HELD
from squall.plugins.sqlite.file import DatabaseFile
from squall.plugins.sqlite.schema import IndexName
from squall.plugins.sqlite.store import SqliteStore


def sqlite_store(
    path: Path,
    durability: Literal["process", "disk"] = "disk",
    indexes: Collection[IndexName] = (),
    clock: Clock | None = None,
    vfs: str | None = None,
    recent_events: int = MAX_EVENTS_HELD,
) -> SqliteStore:
    clock = clock or SystemClock()
    file = DatabaseFile(path, durability, frozenset(indexes), clock, vfs)
    return SqliteStore(file, clock, logging.getLogger("squall.plugins.sqlite"), recent_events)


def damage(path: Path, seq: int, change: str = "metadata = '{broken'") -> bytes:
    """Change the row of that seq, in a file that nobody uses, as the assignments of an UPDATE say. Returns its
    payload."""
    db = apsw.Connection(str(path))
    db.execute(f"UPDATE event SET {change} WHERE seq = ?", (seq,))
    assert db.changes() == 1
    payload: bytes = db.execute("SELECT payload FROM event WHERE seq = ?", (seq,)).get
    db.close()
    return payload
