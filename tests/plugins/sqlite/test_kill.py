"""kill -9 at random moments, again and again: nothing acknowledged is lost, what is settled stays settled."""

from __future__ import annotations

import multiprocessing
import os
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Literal

import pytest
from tests.plugins.sqlite.killed import live
from tests.plugins.sqlite.workload import make_store
from tests.plugins.store_bench import until

from squall import Event, EventRouter, Query
from squall.plugins.sqlite import SqlitePlugin

pytestmark = pytest.mark.slow  # whole runs

KILLS = 24
MAX_BYTES_TOLD = 40_000


def read_until(pipe: Connection, size_bytes: int) -> bytes:
    """So much of what was told, or all that there is until the program's death."""
    told = b""
    while len(told) < size_bytes and (more := os.read(pipe.fileno(), 65_536)):
        told += more
    return told


def live_and_die(path: Path, durability: Literal["process", "disk"], number: int) -> list[list[str]]:
    """Start the program, kill it once it has told enough, and give its whole lines, word by word."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([live.__module__])
    reading, writing = context.Pipe(duplex=False)
    program = context.Process(target=live, args=(path, durability, number, writing))
    program.start()
    writing.close()
    told = read_until(reading, Random(f"{durability}:{number}").randrange(1, MAX_BYTES_TOLD))
    program.kill()
    told += read_until(reading, 1 << 40)
    program.join()
    reading.close()
    assert program.exitcode == -9, "the program ended by itself"
    program.close()
    return [line.split() for line in told.decode().split("\n")[:-1]]


@dataclass
class Witness:
    """All that the killed programs told, and the handlers after them."""

    stored: dict[int, str] = field(default_factory=dict)
    settled: set[int] = field(default_factory=set)
    handled: set[int] = field(default_factory=set)
    again: int = 0

    def hear(self, lines: list[list[str]]) -> None:
        """What one program told, in order. Raises AssertionError when it must not be."""
        greatest = max(self.stored, default=0)
        self.again += len({int(line[1]) for line in lines if line[0] == "handle"} & self.handled)
        for word, number, *rest in lines:
            seq = int(number)
            if word == "stored":
                assert seq not in self.stored
                assert seq > greatest, f"seq {seq} was given before"
                self.stored[seq] = rest[0]
            elif word == "handle":
                assert seq not in self.settled, f"seq {seq} was settled, and delivered again"
                self.handled.add(seq)
            elif word == "settled":
                self.settled.add(seq)


@pytest.mark.parametrize("durability", ["process", "disk"])
async def test_killed_again_and_again(durability: Literal["process", "disk"], tmp_path: Path) -> None:
    """What was acknowledged is stored, what was settled is not delivered again, and in the end all is delivered."""
    path, witness = tmp_path / "squall.db", Witness()
    for number in range(KILLS):
        witness.hear(live_and_die(path, durability, number))
    assert len(witness.settled) > 500, "too little happened between the kills"
    assert witness.again > 0, "no kill met an event in hand: delivering again was not tried"
    stored = await everything(path)
    assert {seq: stored.get(seq) for seq in witness.stored} == witness.stored
    delivered = await deliver_the_rest(path)
    assert not delivered & witness.settled, "delivered again after it was settled"
    assert delivered | witness.handled == stored.keys(), "an event was skipped"
    assert len(delivered & witness.handled) < 1000, "more was delivered again than can have been in hand"


async def everything(path: Path) -> dict[int, str]:
    store = make_store(path)
    await store.open(lambda events: None)
    stored: dict[int, str] = {}
    while page := (await store.read(Query(after_seq=max(stored, default=0)))).events:
        stored.update((event.seq, event.id) for event in page)
    await store.close()
    return stored


async def deliver_the_rest(path: Path) -> set[int]:
    """Attend the subscription until it is owed nothing more."""
    delivered: set[int] = set()

    async def handle(event: Event) -> None:
        delivered.add(event.seq)

    async with EventRouter([SqlitePlugin(path=str(path))]) as router:
        name = await router.subscriber("shop").subscribe("order.>", handle, name="billing", start="earliest")
        dispatcher = router.subscriptions.get(name)
        seen = 0
        while await dispatcher.backlog():
            await until(lambda: len(delivered) > seen)  # noqa: B023  also what came while it was counted
            seen = len(delivered)
    return delivered
