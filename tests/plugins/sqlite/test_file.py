"""The file: who holds it, whether it is squall's and whole, and one clear error where not."""

# ruff: noqa: ASYNC220, ASYNC240  nothing else runs on the loop meanwhile

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import apsw
import pytest
from tests.plugins.sqlite.workload import Workload, make_store

from squall import EventRouter
from squall.core.errors import ConfigError, StoreError, StoreFileError
from squall.core.store import Query
from squall.plugins.sqlite import SqlitePlugin, schema

ROUNDS = 30


async def fill(path: Path) -> Workload:
    """A file with a few hundred events in it, closed."""
    work = Workload(make_store(path))
    await work.open()
    await work.work(ROUNDS)
    await work.store.close()
    return work


async def error_of_opening(path: Path) -> str:
    store = make_store(path)
    with pytest.raises(StoreFileError) as refused:
        await store.open(lambda events: None)
    await store.close()
    assert str(path) in str(refused.value)
    return str(refused.value)


async def read_all(path: Path) -> int:
    """How many events there are, having read all that a store can give."""
    store = make_store(path)
    await store.open(lambda events: None)
    try:
        after = found = 0
        while page := (await store.read(Query(after_seq=after))).events:
            found, after = found + len(page), page[-1].seq
        await store.dead_letters()
        await store.counts()
        return found
    finally:
        await store.close()


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_one_writer_at_a_time_and_the_error_names_it(tmp_path: Path) -> None:
    path = tmp_path / "squall.db"
    first = make_store(path)
    await first.open(lambda events: None)
    assert f"in use by process {os.getpid()} on " in await error_of_opening(path)
    await first.close()
    assert await read_all(path) == 0


