"""A program that is killed: it publishes and handles for ever, and tells each step through a pipe."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Literal

from squall import Attempt, Context, Event, EventRouter, Observer, Plugin, Priority, Retry, Subscription, hookimpl
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin

PUBLISHERS = 12


class Teller(Observer, Plugin):
    """Writes a line for each step, at once: what was written before a kill stays written."""

    def __init__(self, pipe: Connection) -> None:
        super().__init__()
        self._pipe = pipe

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self

    def tell(self, *words: object) -> None:
        os.write(self._pipe.fileno(), (" ".join(map(str, words)) + "\n").encode())

    def settled(self, subscription: Subscription, attempts: Sequence[Attempt], ok_ns: int, answer: str) -> None:
        for attempt in attempts:
            self.tell("settled" if attempt.outcome == "ok" else "failed", attempt.event.seq, attempt.attempt)


async def work(path: Path, durability: Literal["process", "disk"], seed: int, pipe: Connection) -> None:
    """Publish and handle until killed."""
    teller = Teller(pipe)
    chance = Random(seed)
    retry = RetryPlugin(attempts=3, base="2ms", cap="5ms")
    router = EventRouter([SqlitePlugin(path=str(path), durability=durability), retry, teller], seed=seed)
    await router.start()

    async def handle(event: Event) -> None:
        teller.tell("handle", event.seq)
        if chance.random() < 0.3:
            await asyncio.sleep(0)
        if chance.random() < 0.05:
            raise Retry

    async def publish(source: str) -> None:
        publisher = router.publisher(source)
        while True:
            receipt = await publisher.publish_with_receipt("order.paid", b"x" * 50, chance.choice(list(Priority)))
            teller.tell("stored", receipt.seq, receipt.id)

    await router.subscriber("shop").subscribe("order.>", handle, name="billing", concurrency=4, start="earliest")
    await asyncio.gather(*(publish(f"shop-{number}") for number in range(PUBLISHERS)))


def live(path: Path, durability: Literal["process", "disk"], seed: int, pipe: Connection) -> None:
    """The program."""
    asyncio.run(work(path, durability, seed, pipe))
