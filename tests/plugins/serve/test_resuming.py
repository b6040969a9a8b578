"""Named subscriptions: what a lost or leaving client had in hand comes again, and does not count as an attempt."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.plugins.serve.served import Served, types, until

from squall import Plugin
from squall.plugins.memory import MemoryPlugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin
from squall.protos import wire_pb2 as pb


@pytest.fixture(params=["memory", "sqlite"])
def plugins(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Plugin, ...]:
    """Each store, and a policy for which two attempts are too many."""
    store = MemoryPlugin() if request.param == "memory" else SqlitePlugin(path=str(tmp_path / "bus.db"))
    return store, RetryPlugin(attempts=1)


async def test_a_lost_client_takes_up_where_it_was(plugins: tuple[Plugin, ...]) -> None:
    """What it settled is settled; what it had in hand comes again, however often it is lost; then what is new."""
    async with Served(*plugins) as served:
        async with served.client() as client:
            sub = await client.subscribe(name="billing")
            await client.publish("a", "b", "c")
            got = await client.deliveries(3)
            await client.settle(sub, ack=[got[1].delivery])
            await client.synced()
        for _ in range(3):
            await until(lambda: not served.server.hub.connections or not served.router.get_metrics().subscriptions)
            async with served.client() as client:
                await client.subscribe(name="billing")
                assert types(await client.deliveries(2)) == ["a", "c"]
        await until(lambda: served.router.get_metrics().subscriptions == 0)
        await served.router.publisher("shop").publish("d", b"")
        async with served.client() as client:
            sub = await client.subscribe(name="billing")
            got = await client.deliveries(3)
            assert types(got) == ["a", "c", "d"]
            await client.settle(sub, ack=[one.delivery for one in got])
            await until(lambda: served.pending() == 0)
        assert await served.dead() == []
        assert served.router.get_metrics().failed == 0


async def test_a_client_that_leaves_gives_back_what_it_has() -> None:
    """Without end the subscription stays; words about what it gave back are late, and do nothing."""
    async with Served(MemoryPlugin(), RetryPlugin(attempts=1)) as served, served.client() as client:
        sub = await client.subscribe(name="billing")
        await client.publish("a", "b")
        got = await client.deliveries(2)
        await client.send(leave=pb.Leave(sub=sub))
        await client.expect("left")
        await client.settle(sub, ack=[got[0].delivery], nak=[pb.Nak(delivery=got[1].delivery)])
        assert (await client.expect("failure")).failure.error == "LeaseLost"
        await client.send(credit=pb.Credit(sub=sub, more=5))
        await client.subscribe(name="billing")
        assert types(await client.deliveries(2)) == ["a", "b"]
        assert await served.dead() == []


async def test_a_name_has_one_client() -> None:
    """Another is refused, unless it takes over: then the first one is told, and what it had goes to the second."""
    async with Served() as served, served.client() as first, served.client() as second:
        sub = await first.subscribe(name="billing")
        await served.router.publisher("shop").publish("a", b"")
        (lost,) = await first.deliveries(1)
        again = pb.Subscribe(sub=1, subscriber_id="billing", pattern=">", name="billing", credit=5)
        await second.send(subscribe=again)
        assert "attached already" in (await second.expect("failure")).failure.message
        second._subs = 1
        taken = await second.subscribe(name="billing", take_over=True)
        failure = (await first.expect("failure")).failure
        assert (failure.error, failure.sub, failure.fatal) == ("TakenOver", sub, False)
        await first.settle(sub, ack=[lost.delivery])
        assert (await first.expect("failure")).failure.error == "LeaseLost"
        (got,) = await second.deliveries(1)
        await second.settle(taken, ack=[got.delivery])
        await until(lambda: served.pending() == 0)
        assert served.router.get_metrics().failed == 0


async def test_another_pattern_under_a_name_is_refused_unless_it_is_an_update() -> None:
    """As in process."""
    async with Served() as served:
        async with served.client() as client:
            await client.subscribe("a", name="billing")
        await until(lambda: served.router.get_metrics().subscriptions == 0)
        async with served.client() as client:
            await client.send(subscribe=pb.Subscribe(sub=1, subscriber_id="billing", pattern="b", name="billing"))
            assert "update=True" in (await client.expect("failure")).failure.message
            client._subs = 1
            await client.subscribe("b", name="billing", update=True)
            await client.publish("a", "b")
            (got,) = await client.deliveries(1)
            assert got.event.type == "b"
