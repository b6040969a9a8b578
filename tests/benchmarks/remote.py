"""`squall serve` and a client in another process, beside a server that only gives back what it gets.

In memory, with the default plugins. The client speaks frames: what a client library costs is not in these figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from tests.benchmarks.load import TYPE, Case, Tally, pace, payload
from tests.benchmarks.rounds import ROOT, Sample, Scale, alternate
from tests.benchmarks.table import Bar, Row, compare
from websockets.asyncio.client import ClientConnection, connect
from websockets.typing import Subprotocol

from squall.protos import wire_pb2 as pb

RATE = 5_000
CONNECTIONS = 16
FRAME = 100
UNANSWERED = 20
WINDOW = 1_000
HTTP_EVENTS, STREAM_EVENTS, PACED_EVENTS = 10_000, 60_000, 15_000
SQUALL, ECHO, BESIDE = "squall", "echo", "beside clients that misbehave"
SERVERS = {SQUALL: ["-m", "squall", "serve", "--port", "0"], ECHO: ["-m", "tests.benchmarks.limits.remote"]}


@contextlib.asynccontextmanager
async def serving(case: str) -> AsyncIterator[int]:
    """The server as a child process: its port."""
    with tempfile.TemporaryDirectory() as folder:
        # squall looks for a squall.yaml where it is started; the limit's module is found from the root.
        process = await asyncio.create_subprocess_exec(
            sys.executable, *SERVERS[case], cwd=Path(folder) if case == SQUALL else ROOT, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        try:
            line = (await process.stdout.readline()).decode()
            yield int(line.split()[2].rpartition(":")[2])
        finally:
            process.kill()
            await process.communicate()


@contextlib.asynccontextmanager
async def stream(case: str, port: int) -> AsyncIterator[ClientConnection]:
    """A WebSocket, welcomed."""
    url, spoken = f"ws://127.0.0.1:{port}/v1/stream", [Subprotocol("squall.v1")]
    async with connect(url, subprotocols=spoken, proxy=None, compression=None, max_size=None) as socket:
        if case == SQUALL:
            await socket.recv()
        yield socket


async def posting(case: str, events: int) -> Sample:
    """`events` a second, each a POST in binary mode, on CONNECTIONS connections that are kept."""
    numbers = itertools.count()

    async def one(port: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = payload(1)
        while (number := next(numbers)) < events:
            head = (
                f"POST /v1/events HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\nce-specversion: 1.0\r\n"
                f"ce-id: {number}\r\nce-source: /bench\r\nce-type: {TYPE}\r\n\r\n"
            )
            writer.write(head.encode() + body)
            answer = (await reader.readuntil(b"\r\n\r\n")).lower()
            assert answer.startswith(b"http/1.1 200"), answer
            await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        writer.close()

    async with serving(case) as port:
        began = time.perf_counter()
        await asyncio.gather(*(one(port) for _ in range(CONNECTIONS)))
        return {"events": events / (time.perf_counter() - began)}


def frame(first: int, count: int, due_ns: int = 0) -> bytes:
    """A Publish of so many events."""
    events = [
        pb.Outgoing(event=pb.Event(type=TYPE, source="bench", payload=payload(number, due_ns)))
        for number in range(first, first + count)
    ]
    return pb.ClientFrame(publish=pb.Publish(request=first, events=events)).SerializeToString()


async def publishing(case: str, events: int) -> Sample:
    """`events` a second, acknowledged, FRAME in a frame and at most UNANSWERED frames without their answer."""
    data = frame(1, FRAME)
    async with serving(case) as port, stream(case, port) as socket:
        began = time.perf_counter()
        for number in range(events // FRAME + UNANSWERED):
            if number >= UNANSWERED:
                await socket.recv()
            if number < events // FRAME:
                await socket.send(data)
        return {"events": events / (time.perf_counter() - began)}


async def consume(socket: ClientConnection, tally: Tally, *, timed: bool) -> None:
    """Subscribe, and settle and grant what comes, frame by frame."""
    asked = pb.Subscribe(sub=1, subscriber_id="bench", pattern=">", in_flight=WINDOW, credit=2 * WINDOW)
    await socket.send(pb.ClientFrame(subscribe=asked).SerializeToString())
    await socket.recv()
    while True:
        data = await socket.recv()
        assert isinstance(data, bytes)
        given = pb.ServerFrame.FromString(data).deliveries.deliveries
        for one in given:
            await (tally.time if timed else tally.count)(one.event.payload)
        settle = pb.Settle(sub=1, ack=[one.delivery for one in given])
        await socket.send(pb.ClientFrame(settle=settle).SerializeToString())
        await socket.send(pb.ClientFrame(credit=pb.Credit(sub=1, more=len(given))).SerializeToString())


async def passing(case: str, events: int) -> Sample:
    """`events` a second from a publisher's connection to a subscriber's, each acknowledged on both."""
    if case == ECHO:
        return await publishing(case, events)
    data, tally = frame(1, FRAME), Tally()
    async with serving(case) as port, stream(case, port) as out, stream(case, port) as back:
        consuming = asyncio.ensure_future(consume(back, tally, timed=False))
        await asyncio.sleep(0.2)
        began = time.perf_counter()
        for number in range(events // FRAME + UNANSWERED):
            if number >= UNANSWERED:
                await out.recv()
            if number < events // FRAME:
                await out.send(data)
        while tally.handled < events:  # noqa: ASYNC110
            await asyncio.sleep(0)
        took_s = time.perf_counter() - began
        consuming.cancel()
        return {"events": events / took_s}


@contextlib.asynccontextmanager
async def bad_clients(port: int) -> AsyncIterator[None]:
    """Clients that misbehave all the while, in a process of their own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.bad_clients", str(port), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        await process.stdout.readline()
        yield
    finally:
        process.kill()
        await process.communicate()


