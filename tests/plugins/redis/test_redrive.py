"""Dead letters in a Redis that several routers share: given back once, to whoever delivers their subscription."""

from __future__ import annotations

import asyncio

import pytest
import redis
from tests.plugins.redis.cutting import Cutting
from tests.plugins.redis.routers import Seen, publish, router, until
from tests.plugins.redis_stores import redis_store
from tests.plugins.store_bench import FakeProgress, dead_letter, make_event
from tests.servers import Server

from squall import Event, EventRouter, Reject, StoreError
from squall.core.redrive import Redriven
from squall.core.store import Cursor, DurableSpec, Query, Redrive
from squall.plugins.redis import scripts
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.store import RedisStore

ID = "11111111-1111-4111-8111-111111111111"
FILTERS = '{"filters":[],"priority_filter":null,"priority_min":null}'


class Picky(Seen):
    """Rejects what it is given, until it is mended."""

    mended = False

    async def __call__(self, event: Event) -> None:
        await super().__call__(event)
        if not self.mended:
            raise Reject("no")


async def give_back(of: EventRouter) -> Redriven:
    """A redrive of all that waits, after its dry run."""
    return await of.redrive((await of.plan_redrive()).token, per_second=1_000_000)


async def buried(of: EventRouter, number: int) -> None:
    """Returns when so many dead letters wait."""
    async with asyncio.timeout(20):
        while (await of.store.counts()).dead_letters != number:  # noqa: ASYNC110  it is the server's
            await asyncio.sleep(0.01)


async def test_only_the_router_that_delivers_a_subscription_gives_its_letters_back(redis_server: Server) -> None:
    """One that stands by is to ask that one; whoever asks again finds nothing."""
    first, second = Picky(), Picky()
    async with router(redis_server.url) as one, router(redis_server.url) as two:
        await one.subscriber("billing").subscribe("order.>", first, name="billing")
        await publish(one, 1, 2)
        await buried(one, 2)
        await two.subscriber("billing").subscribe("order.>", second, name="billing")
        refused = await give_back(two)
        assert ([letter.event.seq for letter in refused.left], refused.letters) == ([1, 2], [])
        first.mended = True
        assert [letter.event.seq for letter in (await give_back(one)).letters] == [1, 2]
        await first.has(4)
        await buried(two, 0)
        assert [(letter.redrives, letter.redriven_ns > 0) for letter in await two.store.dead_letters()] == [
            (1, True)
        ] * 2
        assert (await give_back(two)).left == []
    assert (first.payloads, second.payloads) == ([1, 2, 1, 2], [])


async def test_what_nobody_delivers_waits_for_whoever_takes_it_up(redis_server: Server) -> None:
    """Given back by a router that does not know the subscription; and given up again it is the same letter."""
    first, second = Picky(), Picky()
    async with router(redis_server.url) as one, router(redis_server.url) as two:
        mine = one.subscriber("billing")
        named = await mine.subscribe("order.>", first, name="billing")
        await publish(one, 1)
        await buried(one, 1)
        assert (await give_back(two)).letters == []  # the other router delivers it, and has to be asked
        await mine.detach(named)
        assert [letter.event.seq for letter in (await give_back(two)).letters] == [1]
        assert (await two.store.counts()).dead_letters == 0
        await two.subscriber("billing").subscribe("order.>", second, name="billing")
        await second.has(1)
        await buried(one, 1)
        (letter,) = await one.store.dead_letters()
        assert (letter.redrives, letter.redriven_ns, letter.attempts) == (1, 0, 1)


async def opened(url: str, lease_s: float = 10, max_events: int = 1_000_000, timeout_s: float = 5.0) -> RedisStore:
    store = redis_store(url, lease_s=lease_s, max_events=max_events, timeout_s=timeout_s, recent_events=0)
    await store.open(lambda events: None)
    return store


async def one_letter(store: RedisStore, settled_to: int = 1) -> Redrive:
    """Give the first event up; returns what asks for it back."""
    attached = await store.attach(DurableSpec(ID, "billing", "shop", ">", FILTERS, start="earliest"))
    progress = FakeProgress(attached.id, cursors=[Cursor(level, settled_to) for level in range(4)])
    (event,) = (await store.read(Query(limit=1))).events
    progress.dead = [dead_letter(event, attached)]
    store.settle(progress)
    await until(lambda: bool(progress.told))
    (letter,) = await store.dead_letters()
    return Redrive(ID, event.seq, letter.redrives, True, 5, 7)


