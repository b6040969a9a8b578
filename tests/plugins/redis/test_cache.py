"""What routers remember of the server: the latest events, and who subscribes. It is never wrong, and nothing hangs on
it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.plugins.redis.cutting import Cutting
from tests.plugins.redis.operator import Operator
from tests.plugins.redis.routers import Seen, publish, router, until
from tests.plugins.redis.test_reconnection import Acknowledged
from tests.plugins.redis_stores import redis_store
from tests.plugins.store_bench import make_event
from tests.servers import Server

from squall import EventRouter, NotRunning, Query, StoreError
from squall.core.store import DurableSpec
from squall.plugins.redis import RedisPlugin, RedisUrl
from squall.plugins.redis.server import Link
from squall.plugins.redis.server import Server as Place
from squall.plugins.redis.store import RedisStore

SPEC = DurableSpec("11111111-1111-4111-8111-111111111111", "billing", "shop", "order.>", "{}")


def store_of(of: EventRouter) -> RedisStore:
    assert isinstance(of.store, RedisStore)
    return of.store


def told(of: EventRouter) -> bool:
    """Whether the server tells this router of changes."""
    directory = store_of(of).directory
    return directory._told_by == directory._tail.opened and directory._tail.is_connected


async def names(of: EventRouter) -> list[str]:
    return [one.name for one in await of.plugin(RedisPlugin).subscriptions()]


async def become(of: EventRouter, expected: list[str]) -> None:
    """Returns when this router knows of these subscriptions."""
    async with asyncio.timeout(20):
        while await names(of) != expected:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def replayed(of: EventRouter) -> list[tuple[int, bytes]]:
    return [(event.seq, event.payload) async for event in of.replay(Query())]


async def test_who_lags_behind_near_the_head_reads_from_memory(redis_server: Server) -> None:
    """Also what another router published; all is given in its order. Without `recent_events` it is the server's."""
    for recent_events in (8192, 0):
        slow, held = Seen(), asyncio.Event()

        async def handle(event: object, slow: Seen = slow, held: asyncio.Event = held) -> None:
            await held.wait()
            await slow(event)  # type: ignore[arg-type]

        name = f"cache-{recent_events}"
        async with (
            router(redis_server.url, name=name) as one,
            router(redis_server.url, name=name, recent_events=recent_events) as two,
        ):
            await two.subscriber("slow").subscribe("order.>", handle, in_flight=10)
            await asyncio.gather(*(publish(one, number) for number in range(300)))
            held.set()
            await slow.has(300)
            reader = store_of(two).reader
            assert sorted(slow.payloads) == list(range(300))
            assert [event.payload for event in (await two.store.read(Query(limit=300))).events] == [
                b"%d" % number for number in slow.payloads
            ]
            assert (reader.hits > 0, reader.misses > 0) == (bool(recent_events), not recent_events)
            (text,) = two.ask("squall_metrics_text")[:1]
            assert f'squall_redis_cache_hits_total{{of="events"}} {reader.hits}\n' in text


async def test_what_is_remembered_is_bounded(redis_server: Server) -> None:
    """By recent_events, and by max_events: what retention removes is not read from memory for long."""
    for recent_events, max_events in ((50, 1000), (1000, 50)):
        store = redis_store(redis_server.url, f"{max_events}", max_events=max_events, recent_events=recent_events)
        await store.open(lambda events: None)
        for number in range(100):
            await (store.append([make_event(number)]) or asyncio.sleep(0))
        assert store._announcer.recent.first == 51
        (first,) = (await store.read(Query(after_seq=0, limit=1))).events
        assert 1 <= first.seq <= (51 if max_events < 100 else 1)  # retention comes when it comes
        assert (store.reader.hits, store.reader.misses) == (0, 1)
        await store.close()


async def test_subscriptions_of_all_routers_are_known_to_each(redis_server: Server) -> None:
    """Read once, then remembered, until any router makes one, changes it, or ends it."""
    async with router(redis_server.url) as one, router(redis_server.url) as two:
        await until(lambda: told(two))
        named = await one.subscriber("billing").subscribe("order.*", Seen(), name="billing")
        await become(two, ["billing"])
        plugin, directory = two.plugin(RedisPlugin), store_of(two).directory
        (found,) = await plugin.subscriptions()
        assert (found.id, found.subscriber_id, found.pattern, found.from_seq) == (named, "billing", "order.*", 1)
        hits, misses = directory.hits, directory.misses
        for _ in range(10):
            assert await plugin.routes("order.created") == [found]
            assert await plugin.routes("invoice.sent") == []
        assert (directory.hits, directory.misses) == (hits + 20, misses)
        await one.subscriber("audit").subscribe(">", Seen(), name="audit")
        await become(two, ["audit", "billing"])
        await one.subscriber("billing").detach(named)
        await one.subscriber("billing").subscribe("invoice.>", Seen(), name="billing", update=True)
        async with asyncio.timeout(20):
            while [each.name for each in await plugin.routes("invoice.sent")] != ["audit", "billing"]:  # noqa: ASYNC110
                await asyncio.sleep(0.005)
        await one.subscriber("billing").unsubscribe(named)
        await become(two, ["audit"])
        assert await names(one) == ["audit"]
    with pytest.raises(NotRunning):
        await RedisPlugin().subscriptions()


