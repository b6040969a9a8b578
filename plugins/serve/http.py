"""HTTP connections that cannot be held open by saying nothing, or little by little: uvicorn's, with limits."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from squall.plugins.serve.options import ServeOptions

MAX_HEAD_BYTES = 65_536


class LimitedHttp(HttpToolsProtocol):
    """A request's head has to arrive in time and within a size; no more connections than are allowed.

    uvicorn itself bounds only the time between two requests.
    """

    options: ServeOptions

    @classmethod
    def of(cls, options: ServeOptions) -> type[LimitedHttp]:
        """The class with these limits: uvicorn makes the instances."""
        return type(cls.__name__, (cls,), {"options": options})

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._head_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
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
