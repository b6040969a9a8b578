"""Connections that nobody holds open by saying nothing, or little by little, or by not listening: uvicorn's, limited.

uvicorn itself bounds only the time between two requests, and leaves a connection that does not take what is written.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from squall.plugins.serve.options import ServeOptions

MAX_HEAD_BYTES = 65_536
ABORT = "squall.abort"


class Watched:
    """A connection that is cut when what was written is not taken in time."""

    options: ServeOptions
    loop: asyncio.AbstractEventLoop
    transport: asyncio.Transport
    _stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()  # type: ignore[misc]
        self._stalled = self.loop.call_later(self.options.write_timeout, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()  # type: ignore[misc]
        self._moves()

    def connection_lost(self, exc: Exception | None) -> None:
        self._moves()
        super().connection_lost(exc)  # type: ignore[misc]

    def _moves(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None


class LimitedHttp(Watched, HttpToolsProtocol):
    """A request's head has to arrive in time and within a size; no more connections than are allowed."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.options.connections:
            transport.abort()
        else:
            self._await_head()

    def data_received(self, data: bytes) -> None:
        if self.cycle is None or self.cycle.response_complete:
            if self._head_timer is None:
                self._await_head()
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self.send_400_response(f"the head of a request is larger than {MAX_HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        self._head_is_there()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_is_there()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self.options.header_timeout, self.transport.abort)

    def _head_is_there(self) -> None:
        self._head_bytes = 0
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class LimitedWebSocket(Watched, WebSocketsSansIOProtocol):
    """One that does not answer pings is cut: what it was sent last may never be taken, so that nothing else ends it.
    The application may cut it too: `scope["extensions"][ABORT]`."""

    def handle_connect(self, event: Any) -> None:
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["extensions"][ABORT] = {"now": self.transport.abort}

    async def send(self, message: Any) -> None:
        try:
            await super().send(message)
        except RuntimeError:
            if not self.close_sent:
                raise
            raise ClientDisconnected from None  # closed for what the client did, while this waited to be sent
        # Else uvicorn takes a refusal for an application that forgot to answer, and logs an error for each.
        if message["type"] == "websocket.http.response.body":
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        super().keepalive_timeout()
        self.transport.abort()


def limited(options: ServeOptions) -> tuple[type[LimitedHttp], type[LimitedWebSocket]]:
    """The classes with these limits: uvicorn makes the instances."""
    limits = {"options": options}
    return type("Http", (LimitedHttp,), limits), type("WebSocket", (LimitedWebSocket,), limits)
