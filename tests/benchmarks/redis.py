"""Events a second through Redis: published, stored, handled, acknowledged; squall beside redis-py used by hand.

By hand there is no router: XADD, XREADGROUP and XACK of redis-py's client, from one process as squall's. Several
consumers share the events: by hand as consumers of one group, in squall as handlers of one named subscription.
"""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Literal

from redis.asyncio import Redis
from tests.benchmarks import durable
from tests.benchmarks.load import PAYLOAD_BYTES, TYPE, Tally
from tests.benchmarks.rounds import Sample, Scale, alternate
from tests.benchmarks.table import Bar, Row, compare
from tests.servers import redis_server

from squall import Event, EventData, EventRouter
from squall.plugins.breaker import BreakerPlugin
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.redis import RedisPlugin
from squall.plugins.retry import RetryPlugin

PAYLOAD = b"x" * PAYLOAD_BYTES
BATCH = 100
PUBLISHERS = 10
EVENTS = 20_000
Durability = Literal["memory", "disk"]
BY_HAND = ("micro-batched by hand", "pipelined by hand", "unpipelined by hand")
SQUALL = ("one router", "publisher and consumer in two routers")
CONSUMERS = (1, 4)


async def once(durability: Durability, case: str, consumers: int, events: int) -> Sample:
    """`events` a second, from the first publish until all were acknowledged by their consumers, on a fresh server."""
    with tempfile.TemporaryDirectory() as folder, redis_server(Path(folder), aof=durability == "disk") as server:
        if case in SQUALL:
            took_s = await _squall(server.url, durability, consumers, events, apart=case != SQUALL[0])
        else:
            took_s = await _by_hand(server.url, case, consumers, events)
    return {"events": events / took_s}


async def _squall(url: str, durability: Durability, consumers: int, events: int, *, apart: bool) -> float:
    tally = Tally()

    async def handle(event: Event) -> None:
        tally.handled += 1

    def router() -> EventRouter:
        store = RedisPlugin(url=url, durability=durability)
        return EventRouter([store, RetryPlugin(), BreakerPlugin(), MetricsPlugin()])

    async with router() as one, router() as two:
        consumer = two if apart else one
        subscriber = consumer.subscriber("bench")
        await subscriber.subscribe("order.>", handle, name="bench", in_flight=4000, concurrency=consumers)
        publisher = one.publisher("bench")
        batch = [EventData(TYPE, PAYLOAD) for _ in range(BATCH)]
        return await _timed(lambda: publisher.publish_batch(batch), events, lambda: tally.handled >= events)


async def _by_hand(url: str, case: str, consumers: int, events: int) -> float:
    async with Redis.from_url(url, protocol=3, legacy_responses=False) as client:
        await client.xgroup_create("orders", "bench", id="0", mkstream=True)
        acked = 0

        async def consume(name: str) -> None:
            nonlocal acked
            while acked < events:
                found: Any = await client.xreadgroup("bench", name, {"orders": ">"}, count=BATCH, block=1000)
                ids = [entry[0] for entries in found.values() for entry in entries] if found else []
                if case == BY_HAND[0] and ids:
                    await client.xack("orders", "bench", *ids)
                elif ids:
                    await _each(client, case, partial(_acks, ids))
                acked += len(ids)

        async def publish() -> None:
            await _each(client, case, lambda on: [on.xadd("orders", {"e": PAYLOAD}) for _ in range(BATCH)])

        consuming = [asyncio.create_task(consume(str(number))) for number in range(consumers)]
        took_s = await _timed(publish, events, lambda: acked >= events)
        await asyncio.gather(*consuming)
        return took_s


def _acks(ids: list[Any], on: Any) -> list[Any]:
    return [on.xack("orders", "bench", one) for one in ids]


async def _each(client: Redis, case: str, commands: Callable[[Any], list[Any]]) -> None:
    """Send commands: in one pipeline, or each of them by itself, one after the other."""
    if case == BY_HAND[2]:
        for command in commands(client):
            await command
    else:
        async with client.pipeline(transaction=False) as pipeline:
            commands(pipeline)
            await pipeline.execute()


async def _timed(publish: Callable[[], Awaitable[object]], events: int, done: Callable[[], bool]) -> float:
    """The seconds that it takes to publish so many in batches, ten batches at once, until all is done."""

    async def several() -> None:
        for _ in range(events // BATCH // PUBLISHERS):
            await publish()

    gc.collect()
    began = time.perf_counter()
    await asyncio.gather(*(several() for _ in range(PUBLISHERS)))
    while not done():  # noqa: ASYNC110
        await asyncio.sleep(0.0005)
    return time.perf_counter() - began


def measure(scale: Scale) -> list[Row]:
    """Both durabilities, one consumer and several; what is by hand is compared with one router, and the two routers
    with the best of it."""
    rows = []
    events = max(BATCH * PUBLISHERS, scale.of(EVENTS) // (BATCH * PUBLISHERS) * BATCH * PUBLISHERS)
    for durability, consumers in product(("memory", "disk"), CONSUMERS):
        job = f"{durability}, {consumers} consumer{'s' if consumers > 1 else ''}"
        given = {"durability": durability, "consumers": consumers, "events": events}
        cases = {case: given | {"case": case} for case in (*SQUALL, *BY_HAND)}
        found = alternate(once, cases, scale, f"redis: {job}")
        for ours, theirs in ((SQUALL[0], BY_HAND[0]), (SQUALL[1], BY_HAND[0]), *((SQUALL[0], x) for x in BY_HAND[1:])):
            bar = Bar("≥", 0.8) if theirs == BY_HAND[0] else None
            figures = found[ours], found[theirs]
            rows.append(compare("redis", f"{job}, {ours}", "events/s", "events", *figures, theirs, bar))
        if (durability, consumers) == ("disk", 1):
            rows.append(_sqlite(scale, events, found[BY_HAND[0]]))
    return rows


def _sqlite(scale: Scale, events: int, by_hand: list[Sample]) -> Row:
    """A router with its store in SQLite, which syncs before it acknowledges too."""
    case = {"job": "disk, 1 subscriber", "case": "squall", "events": events}
    found = alternate(durable.once, {"sqlite": case}, scale, "redis: sqlite beside it")["sqlite"]
    job = "disk, 1 consumer, a router on sqlite"
    return compare("redis", job, "events/s", "events", found, by_hand, BY_HAND[0], Bar("≥", 1.0))
