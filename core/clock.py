"""Time, injected: the system's, or a virtual one that jumps from timer to timer."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

Callback = Callable[[], object]


class Timer(Protocol):
    """A callback that is due."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Where all time comes from. Durations use the monotonic reading; wall time is only a label."""

    virtual: bool

    @property
    def monotonic_ns(self) -> Callable[[], int]:
        """Nanoseconds from an arbitrary start, never going back."""

    @property
    def time_ns(self) -> Callable[[], int]:
        """Wall time, nanoseconds since 1970 UTC."""

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        """Call callback on the running loop, delay_s from now."""

    async def sleep(self, delay_s: float) -> None:
        """Return delay_s from now."""


class SystemClock:
    """The machine's own clocks. The readings are the C functions themselves: a Python method around one costs 64 ns."""

    virtual = False
    monotonic_ns = staticmethod(time.monotonic_ns)
    time_ns = staticmethod(time.time_ns)

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        return asyncio.get_running_loop().call_later(delay_s, callback)

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)


class _VirtualTimer:
    __slots__ = ("callback",)

    def __init__(self, callback: Callback) -> None:
        self.callback: Callback | None = callback

    def cancel(self) -> None:
        self.callback = None


class VirtualClock:
    """A clock that stands still until `advance` moves it; hours pass in microseconds.

    Wall time starts at 2026-01-01 and moves with the monotonic reading, plus `wall_offset_ns`, which a test may
    change to make the wall clock jump.
    """

    virtual = True

    def __init__(self, start_ns: int = 1_000_000_000) -> None:
        self._now_ns = start_ns
        self._timers: list[tuple[int, int, _VirtualTimer]] = []
        self._tie = itertools.count()
        self.wall_offset_ns = 1_767_225_600_000_000_000

    def monotonic_ns(self) -> int:
        return self._now_ns

    def time_ns(self) -> int:
        return self._now_ns + self.wall_offset_ns

    def call_later(self, delay_s: float, callback: Callback) -> Timer:
        timer = _VirtualTimer(callback)
        due_ns = self._now_ns + max(0, round(delay_s * 1e9))
        heapq.heappush(self._timers, (due_ns, next(self._tie), timer))
        return timer

    async def sleep(self, delay_s: float) -> None:
        done = asyncio.get_running_loop().create_future()
        timer = self.call_later(delay_s, lambda: None if done.done() else done.set_result(None))
        try:
            await done
        finally:
            timer.cancel()

    async def settle(self, turns: int = 20) -> None:
        """Give the loop `turns` turns, so that whatever is ready has run."""
        for _ in range(turns):
            await asyncio.sleep(0)

    async def advance(self, seconds: float) -> None:
        """Move time forward, stopping at every timer on the way and letting what it woke run."""
        until_ns = self._now_ns + round(seconds * 1e9)
        await self.settle()
        while self._timers and self._timers[0][0] <= until_ns:
            due_ns, _, timer = heapq.heappop(self._timers)
            self._now_ns = max(self._now_ns, due_ns)
            callback, timer.callback = timer.callback, None
            if callback is not None:
                callback()
                await self.settle()
        self._now_ns = max(self._now_ns, until_ns)
        await self.settle()
