"""Who talks through a proxy in tests: a server that greets and then says again what it hears, and its clients."""

from __future__ import annotations

import asyncio
import time
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from squall.plugins.network.client import ProxySpec, ProxyState, ToxiproxyClient

GREETING = b"hello\n"
FOREVER_MS = 600_000
SILENCE_S = 0.15


class Peer:
    """One end of a connection."""

    def __init__(self, reader: StreamReader, writer: StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hear(self, size: int) -> bytes:
        """Exactly so many bytes; fewer where the stream ends before."""
        try:
            return await self.reader.readexactly(size)
        except asyncio.IncompleteReadError as error:
            return error.partial

    async def ask(self, data: bytes) -> bytes:
        """What comes back of what is said."""
        await self.say(data)
        return await self.hear(len(data))

    async def rest(self) -> bytes:
        """Everything until the stream ends. Raises ConnectionError where it breaks."""
        return await self.reader.read(-1)

    async def silent(self) -> bool:
        """Whether nothing comes for a while, no end either."""
        try:
            async with asyncio.timeout(SILENCE_S):
                await self.reader.read(1)
        except TimeoutError:
            return True
        return False

    def close(self) -> None:
        self.writer.close()


class EchoServer:
    """Greets whoever comes, then says again what it hears; at the end of that it closes. Keeps what it heard."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.address = ""
        self.peers: list[Peer] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.ended = asyncio.Event()
        self.greeting = GREETING

    async def serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        task = asyncio.current_task()
        assert task is not None
        self.tasks.append(task)
        try:
            await peer.say(self.greeting)
            while data := await reader.read(2**16):
                self.heard += data
                await peer.say(data)
        except ConnectionError:
            pass
        finally:
            self.ended.set()
            writer.close()


@asynccontextmanager
async def echoing(greeting: bytes = GREETING) -> AsyncIterator[EchoServer]:
    echo = EchoServer()
    echo.greeting = greeting
    server = await asyncio.start_server(echo.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    echo.address = f"{host}:{port}"
    try:
        yield echo
    finally:
        server.close()
        for peer in echo.peers:
            peer.writer.transport.abort()
        await asyncio.gather(*echo.tasks, return_exceptions=True)


async def connect(proxy: ProxyState) -> Peer:
    host, _, port = proxy.listen.rpartition(":")
    return Peer(*await asyncio.open_connection(host, int(port)))


class Line(NamedTuple):
    """A proxy, the server behind it, and the client of the proxy's server."""

    client: ToxiproxyClient
    echo: EchoServer
    proxy: ProxyState

    async def connect(self) -> Peer:
        """A connection through the proxy, without having heard the greeting."""
        return await connect(self.proxy)

    async def greeted(self) -> Peer:
        """A connection through the proxy that works."""
        peer = await self.connect()
        assert await peer.hear(len(GREETING)) == GREETING
        return peer


@asynccontextmanager
async def line(client: ToxiproxyClient, name: str = "line") -> AsyncIterator[Line]:
    async with echoing() as echo, client.proxied(ProxySpec(name, echo.address)) as proxy:
        yield Line(client, echo, proxy)


class Stopwatch:
    """Seconds since it was made."""

    def __init__(self) -> None:
        self._begun = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - self._begun
