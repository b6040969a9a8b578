"""A server is adopted: at the start, and after every lost connection, for it may be another one than before."""

from __future__ import annotations

from logging import Logger
from typing import NamedTuple

from squall.core.errors import StoreFileError
from squall.core.event import Durability
from squall.core.identity import system_id
from squall.plugins.redis import scripts
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.server import Link, Server, nodes_of_cluster, observe


class Adopted(NamedTuple):
    """What was met: the greatest seq ever given, a name for the data that are there, and whether they are others than
    those that this router knew."""

    head: int
    epoch: bytes
    lost: bool


async def adopt(
    link: Link, server: Server, keys: Keys, durability: Durability, head: int, epoch: bytes, logger: Logger
) -> Adopted:
    """Look at the server with new eyes; `head` and `epoch` are what this router knows, 0 and empty at the start.

    Raises StoreFileError when it keeps less than is asked for, and as Link.calls.
    """
    await _check_keeping(link, server, durability)
    server.knows(await nodes_of_cluster(link))
    before, found_head, found_epoch = await link.run(
        scripts.ADOPT, (keys.head, *keys.streams, keys.epoch), (head, system_id())
    )
    lost = before < head or (bool(epoch) and found_epoch != epoch)
    if lost:
        logger.error(
            "Redis at %s: it came back without its latest data (events up to seq %d, %d were stored); numbering goes "
            "on at %d",
            server.address,
            before,
            head,
            found_head + 1,
        )
    return Adopted(found_head, found_epoch, lost)


async def _check_keeping(link: Link, server: Server, durability: Durability) -> None:
    keeping, address = await observe(link), server.address
    if durability == "disk" and keeping.durability != "disk":
        raise StoreFileError(
            f"Redis at {address}: durability disk is asked for, and it keeps less ({keeping.says}); set "
            "appendonly yes, appendfsync always and no-appendfsync-on-rewrite no, or ask for durability: memory"
        )
    if keeping.evicts:
        raise StoreFileError(
            f"Redis at {address}: it drops keys when its memory is full ({keeping.says}); set "
            "maxmemory-policy noeviction: then it refuses what it has no room for, and loses nothing"
        )
