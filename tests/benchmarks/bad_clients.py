"""Clients that no server wishes for, in a process of their own, until it is ended: `python -m … PORT`.

They drip, never settle, settle what they were never given, and send frames that are none, too large, or for somebody
else. Whoever is cut comes again after AGAIN_S.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Origin, Subprotocol

from squall.protos import wire_pb2 as pb

DRIPPING = 200
AGAIN_S = 0.1
HEAD = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nX: "
Misdeed = Callable[[ClientConnection], Awaitable[None]]


async def drip(port: int) -> None:
    """A head that comes a byte a second, and never ends."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for byte in HEAD + b"a" * 10_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(1)
    finally:
        writer.close()


async def subscribe(socket: ClientConnection) -> None:
    """A subscription to all that is there, of as much as may be had."""
    asked = pb.Subscribe(sub=1, subscriber_id="bad", pattern=">", in_flight=1000, credit=1_000_000, overflow="drop_new")
    await socket.send(pb.ClientFrame(subscribe=asked).SerializeToString())


async def never_acks(socket: ClientConnection) -> None:
    """It takes what comes, and says nothing about it."""
    await subscribe(socket)
    async for _ in socket:
        pass


async def never_reads(socket: ClientConnection) -> None:
    """It asks for all, and takes nothing."""
    socket.transport.pause_reading()
    await subscribe(socket)
    await asyncio.sleep(3600)


async def acks_what_was_never_given(socket: ClientConnection) -> None:
    """Numbers of its own choice."""
    await subscribe(socket)
    await socket.send(pb.ClientFrame(settle=pb.Settle(sub=1, ack=range(10**6, 10**6 + 1000))).SerializeToString())
    await socket.wait_closed()


async def sends_noise(socket: ClientConnection) -> None:
    """A message that is no frame."""
    await socket.send(b"\xff" * 100_000)
    await socket.wait_closed()


async def sends_too_much(socket: ClientConnection) -> None:
    """A message above what the server takes."""
    await socket.send(bytes(9_000_000))
    await socket.wait_closed()


async def stream(port: int, misdeed: Misdeed, origin: str | None = None) -> None:
    """A WebSocket for a misdeed; with an `origin` the server should not let it in at all."""
    url, spoken = f"ws://127.0.0.1:{port}/v1/stream", [Subprotocol("squall.v1")]
    asked = None if origin is None else Origin(origin)
    async with connect(url, subprotocols=spoken, proxy=None, max_size=None, origin=asked, close_timeout=1) as socket:
        await misdeed(socket)


async def again(misbehave: Callable[[], Awaitable[None]]) -> None:
    """For ever."""
    while True:
        with contextlib.suppress(OSError, EOFError, WebSocketException, TimeoutError):
            await misbehave()
        await asyncio.sleep(AGAIN_S)


async def main(port: int) -> None:
    """All of them at once; says so when they have begun. They get what time others leave: elsewhere they would have a
    machine of their own, and what is asked is what they cost the server."""
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    misdeeds = (never_acks, never_reads, acks_what_was_never_given, sends_noise, sends_too_much)
    tasks = [asyncio.create_task(again(lambda: drip(port))) for _ in range(DRIPPING)]
    tasks += [asyncio.create_task(again(lambda misdeed=one: stream(port, misdeed))) for one in misdeeds]  # type: ignore[misc]
    tasks.append(asyncio.create_task(again(lambda: stream(port, never_acks, "https://elsewhere.example"))))
    await asyncio.sleep(0.5)
    print("they misbehave", flush=True)
    await asyncio.gather(*tasks)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