async def test_a_router_that_fell_silent_has_its_turn_no_more(redis_server: Server) -> None:
    """It would not learn what was given back while its lease had run out: it has to take the turn anew."""
    silent, other = await opened(redis_server.url, lease_s=3600), await opened(redis_server.url)
    await (silent.append([make_event(0)]) or asyncio.sleep(0))
    wanted = await one_letter(silent)
    assert silent.capabilities.turns is not None
    _, turn = await silent.capabilities.turns.take(ID)
    assert await other.redrive([wanted]) == []
    with redis.Redis(port=redis_server.port) as client:
        client.delete(Keys("test").lease(ID))  # as if it had run out
    assert await other.redrive([wanted]) == [wanted]
    late = FakeProgress(ID, cursors=[Cursor(2, 77)])
    silent.settle(late)
    await until(turn.done)
    attached, _ = await silent.capabilities.turns.take(ID)
    assert [(row.seq, row.attempts, row.due_ns) for row in attached.attempts] == [(1, 0, 5)]
    assert attached.cursors == [Cursor(level, 1) for level in range(4)]
    await silent.close()
    await other.close()


async def test_an_event_that_was_trimmed_is_delivered_from_its_letter(redis_server: Server) -> None:
    """And keeps no other event from being trimmed."""
    store = await opened(redis_server.url, max_events=100)
    for begin in range(0, 3000, 500):
        await (store.append([make_event(index) for index in range(begin, begin + 500)]) or asyncio.sleep(0))
    wanted = await one_letter(store, settled_to=3000)
    await store._retention.trim()
    (first,) = (await store.read(Query(limit=1))).events
    assert first.seq > 2000
    assert await store.redrive([wanted]) == [wanted]
    page = await store.read(Query(seqs=(1, 2, 3000)))
    assert [(event.seq, event.payload) for event in page.events] == [(1, b"0"), (3000, b"2999")]
    await (store.append([make_event(index) for index in range(3000, 3500)]) or asyncio.sleep(0))
    progress = FakeProgress(ID, cursors=[Cursor(level, 3500) for level in range(4)])
    store.settle(progress)
    await until(lambda: bool(progress.told))
    await store._retention.trim()
    assert (await store.read(Query(limit=1))).events[0].seq > first.seq
    await store.close()
    seen = Seen()
    async with router(redis_server.url, name="test") as one:
        await one.subscriber("shop").subscribe(">", seen, name="billing")
        await seen.has(1)
        assert seen.payloads == [0]
        assert await one.backlog(ID) == 0


async def test_a_redrive_whose_answer_is_lost_is_asked_for_again_and_counts_once(redis_server: Server) -> None:
    async with Cutting(redis_server.url, scripts.REDRIVE.sha.encode()) as way:
        store = await opened(way.url)
        await (store.append([make_event(0)]) or asyncio.sleep(0))
        wanted = await one_letter(store)
        assert await store.redrive([wanted._replace(seq=9)]) == []  # the server knows the script from now on
        way.swallow = True
        asking = asyncio.ensure_future(store.redrive([wanted]))
        await until(lambda: way.swallowed)
        way.swallow = False
        assert await asking == [wanted]
        (letter,) = await store.dead_letters()
        assert (letter.redrives, letter.redriven_ns) == (wanted.redrives + 1, 7)
        await store.close()


async def test_a_redrive_that_nobody_answers_is_told_as_unknown(redis_server: Server) -> None:
    """And one that surely was not done as such."""
    async with Cutting(redis_server.url, scripts.REDRIVE.sha.encode()) as way:
        store = await opened(way.url, timeout_s=0.5)
        await (store.append([make_event(0)]) or asyncio.sleep(0))
        wanted = await one_letter(store)
        way.swallow = True
        with pytest.raises(StoreError) as caught:
            await store.redrive([wanted])
        assert caught.value.outcome == "info"
        way.refuse = True
        way.cut()
        with pytest.raises(StoreError) as caught:
            await store.redrive([wanted])
        assert caught.value.outcome == "fail"
        way.refuse = way.swallow = False
        await store.close()
