"""One connection to the server: opened, read, written, watched, lost."""

from __future__ import annotations

import asyncio
import http
import ssl
from collections.abc import AsyncIterator
from itertools import count

import msgspec
from google.protobuf.message import DecodeError
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.typing import Subprotocol

from squall.core.clock import Clock
from squall.core.reaching import unreachable
from squall.plugins.remote.errors import ProtocolError, Unreachable
from squall.plugins.remote.settings import Settings
from squall.plugins.remote.wire import SUBPROTOCOL
from squall.protos import wire_pb2 as pb

MIN_OPEN_S, MAX_OPEN_S = 1.0, 10.0
MAX_FRAME_BYTES = 16_777_216
MAX_SHOWN = 300
FLUSHES = 1 << 32  # numbers of pings that ask what became of what was said; below are those that ask for a sign of life
_LASTING = range(400, 500)
_BUSY = (408, 425, 429)
_HINTS = {
    "ws": "if it speaks TLS, connect to it by https:// or wss://",
    "wss": "if it speaks no TLS, connect to it by http:// or ws://",
}


class Link:
    """A connection whose welcome was read. `draining`: the server takes nothing new on it."""

    def __init__(self, socket: ClientConnection, welcome: pb.Welcome, clock: Clock, heartbeat_s: float) -> None:
        self.welcome = welcome
        self.draining = False
        self.trouble = ""
        self.unsent = asyncio.Event()
        self._socket, self._clock, self._heartbeat_ns = socket, clock, round(heartbeat_s * 1e9)
        self._heard_ns = self._asked_ns = self._swept_ns = clock.monotonic_ns()
        self._pings = 0
        self._flushes: dict[int, asyncio.Future[bool]] = {}
        self._numbers = count(FLUSHES)
        self._unasked: list[pb.Ping] = []

    def flush(self, *, stored: bool) -> asyncio.Future[bool]:
        """Whether the server has received all that is said before this, once it is known; False: never. `stored`: and
        its store has what was settled."""
        number = next(self._numbers)
        flushed = self._flushes[number] = asyncio.get_running_loop().create_future()
        self._unasked.append(pb.Ping(number=number, stored=stored))
        self.unsent.set()
        return flushed

    def flush_frames(self) -> list[pb.ClientFrame]:
        """What asks for that; to be sent after all else that is to be said."""
        unasked, self._unasked = self._unasked, []
        return [pb.ClientFrame(ping=ping) for ping in unasked]

    def pong(self, number: int) -> None:
        """The server has what was said before the ping of this number."""
        flushed = self._flushes.pop(number, None)
        if flushed is not None and not flushed.done():
            flushed.set_result(True)

    def lost(self) -> None:
        """Nothing more comes."""
        for flushed in self._flushes.values():
            if not flushed.done():
                flushed.set_result(False)

    @classmethod
    async def open(cls, settings: Settings, clock: Clock) -> Link:
        """Connect, and read the server's welcome. Raises Unreachable or ProtocolError."""
        headers = {} if settings.token is None else {"Authorization": f"Bearer {settings.token}"}
        patience_s = max(MIN_OPEN_S, min(MAX_OPEN_S, 2 * settings.heartbeat_s))
        try:
            async with asyncio.timeout(patience_s):
                socket = await connect(
                    settings.url,
                    subprotocols=[Subprotocol(SUBPROTOCOL)],
                    additional_headers=headers,
                    compression=None,
                    proxy=None,
                    open_timeout=None,
                    ping_interval=None,
                    close_timeout=1.0,
                    max_size=MAX_FRAME_BYTES,
                    ssl=settings.tls or (True if settings.url.startswith("wss:") else None),
                )
                try:
                    return cls(socket, await _welcome(socket), clock, settings.heartbeat_s)
                except BaseException:
                    socket.transport.abort()
                    raise
        except InvalidStatus as error:
            status = error.response.status_code
            advice = "; pass the server's own: token=…" if status == http.HTTPStatus.UNAUTHORIZED else ""
            lasting = status in _LASTING and status not in _BUSY
            said = _said(error.response.body or b"")
            raise Unreachable(f"{settings.url} answered {status}: {said}{advice}", lasting=lasting) from error
        except ssl.SSLCertVerificationError as error:
            raise Unreachable(f"{settings.url}: its certificate is not trusted: {error}", lasting=True) from error
        except ssl.SSLError as error:
            raise Unreachable(f"{settings.url}: {unreachable(error)}; {_HINTS['wss']}") from error
        except TimeoutError as error:
            raise Unreachable(f"{settings.url}: no answer within {patience_s:g} s") from error
        except OSError as error:
            raise Unreachable(
                f"{settings.url} cannot be reached: {unreachable(error)}; is squall serve running, and is that its "
                "address?"
            ) from error
        except InvalidMessage as error:  # what is there speaks no HTTP; or it has ended just now, and may come back
            raise Unreachable(f"{settings.url}: {error}; {_HINTS[settings.url.partition(':')[0]]}") from error
        except (EOFError, InvalidHandshake, ConnectionClosed) as error:
            raise Unreachable(f"{settings.url}: {error}") from error

    async def frames(self) -> AsyncIterator[pb.ServerFrame]:
        """What the server says, to the end of the connection. Raises ProtocolError."""
        try:
            while True:
                frame = _frame(await self._socket.recv())
                self._heard_ns = self._clock.monotonic_ns()
                yield frame
        except ConnectionClosed as error:
            self.trouble = self.trouble or f"the connection was lost: {error}"

    async def send(self, frame: bytes) -> None:
        """Returns when there is room for more. Raises ConnectionClosed."""
        await self._socket.send(frame)

    def sweep(self, now_ns: int) -> pb.ClientFrame | None:
        """Ask the server whether it is there when it is silent, and cut the connection when it does not answer; returns
        a ping where one is due. Where the loop itself stood still, an answer may not have been read yet.
        """
        late = now_ns - self._swept_ns > self._heartbeat_ns // 2
        self._swept_ns = now_ns
        if self._asked_ns <= self._heard_ns:  # it is not being asked
            if now_ns - self._heard_ns < self._heartbeat_ns:
                return None
            self._pings += 1
        elif not late:
            if now_ns - self._asked_ns >= self._heartbeat_ns:
                self.cut(f"the server has said nothing for {(now_ns - self._heard_ns) / 1e9:.3g} s")
            return None
        self._asked_ns = now_ns
        return pb.ClientFrame(ping=pb.Ping(number=self._pings))

    def cut(self, why: str) -> None:
        """End it without a word: the other side may not be there."""
        self.trouble = self.trouble or why
        self._socket.transport.abort()

    async def close(self) -> None:
        """End it properly, soon."""
        await self._socket.close()


class _Problem(msgspec.Struct):
    detail: str


def _said(body: bytes | bytearray) -> str:
    """Why a server refuses, in its own words, or as it stands where another one answers."""
    try:
        return msgspec.json.decode(body, type=_Problem).detail
    except msgspec.MsgspecError:
        return body.decode(errors="replace")[:MAX_SHOWN]


async def _welcome(socket: ClientConnection) -> pb.Welcome:
    frame = _frame(await socket.recv())
    if frame.WhichOneof("frame") != "welcome":
        raise ProtocolError(f"expected the server's welcome first, got {frame.WhichOneof('frame')}")
    return frame.welcome


def _frame(data: str | bytes) -> pb.ServerFrame:
    try:
        return pb.ServerFrame.FromString(data if isinstance(data, bytes) else b"\0")
    except DecodeError as error:
        raise ProtocolError(f"expected a ServerFrame of squall.v1, got {len(data)} bytes that are none") from error
