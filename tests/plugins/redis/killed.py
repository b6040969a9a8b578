"""A router that is killed: it publishes under ids of its own, and tells through a pipe what was acknowledged."""

from __future__ import annotations

import asyncio
import os
from multiprocessing.connection import Connection
from uuid import UUID

from squall import EventRouter
from squall.plugins.redis import RedisPlugin


def id_of(number: int) -> str:
    """The id under which this number is published, by whoever publishes it."""
    return str(UUID(int=number, version=4))


async def publish_for_ever(url: str, pipe: Connection) -> None:
    """Ten at a time, each a number and its id."""
    async with EventRouter([RedisPlugin(url=url)]) as router:
        publisher = router.publisher("shop")

        async def publish(number: int) -> None:
            receipt = await publisher.publish_with_receipt("order", b"%d" % number, event_id=id_of(number))
            os.write(pipe.fileno(), f"{number} {receipt.seq}\n".encode())

        begin = 0
        while True:
            await asyncio.gather(*map(publish, range(begin, begin + 10)))
            begin += 10


def live(url: str, pipe: Connection) -> None:
    """Run until killed."""
    asyncio.run(publish_for_ever(url, pipe))
