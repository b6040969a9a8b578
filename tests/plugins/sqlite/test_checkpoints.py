"""The log stays short while it is written to, and carrying it over holds nobody up."""

# ruff: noqa: ASYNC240  nothing else runs on the loop meanwhile

from __future__ import annotations

import threading
from pathlib import Path

import apsw
import pytest
from tests.plugins.sqlite.disk import Call, Disk
from tests.plugins.sqlite.workload import Workload, check, make_store, stored
from tests.plugins.store_bench import until

from squall.plugins.sqlite.checkpoints import Checkpoints

pytestmark = pytest.mark.usefixtures("in_a_hurry")

APPENDS = 300
FRAME_BYTES = 4096 + 24
BOUND = 30 * FRAME_BYTES


async def grow(path: Path, in_turn: bool) -> int:
    """Write one by one, waiting for a first step that runs or not; gives the size that the log reached."""
    work = Workload(make_store(path))
    await work.open()
    for _ in range(APPENDS):
        await work.publish(1)
        work.progress.settle(work.announced[-1].seq)
        if in_turn:  # however slow the thread is
            await until(lambda: work.store._checkpoints._state != "copying")
    size_bytes = Path(f"{path}-wal").stat().st_size
    await work.store.close()
    check(work.told, await stored(path))
    return size_bytes


async def test_the_log_stays_short_while_it_is_written_to(tmp_path: Path) -> None:
    assert await grow(tmp_path / "squall.db", in_turn=True) < BOUND


@pytest.mark.parametrize("step", ["start", "finish"])
async def test_without_either_step_the_log_grows(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the test above would prove nothing."""

    def idle(self: Checkpoints, *_: object) -> None:
        self._state = "idle"

    monkeypatch.setattr(Checkpoints, step, idle)
    assert await grow(tmp_path / "squall.db", in_turn=False) > BOUND


async def test_after_a_reader_that_held_the_log_it_is_short_again(tmp_path: Path) -> None:
    """Another program's long read keeps the log from beginning anew; publishing goes on, and afterwards it does."""
    path = tmp_path / "squall.db"
    work = Workload(make_store(path))
    await work.open()
    await work.publish(1)
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN; SELECT count(*) FROM event")
    for _ in range(APPENDS):
        assert (await work.publish(1)).outcome == "ok"
    held = Path(f"{path}-wal").stat().st_size
    assert held > 2 * BOUND
    reader.close()
    for _ in range(2 * APPENDS):
        await work.publish(1)
    assert Path(f"{path}-wal").stat().st_size < 1.5 * held
    await work.store.close()


async def test_closing_during_a_checkpoint_lets_the_file_go(tmp_path: Path) -> None:
    """A first step that ends while the store closes is not followed by a second one: that would open the file anew."""
    path, reached, go_on = tmp_path / "squall.db", threading.Event(), threading.Event()
    disk = Disk()
    work = Workload(make_store(path, vfs=disk.name))
    await work.open()

    def hold(call: Call) -> None:
        if call.suffix == "" and threading.current_thread().name == "squall-sqlite-checkpointer":
            reached.set()
            go_on.wait(10)

    disk.on_call = hold
    while not reached.is_set():
        await work.publish(1)
    threading.Timer(0.05, go_on.set).start()
    await work.store.close()
    assert not Path(f"{path}-wal").exists(), "a connection is still open"
    check(work.told, await stored(path))
