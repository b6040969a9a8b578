"""The Redis store is held to what every store promises, on real servers."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from tests.plugins.redis_stores import redis_store
from tests.plugins.store_bench import Promise, StoreKind
from tests.plugins.store_promises import PROMISES, hold
from tests.servers import Server


@pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
@pytest.mark.parametrize("durability", ["disk", "memory"])
async def test_store_keeps_its_promise(
    durability: Literal["disk", "memory"], promise: Promise, tmp_path: Path, redis_server: Server
) -> None:
    kind = StoreKind("redis", lambda folder: redis_store(redis_server.url, durability=durability))
    await hold(promise, kind, tmp_path)