async def test_a_change_that_nobody_was_told_of_is_seen(redis_server: Server) -> None:
    """The connection that tells of changes was lost: nothing old is answered, neither meanwhile nor afterwards."""
    async with Cutting(redis_server.url) as way, router(redis_server.url) as one, router(way.url) as two:
        await one.subscriber("billing").subscribe("order.>", Seen(), name="billing")
        await become(two, ["billing"])
        await until(lambda: told(two))
        way.refuse = True
        way.cut()
        await until(lambda: not told(two))
        await one.subscriber("audit").subscribe(">", Seen(), name="audit")
        with pytest.raises(StoreError):
            await names(two)
        way.refuse = False
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(StoreError):
                    assert await names(two) == ["audit", "billing"]
                    break


async def test_being_told_of_a_change_ends_no_connection(redis_server: Server) -> None:
    """Also while nobody waits for an answer there; what the server has ended is seen all the same."""
    link, told = Link(Place(RedisUrl(redis_server.url), 5.0)), list[None]()
    operator = Operator(redis_server.url)
    link.on_invalidated = lambda: told.append(None)
    own = await link.call("CLIENT", "ID")
    await link.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "names")
    for number in (1, 2, 3):
        await operator.say(f"SET names {number}")
        async with asyncio.timeout(20):
            while len(told) < number:
                assert await link.is_open()
                await asyncio.sleep(0.001)
    assert await link.call("CLIENT", "ID") == own
    await operator.say(f"CLIENT KILL ID {own}")
    async with asyncio.timeout(20):
        while await link.is_open():  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    await link.close()
    await operator.close()


async def test_without_leave_to_be_told_of_changes_everything_is_read_anew(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator(redis_server.url)
    await operator.say("ACL SETUSER app on >secret ~* &* +@all -client|tracking")
    async with router(redis_server.url) as one, router(redis_server.url.replace("//", "//app:secret@")) as two:
        await until(lambda: "the server tells of no changes" in caplog.text)
        await one.subscriber("billing").subscribe("order.>", Seen(), name="billing")
        assert await names(two) == ["billing"]
        await one.subscriber("audit").subscribe(">", Seen(), name="audit")
        assert await names(two) == ["audit", "billing"]
        assert store_of(two).directory.hits == 0
    await operator.close()


async def test_nothing_hangs_on_it_when_the_server_goes_away_under_load(redis_server: Server) -> None:
    """Killed twice while consumers lag behind and others ask: what was acknowledged is handled, in its order, whoever
    asks is told what is true or that it cannot be known, and what is remembered is what the server has."""
    near, far, load = Seen(), Seen(), Acknowledged()
    wrong: list[object] = []
    async with router(redis_server.url) as one, router(redis_server.url) as two:
        await one.subscriber("billing").subscribe("order.>", near, name="billing", in_flight=5)
        await two.subscriber("audit").subscribe("order.>", far, in_flight=5)

        async def ask() -> None:
            while load.going:
                with contextlib.suppress(StoreError):
                    if (found := await names(two)) != ["billing"]:
                        wrong.append(found)
                    page = await two.store.read(Query(newest_first=True, limit=20))
                    seqs = [event.seq for event in page.events]
                    if seqs != sorted(seqs, reverse=True):
                        wrong.append(seqs)
                await asyncio.sleep(0.001)

        loading = [asyncio.create_task(load.run(one, begin * 1_000_000)) for begin in range(5)]
        asking = asyncio.create_task(ask())
        for _ in range(2):
            await far.has(len(far.payloads) + 50)
            await asyncio.to_thread(redis_server.kill)
            await until(lambda: not told(two))
            await asyncio.to_thread(redis_server.start)
        await far.has(len(far.payloads) + 50)
        load.going = False
        await asyncio.gather(*loading, asking)
        await until(lambda: set(load.ok) <= set(near.payloads) & set(far.payloads))
        assert wrong == []
        remembered = [await replayed(each) for each in (one, two)]
        async with router(redis_server.url, recent_events=0) as anew:
            stored = await replayed(anew)
        assert remembered == [stored, stored]
        in_order = [int(payload) for _, payload in stored]
        assert list(dict.fromkeys(far.payloads)) == in_order
        assert list(dict.fromkeys(near.payloads)) == in_order


async def test_what_the_server_lost_is_not_remembered(redis_without_aof: Server) -> None:
    """A server that keeps nothing comes back empty: every router says so."""
    async with router(redis_without_aof.url, durability="memory") as one:
        await publish(one, *range(5))
        assert len(await replayed(one)) == 5
        await asyncio.to_thread(redis_without_aof.kill)
        await asyncio.to_thread(redis_without_aof.start)
        async with asyncio.timeout(20):
            while True:
                with contextlib.suppress(StoreError):
                    await publish(one, 10)
                    break
        assert [payload for _, payload in await replayed(one)] == [b"10"]
