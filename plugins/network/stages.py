"""What each toxic does to the bytes of one direction of one connection.

A stage is fed what was read, and hands on what is to be written: at once, later, in pieces, or never. None waits: what
is due later is a timer of the injected clock. So a stage can be taken away at any time, and what it holds goes on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Protocol

from squall.core.clock import Clock, Timer
from squall.plugins.network.toxics import (
    Attributes,
    Bandwidth,
    Latency,
    LimitData,
    Noop,
    ResetPeer,
    Slicer,
    SlowClose,
    Timeout,
)

PIECE_S = 0.1  # a slow link passes on what it may every so often
AT_ONCE = 64  # pieces that are handed on before others get their turn
PIECE_COST_BYTES = 128  # what a piece that waits costs besides its bytes


class Flow(Protocol):
    """Where bytes go on to."""

    def feed(self, data: bytes) -> None: ...

    def finish(self) -> None:
        """Nothing more is going to come."""


class Way(Protocol):
    """The direction of a connection that a stage stands in."""

    @property
    def clock(self) -> Clock: ...

    @property
    def random(self) -> Random: ...

    def hold(self, size: int) -> None:
        """So many bytes wait in a stage now; negative: they do no more. Reading stops where too many wait."""

    def close(self) -> None:
        """Read nothing more; the end that is handed on closes the connection whole."""

    def reset(self) -> None:
        """Reset the connection, both sides, now."""


@dataclass
class Bites:
    """What one toxic has done so far: connections that it acted on, how often, and on how many bytes of theirs."""

    connections: int = 0
    times: int = 0
    bytes: int = 0


class Stage:
    """One toxic in one direction of one connection. `following` is who it hands on to."""

    following: Flow

    def __init__(self, way: Way, bites: Bites) -> None:
        self.way, self.bites = way, bites
        self._bitten = False

    def bite(self, size: int = 0) -> None:
        """Count that it acted, on so many bytes."""
        if not self._bitten:
            self._bitten = True
            self.bites.connections += 1
        self.bites.times += 1
        self.bites.bytes += size

    def begin(self) -> None:
        """It stands in its place now."""

    def inherit(self, former: Stage) -> None:
        """It stands in the place of a stage of its kind that was told otherwise."""
        self._bitten = former._bitten

    def feed(self, data: bytes) -> None:
        self.following.feed(data)

    def finish(self) -> None:
        self.following.finish()

    def release(self) -> None:
        """Let go: what it holds goes on at once."""

    def remove(self) -> None:
        """It is taken away for good."""
        self.release()

    def drop(self) -> None:
        """The connection is gone: what it holds is nobody's any more."""


class _Timed(Stage):
    """Holds what it is fed until it is due, in order."""

    def __init__(self, way: Way, bites: Bites) -> None:
        super().__init__(way, bites)
        self._waiting: deque[tuple[int | None, bytes | None]] = deque()  # due at monotonic ns (None: never); None: end
        self._timer: Timer | None = None

    def due(self, data: bytes, now_ns: int) -> Iterator[tuple[int | None, bytes]]:
        """The pieces of data, and when each is due."""
        raise NotImplementedError

    def feed(self, data: bytes) -> None:
        for piece in self.due(data, self.way.clock.monotonic_ns()):
            self._waiting.append(piece)
            self.way.hold(len(piece[1]) + PIECE_COST_BYTES)
        self._arm()

    def finish(self) -> None:
        if self._waiting:
            self._waiting.append((0, None))
        else:
            self.following.finish()

    def _arm(self) -> None:
        if self._timer is None and self._waiting and (due_ns := self._waiting[0][0]) is not None:
            wait_ns = max(0, due_ns - self.way.clock.monotonic_ns())
            self._timer = self.way.clock.call_later(wait_ns / 1e9, self._wake)

    def _wake(self) -> None:
        self._timer = None
        now_ns = self.way.clock.monotonic_ns()
        for _ in range(AT_ONCE):
            if not self._waiting or (due_ns := self._waiting[0][0]) is None or due_ns > now_ns:
                break
            self._hand_on()
        self._arm()

    def _hand_on(self) -> None:
        data = self._waiting.popleft()[1]
        if data is None:
            self.following.finish()
        else:
            self.way.hold(-len(data) - PIECE_COST_BYTES)
            self.following.feed(data)

    def release(self) -> None:
        self._stop()
        while self._waiting:
            self._hand_on()

    def drop(self) -> None:
        self._stop()
        self._waiting.clear()

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class LatencyStage(_Timed):
    def __init__(self, way: Way, bites: Bites, told: Latency) -> None:
        super().__init__(way, bites)
        self._told = told

    def due(self, data: bytes, now_ns: int) -> Iterator[tuple[int | None, bytes]]:
        jitter_ms = self._told.jitter
        delay_ms = self._told.latency + (self.way.random.uniform(-jitter_ms, jitter_ms) if jitter_ms else 0)
        if delay_ms > 0:
            self.bite(len(data))
        yield now_ns + round(max(0, delay_ms) * 1e6), data


