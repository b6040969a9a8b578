"""A real server on a free loopback port, and clients that speak to it: raw HTTP, and frames over a WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

from squall import Backlog, DeadLetter, EventRouter, Plugin, VirtualClock
from squall.plugins.memory import MemoryPlugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.serve import ServePlugin
from squall.plugins.serve.options import ServeOptions
from squall.plugins.serve.server import Server
from squall.protos import wire_pb2 as pb

TOKEN = "a-token-of-tests-alone"
PATIENCE_S = 30.0


class Answer(NamedTuple):
    """What HTTP answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Served:
    """A router and its server, `async with`. The router's time may be virtual: leases, delays and the drain then."""

    def __init__(
        self, *plugins: Plugin, clock: VirtualClock | None = None, backlog: Backlog | None = None, **options: Any
    ) -> None:
        self.options = ServeOptions.of("serve", {"port": 0, **options})
        plugins = plugins or (MemoryPlugin(), RetryPlugin(base=1.0, cap=1.0))
        self.clock = clock
        self.router = EventRouter([*plugins, ServePlugin(self.options)], clock=clock, seed=7, backlog=backlog)

    async def __aenter__(self) -> Self:
        await self.router.start()
        self.server = Server(self.router, self.options)
        await self.server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """The server, then the router; virtual time is moved until they have stopped."""

        async def both() -> None:
            await self.server.stop()
            await self.router.stop(timeout_s=1)

        stopping = asyncio.ensure_future(both())
        while self.clock is not None and not stopping.done():
            await self.clock.advance(0.05)
            await asyncio.sleep(0.001)
        await stopping

    async def dead(self) -> list[DeadLetter]:
        """All dead letters."""
        return await self.router.store.dead_letters()

    def pending(self) -> int:
        """Owed and not settled."""
        return self.router.get_metrics().pending

    @property
    def port(self) -> int:
        return self.server.port

    async def http(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request on a connection of its own."""
        lines = {"Host": f"127.0.0.1:{self.port}", "Content-Length": str(len(body)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return await self.raw(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + body)

    async def raw(self, request: bytes) -> Answer:
        """Bytes as they are, and the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(request)
            async with asyncio.timeout(PATIENCE_S):
                return await read_answer(reader)
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def post(self, body: bytes | Any, content_type: str = "", **ce: str) -> Answer:
        """POST /v1/events with these ce- headers."""
        headers = {f"ce-{name}": value for name, value in ce.items()}
        if content_type:
            headers["Content-Type"] = content_type
        return await self.http(
            "POST", "/v1/events", body if isinstance(body, bytes) else json.dumps(body).encode(), headers
        )

    @contextlib.asynccontextmanager
    async def client(self, subprotocol: str = "squall.v1", **more: Any) -> AsyncIterator[Client]:
        """A client that has read its welcome."""
        url, spoken = f"ws://127.0.0.1:{self.port}/v1/stream", [Subprotocol(subprotocol)]
        more = {"close_timeout": 0.3, **more}  # it need not have read all
        async with connect(url, subprotocols=spoken, proxy=None, **more) as socket:
            client = Client(socket)
            client.welcome = (await client.expect("welcome")).welcome
            yield client


class Client:
    """Frames over a WebSocket."""

    welcome: pb.Welcome

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self._subs = 0
        self._aside: list[pb.ServerFrame] = []

    async def send(self, **frame: Any) -> None:
        await self.socket.send(pb.ClientFrame(**frame).SerializeToString())

    async def next(self) -> pb.ServerFrame:
        async with asyncio.timeout(PATIENCE_S):
            data = await self.socket.recv()
        assert isinstance(data, bytes)
        return pb.ServerFrame.FromString(data)

    async def expect(self, kind: str) -> pb.ServerFrame:
        """The next frame, which is of this kind."""
        if self._aside and kind == "deliveries":
            return self._aside.pop(0)
        frame = await self.next()
        assert frame.WhichOneof("frame") == kind, frame
        return frame

    async def subscribe(self, pattern: str = ">", *, credit: int = 100, **more: Any) -> int:
        """Subscribe; returns its number."""
        self._subs += 1
        asked = pb.Subscribe(sub=self._subs, subscriber_id="billing", pattern=pattern, credit=credit, **more)
        await self.send(subscribe=asked)
        self.subscribed = (await self.expect("subscribed")).subscribed
        return self._subs

    async def publish(self, *types: str, atomic: bool = False, **more: Any) -> list[pb.Receipt]:
        """Publish one event a type; returns their receipts."""
        events = [pb.Outgoing(event=pb.Event(type=one, source="shop", **more)) for one in types]
        await self.send(publish=pb.Publish(request=7, events=events, atomic=atomic))
        while True:  # a delivery may come before the receipt
            frame = await self.next()
            if frame.WhichOneof("frame") == "published":
                return list(frame.published.receipts)
            assert frame.WhichOneof("frame") == "deliveries", frame
            self._aside.append(frame)

    async def deliveries(self, n: int) -> list[pb.Delivery]:
        """The next n deliveries, however they are framed."""
        found: list[pb.Delivery] = []
        while len(found) < n:
            found += (await self.expect("deliveries")).deliveries.deliveries
        assert len(found) == n, found
        return found

    async def settle(self, sub: int, **more: Any) -> None:
        await self.send(settle=pb.Settle(sub=sub, **more))

    async def synced(self) -> None:
        """The server has obeyed all that was sent before."""
        await self.send(ping=pb.Ping(number=42))
        assert (await self.expect("pong")).pong.number == 42


async def closing(client: Client) -> int:
    """The close code that comes next."""
    with pytest.raises(ConnectionClosed) as caught:
        await client.next()
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


def event(event_type: str, event_id: str = "", **more: int) -> pb.Outgoing:
    """One to be published, with so little in it."""
    return pb.Outgoing(event=pb.Event(id=event_id, type=event_type, source="shop"), **more)


def types(deliveries: list[pb.Delivery]) -> list[str]:
    """Of the events that were delivered."""
    return [one.event.type for one in deliveries]


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    """One HTTP answer with a Content-Length."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Answer(int(head[0].split()[1]), headers, body)


async def until(holds: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition."""
    try:
        async with asyncio.timeout(patience_s):
            while not holds():  # noqa: ASYNC110  conditions are of any kind
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"it did not come to hold within {patience_s} s") from None
