"""Every store is held to the same promises; and stores with a planted bug show that each promise can be broken."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plugins.redrive_promises import REDRIVE_PROMISES
from tests.plugins.sqlite_stores import damage, sqlite_store
from tests.plugins.store_bench import Promise, StoreKind
from tests.plugins.store_promises import PROMISES, hold

from squall.plugins.memory import MemoryOptions, MemoryStore


def damaged(folder: Path, seq: int) -> bytes:
    """Metadata that is no JSON."""
    return damage(folder / "squall.db", seq)


def not_text(folder: Path, seq: int) -> bytes:
    """A source that is no UTF-8."""
    return damage(folder / "squall.db", seq, "source = CAST(x'ff80' AS TEXT)")


MEMORY = StoreKind("memory", lambda folder: MemoryStore(MemoryOptions()))
SQLITE = StoreKind("sqlite", lambda folder: sqlite_store(folder / "squall.db"), damaged)
# Without events held in memory, so that every read is SQLite's.
COLD = StoreKind("sqlite-cold", lambda folder: sqlite_store(folder / "squall.db", recent_events=0), not_text)
INDEXED = StoreKind(
    "sqlite-indexed",
    lambda folder: sqlite_store(
        folder / "squall.db", "process", {"type", "correlation", "id", "key"}, recent_events=10
    ),
    damaged,
)
KINDS = [MEMORY, SQLITE, COLD, INDEXED]


@pytest.mark.parametrize("promise", [*PROMISES, *REDRIVE_PROMISES], ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
async def test_store_keeps_its_promise(kind: StoreKind, promise: Promise, tmp_path: Path) -> None:
    await hold(promise, kind, tmp_path)
