"""Redis stores for tests, on private servers."""

from __future__ import annotations

import logging
from random import Random

import redis

from squall.chaos.server import Server
from squall.core.clock import Clock, SystemClock
from squall.core.event import Durability
from squall.core.recent import MAX_EVENTS_HELD
from squall.plugins.redis import RedisUrl
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.server import Server as Place
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
    server = Place(RedisUrl(url), timeout_s)
    return RedisStore(
        server, name, durability, lease_s, max_events, clock, Random(7), logger, recent_events=recent_events
    )


def damage(server: Server, seq: int, fields: dict[str, bytes], name: str = "test") -> bytes:
    """Give the event of that seq other fields; streams are made anew for it. Returns the last field's value."""
    keys = Keys(name)
    with redis.Redis(port=server.port) as client:
        for stream in keys.streams:
            entries: list[tuple[bytes, dict[bytes, bytes]]] = client.xrange(stream)
            if f"{seq}-0".encode() in [entry_id for entry_id, _ in entries]:
                client.delete(stream)
                for entry_id, kept in entries:
                    client.xadd(stream, fields if entry_id == f"{seq}-0".encode() else kept, entry_id)
                return [*fields.values()][-1]
    raise AssertionError(f"there is no event {seq}")
