"""Several routers on one Redis: each is announced what all append, in seq order; a named subscription is one's turn."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.plugins.redis.cutting import Cutting
from tests.plugins.redis.routers import Seen, publish, router, until
from tests.plugins.redis_stores import redis_store
from tests.plugins.store_bench import FakeProgress, make_event
from tests.servers import Server

from squall import Event, hookimpl
from squall.core.delivery import Attempt, Observer
from squall.core.plugin import Context, Plugin
from squall.core.store import Cursor, DurableSpec


def spec(name: str = "billing") -> DurableSpec:
    return DurableSpec("11111111-1111-4111-8111-111111111111", name, "shop", ">", "{}")


async def test_every_router_is_announced_all_events_in_the_same_order(redis_server: Server) -> None:
    """Its own among them, while all of them write at once."""
    told: list[list[Event]] = [[], [], []]
    stores = [redis_store(redis_server.url) for _ in told]
    for store, mine in zip(stores, told, strict=True):
        await store.open(mine.extend)

    async def write(number: int) -> None:
        for index in range(100):
            waiting = stores[number].append([make_event(number * 1000 + index)])
            assert waiting is not None
            await waiting

    await asyncio.gather(*map(write, range(3)))
    await until(lambda: all(len(mine) == 300 for mine in told))
    for mine in told:
        assert [event.seq for event in mine] == list(range(1, 301))
        assert [event.payload for event in mine] == [event.payload for event in told[0]]
    for store in stores:
        await store.close()


async def test_subscriptions_without_a_name_are_given_what_others_publish(redis_server: Server) -> None:
    """With filters, and with more events than fit into their window, too."""
    plain, urgent = Seen(), Seen()
    async with router(redis_server.url) as one, router(redis_server.url) as two:
        await one.subscriber("a").subscribe("order.>", plain, in_flight=10)
        await one.subscriber("b").subscribe("order.>", urgent, filters=[lambda event: event.payload != b"3"])
        await publish(two, *range(50))
        await publish(one, 50)
        await plain.has(51)
        await urgent.has(50)
    assert plain.payloads == list(range(51))
    assert urgent.payloads == [number for number in range(51) if number != 3]


async def test_a_named_subscription_is_delivered_by_one_router_and_taken_over_when_it_stops(
    redis_server: Server,
) -> None:
    first, second = Seen(), Seen()
    async with router(redis_server.url, lease=1.0) as two:
        async with router(redis_server.url, lease=1.0) as one:
            await one.subscriber("billing").subscribe("order.>", first, name="billing")
            await publish(one, 0)
            await first.has(1)
            await two.subscriber("billing").subscribe("order.>", second, name="billing")
            await publish(two, *range(1, 20))
            await publish(one, *range(20, 30))
            await first.has(30)
        await publish(two, *range(30, 40))
        await second.has(10)
    assert first.payloads == list(range(30))
    assert second.payloads == list(range(30, 40))


async def test_a_router_that_falls_silent_loses_its_turn_and_settles_nothing_more(redis_server: Server) -> None:
    """Its lease runs out; what it settles late, not knowing, does not count, and is not answered."""
    silent, other = redis_store(redis_server.url, lease_s=1.0), redis_store(redis_server.url, lease_s=1.0)
    await silent.open(lambda events: None)
    await other.open(lambda events: None)
    attached = await silent.attach(spec())
    assert silent.capabilities.turns is not None
    assert other.capabilities.turns is not None
    _, turn = await silent.capabilities.turns.take(attached.id)
    silent._tasks[2].cancel()  # renews no more
    _, theirs = await other.capabilities.turns.take(attached.id)
    late = FakeProgress(attached.id, cursors=[Cursor(2, 77)])
    silent.settle(late)
    await until(turn.done)
    assert not theirs.done()
    assert (await other.attach(spec())).cursors == []
    await silent.close()
    assert late.told == []
    settled = FakeProgress(attached.id, cursors=[Cursor(2, 5)])
    other.settle(settled)
    await until(lambda: bool(settled.told))
    assert (await other.attach(spec())).cursors == [Cursor(2, 5)]
    await other.close()


async def test_a_subscription_that_another_router_ended_is_over_here_too(redis_server: Server) -> None:
    seen = Seen()
    async with router(redis_server.url, lease=1.0) as one, router(redis_server.url, lease=1.0) as two:
        named = await one.subscriber("billing").subscribe("order.>", seen, name="billing")
        await publish(one, 1)
        await seen.has(1)
        await two.subscriber("billing").subscribe("order.>", Seen(), name="billing")
        await two.subscriber("billing").unsubscribe(named)
        await until(lambda: named not in one.subscriptions.dispatchers)


async def test_what_is_left_of_a_turn_does_not_count_in_the_next_one(redis_server: Server) -> None:
    """The router lost its turn and has it again: what it let go then is not settled by who is no more."""
    store = redis_store(redis_server.url)
    await store.open(lambda events: None)
    attached = await store.attach(spec())
    assert store.capabilities.turns is not None
    _, turn = await store.capabilities.turns.take(attached.id)
    before, after = FakeProgress(attached.id, cursors=[Cursor(2, 5)]), FakeProgress(attached.id, cursors=[Cursor(2, 6)])
    store.settle(before)
    await until(lambda: bool(before.told))
    await store._leases.release_all()
    assert turn.done()
    _, again = await store.capabilities.turns.take(attached.id)
    before.cursors = [Cursor(2, 999)]
    store.settle(before)
    store.settle(after)
    await until(lambda: bool(after.told))
    assert (len(before.taken), len(before.told)) == (2, 1)
    assert not again.done()
    assert (await store.attach(spec())).cursors == [Cursor(2, 6)]
    await store.close()


async def test_a_router_that_leaves_a_subscription_lets_another_have_it_at_once(redis_server: Server) -> None:
    """Whether it was its turn or not; nothing of it is lost or settled by leaving."""
    first, second, third = Seen(), Seen(), Seen()
    async with router(redis_server.url, lease=3600.0) as one, router(redis_server.url, lease=3600.0) as two:
        mine = one.subscriber("billing")
        named = await mine.subscribe("order.>", first, name="billing")
        await publish(one, 1)
        await first.has(1)
        await two.subscriber("billing").subscribe("order.>", second, name="billing")
        await two.subscriber("billing").detach(named)
        await publish(one, 2)
        await first.has(2)
        await mine.detach(named)
        await publish(one, 3)
        await two.subscriber("billing").subscribe("order.>", third, name="billing")
        await third.has(1)
    assert (first.payloads, second.payloads, third.payloads) == ([1, 2], [], [3])


class Told(Plugin):
    """Notes which settlements are told as stored."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[int] = []

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return Notes(self.stored)


