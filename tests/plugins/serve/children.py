"""`squall serve` as a process of its own, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import IO

from tests.plugins.serve.served import TOKEN, Client
from websockets.asyncio.client import connect
from websockets.typing import Subprotocol

HEADERS = {"Authorization": f"Bearer {TOKEN}"}


@contextlib.asynccontextmanager
async def serving(
    folder: Path, *arguments: str, log: IO[bytes] | int = PIPE
) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """`squall serve` as a child, and what it printed first. `log` is where what it logs goes."""
    squall = str(Path(sys.executable).with_name("squall"))
    process = await asyncio.create_subprocess_exec(
        squall, "serve", *arguments, cwd=folder, env={**os.environ, "BUS_TOKEN": TOKEN},
        stdout=PIPE, stderr=log,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        yield process, (await process.stdout.readline()).decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@contextlib.asynccontextmanager
async def client_of(line: str) -> AsyncIterator[Client]:
    """A client of the server that printed this line."""
    url = line.split()[2].replace("http://", "ws://") + "/v1/stream"
    spoken = [Subprotocol("squall.v1")]
    async with connect(url, subprotocols=spoken, proxy=None, additional_headers=HEADERS, close_timeout=0.3) as socket:
        client = Client(socket)
        client.welcome = (await client.expect("welcome")).welcome
        yield client


async def one_event(client: Client, sub: int) -> None:
    """It is published, delivered and settled."""
    (receipt,) = await client.publish("healthy.event")
    (got,) = await client.deliveries(1)
    assert got.event.id == receipt.id
    await client.settle(sub, ack=[got.delivery])
    await client.synced()


def resident_bytes(pid: int) -> int:
    """What a process holds in memory."""
    pages = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")
