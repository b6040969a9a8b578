"""Ctrl-C: the first ends a run in good order, the second ends the process."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import sys
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

from squall.chaos.cli.guard import INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM)
FIRST = "stopping: faults are healed, the target drains briefly, the rest is judged; once more ends at once"
SECOND = b"\nended at once: what was not written is lost\n"


class Interrupts:
    """While entered, the first SIGINT or SIGTERM sets the stop of the run, the second exits at once.

    Plain handlers, not the loop's: those wait for a loop that a handler under test may be holding up.
    """

    def __init__(self) -> None:
        self.interrupted = False
        self._stop: Callable[[], object] | None = None
        self._before: dict[signal.Signals, Any] = {}

    def stop(self, say: Callable[[str], None]) -> asyncio.Event:
        """The event that ends a run of the running loop: set already where a signal has come. `say` tells people."""
        loop, event = asyncio.get_running_loop(), asyncio.Event()
        if self.interrupted:
            event.set()

        def stop() -> None:
            event.set()
            say(FIRST)

        self._stop = lambda: None if loop.is_closed() else loop.call_soon_threadsafe(stop)
        return event

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
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
