"""One connection through the embedded proxy: two sockets, and a way through the toxics in each direction.

Nothing is copied where no toxic stands: what is read from one socket is written to the other. Memory is bounded by not
reading: while the receiving side is slow, or while much waits in toxics, the sending side's own TCP holds it back.
A half-close is passed on as one; a reset as a reset.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import cast

from squall.core.clock import Clock
from squall.plugins.network.stages import Bites, Flow, Stage, make_stage
from squall.plugins.network.toxics import Stream, Toxic

HOLD_BYTES = 2**20  # what may wait in the toxics of one direction before reading stops; half of it, before it goes on
WRITE_BYTES = 2**18  # what may wait for a slow receiver before reading stops

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER, zero seconds: closing sends RST, and forgets what was not sent


class Side(asyncio.Protocol):
    """One socket of a connection."""

    out: Direction
    into: Direction

    def __init__(self, made: Callable[[], None], gone: Callable[[], None]) -> None:
        self.transport: asyncio.Transport | None = None
        self.lost = False
        self._made, self._gone = made, gone

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()  # until both sides are there
        self.transport.set_write_buffer_limits(high=WRITE_BYTES)
        self._made()

    def data_received(self, data: bytes) -> None:
        self.out.received(data)

    def eof_received(self) -> bool:
        self.out.ended()
        return True

    def pause_writing(self) -> None:
        self.into.receiver_full(True)

    def resume_writing(self) -> None:
        self.into.receiver_full(False)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self.into.receiver_lost()
        self.out.ended(reset=exc is not None, whole=True)
        self._gone()

    def close(self) -> None:
        """Send what is written, then close."""
        if self.transport is not None:
            self.transport.close()

    def reset(self) -> None:
        if self.transport is not None and not self.lost:
            sock = self.transport.get_extra_info("socket")
            if sock is not None and sock.fileno() >= 0:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            self.transport.abort()


class Direction:
    """The way from one side to the other. It is the last Flow of its own chain of stages: what writes."""

    def __init__(self, connection: Connection, stream: Stream, clock: Clock, random: Random) -> None:
        self.clock, self.random, self.stream = clock, random, stream
        self.passed_bytes = self.passed_pieces = 0
        self._connection = connection
        self._source: Side
        self._sink: Side
        self._stages: dict[str, Stage] = {}
        self._draws: dict[str, float] = {}
        self._entry: Flow = self
        self.held_bytes = 0
        self._full = self._choked = self._stopped = False
        self._ended = self._finished = self._whole = self._reset = False

    def between(self, source: Side, sink: Side) -> None:
        self._source, self._sink = source, sink
        source.out, sink.into = self, self

    # What the sending side says.

    def received(self, data: bytes) -> None:
        self.passed_bytes += len(data)
        self.passed_pieces += 1
        self._entry.feed(data)

    def ended(self, *, reset: bool = False, whole: bool = False) -> None:
        """The sending side has sent its last. whole: it takes nothing more either; reset: it went with an RST."""
        self._reset |= reset
        self._whole |= whole
        if not self._ended:
            self._ended = True
            self._entry.finish()
        elif self._finished:
            self._pass_end()

    # What the receiving side says.

    def receiver_full(self, full: bool) -> None:
        self._full = full
        self._throttle()

    def receiver_lost(self) -> None:
        self._full = False
        self._throttle()

    # What stages ask for.

    def hold(self, size: int) -> None:
        self.held_bytes += size
        self._throttle()

    def close(self) -> None:
        self._whole = self._stopped = True
        self._throttle()

    def reset(self) -> None:
        self._connection.reset()

    # The end of the chain.

    def feed(self, data: bytes) -> None:
        if self._sink.lost:
            self._connection.reset()  # as the receiver's own TCP answers to what comes after its end
        elif not self._finished:
            self._sink.transport.write(data)  # type: ignore[union-attr]  # no side reads before both are there

    def finish(self) -> None:
        self._finished = True
        self._pass_end()

    def _pass_end(self) -> None:
        """Hand the end on, as it came: a reset, a close of the whole connection, or of this direction."""
        if self._reset:
            self._sink.reset()
        elif self._whole or self._connection.ended:
            self._connection.close()
        elif not self._sink.lost and self._sink.transport is not None and not self._sink.transport.is_closing():
            self._sink.transport.write_eof()

    @property
    def finished(self) -> bool:
        return self._finished

    def _throttle(self) -> None:
        """Read, or don't."""
        most = HOLD_BYTES // 2 if self._choked else HOLD_BYTES
        choked = self._full or self._stopped or self.held_bytes > most
        if choked != self._choked:
            self._choked = choked
            self.read()

    def read(self) -> None:
        """Begin to read from the sending side, if nothing speaks against it."""
        transport = self._source.transport
        if transport is None or self._source.lost:
            return
        if self._choked:
            transport.pause_reading()
        else:
            transport.resume_reading()

    # Toxics that come, change and go.

    def add(self, toxic: Toxic, bites: Bites) -> None:
        """Let it act behind the others, if it bites this connection and the end has not passed yet."""
        if self._is_bitten(toxic) and not self.finished:
            stage = self._stages[toxic.name] = make_stage(self, bites, toxic.attributes)
            self._chain()
            stage.begin()

    def update(self, toxic: Toxic, bites: Bites, order: Sequence[str]) -> None:
        """It is told otherwise: what it holds goes on at once. order: the names of this direction's toxics."""
        former = self._stages.pop(toxic.name, None)
        if former is not None:
            former.release()
        if not self._is_bitten(toxic) or self.finished:
            self._chain()
            return
        stage = make_stage(self, bites, toxic.attributes)
        if former is not None:
            stage.inherit(former)
        stages = {**self._stages, toxic.name: stage}
        self._stages = {name: stages[name] for name in order if name in stages}
        self._chain()
        stage.begin()

    def remove(self, toxic: Toxic) -> None:
        self._draws.pop(toxic.name, None)
        former = self._stages.pop(toxic.name, None)
        if former is not None:
            former.remove()
            self._chain()

    def drop(self) -> None:
        """The connection is gone: nothing is due any more."""
        for stage in self._stages.values():
            stage.drop()
        self._stages.clear()
        self._chain()

    def _is_bitten(self, toxic: Toxic) -> bool:
        return self._draws.setdefault(toxic.name, self.random.random()) < toxic.toxicity

    def _chain(self) -> None:
        following: Flow = self
        for stage in reversed(self._stages.values()):
            stage.following = following
            following = stage
        self._entry = following


