"""A time to live over the wire: what a client is told of it, and the word that it was over before a handler began."""

from __future__ import annotations

import asyncio

from tests.core.world import Drops
from tests.plugins.serve.served import Served, closing, types, until

from squall import Context, Event, Plugin, Subscription, VirtualClock, around, hookimpl
from squall.core.errors import Expired
from squall.core.middleware import Middleware, Next
from squall.plugins.memory import MemoryPlugin
from squall.protos import wire_pb2 as pb


async def test_a_delivery_says_what_is_left_of_its_time() -> None:
    """From when it is sent, not from when it was published; nothing where there is no end."""
    clock = VirtualClock()
    async with Served(clock=clock) as served, served.client() as client:
        sub = await client.subscribe(credit=0)
        publisher = served.router.publisher("shop")
        await publisher.publish("short", b"", ttl_s=5)
        await publisher.publish("endless", b"")
        await clock.advance(2)
        await client.send(credit=pb.Credit(sub=sub, more=2))
        short, endless = await client.deliveries(2)
        assert 2900 < short.ttl_ms <= 3000
        assert short.event.expires_ns == short.event.time_ns + 5 * 10**9
        assert not endless.HasField("ttl_ms")
        assert endless.event.expires_ns == 0
        await client.settle(sub, ack=[short.delivery, endless.delivery])


async def test_what_a_client_lets_expire_is_settled_as_expired() -> None:
    """It is no attempt and no dead letter, it is counted and told, and the next of its key comes."""
    drops = Drops()
    async with Served(MemoryPlugin(), drops) as served, served.client() as client:
        sub = await client.subscribe(name="billing")
        publisher = served.router.publisher("shop")
        await publisher.publish("short", b"", key="k", ttl_s=60)
        await publisher.publish("long", b"", key="k", ttl_s=60)
        (short,) = await client.deliveries(1)
        await client.settle(sub, expired=[short.delivery])
        (long,) = await client.deliveries(1)
        assert long.event.type == "long"
        await client.settle(sub, ack=[long.delivery])
        await client.send(ping=pb.Ping(number=1, stored=True))
        assert (await client.expect("pong")).pong.number == 1
        metrics = served.router.get_metrics()
        assert (metrics.expired, metrics.failed, metrics.pending) == (1, 0, 0)
        assert drops.reasons == [("short", "expired")]
        assert await served.dead() == []


async def test_what_expires_at_a_client_takes_its_credit_as_all_deliveries_do() -> None:
    """It is the client that gives it again, and then as much comes as it gave."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe(credit=1)
        publisher = served.router.publisher("shop")
        for kind in "abc":
            await publisher.publish(kind, b"", ttl_s=60)
        (first,) = await client.deliveries(1)
        await client.settle(sub, expired=[first.delivery])
        await until(lambda: served.router.get_metrics().expired == 1)
        await client.synced()  # and nothing came before the pong
        await client.send(credit=pb.Credit(sub=sub, more=1))
        (second,) = await client.deliveries(1)
        await client.settle(sub, expired=[second.delivery])
        await client.send(credit=pb.Credit(sub=sub, more=1))
        assert types(await client.deliveries(1)) == ["c"]
        await client.synced()


class Lingers(Plugin):
    """A layer around the handler that is not done at once with what expired."""

    def __init__(self) -> None:
        super().__init__()
        self.reached, self.goes_on = asyncio.Event(), asyncio.Event()

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        async def linger(event: Event, following: Next) -> None:
            try:
                await following(event)
            except Expired:
                self.reached.set()
                await self.goes_on.wait()
                raise

        return around(linger, stage="observe")


async def test_credit_that_comes_before_an_expiry_is_done_with_is_not_forgotten() -> None:
    """What waits for it is delivered when it is."""
    lingers = Lingers()
    async with Served(MemoryPlugin(), lingers) as served, served.client() as client:
        sub = await client.subscribe(credit=1)
        publisher = served.router.publisher("shop")
        await publisher.publish("a", b"", ttl_s=60)
        await publisher.publish("b", b"")
        (first,) = await client.deliveries(1)
        await client.settle(sub, expired=[first.delivery])
        await lingers.reached.wait()
        await client.send(credit=pb.Credit(sub=sub, more=1))
        await client.synced()
        lingers.goes_on.set()
        assert types(await client.deliveries(1)) == ["b"]


async def test_the_first_word_about_a_delivery_counts_when_it_is_that_it_expired() -> None:
    """A second one is told as one that comes too late."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe()
        await served.router.publisher("shop").publish("a", b"", ttl_s=60)
        (one,) = await client.deliveries(1)
        await client.settle(sub, expired=[one.delivery])
        await client.settle(sub, expired=[one.delivery])
        assert (await client.expect("failure")).failure.error == "LeaseLost"
        assert served.router.get_metrics().expired == 1


async def test_what_has_no_time_to_live_cannot_expire() -> None:
    """Who says so breaks the protocol; the event is owed as before."""
    async with Served() as served:
        async with served.client() as client:
            sub = await client.subscribe(name="billing")
            await served.router.publisher("shop").publish("a", b"")
            (one,) = await client.deliveries(1)
            await client.settle(sub, expired=[one.delivery])
            failure = (await client.expect("failure")).failure
            assert failure.fatal
            assert "no time to live" in failure.message
            assert await closing(client) == 1002
        async with served.client() as client:
            sub = await client.subscribe(name="billing", take_over=True)
            (one,) = await client.deliveries(1)
            await client.settle(sub, ack=[one.delivery])
            await until(lambda: served.pending() == 0)
