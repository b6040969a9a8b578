"""Lost connections and restarted servers: nothing is stored twice, nobody is told what is not known, and whoever
consumed goes on consuming."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.plugins.redis.cutting import Cutting
from tests.plugins.redis.routers import Seen, publish, router, until
from tests.plugins.redis_stores import redis_store
from tests.plugins.store_bench import make_event
from tests.servers import Server

from squall import Event, StoreError
from squall.core.errors import Outcome
from squall.core.query import every_page
from squall.core.store import Query
from squall.plugins.redis.scripts import COMMIT

EVAL = COMMIT.sha.encode()


async def stored(url: str, name: str = "test") -> list[bytes]:
    """The payloads that are in the server, in seq order."""
    store = redis_store(url, name, durability="memory")
    head = await store.open(lambda events: None)
    try:
        return [event.payload async for event in every_page(store, Query(before_seq=head + 1))]
    finally:
        await store.close()


async def test_an_append_whose_answer_was_lost_is_acknowledged_and_stored_once(redis_server: Server) -> None:
    """It is sent again, and the server knows it."""
    announced: list[Event] = []
    async with Cutting(redis_server.url, marks=EVAL) as way:
        store = redis_store(way.url)
        await store.open(announced.extend)
        await (store.append([make_event(0)]) or asyncio.sleep(0))
        way.swallow = True
        waiting = asyncio.ensure_future(store.append([make_event(1), make_event(2)]) or asyncio.sleep(0))
        await until(lambda: way.swallowed)
        way.swallow = False
        await waiting
        await (store.append([make_event(3)]) or asyncio.sleep(0))
        await store.close()
    assert [event.seq for event in announced] == [1, 2, 3, 4]
    assert await stored(redis_server.url) == [b"0", b"1", b"2", b"3"]


@pytest.mark.parametrize(("sent", "outcome"), [(True, "info"), (False, "fail")])
async def test_an_append_that_stays_unanswered_is_told_for_what_it_is(
    sent: bool, outcome: Outcome, redis_server: Server
) -> None:
    """Unknown once it was sent; not stored, if it never was. What was stored after all is announced later."""
    announced: list[Event] = []
    async with Cutting(redis_server.url, marks=EVAL) as way:
        store = redis_store(way.url, timeout_s=1.5)
        await store.open(announced.extend)
        await (store.append([make_event(0)]) or asyncio.sleep(0))
        if sent:
            way.swallow = True
        else:
            way.refuse = True
            way.cut()
            await asyncio.sleep(0.05)
        with pytest.raises(StoreError) as told:
            await (store.append([make_event(1)]) or asyncio.sleep(0))
        assert told.value.outcome == outcome
        with pytest.raises(StoreError) as refused:
            await (store.append([make_event(2)]) or asyncio.sleep(0))
        assert refused.value.outcome == "fail"
        way.swallow = way.refuse = False
        await until(lambda: len(announced) == (2 if sent else 1))
        await until(lambda: store._refusal is None)
        await (store.append([make_event(3)]) or asyncio.sleep(0))
        await store.close()
    payloads = [b"0", b"1", b"3"] if sent else [b"0", b"3"]
    assert [event.payload for event in announced] == payloads
    assert await stored(redis_server.url) == payloads


class Acknowledged:
    """Publishes numbers until it is told to stop, and remembers what became of each."""

    def __init__(self) -> None:
        self.ok: list[int] = []
        self.outcomes: set[str] = set()
        self.going = True

    async def run(self, of: object, begin: int) -> None:
        number = begin
        while self.going:
            try:
                await publish(of, number)  # type: ignore[arg-type]
                self.ok.append(number)
            except StoreError as error:
                self.outcomes.add(error.outcome)
                await asyncio.sleep(0.01)
            number += 1


async def test_a_server_that_is_killed_loses_nothing_and_its_workers_consume_again(redis_server: Server) -> None:
    """Twice, under load, with a worker of this router and one of another: all that was acknowledged is handled."""
    seen, elsewhere, load = Seen(), Seen(), Acknowledged()
    async with router(redis_server.url) as one, router(redis_server.url) as two:
        await one.subscriber("billing").subscribe("order.>", seen, name="billing")
        await two.subscriber("audit").subscribe("order.>", elsewhere)
        loading = asyncio.create_task(load.run(one, 0))
        for _ in range(2):
            had = len(seen.payloads)
            await seen.has(had + 20)
            await asyncio.to_thread(redis_server.kill)
            await asyncio.sleep(0.3)
            await asyncio.to_thread(redis_server.start)
        had = len(seen.payloads)
        await seen.has(had + 20)
        load.going = False
        await loading
        await until(lambda: set(load.ok) <= set(seen.payloads))
        await until(lambda: set(load.ok) <= set(elsewhere.payloads))
        assert one.durability == "disk"
    assert {int(payload) for payload in await stored(redis_server.url, "squall")} >= set(load.ok)
    first_times = list(dict.fromkeys(seen.payloads))
    assert first_times == sorted(first_times)


async def test_a_server_that_kept_nothing_goes_on_being_used(
    redis_without_aof: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Its receipts never claimed more than memory; numbering goes on, workers consume, subscriptions exist again, and
    whose turn they were."""
    seen, again = Seen(), Seen()
    async with router(redis_without_aof.url, durability="memory") as one:
        assert one.durability == "memory"
        await one.subscriber("billing").subscribe("order.>", seen, name="billing")
        await publish(one, *range(5))
        await seen.has(5)
        await asyncio.to_thread(redis_without_aof.kill)
        await asyncio.to_thread(redis_without_aof.start)
        for number in range(5, 10):
            with contextlib.suppress(StoreError):
                await publish(one, number)
        await publish(one, 10)
        await until(lambda: 10 in seen.payloads)
        assert one.store.next_seq > 6
        await until(lambda: one.get_metrics().pending == 0)
    assert "another router" not in caplog.text
    assert "came back without its latest data" in caplog.text
    async with router(redis_without_aof.url, durability="memory") as later:
        await later.subscriber("billing").subscribe("order.>", again, name="billing")
        await publish(later, 11)
        await again.has(1)
    assert again.payloads == [11]


async def test_a_thousand_cancelled_reads_and_appends_mix_up_no_answers(redis_server: Server) -> None:
    """The bug of a cancelled command whose answer is the next one's."""
    store = redis_store(redis_server.url)
    await store.open(lambda events: None)
    for index in range(50):
        await (store.append([make_event(index)]) or asyncio.sleep(0))
    for number in range(1000):
        reading = asyncio.ensure_future(store.read(Query(after_seq=number % 49, limit=1)))
        for _ in range(number % 7):
            await asyncio.sleep(0)
        reading.cancel()
        await asyncio.wait([reading])
        if number % 50 == 0:
            page = await store.read(Query(after_seq=number % 49, limit=1))
            assert [event.seq for event in page.events] == [number % 49 + 1]
    await store.close()
