"""A connection that is lost is made again, and everything goes on: deliveries, publishes, what was in hand."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.core.world import Heard, Held, Log
from tests.plugins.remote.buses import TOKEN, squall_server
from tests.plugins.remote.proxied import network
from tests.plugins.serve.served import Served, until
from tests.servers import Server, free_port

import squall
from squall import PublishError, SquallError, VirtualClock
from squall.plugins.remote.errors import Unreachable

pytestmark = pytest.mark.slow  # each has a server and connections to it

PATIENCE_S = 30.0


@pytest.mark.slow
async def test_a_killed_server_that_comes_back_delivers_to_the_same_handlers(tmp_path: Path) -> None:
    """kill -9, and a start on the same port: named and unnamed subscriptions are both consumed again, and nothing that
    was acknowledged is missing."""
    named, unnamed = Heard(), Heard()
    server = squall_server(tmp_path)
    await asyncio.to_thread(server.start)
    try:
        async with squall.connect(server.url) as remote:
            publisher, subscriber = remote.publisher("shop"), remote.subscriber("billing")
            await subscriber.subscribe("order.>", named, name="billing", concurrency=4)
            own = await subscriber.subscribe("order.>", unnamed)
            acknowledged = [await publisher.publish("order.paid", n) for n in range(50)]
            await until(lambda: len(named.events) >= 50)
            for _ in range(2):
                await asyncio.to_thread(server.kill)
                meanwhile = asyncio.ensure_future(publisher.publish("order.paid", b"while it was away"))
                await until(lambda: not remote.connected)
                await asyncio.to_thread(server.start)
                acknowledged.append(await meanwhile)
                await until(lambda: acknowledged[-1] in named.ids, PATIENCE_S)
            before = len(unnamed.events)
            acknowledged += [await publisher.publish("order.paid", n) for n in range(50)]
            await until(lambda: set(acknowledged) <= set(named.ids), PATIENCE_S)
            await until(lambda: len(unnamed.events) >= before + 50, PATIENCE_S)
            await subscriber.unsubscribe(own)  # under the id that it was first given
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_handler_that_runs_over_the_loss_settles_what_is_delivered_again() -> None:
    """It is not called twice for one delivery, nor is another one of its key meanwhile."""
    held = Held()
    async with network() as net, squall.connect(net.url) as remote:
        await remote.subscriber("billing").subscribe("*", held, name="n", concurrency=2)
        await remote.publisher("shop").publish("a", b"", key="k")
        await until(lambda: len(held.calls) == 1)
        await net.cut()
        (attachment,) = remote.attachments._all
        await until(lambda: not remote.connected)
        assert attachment.handling.running[0].number == 0
        await net.mend()
        await until(lambda: attachment.handling.running[0].number != 0)
        held.finish_all()
        await until(lambda: net.served.pending() == 0)
        assert len(held.calls) == 1


async def test_the_result_of_a_handler_that_ends_while_disconnected_is_dropped_and_told() -> None:
    """The event is delivered again: that it is done could not be said."""
    held, log = Held(), Log()
    async with network() as net, squall.connect(net.url, logger=log.logger) as remote:
        await remote.subscriber("billing").subscribe("*", held, name="n")
        await remote.publisher("shop").publish("a", b"")
        await until(lambda: len(held.calls) == 1)
        await net.cut()
        await until(lambda: not remote.connected)
        held.finish_all()
        await until(lambda: "its result is dropped" in log.text)
        assert len(held.calls) == 1
        await net.mend()
        await until(lambda: len(held.calls) == 2)
        held.finish_all()
        await until(lambda: net.served.pending() == 0)


async def test_another_client_takes_a_name_up_when_the_first_has_left() -> None:
    """And not before."""
    first, second = Heard(), Heard()
    async with Served() as served, squall.connect(served.server.url) as other:
        async with squall.connect(served.server.url) as one:
            await one.subscriber("billing").subscribe("*", first, name="n")
            with pytest.raises(SquallError, match="attached already"):
                await other.subscriber("billing").subscribe("*", second, name="n")
        await other.subscriber("billing").subscribe("*", second, name="n")
        await other.publisher("shop").publish("a", b"")
        await until(lambda: second.types == ["a"])
        assert first.types == []


async def test_nobody_there_is_told_within_the_deadline() -> None:
    """With the address, and what went wrong."""
    at = f"127.0.0.1:{free_port()}"
    with pytest.raises(Unreachable) as told:
        async with squall.connect(f"http://{at}", deadline_s=1.5):
            pass
    assert str(told.value) == (
        f"ws://{at}/v1/stream cannot be reached: Connection refused; is squall serve running, and is that its address?"
    )


@pytest.mark.parametrize(
    ("token", "said"), [(None, "is missing"), ("another-token-than-that", "is not the server's"), (TOKEN, "")]
)
async def test_a_token_lets_in_or_not(monkeypatch: pytest.MonkeyPatch, token: str | None, said: str) -> None:
    """At once: a wrong one does not become right by waiting."""
    monkeypatch.setenv("BUS_TOKEN", TOKEN)
    async with Served(token="env:BUS_TOKEN") as served:
        refused = pytest.raises(Unreachable) if said else contextlib.nullcontext()
        with refused as caught:
            async with squall.connect(served.server.url, token=token) as remote:
                assert await remote.publisher("shop").publish("a", b"")
        if caught is not None:
            assert str(caught.value) == (
                f"ws://127.0.0.1:{served.port}/v1/stream answered 401: the token {said}: expected `Authorization: "
                "Bearer …`; pass the server's own: token=…"
            )


async def test_what_is_no_squall_server_is_told() -> None:
    """Not waited for."""
    async with Served() as served:
        with pytest.raises(Unreachable, match=r"answered 40[34]"):
            async with squall.connect(f"{served.server.url}/elsewhere"):
                pass


async def test_waits_between_attempts_grow_with_full_jitter_up_to_a_bound() -> None:
    """uniform(0, min(10, 0.1 * 2^n)): drawn from the seed, on the injected clock."""
    clock, log = VirtualClock(), Log()
    remote = squall.connect(f"http://127.0.0.1:{free_port()}", clock=clock, seed=3, deadline_s=300, logger=log.logger)
    starting = asyncio.ensure_future(remote.start())
    for _ in range(4000):
        await clock.advance(0.05)
        if len(waits(log)) >= 12:
            break
        await asyncio.sleep(0.001)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    stopping = asyncio.ensure_future(remote.stop(timeout_s=0))
    await clock.advance(1)
    await stopping
    found = waits(log)[:12]
    assert len(found) == 12
    assert all(0 <= wait_s <= min(10.0, 0.1 * 2**number) for number, wait_s in enumerate(found)), found
    assert max(found) > 2.0
    assert len(set(found)) == 12


async def test_a_connection_that_held_for_a_second_begins_the_waits_anew() -> None:
    """Who lost it once more is back soon, whatever had to be waited before; one that ended at once counts as failed."""
    clock, log = VirtualClock(), Log()
    async with network() as net:
        await net.cut()
        remote = squall.connect(net.url, clock=clock, seed=3, deadline_s=3000, logger=log.logger)
        starting = asyncio.ensure_future(remote.start())

        async def passing(condition: Callable[[], bool]) -> None:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    await clock.advance(0.05)
                    await asyncio.sleep(0.001)

        for held_s, low, high in ((0.9, 0.1, 10.0), (1.1, 0.0, 0.1)):
            before = len(waits(log))
            await passing(lambda before=before: len(waits(log)) >= before + 9)  # type: ignore[misc]
            await net.mend()
            await passing(lambda: remote.connected)
            seen = len(waits(log))
            await clock.advance(held_s)
            await net.cut()
            await until(lambda seen=seen: len(waits(log)) > seen)  # type: ignore[misc]
            assert low <= waits(log)[seen] <= high, (held_s, waits(log))
        await starting
        stopping = asyncio.ensure_future(remote.stop(timeout_s=0))
        await passing(stopping.done)


def waits(log: Log) -> list[float]:
    """What the client said it would wait."""
    return [float(record.getMessage().rsplit(" in ", 1)[1].split()[0]) for record in log.records]


async def test_a_stopped_client_takes_no_more() -> None:
    """Nor one that was never started."""
    async with Served() as served:
        remote = squall.connect(served.server.url)
        for _ in range(2):
            with pytest.raises(squall.NotRunning):
                await remote.publisher("shop").publish("a", b"")
            with pytest.raises(squall.NotRunning):
                await remote.subscriber("billing").subscribe("a", Heard())
            async with remote:
                await remote.publisher("shop").publish("a", b"")


async def test_stopping_waits_for_handlers_and_tells_what_they_did() -> None:
    """A handler that runs may end, its settlement arrives; what waits behind it is delivered again, uncounted."""
    held, again = Held(), Heard()
    async with Served() as served:
        async with squall.connect(served.server.url) as remote:
            await remote.subscriber("billing").subscribe("*", held, name="n")
            for kind in "ab":
                await remote.publisher("shop").publish(kind, b"")
            await until(lambda: len(held.calls) == 1)
            asyncio.get_running_loop().call_later(0.05, held.finish_all)
        await until(lambda: not served.server.hub.connections)
        async with squall.connect(served.server.url) as remote:
            await remote.subscriber("billing").subscribe("*", again, name="n")
            await until(lambda: again.types == ["b"])
            await until(lambda: served.pending() == 0)


@pytest.mark.slow
async def test_a_server_that_drains_is_waited_for_and_publishes_go_to_its_successor(tmp_path: Path) -> None:
    """What it refused as it stopped was surely not stored, and is sent again: no publish fails over a restart."""
    server = squall_server(tmp_path)
    await asyncio.to_thread(server.start)
    try:
        async with squall.connect(server.url) as remote:
            publisher, ids = remote.publisher("shop"), list[str]()
            more = True

            async def publishing() -> None:
                while more:
                    ids.append(await publisher.publish("a", b""))

            tasks = [asyncio.ensure_future(publishing()) for _ in range(8)]
            await until(lambda: len(ids) > 50)
            await asyncio.to_thread(_terminate, server)
            await asyncio.to_thread(server.start)
            known = len(ids)
            await until(lambda: len(ids) > known + 50, PATIENCE_S)
            more = False
            with contextlib.suppress(PublishError):
                await asyncio.gather(*tasks)
            assert not [task for task in tasks if task.exception()]
    finally:
        await asyncio.to_thread(server.stop)


def _terminate(server: Server) -> None:
    """End it as an operator does; returns when it has ended."""
    os.kill(server.pid, signal.SIGTERM)
    assert server._process is not None
    server._process.wait(PATIENCE_S)
    server.kill()