class Connection:
    """A client's connection and the one to the server that belongs to it. `gone` is called when both have ended."""

    def __init__(self, clock: Clock, random: Random, gone: Callable[[Connection], None]) -> None:
        self.upstream = Direction(self, "upstream", clock, random)
        self.downstream = Direction(self, "downstream", clock, random)
        self.client = Side(self._opened, self._lost)
        self.server = Side(self._opened, self._lost)
        self.upstream.between(self.client, self.server)
        self.downstream.between(self.server, self.client)
        self.over = False
        self._gone = gone

    def direction(self, stream: Stream) -> Direction:
        return self.upstream if stream == "upstream" else self.downstream

    @property
    def ended(self) -> bool:
        """Both directions have passed their end."""
        return self.upstream.finished and self.downstream.finished

    def close(self) -> None:
        """Send what is written, then close both sides."""
        self.over = True
        self.client.close()
        self.server.close()

    def reset(self) -> None:
        self.over = True
        self.client.reset()
        self.server.reset()

    def abort(self) -> None:
        """Close both sides at once; what waits for a slow receiver is not sent."""
        self.over = True
        for side in (self.client, self.server):
            if side.transport is not None:
                side.transport.abort()

    def _opened(self) -> None:
        if self.over or self.client.lost:
            self.abort()
        elif self.client.transport is not None and self.server.transport is not None:
            self.upstream.read()
            self.downstream.read()

    def _lost(self) -> None:
        if self.client.lost and (self.server.lost or self.server.transport is None):
            self.upstream.drop()
            self.downstream.drop()
            self._gone(self)