class Notes(Observer):
    def __init__(self, stored: list[int]) -> None:
        self._stored = stored

    def settled(self, subscription: object, attempts: Sequence[Attempt], ok_ns: int, answer: str) -> None:
        if answer == "ok":
            self._stored += [int(attempt.event.payload) for attempt in attempts]


async def test_what_was_not_settled_in_a_turn_is_not_told_as_settled_after_it(redis_server: Server) -> None:
    """The turn ends while the server cannot be reached. Its settlement may arrive before the next turn, and counts:
    then the event does not come again. Or it arrives too late, and of the times the event came one is told."""
    calls, go, told = Seen(), asyncio.Event(), Told()

    async def handler(event: Event) -> None:
        await calls(event)
        await go.wait()

    async with Cutting(redis_server.url) as way, router(way.url, told, lease=1.0, timeout=0.3) as one:
        await one.subscriber("billing").subscribe("order.>", handler, name="billing")
        await publish(one, 1)
        await calls.has(1)
        way.refuse = True
        way.cut()
        go.set()
        (first,) = one.subscriptions.dispatchers.values()
        await until(lambda: first.closed)
        way.refuse = False
        await until(lambda: one.store._refusal is None)  # type: ignore[attr-defined]
        await publish(one, 2)
        await until(lambda: 2 in told.stored)
    assert told.stored.count(1) <= 1
