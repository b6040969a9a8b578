"""What a remote subscription does between its server and its handler: credit, leases, pauses, and its end elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest
from tests.core.world import Heard, Held, Log
from tests.plugins.remote.proxied import network
from tests.plugins.serve.served import Served, until

import squall
from squall import Priority, SubscriptionError, VirtualClock
from squall.plugins.remote.client import RemoteRouter


async def publish(served: Served, n: int, kind: str = "a") -> None:
    publisher = served.router.publisher("shop")
    await asyncio.gather(*(publisher.publish(kind, b"") for _ in range(n)))


@contextlib.asynccontextmanager
async def connected(served: Served, clock: VirtualClock) -> AsyncIterator[RemoteRouter]:
    """A client on the server's virtual clock."""
    remote = squall.connect(served.server.url, clock=clock)
    for change in (remote.start, remote.stop):
        changing = asyncio.ensure_future(change())
        while not changing.done():
            await clock.advance(0.01)
            await asyncio.sleep(0.001)
        await changing
        if change == remote.start:
            yield remote


async def test_a_lease_is_renewed_while_a_handler_runs_and_for_what_waits_behind_it() -> None:
    """A handler may take much longer than the lease: it is called once."""
    held = Held()
    async with Served() as served, squall.connect(served.server.url, lease_s=0.3) as remote:
        await remote.subscriber("billing").subscribe("*", held)
        await publish(served, 3)
        await until(lambda: len(held.calls) == 1)
        await asyncio.sleep(1.0)
        for calls in (2, 3):
            held.running[0].finish()
            await until(lambda calls=calls: len(held.calls) == calls)  # type: ignore[misc]
        held.finish_all()
        await until(lambda: served.pending() == 0)
        assert held.seqs == [1, 2, 3]
        assert served.router.get_metrics().failed == 0


async def test_a_lease_that_runs_out_while_the_handler_runs_calls_it_no_second_time() -> None:
    """The server delivers again; what the handler comes to counts for that delivery."""
    clock, held = VirtualClock(), Held()
    async with Served(clock=clock) as served, squall.connect(served.server.url) as remote:
        await remote.subscriber("billing").subscribe("*", held, concurrency=2)
        await publish(served, 1)
        await until(lambda: len(held.calls) == 1)
        await clock.advance(31)
        assert served.router.get_metrics().delayed == 1
        await clock.advance(2)
        (handler,) = next(iter(served.server.hub.connections)).subscriptions.values()
        assert len(handler.in_hand) == 1
        await asyncio.sleep(0.1)
        held.finish_all()
        await until(lambda: not handler.in_hand)
        await clock.advance(1)
        assert served.pending() == 0
        assert len(held.calls) == 1


async def test_a_result_after_the_lease_is_dropped_and_told() -> None:
    """The event is delivered again, when the server's retry says so."""
    clock, held, log = VirtualClock(), Held(), Log()
    async with Served(clock=clock) as served, squall.connect(served.server.url, logger=log.logger) as remote:
        await remote.subscriber("billing").subscribe("*", held)
        await publish(served, 1)
        await until(lambda: len(held.calls) == 1)
        await clock.advance(31)
        held.finish_all()
        await until(lambda: "LeaseLost" in log.text)
        assert served.pending() == 1
        await clock.advance(2)
        await until(lambda: len(held.calls) == 2)
        held.finish_all()
        (handler,) = next(iter(served.server.hub.connections)).subscriptions.values()
        await until(lambda: not handler.in_hand)
        await clock.advance(1)
        assert served.pending() == 0


@pytest.mark.parametrize("options", [{"in_flight": 7}, {"in_flight": 7, "concurrency": 3}, {}])
async def test_no_more_is_in_hand_than_asked_for(options: dict[str, int]) -> None:
    """The rest waits at the server, where nothing runs out."""
    held = Held()
    async with Served() as served, squall.connect(served.server.url) as remote:
        await remote.subscriber("billing").subscribe("*", held, **options)  # type: ignore[arg-type]
        await publish(served, 500)
        (handler,) = next(iter(served.server.hub.connections)).subscriptions.values()
        most = options.get("in_flight", 100)
        await until(lambda: len(handler.in_hand) == most)
        await asyncio.sleep(0.05)
        assert len(handler.in_hand) == most
        assert len(held.calls) == options.get("concurrency", 1)
        held.finish_all()
        while served.pending():
            held.finish_all()
            await asyncio.sleep(0)
        assert sorted(held.seqs) == list(range(1, 501))


async def test_more_in_flight_than_the_server_allows_is_the_servers_bound() -> None:
    """A default is no reason to be refused."""
    heard = Heard()
    async with Served(in_flight=5) as served, squall.connect(served.server.url) as remote:
        await remote.subscriber("billing").subscribe("*", heard, concurrency=50)
        await publish(served, 200)
        await until(lambda: len(heard.events) == 200 and served.pending() == 0)


