"""A proxy of the embedded server: where it listens, where it leads, which toxics it has, and who passes it now."""

from __future__ import annotations

import asyncio
import logging
import socket
from dataclasses import dataclass, replace
from random import Random

from squall.core.clock import Clock
from squall.plugins.network.connection import Connection
from squall.plugins.network.stages import Bites
from squall.plugins.network.toxics import Toxic

BACKLOG = 1024
CLOSING_TURNS = 1000


@dataclass
class Counts:
    """What passed a proxy since it was made: connections, those open now, those that a disabling cut and those whose
    server did not answer; bytes, and pieces as they were read, whatever became of them."""

    connections: int = 0
    open: int = 0
    cut: int = 0
    refused: int = 0
    upstream_bytes: int = 0
    downstream_bytes: int = 0
    upstream_pieces: int = 0
    downstream_pieces: int = 0

    def add(self, connection: Connection) -> None:
        self.upstream_bytes += connection.upstream.passed_bytes
        self.upstream_pieces += connection.upstream.passed_pieces
        self.downstream_bytes += connection.downstream.passed_bytes
        self.downstream_pieces += connection.downstream.passed_pieces


class Proxy:
    """Takes connections at `listen` and leads them to `upstream`, both `host:port`.

    The port stays bound from the beginning to `close`. While the proxy is disabled connections are refused, and the
    port is nobody's own end of a connection, which would keep the proxy from coming back. Raises OSError where it is
    taken.
    """

    def __init__(self, name: str, listen: tuple[str, int], upstream: str, clock: Clock, random: Random) -> None:
        self.name, self.upstream = name, upstream
        self.toxics: dict[str, tuple[Toxic, Bites]] = {}
        self._counts = Counts()  # without what passed the connections that there are
        self._clock, self._random = clock, random
        self._connections: set[Connection] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._socket = _bound(listen)

    @property
    def address(self) -> tuple[str, int]:
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def listen(self) -> str:
        host, port = self.address
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def enabled(self) -> bool:
        return self._server is not None

    @property
    def counts(self) -> Counts:
        counts = replace(self._counts, open=len(self._connections))
        for connection in self._connections:
            counts.add(connection)
        return counts

    async def enable(self) -> None:
        if self._server is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._accept, sock=self._socket, backlog=BACKLOG)

    def disable(self) -> None:
        """Refuse connections, and end those that there are."""
        if self._server is not None:
            address = self.address
            self._server.close()  # closes the socket too: a new one keeps the port
            self._server = None
            self._socket = _bound(address)
            self._counts.cut += len(self._connections)
            self._end_connections()

    def move(self, listen: tuple[str, int], upstream: str) -> None:
        """Listen elsewhere, or lead elsewhere. Raises OSError where the port is taken; then all stays as it is, but
        disabled."""
        self.disable()
        if listen != self.address:
            former, self._socket = self._socket, _bound(listen)
            former.close()
        self.upstream = upstream

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        self._socket.close()
        await asyncio.sleep(0)  # whom the loop has accepted already, comes now
        self._end_connections()
        await asyncio.gather(*self._connecting, return_exceptions=True)
        for _ in range(CLOSING_TURNS):
            if not self._connections:
                break
            await asyncio.sleep(0)  # the loop tells their ends

    def add(self, toxic: Toxic) -> None:
        bites = Bites()
        self.toxics[toxic.name] = (toxic, bites)
        for connection in tuple(self._connections):
            connection.direction(toxic.stream).add(toxic, bites)

    def update(self, toxic: Toxic) -> None:
        """A toxic that is there is told otherwise."""
        bites = self.toxics[toxic.name][1]
        self.toxics[toxic.name] = (toxic, bites)
        for connection in tuple(self._connections):
            connection.direction(toxic.stream).update(toxic, bites, tuple(self.toxics))

    def remove(self, name: str) -> None:
        toxic, _ = self.toxics.pop(name)
        for connection in tuple(self._connections):
            connection.direction(toxic.stream).remove(toxic)

    def _accept(self) -> asyncio.Protocol:
        self._counts.connections += 1
        connection = Connection(self._clock, self._random, self._forget)
        for toxic, bites in self.toxics.values():
            connection.direction(toxic.stream).add(toxic, bites)
        self._connections.add(connection)
        if self._server is None:  # the loop had accepted it already when the proxy was disabled
            connection.abort()
            return connection.client
        task = asyncio.get_running_loop().create_task(self._connect(connection))
        self._connecting.add(task)
        task.add_done_callback(self._connecting.discard)
        return connection.client

    async def _connect(self, connection: Connection) -> None:
        host, _, port = self.upstream.rpartition(":")
        try:
            await asyncio.get_running_loop().create_connection(lambda: connection.server, host.strip("[]"), int(port))
        except OSError as error:
            logging.getLogger("squall").debug("proxy %s: %s does not answer: %s", self.name, self.upstream, error)
            self._counts.refused += 1
            connection.close()

    def _forget(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self._counts.add(connection)

    def _end_connections(self) -> None:
        for task in self._connecting:
            task.cancel()
        for connection in tuple(self._connections):
            connection.abort()


def _bound(address: tuple[str, int]) -> socket.socket:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