class BandwidthStage(_Timed):
    def __init__(self, way: Way, bites: Bites, told: Bandwidth) -> None:
        super().__init__(way, bites)
        self._bytes_per_s = told.rate * 1000
        self._free_ns = 0

    def due(self, data: bytes, now_ns: int) -> Iterator[tuple[int | None, bytes]]:
        self.bite(len(data))
        if not self._bytes_per_s:
            yield None, data
            return
        most = max(1, int(self._bytes_per_s * PIECE_S))
        for start in range(0, len(data), most):
            piece = data[start : start + most]
            self._free_ns = max(self._free_ns, now_ns) + round(len(piece) * 1e9 / self._bytes_per_s)
            yield self._free_ns, piece


class SlicerStage(_Timed):
    def __init__(self, way: Way, bites: Bites, told: Slicer) -> None:
        super().__init__(way, bites)
        self._told = told
        self._free_ns = 0

    def due(self, data: bytes, now_ns: int) -> Iterator[tuple[int | None, bytes]]:
        if len(data) - self._told.average_size > self._told.size_variation:
            self.bite(len(data))
        for start, end in self._slices(len(data)):
            due_ns = max(self._free_ns, now_ns)
            self._free_ns = due_ns + self._told.delay * 1000
            yield due_ns, data[start:end]

    def _slices(self, size: int) -> Iterator[tuple[int, int]]:
        """Halve, each time a bit off the middle, until a piece is near the average size: as Toxiproxy does."""
        average, variation = self._told.average_size, self._told.size_variation
        parts = [(0, size)]
        while parts:
            start, end = parts.pop()
            if end - start - average <= variation:
                yield start, end
                continue
            middle = start + (end - start) // 2
            if variation:
                middle += self.way.random.randrange(2 * variation) - variation
            parts += [(middle, end), (start, middle)]


class SlowCloseStage(Stage):
    def __init__(self, way: Way, bites: Bites, told: SlowClose) -> None:
        super().__init__(way, bites)
        self._delay_s = told.delay / 1e3
        self._timer: Timer | None = None

    def finish(self) -> None:
        self.bite()
        self._timer = self.way.clock.call_later(self._delay_s, self.release)

    def release(self) -> None:
        if self._timer is not None:
            self.drop()
            self.following.finish()

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class TimeoutStage(Stage):
    def __init__(self, way: Way, bites: Bites, told: Timeout) -> None:
        super().__init__(way, bites)
        self._timeout_s = told.timeout / 1e3
        self._timer: Timer | None = None
        self._ended = False

    def begin(self) -> None:
        if self._timeout_s and not self._ended:
            self._timer = self.way.clock.call_later(self._timeout_s, self.finish)

    def feed(self, data: bytes) -> None:
        self.bite(len(data))
        self.drop()
        self.begin()

    def finish(self) -> None:
        """The sender's own end passes. After loss the stream makes no sense: the connection is closed whole."""
        self.drop()
        if not self._ended:
            self._ended = True
            self.bite()
            self.way.close()
            self.following.finish()

    def release(self) -> None:
        self.drop()

    def remove(self) -> None:
        self.finish()

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class ResetPeerStage(Stage):
    def __init__(self, way: Way, bites: Bites, told: ResetPeer) -> None:
        super().__init__(way, bites)
        self._timeout_s = told.timeout / 1e3
        self._timer: Timer | None = None

    def feed(self, data: bytes) -> None:
        """What is sent is lost with the connection."""
        self.bite(len(data))
        self.finish()

    def finish(self) -> None:
        self.bite()
        if self._timer is None:
            self._timer = self.way.clock.call_later(self._timeout_s, self.release)

    def release(self) -> None:
        if self._timer is not None:
            self.drop()
            self.way.reset()

    def drop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class LimitDataStage(Stage):
    def __init__(self, way: Way, bites: Bites, told: LimitData) -> None:
        super().__init__(way, bites)
        self._limit = told.bytes
        self._passed = 0
        self._ended = False

    def inherit(self, former: Stage) -> None:
        super().inherit(former)
        if isinstance(former, LimitDataStage):
            self._passed, self._ended = former._passed, former._ended

    def feed(self, data: bytes) -> None:
        if self._ended:
            return
        room = max(0, self._limit - self._passed)
        if room:
            self.following.feed(data[:room])
            self._passed += min(room, len(data))
        if self._passed >= self._limit:
            self._ended = True
            self.bite(max(0, len(data) - room))
            self.way.close()
            self.following.finish()

    def finish(self) -> None:
        if not self._ended:
            self.following.finish()


def make_stage(way: Way, bites: Bites, told: Attributes) -> Stage:
    """The stage that does what the attributes say."""
    make: dict[type[Attributes], Callable[..., Stage]] = {
        Latency: LatencyStage,
        Bandwidth: BandwidthStage,
        Slicer: SlicerStage,
        SlowClose: SlowCloseStage,
        Timeout: TimeoutStage,
        ResetPeer: ResetPeerStage,
        LimitData: LimitDataStage,
    }
    return Stage(way, bites) if isinstance(told, Noop) else make[type(told)](way, bites, told)
