"""I/O errors and a full disk at every call that changes the disk: nobody is told what is not so."""

from __future__ import annotations

import asyncio
from pathlib import Path

import apsw
import pytest
from tests.plugins.sqlite.disk import Call, Disk, error_of
from tests.plugins.sqlite.sweep import LASTING, Fault, Sweep
from tests.plugins.sqlite.workload import LIMIT_S, Workload, check, make_store, stored
from tests.plugins.store_bench import make_event

from squall import Context, EventRouter, EventStore, Plugin, hookimpl
from squall.core.errors import StoreError, StoreFileError
from squall.core.store import Query
from squall.plugins.sqlite.store import SqliteStore

pytestmark = pytest.mark.usefixtures("in_a_hurry")


@pytest.mark.slow  # a fault at every call of a whole run
@pytest.mark.parametrize("error", [apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_FULL], ids=["write", "full"])
async def test_a_failed_write_of_the_log_is_a_definite_failure(error: int, tmp_path: Path) -> None:
    """After reopening it is known that nothing was stored; a failed checkpoint is no publisher's business."""
    sweep = Sweep(tmp_path, error, times=1)
    await sweep.run()
    assert sweep.points > 20
    assert set(sweep.outcomes) == {"ok", "fail"}
    assert set(sweep.of_checkpoints) == {"ok"}


@pytest.mark.parametrize("times", [1, 2])
async def test_a_failed_sync_of_the_log_is_looked_up(times: int, tmp_path: Path) -> None:
    """Nobody is told before the file was opened anew, and then everybody gets a definite answer that lasts. SQLite
    clears the log away when it is closed; only when that fails too it is still there, with the whole group in it."""
    sweep = Sweep(tmp_path, apsw.SQLITE_IOERR_FSYNC, times)
    await sweep.run()
    assert sweep.points > 6
    assert set(sweep.outcomes) <= ({"ok", "fail"} if times == 1 else {"ok", "fail", "info"})


@pytest.mark.slow  # a fault at every call of a whole run
@pytest.mark.parametrize(
    ("error", "answers"),
    [
        (apsw.SQLITE_IOERR_WRITE, {"ok", "fail"}),
        (apsw.SQLITE_FULL, {"ok", "fail"}),
        (apsw.SQLITE_IOERR_FSYNC, {"ok", "fail", "info"}),
    ],
    ids=["write", "full", "sync"],
)
async def test_while_a_fault_lasts_nobody_is_told_what_is_not_so(error: int, answers: set[str], tmp_path: Path) -> None:
    """What was being committed is unknown as long as no sync succeeds, what comes later is refused; after the fault
    the store goes on."""
    sweep = Sweep(tmp_path, error, LASTING)
    await sweep.run()
    assert sweep.points > 6
    assert set(sweep.outcomes) == answers


@pytest.mark.slow  # waits for as long as a store does
@pytest.mark.parametrize("error", [apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_FSYNC], ids=["write", "sync"])
@pytest.mark.parametrize("times", [1, LASTING], ids=["once", "lasting"])
async def test_closing_ends_while_a_fault_lasts(error: int, times: int, tmp_path: Path) -> None:
    """Wherever the fault begins: every publisher has an answer by then, and the answers hold."""
    at = 0
    while True:
        path = tmp_path / f"{at}.db"
        disk = Disk()
        work = Workload(make_store(path, vfs=disk.name))
        async with asyncio.timeout(LIMIT_S):
            await work.open()
            fault = disk.on_call = Fault(error, disk.calls + at, times)
            waits = [asyncio.ensure_future(work.publish(size)) for size in (1, 20, 3)]
            await asyncio.sleep(0)
            work.progress.settle(2)
            await work.store.close()
            await asyncio.gather(*waits)
        check(work.told, await stored(path))
        if fault.bitten is None:
            break
        at += 1
    assert at > 3


@pytest.mark.parametrize("error", [apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_FSYNC], ids=["write", "sync"])
async def test_a_fault_while_opening_is_one_clear_error(error: int, tmp_path: Path) -> None:
    """Whatever call it meets: the file is named and let go, and what it holds is there the next time."""
    path, at = tmp_path / "after" / "squall.db", 0
    path.parent.mkdir()
    died = Disk()
    before = Workload(make_store(tmp_path / "squall.db", vfs=died.name))
    await before.open()
    await before.work(3)
    told = before.told
    died.cut(path.parent)
    await before.store.close()
    while True:
        disk = Disk()
        fault = disk.on_call = Fault(error, at, times=1)
        store = make_store(path, vfs=disk.name)
        refused = ""
        try:
            await store.open(lambda events: None)
        except StoreFileError as failed:
            refused = str(failed)
        await store.close()
        assert not refused or str(path) in refused
        if fault.bitten is None:
            break
        at = fault.bitten.number + 1
    assert at > 0
    check(told, await stored(path))


async def test_a_failed_read_is_an_error_and_the_next_one_works(tmp_path: Path) -> None:
    disk = Disk()
    store = make_store(tmp_path / "squall.db", vfs=disk.name)
    await store.open(lambda events: None)
    for index in range(3):
        await _append(store, index)
    await store.close()
    store = make_store(tmp_path / "squall.db", vfs=disk.name)
    await store.open(lambda events: None)
    disk.fail_read = error_of(apsw.SQLITE_IOERR_READ)
    with pytest.raises(StoreError, match="seq 1 to 3"):
        await store.read(Query())
    disk.fail_read = None
    assert len((await store.read(Query())).events) == 3
    await _append(store, 3)
    await store.close()


class OnDisk(Plugin):
    """A store on this disk."""

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__()
        self._path, self._disk = path, disk

    @hookimpl
    def squall_event_store(self, ctx: Context) -> EventStore:
        return make_store(self._path, vfs=self._disk.name)


async def test_what_was_unknown_and_turns_out_absent_may_be_repeated_at_once(tmp_path: Path) -> None:
    """Under its own id, as soon as the file is open again: nothing else needs to be stored before."""

    def fails(call: Call) -> None:
        raise error_of(apsw.SQLITE_IOERR_FSYNC)

    disk, own_id = Disk(), "6f098ad8-fcd7-43f9-8b1c-dea496a4e578"
    async with EventRouter([OnDisk(tmp_path / "squall.db", disk)]) as router:
        publisher = router.publisher("shop")
        await publisher.publish("before", b"")
        disk.on_call = fails
        with pytest.raises(StoreError) as told:
            await publisher.publish("a", b"", event_id=own_id)
        assert told.value.outcome == "info"
        disk.on_call = None
        async with asyncio.timeout(LIMIT_S):
            while (await router.store.read(Query())).searched_to < 2:  # noqa: ASYNC110  which it is once it is open
                await asyncio.sleep(0.001)
        receipt = await publisher.publish_with_receipt("a", b"", event_id=own_id)
        assert (receipt.id, receipt.duplicate) == (own_id, False)
        assert [one.type for one in (await router.store.read(Query())).events] == ["before", "a"]


async def _append(store: SqliteStore, index: int) -> None:
    done = store.append([make_event(index)])
    assert done is not None
    await done
