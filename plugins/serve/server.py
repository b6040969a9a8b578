"""A server from its start to its drained end: the router, the sockets, uvicorn between them."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Iterator

import uvicorn

from squall.core.errors import SquallError
from squall.core.router import EventRouter
from squall.plugins.serve import tls
from squall.plugins.serve.access import Access
from squall.plugins.serve.app import make_app
from squall.plugins.serve.connection import GOING_AWAY
from squall.plugins.serve.hub import Hub
from squall.plugins.serve.options import ServeOptions
from squall.plugins.serve.transports import limited

POLL_S = 0.01
CLOSE_S = 1.0
BACKLOG = 1024


class _Uvicorn(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are squall's: it drains before uvicorn stops."""
        yield


class Server:
    """Serves a router that runs already; it is stopped by its owner, afterwards. Use it as start, then stop."""

    def __init__(self, router: EventRouter, options: ServeOptions) -> None:
        """Raises ConfigError where the token, or a certificate, cannot be read or used."""
        if options.tls is not None:
            tls.check(options.tls)
        self.hub = Hub(router, options)
        self.app = make_app(self.hub)
        self._access = Access(self.app, options)
        self._options = options
        self._uvicorn: _Uvicorn | None = None
        self._serving: asyncio.Task[None] | None = None
        self._hurried = False
        self.port = options.port

    @property
    def url(self) -> str:
        """Where clients reach it."""
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        return f"{'https' if self._options.tls else 'http'}://{host}:{self.port}"

    async def start(self) -> None:
        """Listen. Raises OSError where that cannot be."""
        listening = _listen(self._options.host, self._options.port)
        self.port = listening.getsockname()[1]
        server = self._uvicorn = _Uvicorn(self._config())
        self._serving = asyncio.create_task(server.serve([listening]), name="squall:serve")
        started = asyncio.create_task(server.listening.wait())
        await asyncio.wait([self._serving, started], return_when=asyncio.FIRST_COMPLETED)
        if not started.done():
            started.cancel()
            listening.close()
            raise SquallError(f"the server did not start: {self._serving.exception()!r}")

    def hurry(self) -> None:
        """Wait for nobody any more."""
        self._hurried = True

    async def stop(self) -> None:
        """Take nothing new, tell the clients, wait for what they have in hand, give the rest back, close."""
        hub, clock = self.hub, self.hub.router.clock
        deadline_ns = clock.monotonic_ns() + round(self._options.drain * 1e9)
        hub.drain(self._options.drain)
        while hub.busy() and clock.monotonic_ns() < deadline_ns and not self._hurried:
            await clock.sleep(POLL_S)
        for connection in hub.connections:
            connection.close(GOING_AWAY, "the server stops")
        closed_ns = clock.monotonic_ns() + round(CLOSE_S * 1e9)
        while hub.connections and clock.monotonic_ns() < closed_ns:
            await clock.sleep(POLL_S)
        if self._uvicorn is not None and self._serving is not None:
            self._uvicorn.should_exit = True
            await self._serving

    def _config(self) -> uvicorn.Config:
        options = self._options
        http, websocket = limited(options)
        return uvicorn.Config(
            self._access,
            http=http,
            ws=websocket,
            ws_max_size=options.max_frame,
            ws_ping_interval=options.heartbeat,
            ws_ping_timeout=options.heartbeat,
            ws_per_message_deflate=False,
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=options.idle_timeout,  # type: ignore[arg-type]  # seconds, a float serves as well
            timeout_graceful_shutdown=round(CLOSE_S),
            ssl_certfile=options.tls.certificate if options.tls else None,
            ssl_keyfile=options.tls.key if options.tls else None,
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, since asyncio sets TCP_NODELAY only where it is: without it a small write waits 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        taken = "whoever has it must end first, or " if error.errno == errno.EADDRINUSE else ""
        raise OSError(
            f"cannot listen on {host} port {port}: {error.strerror}; {taken}choose another: --host and --port (0: any "
            "free one), or host and port under serve in squall.yaml"
        ) from error
    return listening
