"""Stored events that cannot be decoded: into the dead letters with their bytes, and the subscription goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import redis
from tests.plugins import redis_stores, sqlite_stores
from tests.plugins.redis.routers import until
from tests.servers import Server

from squall import DeadLetter, Event, EventRouter, Plugin, Priority, Query, StoreFileError
from squall.core.quarantine import Undecodable
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.redis import RedisPlugin
from squall.plugins.redis.keys import Keys
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin

Damage = Callable[[int], bytes]
"""Makes the event of that seq undecodable while no router runs; returns the bytes that are then to be found."""

SQLITE = {
    "no JSON": "metadata = '{broken'",
    "no text": "metadata = CAST(x'7b80' AS TEXT)",
    "no source": "source = CAST(x'ff80' AS TEXT)",
    "no id": "id = 17",
    "no bytes": "payload = 'broken'",
    "no extra": 'extra = \'{"due_ns": "soon"}\'',
}
REDIS: dict[str, dict[str, bytes]] = {
    "no array": {"e": b"\xc1 broken"},
    "too short": {"e": b"\x92\x01\x02"},
    "another's": {"hello": b"world"},
}


class Kept:
    """Where events are kept, and how to damage them there."""

    def __init__(self, store: Callable[[], Plugin], damage: Damage) -> None:
        self._store, self.damage = store, damage

    @asynccontextmanager
    async def router(self, *others: Plugin) -> AsyncIterator[EventRouter]:
        async with EventRouter([self._store(), MetricsPlugin(), *others]) as router:
            yield router


@pytest.fixture(params=[*(("sqlite", one) for one in SQLITE), *(("redis", one) for one in REDIS)], ids=" ".join)
def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    where, what = request.param
    if where == "sqlite":
        path = tmp_path / "squall.db"
        return Kept(
            lambda: SqlitePlugin(path=str(path), durability="process"),
            lambda seq: (sqlite_stores.damage(path, seq, SQLITE[what]), b"'broken'")[what == "no bytes"],
        )
    server: Server = request.getfixturevalue("redis_server")
    found = REDIS[what]
    return Kept(
        lambda: RedisPlugin(url=server.url, durability="disk"),
        lambda seq: (redis_stores.damage(server, seq, found, "squall"), b"hello world")["hello" in found],
    )


LATE_S = 1e7
"""Delays are drawn from zero on: so long that none is over while a test runs."""


class Taken:
    """A handler that remembers payloads, and raises while it is told to."""

    def __init__(self, *, fails: bool = False) -> None:
        self.payloads: list[bytes] = []
        self.fails = fails

    async def __call__(self, event: Event) -> None:
        self.payloads.append(event.payload)
        if self.fails:
            raise ValueError("not today")


async def letters(router: EventRouter, number: int) -> list[DeadLetter]:
    """The dead letters, as soon as there are so many."""
    async with asyncio.timeout(20):
        while len(found := await router.store.dead_letters()) < number:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    return found


async def test_a_subscription_goes_on_behind_it(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """All others are delivered; it is a dead letter with its bytes and the reason, counted, and logged once. After a
    restart nothing comes again. Who reads history is told, by file and row."""
    async with kept.router() as router:
        own = await router.subscriber("billing").subscribe("order.>", Taken(), name="billing")
        await router.subscriber("billing").detach(own)
        for number in range(6):
            await router.publisher("shop").publish("order.created", b"%d" % number)
    raw = [kept.damage(3), kept.damage(4)]
    caplog.clear()
    async with kept.router() as router:
        taken = Taken()
        own = await router.subscriber("billing").subscribe("order.>", taken, name="billing")
        found = await letters(router, 2)
        await until(lambda: len(taken.payloads) >= 4)
        assert taken.payloads == [b"0", b"1", b"4", b"5"]
        assert [(one.event.seq, one.event.payload) for one in found] == [(3, raw[0]), (4, raw[1])]
        assert {(one.reason, one.attempts, one.subscription, one.error_type) for one in found} == {
            ("undecodable", 0, "billing", "Undecodable")
        }
        assert all(str(one.event.seq) in one.error for one in found)
        assert router.get_metrics().dead_lettered == 2
        assert router.plugin(MetricsPlugin).snapshot().subscriptions[own].dropped == {"undecodable": 2}
        told = [
            one for one in caplog.records if "cannot be decoded" in one.getMessage() or "goes on" in one.getMessage()
        ]
        assert [one.levelno for one in told] == [logging.ERROR]
        assert await router.backlog(own) == 0
        with pytest.raises(Undecodable, match=r"\b3\b") as raised:
            [one async for one in router.replay()]
        assert isinstance(raised.value, StoreFileError)
    async with kept.router() as router:
        again = Taken()
        await router.subscriber("billing").subscribe("order.>", again, name="billing")
        await router.publisher("shop").publish("order.created", b"6")
        await until(lambda: again.payloads)
        assert again.payloads == [b"6"]
        assert len(await router.store.dead_letters()) == 2


async def test_one_that_failed_before_is_not_tried_again(kept: Kept) -> None:
    """With the attempts that it had; what is owed beside it is."""
    async with kept.router(RetryPlugin(attempts=3, base=LATE_S, cap=LATE_S)) as router:
        first = Taken(fails=True)
        await router.subscriber("billing").subscribe("order.>", first, name="billing")
        for number in range(3):
            await router.publisher("shop").publish("order.created", b"%d" % number)
        await until(lambda: len(first.payloads) == 3)
    raw = kept.damage(2)
    async with kept.router(RetryPlugin(attempts=3, base=LATE_S, cap=LATE_S)) as router:
        await router.subscriber("billing").subscribe("order.>", Taken(), name="billing")
        (letter,) = await letters(router, 1)
        assert (letter.event.seq, letter.event.payload, letter.attempts) == (2, raw, 1)
        assert router.get_metrics().pending == 2
    async with kept.router() as router:
        await router.subscriber("billing").subscribe("order.>", Taken(), name="billing")
        await until(lambda: router.get_metrics().pending == 2)
        assert router.get_metrics().dead_lettered == 0
        assert len(await router.store.dead_letters()) == 1


async def test_a_router_starts_though_an_id_cannot_be_read(tmp_path: Path) -> None:
    """One that its publisher gave, within the window in which ids are remembered; all others are."""
    path, ids = tmp_path / "squall.db", [f"00000000-0000-4000-8000-00000000000{number}" for number in range(3)]
    for damaged in (False, True):
        async with EventRouter([SqlitePlugin(path=str(path))]) as router:
            for number in (0, 2) if damaged else (0, 1, 2):
                publish = router.publisher("shop").publish_with_receipt
                receipt = await publish("order.created", b"%d" % number, event_id=ids[number])
                assert receipt.duplicate is damaged
        sqlite_stores.damage(path, 2)


@pytest.mark.parametrize("named", [True, False])
async def test_what_cannot_be_decoded_is_met_while_it_is_announced(named: bool, redis_server: Server) -> None:
    """Somebody else has written it: routers go on announcing, and who might be owed it has it as a dead letter."""
    keys, heard, other = Keys("squall"), Taken(), Taken()
    async with (
        EventRouter([RedisPlugin(url=redis_server.url, durability="disk")]) as one,
        EventRouter([RedisPlugin(url=redis_server.url, durability="disk")]) as two,
    ):
        await two.subscriber("billing").subscribe("order.>", heard, name="billing" if named else None)
        await two.subscriber("urgent").subscribe(
            "order.>", other, priority_min=Priority.HIGH, name="urgent" if named else None
        )
        await one.publisher("shop").publish("order.created", b"0")
        await until(lambda: heard.payloads == [b"0"])
        with redis.Redis(port=redis_server.port) as client, client.pipeline() as both:
            both.set(keys.head, 2).xadd(keys.streams[2], {"e": b"\xc1 broken"}, "2-0").execute()
        (letter,) = await letters(two, 1)
        assert (letter.event.seq, letter.event.payload, letter.reason) == (2, b"\xc1 broken", "undecodable")
        assert letter.subscription == "billing"
        await one.publisher("shop").publish("order.created", b"1")
        await until(lambda: heard.payloads == [b"0", b"1"])
        assert other.payloads == []
        with pytest.raises(Undecodable):
            await two.store.read(Query())


async def test_what_stands_beyond_the_numbering_moves_nobodys_head(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody has added an entry whose id is a time: no cursor may follow it there, past what is stored meanwhile."""
    keys, heard = Keys("squall"), Taken()
    async with (
        EventRouter([RedisPlugin(url=redis_server.url, durability="disk")]) as one,
        EventRouter([RedisPlugin(url=redis_server.url, durability="disk")]) as two,
    ):
        await two.subscriber("billing").subscribe("order.>", heard, name="billing")
        with redis.Redis(port=redis_server.port) as client:
            client.xadd(keys.streams[Priority.LOW], {"e": b"\xc1 broken"})
        await until(lambda: "which is no event" in caplog.text)
        for number in range(3):
            await one.publisher("shop").publish("order.created", b"%d" % number)
        await until(lambda: len(heard.payloads) == 3)
        assert heard.payloads == [b"0", b"1", b"2"]
        assert (two.store.next_seq, await two.store.dead_letters()) == (4, [])