async def test_a_pause_takes_no_more_from_the_server_than_was_given() -> None:
    """What is in hand keeps its lease over the pause."""
    heard, clock = Heard(), VirtualClock()
    async with Served(clock=clock) as served, connected(served, clock) as remote:
        subscriber = remote.subscriber("billing")
        own = await subscriber.subscribe("*", heard, in_flight=10)
        await subscriber.pause_subscription(own)
        await publish(served, 100)
        (handler,) = next(iter(served.server.hub.connections)).subscriptions.values()
        await until(lambda: len(handler.in_hand) == 10)
        for _ in range(12):  # twice the lease
            await clock.advance(5)
            assert await remote.flush()
        assert heard.events == []
        assert served.router.get_metrics().failed == 0
        assert len(handler.in_hand) == 10
        await subscriber.resume_subscription(own)
        await until(lambda: heard.seqs == list(range(1, 101)))


async def test_at_most_once_gives_credit_too() -> None:
    """Without settlements there is still no more in hand than the client takes."""
    heard = Heard()
    async with Served() as served, squall.connect(served.server.url) as remote:
        await remote.subscriber("billing").subscribe("*", heard, delivery="at-most-once", in_flight=10)
        await publish(served, 300)
        await until(lambda: len(heard.events) == 300)


async def test_a_name_that_another_client_takes_over_is_given_up_here() -> None:
    """And not taken back: two clients would take it from each other for ever."""
    log, heard = Log(), Heard()
    async with Served() as served, squall.connect(served.server.url, logger=log.logger) as remote:
        own = await remote.subscriber("billing").subscribe("*", heard, name="n")
        async with served.client() as other:
            await other.subscribe("*", name="n", take_over=True)
            await until(lambda: "given up here" in log.text)
            await publish(served, 1)
            assert len(await other.deliveries(1)) == 1
            with pytest.raises(SubscriptionError):
                await remote.subscriber("billing").pause_subscription(own)
            assert heard.events == []


async def test_a_subscription_that_cannot_be_taken_up_again_is_tried_until_it_can() -> None:
    """Alive, and told: never silently without its events."""
    log, heard = Log(), Heard()
    async with Served() as served, squall.connect(served.server.url, logger=log.logger) as remote:
        own = await remote.subscriber("billing").subscribe("*", heard, name="n")
        here = served.router.subscriber("local")
        taken = None
        while taken is None:  # the client may be quicker to take it up again
            for connection in tuple(served.server.hub.connections):
                connection.close(1012, "a test")
            await asyncio.sleep(0)
            with contextlib.suppress(SubscriptionError):
                taken = await here.subscribe("*", Heard(), name="n")
        await until(lambda: "not taken up again yet" in log.text)
        await here.detach(taken)
        await remote.publisher("shop").publish("a", b"")
        await until(lambda: heard.types == ["a"])
        await remote.subscriber("billing").unsubscribe(own)


async def test_priorities_pass_by_what_waits_at_the_server() -> None:
    """What is urgent waits behind what is in hand, and behind nothing else."""
    held = Held()
    async with Served() as served, squall.connect(served.server.url) as remote:
        await remote.subscriber("billing").subscribe("*", held, in_flight=1)
        await publish(served, 50, "slow")
        await served.router.publisher("shop").publish("urgent", b"", Priority.CRITICAL)
        await until(lambda: len(held.calls) == 1)
        while "urgent" not in [call.event.type for call in held.calls]:
            held.running[0].finish()
            calls = len(held.calls)
            await until(lambda calls=calls: len(held.calls) > calls)  # type: ignore[misc]
        assert len(held.calls) <= 9
        held.finish_all()


@pytest.mark.parametrize("when", ["before", "during"])
async def test_an_unsubscribe_over_a_lost_connection_ends_it_once_there_is_another(when: str) -> None:
    """A durable one would be owed for ever otherwise."""
    heard, again = Heard(), Heard()
    async with network() as net, squall.connect(net.url) as remote:
        subscriber = remote.subscriber("billing")
        own = await subscriber.subscribe("*", heard, name="n")
        if when == "during":
            async with net.silent("bandwidth"):
                ending = asyncio.ensure_future(subscriber.unsubscribe(own))
                await asyncio.sleep(0.05)
                await net.cut()
        else:
            await net.cut()
            await until(lambda: not remote.connected)
            ending = asyncio.ensure_future(subscriber.unsubscribe(own))
            await asyncio.sleep(0.05)
        assert not ending.done()
        await net.mend()
        await ending
        await publish(net.served, 1)
        new = await subscriber.subscribe("*", again, name="n")
        assert new != own
        await publish(net.served, 1, "b")
        await until(lambda: again.types == ["b"])
        assert heard.events == []


async def test_an_ended_subscription_is_not_taken_up_again_with_a_new_connection() -> None:
    """Though its handler still runs."""
    held = Held()
    async with network() as net, squall.connect(net.url) as remote:
        own = await remote.subscriber("billing").subscribe("*", held, name="n")
        await publish(net.served, 1)
        await until(lambda: len(held.calls) == 1)
        await remote.subscriber("billing").unsubscribe(own)
        await net.cut()
        await until(lambda: not remote.connected)
        await net.mend()
        await until(lambda: remote.connected)
        await remote.publisher("shop").publish("b", b"")
        assert net.served.router.get_metrics().subscriptions == 0
        held.finish_all()
        await until(lambda: not remote.attachments.busy)
        await until(lambda: not [one for one in asyncio.all_tasks() if one.get_name() == "squall:n"])
