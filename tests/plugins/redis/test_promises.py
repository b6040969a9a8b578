"""The Redis store is held to what every store promises, on real servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import pytest
import redis
from tests import servers
from tests.plugins.redis_stores import damage, redis_store
from tests.plugins.redrive_promises import REDRIVE_PROMISES
from tests.plugins.store_bench import Promise, StoreKind
from tests.plugins.store_promises import PROMISES, hold
from tests.servers import Server

from squall.plugins.redis.store import RedisStore

pytestmark = pytest.mark.slow  # a server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all promises: none of them ends it."""
    with servers.redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def emptied(server: Server) -> Server:
    """The same, with nothing in it."""
    with redis.Redis(port=server.port) as admin:
        admin.flushall()
    return server


@pytest.mark.parametrize("promise", [*PROMISES, *REDRIVE_PROMISES], ids=lambda promise: promise.__name__)
@pytest.mark.parametrize(("durability", "recent_events"), [("disk", 0), ("disk", 10), ("memory", 8192)])
async def test_store_keeps_its_promise(
    durability: Literal["disk", "memory"], recent_events: int, promise: Promise, tmp_path: Path, emptied: Server
) -> None:
    """Whatever is read from memory, and what from the server."""

    def make(folder: Path) -> RedisStore:
        return redis_store(emptied.url, durability=durability, recent_events=recent_events)

    def damaged(folder: Path, seq: int) -> bytes:
        return damage(emptied, seq, {"e": b"\xc1 broken"})

    kind = StoreKind("redis", make, damaged)
    await hold(promise, kind, tmp_path)
