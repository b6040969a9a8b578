"""What may block runs here: a thread that does jobs in order and hands each result back to the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import Logger
from queue import SimpleQueue
from typing import TypeVar

import apsw

STAND_ASIDE_S = 0.001
T = TypeVar("T")
Done = Callable[[T | None, Exception | None], None]


class Worker:
    """A thread of its own. It is a daemon: a disk that hangs must not keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def submit(self, job: Callable[[], T], done: Done[T]) -> None:
        """Run job in the thread, then done(result, error) on the loop."""

        def run() -> None:
            result, error = None, None
            try:
                result = job()
            except Exception as caught:  # noqa: BLE001  handed to whoever asked
                error = caught
            self._loop.call_soon_threadsafe(done, result, error)

        self._jobs.put(run)

    def submit_now(self, job: Callable[[], T], done: Done[T]) -> None:
        """Submit, and stand aside until the thread has begun, some 30 us. Else the loop, when it is busy, holds the
        interpreter's lock until it next looks for input, and a commit starts a millisecond or more later: 128
        publishers that each await their receipt got 0.82 to 0.92 of the events through."""

        begun = threading.Lock()
        begun.acquire()

        def begin() -> T:
            begun.release()
            return job()

        self.submit(begin, done)
        begun.acquire(timeout=STAND_ASIDE_S)

    async def run(self, job: Callable[[], T]) -> T:
        """The result of job, run in the thread. Cancelling the wait does not stop the job."""
        future: asyncio.Future[T] = self._loop.create_future()

        def done(result: T | None, error: Exception | None) -> None:
            if future.done():
                return
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(result)  # type: ignore[arg-type]

        self.submit(job, done)
        return await future

    async def stop(self) -> None:
        """Let the thread end after the jobs that it has, and wait for that."""
        await self.run(lambda: None)
        self._jobs.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (run := self._jobs.get()) is not None:
            try:
                run()
            except RuntimeError:
                if self._loop.is_closed():
                    return  # nobody is left to tell
                raise


class Link:
    """A connection that is made when it is first used, and can be taken away between two uses."""

    def __init__(self, connect: Callable[[], apsw.Connection], logger: Logger) -> None:
        self.lock = threading.RLock()
        self._connect = connect
        self._logger = logger
        self._db: apsw.Connection | None = None

    @contextmanager
    def use(self) -> Iterator[apsw.Connection]:
        """The connection, for one job; it is made anew after an error of SQLite's."""
        with self.lock:
            if self._db is None:
                self._db = self._connect()
            try:
                yield self._db
            except apsw.Error:
                self.close()
                raise

    def close(self) -> None:
        """Let the connection go."""
        with self.lock:
            db, self._db = self._db, None
            if db is not None:
                close(db, self._logger)


def close(db: apsw.Connection, logger: Logger) -> None:
    """Close a connection. An error there (a fault of the disk that lasts) changes nothing about what is stored."""
    path = db.filename
    try:
        db.close()
    except apsw.Error as error:
        logger.warning("closing a connection to %s failed: %s", path, error)
