"""The limit on disk: what SQLite and Python allow for events that are stored, handled, and acknowledged in the store.

Groups of up to 500 are inserted on the event loop's thread and committed by another; after the commit they go to
`fan` workers, each of which calls its handler; how far each worker came is written with the next group. Numbers are
the only ids, nothing is checked, timed, prioritised, retried or observed.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Literal

import apsw

Handler = Callable[[bytes], Awaitable[None]]
Row = tuple[int, str, str, int, int, str, bytes]
MAX_GROUP = 500
YIELD_AFTER = 64
LOG_PAGES = 4_000
TABLES = """
CREATE TABLE event(
    seq INTEGER PRIMARY KEY, id TEXT NOT NULL, type TEXT NOT NULL, priority INTEGER, time INTEGER, metadata TEXT,
    payload BLOB);
CREATE TABLE cursor(worker INTEGER PRIMARY KEY, seq INTEGER);
"""
INSERT = "INSERT INTO event VALUES(?, ?, ?, ?, ?, ?, ?)"
ADVANCE = "INSERT INTO cursor VALUES(?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq"


class DurableLimit:
    """The store and its workers in one."""

    def __init__(self, path: Path, durability: Literal["process", "disk"], fan: int, handler: Handler) -> None:
        self._loop = asyncio.get_running_loop()
        self._db = apsw.Connection(str(path))
        self._db.execute("PRAGMA journal_mode = WAL").fetchall()
        self._db.execute(f"PRAGMA synchronous = {'FULL' if durability == 'disk' else 'NORMAL'}")
        self._db.wal_autocheckpoint(LOG_PAGES)
        self._db.execute(TABLES)
        self._handler = handler
        self._seq = 0
        self._rows: list[Row] = []
        self._told: list[asyncio.Future[None]] = []
        self._cursors: dict[int, int] = {}
        self._busy = self._soon = False
        self._lanes: list[deque[Row]] = [deque() for _ in range(fan)]
        self._idle: dict[int, asyncio.Future[None]] = {}
        self._tasks = [self._loop.create_task(self._work(number, lane)) for number, lane in enumerate(self._lanes)]
        self._jobs: SimpleQueue[tuple[list[Row], list[asyncio.Future[None]]] | None] = SimpleQueue()
        self._thread = Thread(target=self._commit, daemon=True)
        self._thread.start()

    def publish(self, payload: bytes) -> None:
        """Store an event with the next group."""
        self._seq = seq = self._seq + 1
        self._rows.append(
            (seq, f"0190f3c2-1111-7222-8333-{seq:012d}", "order.created", 2, time.time_ns(), "{}", payload)
        )
        if not self._busy and not self._soon:
            self._soon = True
            self._loop.call_soon(self._begin)

    def publish_and_wait(self, payload: bytes) -> asyncio.Future[None]:
        """The same; done when the event is stored."""
        self.publish(payload)
        told = self._loop.create_future()
        self._told.append(told)
        return told

    def close(self) -> None:
        """End the workers and the thread."""
        for task in self._tasks:
            task.cancel()
        self._jobs.put(None)
        self._thread.join()
        self._db.close()

    def _begin(self) -> None:
        self._soon = False
        if self._busy or not self._rows:
            return
        self._busy = True
        rows, self._rows = self._rows[:MAX_GROUP], self._rows[MAX_GROUP:]
        told, self._told = self._told[:MAX_GROUP], self._told[MAX_GROUP:]
        cursors = list(self._cursors.items())
        self._cursors.clear()
        execute, executemany = self._db.execute, self._db.executemany
        execute("BEGIN")
        executemany(INSERT, rows)
        if cursors:
            executemany(ADVANCE, cursors)
        self._jobs.put((rows, told))

    def _commit(self) -> None:
        get, execute, answer = self._jobs.get, self._db.execute, self._loop.call_soon_threadsafe
        while (job := get()) is not None:
            execute("COMMIT")
            answer(self._committed, *job)

    def _committed(self, rows: list[Row], told: list[asyncio.Future[None]]) -> None:
        self._busy = False
        for lane in self._lanes:
            lane.extend(rows)
        idle, self._idle = self._idle, {}
        for waiter in idle.values():
            waiter.set_result(None)
        for one in told:
            one.set_result(None)
        if self._rows:
            self._begin()

    async def _work(self, number: int, lane: deque[Row]) -> None:
        handler, take, cursors, turns = self._handler, lane.popleft, self._cursors, 0
        while True:
            while lane:
                row = take()
                await handler(row[6])
                cursors[number] = row[0]
                turns += 1
                if turns >= YIELD_AFTER:
                    turns = 0
                    await asyncio.sleep(0)
            self._idle[number] = waiter = self._loop.create_future()
            await waiter