async def test_another_process_is_named_and_its_death_frees_the_file(tmp_path: Path) -> None:
    """However it died, nothing has to be cleared away."""
    path = tmp_path / "squall.db"
    await fill(path)
    program = (
        "import asyncio, sys; from squall import EventRouter; from squall.plugins.sqlite import SqlitePlugin\n"
        "async def main():\n"
        "    async with EventRouter([SqlitePlugin(path=sys.argv[1])]):\n"
        "        print('open', flush=True); await asyncio.sleep(60)\n"
        "asyncio.run(main())"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        assert f"in use by process {holder.pid} on " in await error_of_opening(path)
        holder.kill()
    assert await read_all(path) > 100


def _text(path: Path) -> None:
    path.write_text("name,value\n" * 100)


def _other_program(path: Path) -> None:
    db = apsw.Connection(str(path))
    db.execute("CREATE TABLE event(seq INTEGER PRIMARY KEY); INSERT INTO event VALUES(1); PRAGMA application_id = 7")
    db.close()


def _short(path: Path) -> None:
    path.write_bytes(b"SQLite format 3\x00" + bytes(50))


def _other_log(path: Path) -> None:
    """A program that has its log beside it, which opening would carry over."""
    _other_program(path)
    db = apsw.Connection(str(path))
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("INSERT INTO event VALUES(2)")
    copies = {name: name.read_bytes() for name in (path, Path(f"{path}-wal"))}
    db.close()
    for name, content in copies.items():
        name.write_bytes(content)


@pytest.mark.parametrize("make", [_text, _other_program, _short, _other_log])
async def test_a_foreign_file_is_refused_and_left_as_it_is(make: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "squall.db"
    make(path)
    before = {name.name: digest(name) for name in tmp_path.iterdir()}
    assert "left as it is" in await error_of_opening(path)
    after = {name.name: digest(name) for name in tmp_path.iterdir() if name.suffix != ".lock"}
    assert after == before


async def test_a_newer_schema_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "squall.db"
    await fill(path)
    db = apsw.Connection(str(path))
    db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    db.close()
    before = digest(path)
    assert f"written by a newer squall (schema {schema.VERSION + 1}" in await error_of_opening(path)
    assert digest(path) == before


def test_an_older_schema_is_brought_forward_step_by_step(tmp_path: Path) -> None:
    """Each step in a transaction with its version: one that fails leaves the version before it."""
    db = apsw.Connection(str(tmp_path / "old.db"))
    schema.create(db)
    db.execute("PRAGMA user_version = 1")

    def second(db: apsw.Connection) -> None:
        db.execute("CREATE TABLE second(a)")

    def third(db: apsw.Connection) -> None:
        db.execute("CREATE TABLE third(a); SELECT * FROM nowhere")

    with pytest.raises(apsw.SQLError):
        schema.migrate(db, [second, third])
    assert schema.user_version(db) == 2
    assert {"second", "third"} & {name for (name,) in db.execute("SELECT name FROM sqlite_schema")} == {"second"}
    schema.migrate(db, [second, lambda db: None])
    assert schema.user_version(db) == 3
    db.close()


async def test_a_folder_is_no_database(tmp_path: Path) -> None:
    assert "cannot be opened for writing: Is a directory" in await error_of_opening(tmp_path)


async def test_a_place_below_a_file_is_no_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be opened for writing" in await error_of_opening(tmp_path / "file" / "squall.db")


@pytest.mark.parametrize("read_only", ["folder", "file"])
def test_a_read_only_place_is_one_clear_error(read_only: str, tmp_path: Path) -> None:
    """In a program of a user who may not write there."""
    path = tmp_path / "squall.db"
    db = apsw.Connection(str(path))
    schema.create(db)
    db.close()
    Path(f"{path}.lock").touch()
    Path(f"{path}.lock").chmod(0o666)
    path.chmod(0o444)
    tmp_path.chmod(0o555 if read_only == "folder" else 0o777)
    program = (
        "import asyncio, os, sys; from squall import EventRouter, StoreFileError\n"
        "from squall.plugins.sqlite import SqlitePlugin\n"
        "import squall.core.router, squall.plugins.sqlite.store\n"
        "if os.getuid() == 0: os.chdir(sys.argv[1]); os.setuid(65534)\n"
        "async def main():\n"
        "    try:\n"
        "        await EventRouter([SqlitePlugin(path='squall.db')]).start()\n"
        "    except StoreFileError as error:\n"
        "        print(error)\n"
        "asyncio.run(main())"
    )
    before = digest(path)
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert ran.stderr == ""
    assert "squall.db" in ran.stdout
    assert "write" in ran.stdout or "readonly" in ran.stdout, ran.stdout
    assert digest(path) == before


async def test_a_log_without_its_database_is_not_taken_into_a_new_one(tmp_path: Path) -> None:
    """SQLite would carry another file's pages over into it."""
    path = tmp_path / "squall.db"
    work = Workload(make_store(path))
    await work.open()
    await work.work(5)
    log = Path(f"{path}-wal").read_bytes()
    await work.store.close()
    path.unlink()
    Path(f"{path}-wal").write_bytes(log)
    assert "squall.db-wal" in await error_of_opening(path)
    assert Path(f"{path}-wal").read_bytes() == log
    assert not path.exists()


async def test_a_truncated_file_is_found_damaged(tmp_path: Path) -> None:
    """Wherever it was cut off, and nothing is changed by looking."""
    path = tmp_path / "squall.db"
    await fill(path)
    whole = path.read_bytes()
    for size in (1, 99, 100, 4096, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(StoreFileError, match=r"damaged|not a SQLite|another program"):
            await read_all(path)
        assert path.read_bytes() == whole[:size]


async def test_flipped_bytes_are_told_or_harmless(tmp_path: Path) -> None:
    """SQLite keeps no checksums of its pages: a flip in a payload is not seen. Whatever it sees is one clear error."""
    path, chance = tmp_path / "squall.db", Random(3)
    await fill(path)
    whole, told = path.read_bytes(), 0
    for _ in range(150):
        damaged = bytearray(whole)
        page = chance.randrange(len(whole) // 4096) * 4096
        for _ in range(8):
            damaged[page + chance.randrange(200 if chance.random() < 0.7 else 4096)] ^= 1 << chance.randrange(8)
        path.write_bytes(damaged)
        try:
            await read_all(path)
        except StoreFileError as error:
            told += 1
            if str(path) not in str(error):
                raise
        except StoreError as error:
            raise AssertionError(f"damage told as something that may pass: {error}") from error
    assert told > 30


@pytest.mark.parametrize("name", ["loop", "nul\0"])
def test_a_path_that_leads_nowhere_is_a_mistake_of_the_configuration(tmp_path: Path, name: str) -> None:
    """A link to itself, a name that no file can have: told before anything starts."""
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    router = EventRouter([SqlitePlugin(path=str(tmp_path / name))])
    with pytest.raises(ConfigError, match="expected the path of a file"):
        asyncio.run(router.start())
