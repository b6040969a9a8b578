"""Past max_events the oldest events go, but none that a named subscription is owed."""

from __future__ import annotations

import asyncio

import pytest
from tests.plugins.redis.routers import Seen, publish, router, until
from tests.plugins.redis_stores import redis_store
from tests.plugins.store_bench import FakeProgress, make_event
from tests.servers import Server

from squall.core.event import Priority
from squall.core.store import AttemptRow, Cursor, DurableSpec, Query
from squall.plugins.redis.store import RedisStore


async def filled(url: str, number: int, max_events: int) -> RedisStore:
    store = redis_store(url, max_events=max_events)
    await store.open(lambda events: None)
    for begin in range(0, number, 500):
        events = [make_event(index, priority=Priority(index % 4)) for index in range(begin, begin + 500)]
        await (store.append(events) or asyncio.sleep(0))
    return store


async def first_kept(store: RedisStore) -> int:
    return min(event.seq for event in (await store.read(Query(limit=1000))).events)


async def test_the_oldest_go_and_the_newest_stay(redis_server: Server) -> None:
    store = await filled(redis_server.url, 5000, max_events=1000)
    await store._retention.trim()
    assert 3000 < await first_kept(store) <= 4001
    assert (await store.counts()).events <= 2000
    assert (await store.read(Query(after_seq=4990))).events[-1].seq == 5000
    await store.close()


@pytest.mark.parametrize(
    ("cursors", "naks"),
    [
        ([Cursor(0, 4000), Cursor(1, 4000), Cursor(3, 4000)], []),  # of NORMAL, nothing is settled
        ([Cursor(level, 1999) for level in range(4)], []),
        ([Cursor(0, 4900, (2000,)), *(Cursor(level, 4900) for level in (1, 2, 3))], []),
        ([Cursor(level, 4900) for level in range(4)], [AttemptRow(2000, 1, 0, "")]),
    ],
)
async def test_what_a_named_subscription_is_owed_stays(
    cursors: list[Cursor], naks: list[AttemptRow], redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind its cursors, open below them, or waiting for a retry; who holds so much back is named."""
    before = await filled(redis_server.url, 5000, max_events=1_000_000)
    attached = await before.attach(
        DurableSpec("11111111-1111-4111-8111-111111111111", "billing", "shop", ">", "{}", start=2000)
    )
    progress = FakeProgress(attached.id, cursors=cursors, naks=naks)
    before.settle(progress)
    await until(lambda: bool(progress.told))
    await before.close()
    store = redis_store(redis_server.url, max_events=1000)
    await store.open(lambda events: None)
    await store._retention.trim()
    assert 1000 < await first_kept(store) <= 2000
    assert "'billing' is owed events from seq 2000 on" in caplog.text
    await store.detach(attached.id)
    await store._retention.trim()
    assert await first_kept(store) > 3000
    await store.close()


async def test_a_subscription_that_is_given_nothing_holds_nothing_back(redis_server: Server) -> None:
    """It is asked how far it is."""
    seen = Seen()
    async with router(redis_server.url, max_events=100) as one:
        await one.subscriber("audit").subscribe("never.>", seen, name="audit")
        for begin in range(0, 1000, 100):
            await asyncio.gather(*(publish(one, number) for number in range(begin, begin + 100)))
        async with asyncio.timeout(20):
            while (await one.store.counts()).events > 500:  # noqa: ASYNC110  it is the server's
                await asyncio.sleep(0.05)
