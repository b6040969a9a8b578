"""The end of a server: what is in flight is waited for, nothing acknowledged is lost, clients are told."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from tests.plugins.serve.children import client_of, serving
from tests.plugins.serve.served import Served, closing, until

from squall import VirtualClock
from squall.protos import wire_pb2 as pb

CONFIG = """\
version: 1
plugins:
  - sqlite: {path: bus.db}
  - serve: {port: 0, token: "env:BUS_TOKEN", drain: 20s}
"""


async def test_what_is_in_flight_may_be_settled() -> None:
    """The client is told to drain; the server closes as soon as nothing is in its hands."""
    clock = VirtualClock()
    async with Served(clock=clock, drain=5) as served, served.client() as client:
        sub = await client.subscribe()
        await client.publish("a")
        (got,) = await client.deliveries(1)
        stopping = asyncio.ensure_future(served.server.stop())
        assert (await client.expect("draining")).draining.deadline_ms == 5000
        assert [one.error for one in await client.publish("b", "c")] == ["NotRunning"] * 2
        await client.send(subscribe=pb.Subscribe(sub=2, subscriber_id="b", pattern=">"))
        assert (await client.expect("failure")).failure.error == "NotRunning"
        assert not stopping.done()
        await client.settle(sub, ack=[got.delivery])
        await client.synced()
        await clock.advance(0.1)
        assert await closing(client) == 1001
        await stopping
        assert served.router.get_metrics().delivered == 1


async def test_a_client_that_does_not_settle_is_waited_for_no_longer_than_said() -> None:
    """Then what it has is given back."""
    clock = VirtualClock()
    async with Served(clock=clock, drain=5) as served, served.client() as client:
        await client.subscribe(name="billing")
        await client.publish("a")
        await client.deliveries(1)
        stopping = asyncio.ensure_future(served.server.stop())
        await client.expect("draining")
        await clock.advance(4.5)
        assert not stopping.done()
        await clock.advance(1)
        assert await closing(client) == 1001
        await stopping


async def test_an_unnamed_subscription_gets_what_waits_for_it() -> None:
    """It would be lost; a named one gets nothing more: it is owed that later."""
    async with Served(drain=5) as served, served.client() as client:
        named = await client.subscribe(name="billing", in_flight=1)
        unnamed = await client.subscribe(in_flight=1)
        await client.publish("a", "b")
        first: dict[int, int] = {}
        while len(first) < 2:
            frame = (await client.expect("deliveries")).deliveries
            first[frame.sub] = frame.deliveries[0].delivery
        stopping = asyncio.ensure_future(served.server.stop())
        await client.expect("draining")
        await client.settle(named, ack=[first[named]])
        await client.settle(unnamed, ack=[first[unnamed]])
        (rest,) = await client.deliveries(1)
        assert rest.event.type == "b"
        await client.settle(unnamed, ack=[rest.delivery])
        assert await closing(client) == 1001
        await stopping


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_process_drains_when_it_is_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    """Exit code 0; what was acknowledged is there after a restart, and what was settled is not delivered again."""
    (tmp_path / "squall.yaml").write_text(CONFIG, encoding="utf-8")
    async with serving(tmp_path) as (process, line):
        assert line.startswith("squall serves http://127.0.0.1:")
        assert line.endswith("(disk durability, a token needed)\n")
        async with client_of(line) as client:
            assert client.welcome.durability == pb.DURABILITY_DISK
            sub = await client.subscribe(name="billing", in_flight=1)
            receipts = await client.publish("a", "b")
            assert [one.outcome for one in receipts] == [pb.OUTCOME_OK] * 2
            (got,) = await client.deliveries(1)
            process.send_signal(number)
            await client.expect("draining")
            await client.settle(sub, ack=[got.delivery])
            assert await closing(client) == 1001
        assert await process.wait() == 0
    async with (
        serving(tmp_path, "--config", "squall.yaml", "--port", "0") as (process, line),
        client_of(line) as client,
    ):
        await client.subscribe(name="billing")
        (rest,) = await client.deliveries(1)
        assert rest.event.type == "b"
        process.send_signal(number)
        await client.expect("draining")
        process.send_signal(number)  # and once more: it hurries
        assert await closing(client) == 1001
        assert await process.wait() == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "arguments", "code", "message"),
    [
        ("version: 1\nplugins:\n  - serve: {port: x}\n", (), 2, "squall.yaml:3"),
        ("version: 1\n", ("--host", "0.0.0.0"), 2, "a token is required"),
        ("version: 1\n", ("--host", "192.0.2.1"), 2, "a token is required"),
        ("version: 1\n", ("--config", "none.yaml"), 2, "none.yaml"),
        (
            "version: 1\nplugins:\n  - serve: {host: 192.0.2.1, token: env:BUS_TOKEN}\n",
            (),
            4,
            "cannot listen on 192.0.2.1",
        ),
        ("version: 1\nplugins: [memory, sqlite]\n", (), 2, "two stores"),
    ],
)
async def test_a_server_that_cannot_start_says_why(
    tmp_path: Path, config: str, arguments: tuple[str, ...], code: int, message: str
) -> None:
    """In one message, with an exit code."""
    (tmp_path / "squall.yaml").write_text(config, encoding="utf-8")
    async with serving(tmp_path, *arguments) as (process, line):
        assert line == ""
        _, errors = await process.communicate()
        assert process.returncode == code
        assert message in errors.decode()
        assert "Traceback" not in errors.decode()


async def test_a_port_that_is_taken_is_told(tmp_path: Path) -> None:
    """The other server goes on."""
    async with Served() as served:
        async with serving(tmp_path, "--port", str(served.port)) as (process, _):
            _, errors = await process.communicate()
            assert process.returncode == 4
            told = f"cannot listen on 127.0.0.1 port {served.port}: Address already in use; whoever has it must end"
            assert errors.decode().startswith(told)
            assert "--port (0: any free one)" in errors.decode()
        await until(lambda: served.server.hub.not_ready() is None)
