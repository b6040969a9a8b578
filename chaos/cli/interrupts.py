"""Ctrl-C: the first ends a run in good order, the second ends the process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from squall.chaos.cli.guard import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FIRST = "stopping: faults are healed, the target drains briefly, the rest is judged; once more ends at once"
SECOND = b"\nended at once: what was not written is lost\n"


class Interrupts:
    """While entered, the first SIGINT or SIGTERM sets the stop of the run, the second exits at once.

    A thread of its own acts on them. A loop may be held up by a handler under test; and Python's own signal handlers
    run in the main thread only, which two signals in quick succession need not wake twice.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._stop: Callable[[], object] | None = None
        self._before: dict[signal.Signals, Any] = {}
        self._waking: socket.socket | None = None
        self._thread: threading.Thread | None = None

    def stop(self, say: Callable[[str], None]) -> asyncio.Event:
        """The event that ends a run of the running loop: set already where a signal has come. `say` tells people."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()

        def stop() -> None:
            event.set()
            say(FIRST)

        def stop_soon() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
                loop.call_soon_threadsafe(stop)

        self._stop = stop_soon
        if self.interrupted:
            event.set()
        return event

    def __enter__(self) -> Self:
        waking, self._waking = socket.socketpair()
        self._waking.setblocking(False)
        self._thread = threading.Thread(target=self._watch, args=(waking,), name="interrupts", daemon=True)
        self._thread.start()
        self._before = {number: signal.signal(number, _wake) for number in SIGNALS}
        signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(-1)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        if self._waking is not None and self._thread is not None:
            self._waking.close()
            self._thread.join()

    def _watch(self, waking: socket.socket) -> None:
        """Each signal is a byte, its number."""
        with waking:
            while numbers := waking.recv(64):
                for number in numbers:
                    if number in SIGNALS:
                        self._act()

    def _act(self) -> None:
        if self.interrupted:
            # Nothing is waited for: what hangs may be what the person wants to get rid of, or who does not read this.
            # Faults end with the process, or a watchdog sees to them.
            try:
                if select.select([], [sys.stderr], [], 0)[1]:
                    os.write(sys.stderr.fileno(), SECOND)
            finally:
                os._exit(INTERRUPTED)
        self.interrupted = True
        if self._stop is not None:
            self._stop()


def _wake(number: int, frame: FrameType | None) -> None:
    """Python writes the signal's number to the wakeup descriptor, whichever thread it came to."""
