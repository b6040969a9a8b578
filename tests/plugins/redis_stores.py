"""Redis stores for tests, on private servers."""

from __future__ import annotations

import logging
from random import Random

from squall.core.clock import Clock, SystemClock
from squall.core.event import Durability
from squall.core.recent import MAX_EVENTS_HELD
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
    recent_events: int = MAX_EVENTS_HELD,
) -> RedisStore:
    clock = clock or SystemClock()
    logger = logging.getLogger("squall.plugins.redis")
    server = Server(RedisUrl(url), timeout_s)
    return RedisStore(
        server, name, durability, lease_s, max_events, clock, Random(7), logger, recent_events=recent_events
    )
