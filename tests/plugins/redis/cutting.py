"""A way to a real server that cuts connections when the test says so: before a command, or before its answer."""

from __future__ import annotations

import asyncio
import contextlib
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit


class Cutting:
    """Passes bytes on. `swallow`: answers are not passed on, and the first one ends its connection. `refuse`: new
    connections are closed at once. `marks` is what a client must have sent for its answer to be swallowed."""

    def __init__(self, url: str, marks: bytes = b"") -> None:
        self._port = urlsplit(url).port
        self._marks = marks
        self.swallow = self.refuse = False
        self.swallowed = 0
        self._open: set[asyncio.StreamWriter] = set()

    @property
    def url(self) -> str:
        """The way through it."""
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        self.cut()

    def cut(self) -> None:
        """End all connections."""
        for writer in self._open:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._port)
        self._open |= {writer, back}
        marked = asyncio.Event()
        try:
            await asyncio.gather(self._pass(reader, back, marked, False), self._pass(there, writer, marked, True))
        finally:
            for one in (writer, back):
                one.close()
                self._open.discard(one)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, marked: asyncio.Event, answers: bool
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                if not answers and self._marks in data:
                    marked.set()
                if answers and self.swallow and marked.is_set():
                    self.swallowed += 1
                    self.cut()
                    break
                writer.write(data)
                await writer.drain()
        writer.close()
