"""A system under test whose client talks over TCP: a little server that keeps events, and gives them to subscribers."""

from __future__ import annotations

import asyncio
import json
from asyncio import StreamReader, StreamWriter
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count

from squall.core.fault import Seam
from squall.core.target import (
    Claims,
    Counters,
    Handle,
    Message,
    Outcome,
    Received,
    RunContext,
    Sink,
    SubscriberCounts,
    SubscriberSpec,
    Terminal,
)

ANSWER_S = 0.1


@dataclass
class LineServer:
    """Keeps events in memory, once for each id: a client that has no answer may ask again."""

    events: dict[str, tuple[int, bytes, str | None]] = field(default_factory=dict)
    kept: asyncio.Condition = field(default_factory=asyncio.Condition)
    port: int = 0

    async def start(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while line := await reader.readline():
                asked = json.loads(line)
                async with self.kept:
                    seq = len(self.events) + 1
                    seq = self.events.setdefault(asked["id"], (seq, b64decode(asked["payload"]), asked["key"]))[0]
                    self.kept.notify_all()
                writer.write(b"%d\n" % seq)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


class LineTarget:
    """The client: one connection, which is made anew after an error; a publish without an answer is asked again once,
    with its id, and is then unknown. Handlers are given what the server has, by the same process."""

    def __init__(self) -> None:
        self.claims = Claims(order="none", durability="memory")
        self.server = LineServer()
        self._ids = count()
        self._turn = asyncio.Lock()
        self._line: tuple[StreamReader, StreamWriter] | None = None
        self._subscribers: dict[str, asyncio.Task[None]] = {}
        self._acked: dict[str, int] = {}

    async def start(self, ctx: RunContext) -> None:
        self._now = ctx.clock.monotonic_ns
        await self.server.start()
        try:
            self._host, self._port = await ctx.detour("line", "127.0.0.1", self.server.port)
        except BaseException:
            await self.server.stop()
            raise

    async def publish(self, message: Message) -> Outcome:
        asked = {"id": str(next(self._ids)), "payload": b64encode(message.payload).decode(), "key": message.key}
        sent = False
        async with self._turn:
            for _ in range(2):
                try:
                    async with asyncio.timeout(ANSWER_S):
                        reader, writer = await self._connected()
                        sent = True
                        writer.write(json.dumps(asked).encode() + b"\n")
                        answer = await reader.readline()
                    if answer:
                        return Outcome("ok", seq=int(answer))
                except (OSError, TimeoutError):
                    pass
                self._leave()
        return Outcome("info" if sent else "fail", why="no answer")

    async def _connected(self) -> tuple[StreamReader, StreamWriter]:
        if self._line is None:
            self._line = await asyncio.open_connection(self._host, self._port)
        return self._line

    def _leave(self) -> None:
        if self._line is not None:
            self._line[1].transport.abort()
            self._line = None

    async def subscribe(self, spec: SubscriberSpec, sink: Sink) -> Handle:
        self._acked[spec.name] = 0
        self._subscribers[spec.name] = asyncio.create_task(self._deliver(spec.name, sink))
        return Handle(spec.name, from_seq=1)

    async def _deliver(self, name: str, sink: Sink) -> None:
        done = 0
        while True:
            async with self.server.kept:
                await self.server.kept.wait_for(lambda: len(self.server.events) > done)  # noqa: B023
            for seq, payload, key in list(self.server.events.values())[done:]:
                await sink.deliver(Received(payload, seq, key, attempt=1))
                sink.settling([payload], "ack", self._now())
                sink.settled([payload], self._now())
                done += 1
                self._acked[name] += 1

    async def unsubscribe(self, handle: Handle) -> int | None:
        self._subscribers.pop(handle.id).cancel()
        return len(self.server.events) + 1

    async def counters(self) -> Counters:
        stored = len(self.server.events)
        return Counters(
            stored,
            {name: SubscriberCounts(stored, acked, 0, 0, 0, stored - acked) for name, acked in self._acked.items()},
        )

    async def terminals(self) -> Sequence[Terminal]:
        return ()

    def seams(self) -> Mapping[str, Seam]:
        return {}

    async def describe(self) -> str:
        return "a server behind a line of TCP"

    async def stop(self) -> None:
        self._leave()
        for task in self._subscribers.values():
            task.cancel()
        await asyncio.gather(*self._subscribers.values(), return_exceptions=True)
        await self.server.stop()
