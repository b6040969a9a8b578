"""Named subscriptions that nobody handles any more are reported; a file of the schema before knows nothing of it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from uuid import UUID

import apsw
from tests.core.world import Log
from tests.plugins.surroundings import HandClock

from squall import Event, EventRouter
from squall.core.store import DeadLetter, Query
from squall.plugins.sqlite import SqlitePlugin, schema

DAY_S = 86_400.0


class Program:
    """One life of a program over the same file, in virtual time: who subscribes under which names."""

    def __init__(self, path: Path, clock: HandClock) -> None:
        self.log, self._clock = Log(), clock
        plugins = [SqlitePlugin(path=str(path), inactive_after="7d")]
        self.router = EventRouter(plugins, clock=clock, logger=self.log.logger)

    async def __aenter__(self) -> Program:
        await self.router.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.router.stop(timeout_s=0)

    async def subscribe(self, *names: str) -> None:
        async def handle(event: Event) -> None:
            raise ValueError("no such order")

        for name in names:
            await self.router.subscriber("shop").subscribe("order.>", handle, name=name)

    @property
    def warnings(self) -> list[str]:
        return self.log.at_least(logging.WARNING)

    async def unattended(self) -> tuple[str, ...]:
        return (await self.router.store.counts()).unattended


async def test_a_subscription_that_nobody_handles_is_reported(tmp_path: Path) -> None:
    """At the first start after so long, with its name and since when, and to a program that asks at any time. One that
    is attended all the while is not, however long its program has run."""
    path, clock = tmp_path / "squall.db", HandClock()
    async with Program(path, clock) as program:
        await program.subscribe("billing", "audit")
        clock.move(30 * DAY_S)
        assert await program.unattended() == ()
    async with Program(path, clock) as program:  # the first that nobody attends `audit` in
        await program.subscribe("billing")
        clock.move(8 * DAY_S)
        assert await program.unattended() == ("audit",)
        assert program.warnings == []
    async with Program(path, clock) as program:
        (warning,) = program.warnings
        assert "squall.db: nobody has handled subscription audit since 2026-01-31" in warning
        await program.subscribe("billing", "audit")
        assert await program.unattended() == ()
    async with Program(path, clock) as program:
        assert program.warnings == []


async def test_one_that_has_ended_is_not_reported(tmp_path: Path) -> None:
    """Nothing is owed to it."""
    path, clock = tmp_path / "squall.db", HandClock()
    async with Program(path, clock) as program:
        subscriber = program.router.subscriber("shop")
        await program.subscribe("billing")
        (own,) = program.router.subscriptions.dispatchers
        await subscriber.unsubscribe(own)
    clock.move(30 * DAY_S)
    async with Program(path, clock):
        clock.move(30 * DAY_S)
    async with Program(path, clock) as program:
        assert (program.warnings, await program.unattended()) == ([], ())


async def test_a_file_of_the_first_schema_is_brought_forward(tmp_path: Path) -> None:
    """With its dead letters, which were never given back, and its subscriptions, which nobody misses yet."""
    path, clock = tmp_path / "squall.db", HandClock()
    async with Program(path, clock) as program:
        await program.subscribe("billing")
        await program.router.publisher("shop").publish("order.created", b"\x00\xff")
        (before,) = await _letters(program, clock)
    db = apsw.Connection(str(path))
    for column in ("redrives", "redriven"):
        db.execute(f"ALTER TABLE dead_letter DROP COLUMN {column}")
    db.execute("ALTER TABLE subscription DROP COLUMN unattended")
    for table in ("event", "dead_letter"):
        db.execute(f"ALTER TABLE {table} DROP COLUMN extra")
    db.execute("ALTER TABLE attempt DROP COLUMN first")
    db.execute("PRAGMA user_version = 1")
    db.close()
    async with Program(path, clock) as program:
        (after,) = await _letters(program, clock)
        assert (after[1:], after.event.payload, after.redrives) == (before[1:], b"\x00\xff", 0)
        assert (program.warnings, await program.unattended()) == ([], ())
        await program.subscribe("billing")
        assert [one.payload for one in (await program.router.store.read(Query())).events] == [b"\x00\xff"]
        own = str(UUID(int=1, version=4))
        await program.router.publisher("shop").publish("order.paid", b"", event_id=own)
        page = await program.router.store.read(Query(own_id=True))
        assert [(one.id, one.own_id) for one in page.events] == [(own, True)]
    db = apsw.Connection(str(path))
    assert schema.user_version(db) == schema.VERSION
    db.close()


async def _letters(program: Program, clock: HandClock) -> list[DeadLetter]:
    async with asyncio.timeout(10):
        while not (found := await program.router.store.dead_letters()):
            await clock.advance(0.05)
    return found


async def test_who_detaches_leaves_nobody(tmp_path: Path) -> None:
    """From then on, not only from the next start; and whoever takes it up again attends it."""
    clock = HandClock()
    async with Program(tmp_path / "squall.db", clock) as program:
        await program.subscribe("billing")
        (own,) = program.router.subscriptions.dispatchers
        leaving = asyncio.ensure_future(program.router.subscriber("shop").detach(own))
        async with asyncio.timeout(10):
            while not leaving.done():
                await clock.advance(0.02)
        await leaving
        clock.move(8 * DAY_S)
        assert await program.unattended() == ("billing",)
        await program.subscribe("billing")
        assert await program.unattended() == ()
