"""The Redis store is held to what every store promises, on real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from tests.plugins.redis_stores import damage, redis_store
from tests.plugins.redrive_promises import REDRIVE_PROMISES
from tests.plugins.store_bench import Promise, StoreKind
from tests.plugins.store_promises import PROMISES, hold
from tests.servers import Server

from squall.plugins.redis.store import RedisStore


@pytest.mark.parametrize("promise", [*PROMISES, *REDRIVE_PROMISES], ids=lambda promise: promise.__name__)
@pytest.mark.parametrize(("durability", "recent_events"), [("disk", 0), ("disk", 10), ("memory", 8192)])
async def test_store_keeps_its_promise(
    durability: Literal["disk", "memory"], recent_events: int, promise: Promise, tmp_path: Path, redis_server: Server
) -> None:
    """Whatever is read from memory, and what from the server."""

    def make(folder: Path) -> RedisStore:
        return redis_store(redis_server.url, durability=durability, recent_events=recent_events)

    def damaged(folder: Path, seq: int) -> bytes:
        return damage(redis_server, seq, {"e": b"\xc1 broken"})

    kind = StoreKind("redis", make, damaged)
    await hold(promise, kind, tmp_path)
