"""What a proxy without any toxic costs: the embedded one and Toxiproxy's server, beside a direct connection.

The embedded proxy runs on the client's event loop, as it does in the bench; Toxiproxy and what stands behind are
processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

from tests.benchmarks.limits.upstream import LENGTH_BYTES
from tests.benchmarks.rounds import ROOT, Sample, Scale, alternate
from tests.benchmarks.table import Row, compare
from tests.servers import HOST, toxiproxy_server

from squall import SystemClock
from squall.plugins.network.client import ProxySpec, ToxiproxyClient
from squall.plugins.network.embedded import EmbeddedToxiproxy

DIRECT, EMBEDDED, REAL = "a direct connection", "embedded", "Toxiproxy"
CHUNK_BYTES = 65_536
MEGABYTES, ROUND_TRIPS = 400, 10_000


@contextlib.asynccontextmanager
async def upstream() -> AsyncIterator[str]:
    """Where one answers, in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.limits.upstream", cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        yield f"{HOST}:{int(await process.stdout.readline())}"
    finally:
        process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def way(case: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection on this way."""
    async with contextlib.AsyncExitStack() as stack:
        address = await stack.enter_async_context(upstream())
        if case == EMBEDDED:
            server = await stack.enter_async_context(EmbeddedToxiproxy(SystemClock(), Random(7)))
            client = ToxiproxyClient(server.host, server.port)
        elif case == REAL:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            client = ToxiproxyClient(HOST, stack.enter_context(toxiproxy_server(Path(folder))).port)
        if case != DIRECT:
            address = (await stack.enter_async_context(client.proxied(ProxySpec("bench", address)))).listen
        host, _, port = address.rpartition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            yield reader, writer
        finally:
            writer.close()
            await writer.wait_closed()


async def bulk(case: str, megabytes: int) -> Sample:
    """`mb`: megabytes a second, one way."""
    chunk, chunks = bytes(CHUNK_BYTES), megabytes * 1_000_000 // CHUNK_BYTES + 1
    async with way(case) as (reader, writer):
        began = time.perf_counter()
        writer.write((chunks * CHUNK_BYTES).to_bytes(LENGTH_BYTES))
        for _ in range(chunks):
            writer.write(chunk)
            await writer.drain()
        await reader.readexactly(1)
        return {"mb": chunks * CHUNK_BYTES / 1e6 / (time.perf_counter() - began)}


async def round_trip(case: str, count: int) -> Sample:
    """`p50` of a question of 208 bytes and its answer, one after the other, microseconds."""
    question = (200).to_bytes(LENGTH_BYTES) + bytes(200)
    took_ns: list[int] = []
    async with way(case) as (reader, writer):
        for _ in range(count):
            began = time.perf_counter_ns()
            writer.write(question)
            await reader.readexactly(1)
            took_ns.append(time.perf_counter_ns() - began)
    return {"p50": sorted(took_ns)[count // 2] / 1e3}


def measure(scale: Scale) -> list[Row]:
    """Bulk and round trip, each proxy beside the direct connection."""
    rows = []
    for job, function, unit, figure, arguments in (
        ("bulk, one way", bulk, "MB/s", "mb", {"megabytes": max(1, round(MEGABYTES * scale.share))}),
        ("round trip, p50", round_trip, "µs", "p50", {"count": scale.of(ROUND_TRIPS)}),
    ):
        cases = {case: {"case": case, **arguments} for case in (EMBEDDED, REAL, DIRECT)}
        found = alternate(function, cases, scale, f"proxies, {job}")
        rows += [
            compare("proxies", f"{job}, {case}", unit, figure, found[case], found[DIRECT], DIRECT)
            for case in (EMBEDDED, REAL)
        ]
    return rows
