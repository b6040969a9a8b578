"""The embedded Toxiproxy: proxies in the bench's own process, driven by the HTTP API of Toxiproxy's server.

It listens on loopback only, and answers neither browsers nor requests that were sent to another host's name.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from random import Random
from types import TracebackType
from typing import Self

import h11

from squall.core.clock import Clock
from squall.plugins.network.api import Answer, Api

READ_TIMEOUT_S = 15.0
MAX_BODY_BYTES = 2**20
MAX_REQUESTERS = 64
HOSTS = ("127.0.0.1", "localhost", "::1")


class EmbeddedToxiproxy:
    """Toxiproxy's server, as an async context manager: entered it answers at `host:port`, left nothing remains.

    `random` draws which connections a toxic bites, and jitter. Raises OSError where the port is taken.
    """

    def __init__(self, clock: Clock, random: Random, *, port: int = 0) -> None:
        self.host, self.port = "127.0.0.1", port
        self._api = Api(clock, random)
        self._server: asyncio.Server | None = None
        self._requesters: dict[asyncio.Task[None], None] = {}  # who came first stands first

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._requesters:
            task.cancel()
        await asyncio.gather(*self._requesters, return_exceptions=True)
        await self._api.close()

    def _accept(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Serve whoever comes; where too many are there, the one that came first has to go."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._requesters[task] = None
        task.add_done_callback(lambda _: self._requesters.pop(task))
        if len(self._requesters) > MAX_REQUESTERS:
            next(iter(self._requesters)).cancel()

    async def _serve(self, reader: StreamReader, writer: StreamWriter) -> None:
        try:
            await _Requester(self._api, reader, writer).run()
        except (h11.RemoteProtocolError, OSError, TimeoutError):
            pass  # whoever speaks no HTTP, or goes away, is not answered
        finally:
            writer.close()


class _Requester:
    """One who sends requests, one after the other."""

    def __init__(self, api: Api, reader: StreamReader, writer: StreamWriter) -> None:
        self._api, self._reader, self._writer = api, reader, writer
        self._http = h11.Connection(h11.SERVER)

    async def run(self) -> None:
        while True:
            async with asyncio.timeout(READ_TIMEOUT_S):
                request = await self._event()
                if not isinstance(request, h11.Request):
                    return
                body = await self._body()
            await self._send(Answer(413) if body is None else await self._answer(request, body))
            if self._http.our_state is h11.MUST_CLOSE or body is None:
                return
            self._http.start_next_cycle()

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            if self._http.they_are_waiting_for_100_continue:
                go_on = self._http.send(h11.InformationalResponse(status_code=100, headers=[]))
                self._writer.write(go_on or b"")
            self._http.receive_data(await self._reader.read(2**16))
        return event

    async def _body(self) -> bytes | None:
        """What comes with the request; None where it is too much."""
        body = b""
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                return None
        return body

    async def _answer(self, request: h11.Request, body: bytes) -> Answer:
        headers = {name: value.decode("latin-1") for name, value in request.headers}
        host = headers.get(b"host", "").rpartition(":")[0] or headers.get(b"host", "")
        if headers.get(b"user-agent", "").startswith("Mozilla/"):
            return Answer(403, b"User agent not allowed\n")
        if host.strip("[]") not in HOSTS:
            return Answer(403, b"Host not allowed\n")
        return await self._api.answer(request.method.decode("latin-1"), request.target.decode("latin-1"), body)

    async def _send(self, answer: Answer) -> None:
        headers = [("Content-Length", str(len(answer.body)))] if answer.status != 204 else []
        if answer.body.startswith((b"{", b"[")):
            headers.append(("Content-Type", "application/json"))
        parts = [h11.Response(status_code=answer.status, headers=headers), h11.Data(data=answer.body)]
        for event in (*parts, h11.EndOfMessage()):
            self._writer.write(self._http.send(event) or b"")
        await self._writer.drain()
