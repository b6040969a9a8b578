"""Leaks of the system under test, planted by plugins: what a soak must find. Each lets go of all when it shuts down."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

from squall import Event, Plugin, guard, hookimpl
from squall.core.middleware import Middleware
from squall.core.plugin import Context

LEAKED_BYTES = 100
EVERY = 40
"""Every so many-th event leaves a handle, a thread, a task behind."""


class _Leak(Plugin):
    """Sees every event that is published."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def saw(self) -> None:
        """An event was published."""

    def due(self) -> bool:
        """Of every 40th event."""
        self.seen += 1
        return self.seen % EVERY == 0

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        def see(event: Event) -> None:
            self.saw()

        return guard(see, stage="validate")


class KeepsBytes(_Leak):
    """A hundred bytes of each event are kept."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[bytes] = []

    def saw(self) -> None:
        header = b"".__sizeof__() + 8  # the object's own, and its place in the list
        self._kept.append(bytes(LEAKED_BYTES - header))


class KeepsMuch(_Leak):
    """Twenty thousand bytes of each."""

    def __init__(self) -> None:
        super().__init__()
        self._kept: list[bytearray] = []

    def saw(self) -> None:
        self._kept.append(bytearray(b"x" * 20_000))


class KeepsFiles(_Leak):
    """Files that nobody closes."""

    def __init__(self) -> None:
        super().__init__()
        self._files: list[int] = []

    def saw(self) -> None:
        if self.due():
            self._files.append(os.open(os.devnull, os.O_RDONLY))

    @hookimpl
    def squall_shutdown(self, ctx: Context) -> None:
        for file in self._files:
            os.close(file)


class KeepsThreads(_Leak):
    """Threads that wait for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def saw(self) -> None:
        if self.due():
            self._threads.append(threading.Thread(target=self._over.wait, name="leaked"))
            self._threads[-1].start()

    @hookimpl
    def squall_shutdown(self, ctx: Context) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


class KeepsTasks(_Leak):
    """Tasks that wait for nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._tasks: list[asyncio.Task[bool]] = []

    def saw(self) -> None:
        if self.due():
            self._tasks.append(asyncio.get_running_loop().create_task(asyncio.Event().wait()))

    @hookimpl
    async def squall_shutdown(self, ctx: Context) -> None:
        for task in self._tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
