"""Stores that break a promise on purpose: the checks of this folder and the shared promises notice each of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.plugins import event_promises, subscription_promises
from tests.plugins.sqlite.sweep import LASTING, Sweep
from tests.plugins.sqlite.test_kill import Witness
from tests.plugins.sqlite.test_power_cut import cuts, lost
from tests.plugins.sqlite_stores import sqlite_store
from tests.plugins.store_bench import Promise, StoreKind
from tests.plugins.store_promises import everything_survives_reopening, hold

from squall.core.event import Event
from squall.core.store import Settlement
from squall.plugins.sqlite import commits, records
from squall.plugins.sqlite import store as store_module
from squall.plugins.sqlite.commits import Committer, Fate, Group
from squall.plugins.sqlite.file import DatabaseFile

Plant = Callable[[pytest.MonkeyPatch], None]


def acknowledge_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    append = store_module.SqliteStore.append

    def early(self: store_module.SqliteStore, events: Sequence[Event]) -> Awaitable[None] | None:
        append(self, events)
        return None

    patch.setattr(store_module.SqliteStore, "append", early)


def believe_the_connection_after_a_failed_sync(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Committer, "_look_up", lambda self, db, group: "absent")


def do_not_reopen(patch: pytest.MonkeyPatch) -> None:
    """Ask the connection that failed: it says that nothing is there, and goes on behind the log's back."""

    def recover(self: Committer, group: Group, cause: Exception) -> Fate:
        self._roll_back()
        return "absent"

    patch.setattr(Committer, "recover", recover)


def keep_the_log_after_a_failed_sync(patch: pytest.MonkeyPatch) -> None:
    """What is found in it can be read, and is on no disk."""
    patch.setattr(commits, "_LOG_WRITE_FAILED", (*commits._LOG_WRITE_FAILED, apsw.SQLITE_IOERR_FSYNC))
    patch.setattr(commits, "close", lambda db, logger: None)  # or SQLite itself would carry the log over


def call_every_failure_definite(patch: pytest.MonkeyPatch) -> None:
    tell = store_module.SqliteStore._tell

    def sure(self: store_module.SqliteStore, group: Group, fate: Fate, cause: Exception | None) -> None:
        tell(self, group, "absent" if fate == "unknown" else fate, cause)

    patch.setattr(store_module.SqliteStore, "_tell", sure)


