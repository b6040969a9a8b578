"""Redis stores for tests, on private servers."""

from __future__ import annotations

import logging
from random import Random

from squall.core.clock import Clock, SystemClock
from squall.core.event import Durability
from squall.plugins.redis import RedisUrl
from squall.plugins.redis.server import Server
from squall.plugins.redis.store import RedisStore


def redis_store(
    url: str,
    name: str = "test",
    durability: Durability = "disk",
    timeout_s: float = 5.0,
    lease_s: float = 10.0,
    max_events: int = 1_000_000,
    clock: Clock | None = None,
) -> RedisStore:
    clock = clock or SystemClock()
    logger = logging.getLogger("squall.plugins.redis")
    return RedisStore(Server(RedisUrl(url), timeout_s), name, durability, lease_s, max_events, clock, Random(7), logger)