async def latency(case: str, events: int, beside: bool = False) -> Sample:
    """`p50` and `p99` from when an event was due until it is there, microseconds, at RATE, each in its own frame;
    `beside` clients that misbehave."""
    tally = Tally()

    async def echoes(socket: ClientConnection) -> None:
        async for data in socket:
            assert isinstance(data, bytes)
            await tally.time(pb.ClientFrame.FromString(data).publish.events[0].event.payload)

    async def forget(socket: ClientConnection) -> None:
        async for _ in socket:
            pass

    async with (
        serving(case) as port,
        stream(case, port) as out,
        stream(case, port) as back,
        bad_clients(port) if beside else contextlib.nullcontext(),
    ):
        listening = [echoes(out)] if case == ECHO else [forget(out), consume(back, tally, timed=True)]
        tasks = [asyncio.ensure_future(one) for one in listening]
        await asyncio.sleep(0.2)

        async def send(text: bytes) -> None:
            event = pb.Outgoing(event=pb.Event(type=TYPE, source="bench", payload=text))
            publish = pb.ClientFrame(publish=pb.Publish(request=1, events=[event]))
            await out.send(publish.SerializeToString())

        await pace(Case(send, awaited=True), events, RATE, tally)
        for task in tasks:
            task.cancel()
    return tally.latencies()


def measure(scale: Scale) -> list[Row]:
    """HTTP, WebSocket, both ways, and latency."""
    rows = []
    for job, function, events, other in (
        ("published by HTTP", posting, HTTP_EVENTS, "a bare starlette echo"),
        (f"published by WebSocket, {FRAME} a frame", publishing, STREAM_EVENTS, "a bare WebSocket echo"),
        (f"published and consumed, {FRAME} a frame", passing, STREAM_EVENTS, "a bare WebSocket echo"),
    ):
        cases = {case: {"case": case, "events": scale.of(events)} for case in SERVERS}
        found = alternate(function, cases, scale, f"remote, {job}")
        rows.append(compare("remote", job, "events/s", "events", found[SQUALL], found[ECHO], other))
    paced = {"events": scale.of(PACED_EVENTS)}
    cases = {
        SQUALL: {"case": SQUALL, **paced},
        ECHO: {"case": ECHO, **paced},
        BESIDE: {"case": SQUALL, **paced, "beside": True},
    }
    found = alternate(latency, cases, scale, "remote, latency")
    job = f"published and consumed at {RATE:,} events/s"
    for figure in ("p50", "p99"):
        both = found[SQUALL], found[ECHO]
        rows.append(compare("remote", f"{job}, {figure}", "µs", figure, *both, "a bare WebSocket echo"))
    both = found[BESIDE], found[SQUALL]
    rows.append(compare("remote", f"{job}, p99, {BESIDE}", "µs", "p99", *both, "alone", Bar("≤", 2.0)))
    return rows
