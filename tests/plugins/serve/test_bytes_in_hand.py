"""What a connection's deliveries may weigh: a client that is slow with large events costs no more than was said."""

from __future__ import annotations

import asyncio

import pytest
from tests.plugins.serve.served import Served, until

from squall.core.event import MAX_PAYLOAD_BYTES
from squall.plugins.memory import MemoryPlugin
from squall.plugins.serve.connection import Connection

LIMIT = 1_000_000
LARGE = bytes(300_000)
IN_HAND = 4  # the fourth begins while the first three weigh less than the limit


def connection_of(served: Served) -> Connection:
    (found,) = served.server.hub.connections
    return found


async def publish(served: Served, n: int, payload: bytes = LARGE) -> None:
    publisher = served.router.publisher("shop")
    await asyncio.gather(*(publisher.publish(f"n{number}", payload) for number in range(n)))


@pytest.mark.parametrize("subscriptions", [1, 2])
async def test_no_more_is_given_than_the_connection_may_hold(subscriptions: int) -> None:
    """Over all its subscriptions; each settlement makes room, in order, until all are there."""
    async with Served(in_flight_bytes=LIMIT) as served, served.client(max_size=None) as client:
        subs = [await client.subscribe(in_flight=100) for _ in range(subscriptions)]
        connection = connection_of(served)
        await publish(served, 10)
        total, settled, most = 10 * subscriptions, 0, IN_HAND + subscriptions - 1
        given: list[tuple[int, int]] = []
        while settled < total:
            while len(given) < min(IN_HAND, total - settled):
                frame = await client.expect("deliveries")
                given += [(frame.deliveries.sub, one.delivery) for one in frame.deliveries.deliveries]
            await client.synced()
            assert len(given) <= most
            assert sum(len(handler.in_hand) for handler in connection.subscriptions.values()) <= most
            sub, delivery = given.pop(0)
            await client.settle(sub, ack=[delivery])
            settled += 1
        await until(lambda: served.pending() == 0)
        assert connection._held == 0
        assert {sub for sub, _ in given} <= set(subs)


async def test_one_event_passes_however_large_it_is() -> None:
    """The bound may be below it."""
    async with Served(in_flight_bytes=1024) as served, served.client(max_size=None) as client:
        sub = await client.subscribe()
        await publish(served, 2, bytes(MAX_PAYLOAD_BYTES))
        for _ in range(2):
            (got,) = await client.deliveries(1)
            await client.settle(sub, ack=[got.delivery])
        await until(lambda: served.pending() == 0)


async def test_what_is_not_taken_is_bounded_where_nothing_is_settled() -> None:
    """At most once: what waits to be sent is held, and the rest waits in the subscription."""
    async with (
        Served(MemoryPlugin(), in_flight_bytes=LIMIT) as served,
        served.client(max_size=None, max_queue=1) as client,
    ):
        await client.subscribe(at_most_once=True, credit=1_000_000, in_flight=100)
        connection = connection_of(served)
        client.socket.transport.pause_reading()
        for number in range(60):
            await publish(served, 1)
            assert connection._held <= LIMIT + len(LARGE), number
        await until(lambda: connection._held >= LIMIT)
        client.socket.transport.resume_reading()
        got = await client.deliveries(60)
        assert len({one.delivery for one in got}) == 60
        await client.synced()
        assert connection._held == 0


async def test_what_a_subscription_leaves_unsent_is_counted_no_more() -> None:
    """It will never be sent: the others have its room."""
    async with Served() as served, served.client(max_size=None, max_queue=1) as client:
        sub = await client.subscribe(at_most_once=True, in_flight=100)
        connection = connection_of(served)
        client.socket.transport.pause_reading()
        for _ in range(60):
            await publish(served, 1)
        assert connection._held > 30 * len(LARGE)
        assert connection._ready
        await client.send(leave={"sub": sub})
        await until(lambda: not connection.subscriptions)
        client.socket.transport.resume_reading()
        while (await client.next()).WhichOneof("frame") != "left":
            pass
        await client.synced()
        assert connection._held == 0