def commit_half_a_batch(patch: pytest.MonkeyPatch) -> None:
    insert_all = Committer._insert_all

    def half(self: Committer, group: Group) -> None:
        kept = [event for _, events in group.appends for event in events[: len(events) // 2 + 1]]
        insert_all(self, dataclasses.replace(group, events=kept))

    patch.setattr(Committer, "_insert_all", half)


def split_a_batch_over_two_groups(patch: pytest.MonkeyPatch) -> None:
    append = store_module.SqliteStore.append

    def split(self: store_module.SqliteStore, events: Sequence[Event]) -> Awaitable[None] | None:
        half = len(events) // 2
        if half:
            append(self, events[:half])
            self._next_group()
        return append(self, events[half:])

    patch.setattr(store_module.SqliteStore, "append", split)


def let_the_cursor_pass_open_seqs(patch: pytest.MonkeyPatch) -> None:
    save = records._save_progress

    def passing(db: apsw.Connection, settlement: Settlement) -> None:
        cursors = [cursor._replace(open_seqs=()) for cursor in settlement.cursors]
        save(db, dataclasses.replace(settlement, cursors=cursors))

    patch.setattr(records, "_save_progress", passing)


def forget_settlements_that_were_refused(patch: pytest.MonkeyPatch) -> None:
    """Say that they are stored: nobody gives them again."""
    tell = store_module.SqliteStore._tell

    def forget(self: store_module.SqliteStore, group: Group, fate: Fate, cause: Exception | None) -> None:
        for progress, settlement in group.settlements:
            progress.committed(settlement, None)
        group.settlements = []
        tell(self, group, fate, cause)

    patch.setattr(store_module.SqliteStore, "_tell", forget)


def settle_in_a_transaction_of_its_own(patch: pytest.MonkeyPatch) -> None:
    """Never with the events, and told before it is committed."""

    def save(db: apsw.Connection, settlements: Iterable[Settlement], types: Any) -> None: ...

    patch.setattr(records, "save_settlements", save)


def announce_nothing_that_had_to_be_looked_up(patch: pytest.MonkeyPatch) -> None:
    recover = Committer.recover

    def quiet(self: Committer, group: Group, cause: Exception) -> Fate:
        fate = recover(self, group, cause)
        group.events = []
        return fate

    patch.setattr(Committer, "recover", quiet)


def keep_attempts_that_were_cleared(patch: pytest.MonkeyPatch) -> None:
    save = records._save_progress

    def keep(db: apsw.Connection, settlement: Settlement) -> None:
        save(db, dataclasses.replace(settlement, cleared=[]))

    patch.setattr(records, "_save_progress", keep)


def never_sync(patch: pytest.MonkeyPatch) -> None:
    connect = DatabaseFile.connect

    def careless(self: DatabaseFile, role: Any) -> apsw.Connection:
        db = connect(self, role)
        db.execute("PRAGMA synchronous = NORMAL")
        return db

    patch.setattr(DatabaseFile, "connect", careless)


# Without events held in memory, so that what is read is what was stored.
KIND = StoreKind("planted", lambda folder: sqlite_store(folder / "squall.db", recent_events=0))

BROKEN_PROMISES: list[tuple[Plant, Promise]] = [
    (acknowledge_before_the_commit, event_promises.an_event_is_announced_and_found_before_its_publisher_goes_on),
    (commit_half_a_batch, event_promises.a_batch_is_stored_whole_and_together),
    (let_the_cursor_pass_open_seqs, subscription_promises.attaching_again_finds_where_it_stood),
    (settle_in_a_transaction_of_its_own, everything_survives_reopening),
    (keep_attempts_that_were_cleared, subscription_promises.the_latest_settlement_counts),
]


@pytest.mark.parametrize(("plant", "promise"), BROKEN_PROMISES, ids=lambda one: one.__name__)
async def test_a_promise_notices(
    plant: Plant, promise: Promise, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises(AssertionError):
        await hold(promise, KIND, tmp_path)


FAULTS: list[tuple[Plant, int, int]] = [
    (acknowledge_before_the_commit, apsw.SQLITE_IOERR_WRITE, 1),
    (believe_the_connection_after_a_failed_sync, apsw.SQLITE_IOERR_FSYNC, 2),
    (do_not_reopen, apsw.SQLITE_IOERR_FSYNC, 1),
    (keep_the_log_after_a_failed_sync, apsw.SQLITE_IOERR_FSYNC, LASTING),
    (call_every_failure_definite, apsw.SQLITE_IOERR_FSYNC, LASTING),
    (split_a_batch_over_two_groups, apsw.SQLITE_FULL, 1),
    (forget_settlements_that_were_refused, apsw.SQLITE_IOERR_WRITE, LASTING),
    (announce_nothing_that_had_to_be_looked_up, apsw.SQLITE_IOERR_FSYNC, 2),
]


@pytest.mark.usefixtures("in_a_hurry")
@pytest.mark.parametrize(("plant", "error", "times"), FAULTS, ids=lambda one: getattr(one, "__name__", str(one)))
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_an_injected_error_shows_it(
    plant: Plant, error: int, times: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(monkeypatch)
    with pytest.raises((AssertionError, TimeoutError)):
        await Sweep(tmp_path, error, times).run()


@pytest.mark.usefixtures("in_a_hurry")
@pytest.mark.parametrize("plant", [never_sync, acknowledge_before_the_commit], ids=lambda one: one.__name__)
async def test_a_power_cut_shows_it(plant: Plant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any([await lost(cut) is not None for cut in await cuts(tmp_path, "disk", None)])


def test_a_witness_of_kills_notices() -> None:
    """An event that is delivered again after it was settled, and a seq that is given twice."""
    told = [["stored", "7", "id"], ["handle", "7"], ["settled", "7", "1"]]
    for more in ([["handle", "7"]], [["stored", "7", "other"]], [["stored", "6", "other"]]):
        witness = Witness()
        witness.hear(told)
        with pytest.raises(AssertionError):
            witness.hear(more)
