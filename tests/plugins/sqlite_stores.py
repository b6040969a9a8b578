"""SQLite stores for tests."""

from __future__ import annotations

import logging
from collections.abc import Collection
from pathlib import Path
from typing import Literal

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
