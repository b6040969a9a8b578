"""Each fault of a network, at a real proxy of each kind: it does its harm, says so, and leaves nothing when healed."""

from __future__ import annotations

import asyncio
import logging
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

import pytest
from tests.plugins.network.peers import GREETING, SILENCE_S, EchoServer, Peer, Stopwatch, echoing
from tests.servers import HOST

from squall.core.clock import SystemClock
from squall.core.errors import ConfigError
from squall.core.fault import Evidence, Fault, FaultContext, Network, Undo
from squall.plugins.network.client import ProxySpec, ToxiproxyClient, Unreachable
from squall.plugins.network.faults import (
    NetworkBandwidth,
    NetworkDown,
    NetworkFault,
    NetworkLatency,
    NetworkLimitData,
    NetworkPartition,
    NetworkResetPeer,
    NetworkSlicer,
    NetworkSlowClose,
    NetworkTimeout,
)
from squall.plugins.network.proxies import ToxiproxyProxies
from squall.plugins.network.seam import NetworkOptions, ProxiedNetwork

pytestmark = pytest.mark.slow  # each has a server and connections to it

LOG = logging.getLogger("squall.tests")


class Place:
    """A seam before an echo server."""

    def __init__(self, seam: ProxiedNetwork, echo: EchoServer) -> None:
        self.seam, self.echo = seam, echo

    async def connect(self) -> Peer:
        return Peer(*await asyncio.open_connection(self.seam.host, self.seam.port))

    async def greeted(self) -> Peer:
        peer = await self.connect()
        assert await peer.hear(len(GREETING)) == GREETING
        return peer

    @asynccontextmanager
    async def under(self, fault: NetworkFault) -> AsyncIterator[Callable[[], Awaitable[Evidence]]]:
        """While the fault stands, as the runner has it; gives what asks how much it has bitten since."""
        undo = fault.plan(self.seam)
        before = await fault.evidence(self.seam)

        async def bitten() -> Evidence:
            now = await fault.evidence(self.seam)
            return Evidence(now.passes - before.passes, now.bitten - before.bitten)

        async with fault.inject(self.seam, context(undo)):
            yield bitten


def context(undo: Undo | None) -> FaultContext:
    return FaultContext(SystemClock(), Random(1), lambda: True, lambda payload=None: None, undo)


@pytest.fixture(params=["embedded", "toxiproxy"])
def place(request: pytest.FixtureRequest) -> Callable[[], AbstractAsyncContextManager[Place]]:
    """Opens a seam at a proxy of each server."""
    options = NetworkOptions()
    if request.param == "toxiproxy":
        options = NetworkOptions(toxiproxy=f"{HOST}:{request.getfixturevalue('toxiproxy_port')}")

    @asynccontextmanager
    async def opened() -> AsyncIterator[Place]:
        async with echoing() as echo, proxies(options) as made:
            host, _, port = echo.address.rpartition(":")
            yield Place(await made.between("net:line", host, int(port), unkept), echo)

    return opened


def unkept(fault: type[Fault], undo: Undo) -> None:
    """There is no run that could be gone."""


@asynccontextmanager
async def proxies(options: NetworkOptions) -> AsyncIterator[ToxiproxyProxies]:
    made = ToxiproxyProxies(options, SystemClock(), Random(7), LOG)
    try:
        yield made
    finally:
        await made.close()


Open = Callable[[], AbstractAsyncContextManager[Place]]


@pytest.mark.parametrize(
    ("fault", "least_s"),
    [
        (NetworkLatency(latency=0.1), 0.1),
        (NetworkLatency(latency=0.05, direction="both"), 0.1),
        (NetworkBandwidth(rate=100_000, direction="upstream"), 0.2),
        (NetworkSlicer(average_size=1000, delay=0.005), 0.1),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_faults_that_delay(place: Open, fault: NetworkFault, least_s: float) -> None:
    """Thirty thousand bytes and back take longer, and no longer once it is healed; evidence says what was bitten."""
    data = b"x" * 30_000
    async with place() as at:
        peer = await at.greeted()
        async with at.under(fault) as bitten:
            watch = Stopwatch()
            assert await peer.ask(data) == data
            assert watch() >= least_s - 0.01
            passes, hits = await bitten()
            assert passes >= hits > 0
        for _ in range(3):
            assert await peer.ask(data) == data
        assert (await at.seam.client.proxy(at.seam.proxy.name)).toxics == ()
        peer.close()


@pytest.mark.parametrize(
    ("fault", "ends"),
    [
        (NetworkTimeout(timeout=0.05), {"end"}),
        (NetworkResetPeer(), {"reset"}),
        (NetworkLimitData(bytes=2), {"end", "reset"}),
        (NetworkDown(), {"end", "reset", "refused"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
async def test_faults_that_end_connections(place: Open, fault: NetworkFault, ends: set[str]) -> None:
    """New connections are as they were once it is healed."""
    async with place() as at:
        peer = await at.greeted()
        async with at.under(fault) as bitten:
            found = set()
            for one in (peer, None):
                try:
                    one = one or await at.connect()  # noqa: PLW2901
                    await one.say(b"ping")
                    await one.rest()
                    found.add("end")
                except ConnectionRefusedError:
                    found.add("refused")
                except ConnectionError:
                    found.add("reset")
                if one is not None:
                    one.close()
            assert found <= ends | {"end"}
            assert (await bitten()).bitten > 0
        peer = await at.greeted()
        assert await peer.ask(b"ping") == b"ping"
        peer.close()


async def test_slow_close_delays_an_end(place: Open) -> None:
    async with place() as at, at.under(NetworkSlowClose(delay=0.1)) as bitten:
        peer = await at.greeted()
        watch = Stopwatch()
        at.echo.peers[-1].close()
        assert await peer.rest() == b""
        assert watch() >= 0.095
        assert (await bitten()).bitten > 0
        peer.close()


async def test_a_partition_is_silent_and_loses_nothing(place: Open) -> None:
    """Neither data nor ends pass, in neither direction, on connections old and new; healed, everything comes."""
    async with place() as at:
        old, ending = await at.greeted(), await at.greeted()
        async with at.under(NetworkPartition()) as bitten:
            new = await at.connect()
            await old.say(b"question")
            await new.say(b"hello")
            await at.echo.peers[0].say(b"news")
            at.echo.peers[1].close()
            async with asyncio.timeout(10 + SILENCE_S):
                assert all(await asyncio.gather(old.silent(), new.silent(), ending.silent()))
            assert b"question" not in at.echo.heard
            assert (await bitten()).bitten > 0
        assert sorted(await old.hear(12)) == sorted(b"newsquestion")
        assert await new.hear(11) == GREETING + b"hello"
        assert await ending.rest() == b""
        for peer in (old, new, ending):
            peer.close()


async def test_a_fault_where_nothing_passes_bites_nothing(place: Open) -> None:
    async with place() as at:
        for fault in (NetworkLatency(latency=1), NetworkPartition(), NetworkDown()):
            async with at.under(fault) as bitten:
                assert await bitten() == Evidence(0, 0)


async def test_two_faults_of_one_kind_may_overlap(place: Open) -> None:
    """Each takes away its own."""
    async with place() as at:
        peer = await at.greeted()
        async with at.under(NetworkLatency(latency=600)):
            async with at.under(NetworkLatency(latency=600)):
                await peer.say(b"ping")
                assert len((await at.seam.client.proxy(at.seam.proxy.name)).toxics) == 2
            assert len((await at.seam.client.proxy(at.seam.proxy.name)).toxics) == 1
        assert await peer.hear(4) == b"ping"
        peer.close()


@pytest.mark.parametrize("fault", [NetworkLatency(latency=1), NetworkPartition(), NetworkDown()])
async def test_healing_again_and_healing_nothing_are_the_same(toxiproxy_port: int, fault: NetworkFault) -> None:
    """By the plan alone, and in whatever state it finds the proxy: from before the begin to long after the end."""
    async with echoing() as echo, proxies(NetworkOptions(toxiproxy=f"{HOST}:{toxiproxy_port}")) as made:
        host, _, port = echo.address.rpartition(":")
        at = Place(await made.between("net:line", host, int(port), unkept), echo)
        undo = fault.plan(at.seam)
        assert undo is not None
        await fault.heal(undo)
        await fault.start(at.seam, context(undo))
        for _ in range(3):
            await type(fault).heal(dict(undo))
            peer = await at.greeted()
            assert await peer.ask(b"ping") == b"ping"
            peer.close()
    await fault.heal(undo)  # the proxy is gone by now


async def test_what_dies_with_the_process_has_no_plan_on_disk() -> None:
    """The embedded proxy is gone with the bench."""
    async with echoing() as echo, proxies(NetworkOptions()) as made:
        host, _, port = echo.address.rpartition(":")
        assert NetworkLatency(latency=1).plan(await made.between("net:line", host, int(port), unkept)) is None


async def test_a_heal_does_not_hang_as_toxiproxy_does(toxiproxy_port: int) -> None:
    """Where nobody reads what a toxic holds, the server cannot take the toxic away, and answers nobody about that
    proxy any more: the proxy is made anew, at the same port."""

    async def flood(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while True:
                writer.write(b"x" * 2**16)
                await writer.drain()
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(flood, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    options = NetworkOptions(toxiproxy=f"{HOST}:{toxiproxy_port}")
    async with proxies(options) as made:
        seam = await made.between("net:line", HOST, port, unkept)
        fault = NetworkLatency(latency=0.001)
        undo = fault.plan(seam)
        reader, writer = await asyncio.open_connection(seam.host, seam.port)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        async with fault.inject(seam, context(undo)):
            before = None
            while before != (before := await seam.counts()):  # until nothing moves
                await SystemClock().sleep(0.1)
        again = await seam.client.proxy(seam.proxy.name)
        assert (again.toxics, again.listen, again.upstream) == ((), seam.proxy.listen, seam.proxy.upstream)
        writer.transport.abort()
        reader, writer = await asyncio.open_connection(seam.host, seam.port)
        assert await reader.readexactly(10) == b"x" * 10
        writer.transport.abort()
    server.close()


async def test_a_lent_proxy_gets_toxics_and_nothing_else(toxiproxy_port: int) -> None:
    """It is neither made nor deleted, and down is refused."""
    options = NetworkOptions(toxiproxy=f"{HOST}:{toxiproxy_port}", adopt={"line": "theirs"})
    client = ToxiproxyClient(HOST, toxiproxy_port)
    async with echoing() as echo, client.proxied(ProxySpec("theirs", echo.address)) as theirs:
        async with proxies(options) as made:
            at = Place(await made.between("net:line", "192.0.2.1", 1, unkept), echo)
            peer = await at.greeted()
            async with at.under(NetworkLatency(latency=600)):
                await peer.say(b"ping")
                assert [toxic.type for toxic in await client.toxics("theirs")] == ["latency"]
            assert await peer.hear(4) == b"ping"
            with pytest.raises(ConfigError, match="net:line: down would disable theirs, which is only lent"):
                NetworkDown().plan(at.seam)
            peer.close()
        assert await client.proxies() == {"theirs": theirs}


async def test_a_proxy_that_is_not_lent_is_told(toxiproxy_port: int) -> None:
    """With the option that names it, and with those that there are."""
    options = NetworkOptions(toxiproxy=f"{HOST}:{toxiproxy_port}", adopt={"line": "nobodys"})
    client = ToxiproxyClient(HOST, toxiproxy_port)
    wrong = f"squall.yaml: network.adopt.line: Toxiproxy at {HOST}:{toxiproxy_port} has no proxy 'nobodys' "
    async with proxies(options) as made:
        with pytest.raises(ConfigError) as told:
            await made.between("net:line", HOST, 1, unkept)
        assert str(told.value) == f"{wrong}(it has none: make it there, or let squall make its own, without adopt)"
        one, other = ProxySpec("one", f"{HOST}:1"), ProxySpec("other", f"{HOST}:1")
        async with client.proxied(other), client.proxied(one):
            with pytest.raises(ConfigError) as told:
                await made.between("net:line", HOST, 1, unkept)
        assert str(told.value) == f"{wrong}(it has one, other)"


async def test_what_a_run_that_is_gone_has_left_is_in_nobodys_way_and_can_be_taken_away(toxiproxy_port: int) -> None:
    """Its proxy stands, told before it was put. The next run, of the same seed, puts its own beside it."""
    options, kept = NetworkOptions(toxiproxy=f"{HOST}:{toxiproxy_port}"), list[tuple[type[Fault], Undo]]()
    client = ToxiproxyClient(HOST, toxiproxy_port)
    async with proxies(options) as gone, proxies(options) as made:
        for one in (gone, made):
            await one.between("net:line", HOST, 1, lambda fault, undo: kept.append((fault, undo)))
        assert {undo["proxy"] for _, undo in kept} == set(await client.proxies())
        (fault, undo), (_, other) = kept
        for _ in range(2):
            await fault.heal(undo)
            assert set(await client.proxies()) == {other["proxy"]}
    assert await client.proxies() == {}


async def test_a_server_that_is_gone_cannot_be_healed() -> None:
    """It is said, and not taken for done."""
    undo: Undo = {"host": HOST, "port": 1, "proxy": "line", "toxics": ["x"], "upstream": "h:1", "listen": "h:2",
            "lent": False, "down": False}  # fmt: skip
    with pytest.raises(Unreachable):
        await NetworkLatency.heal(undo)


async def test_a_seam_without_a_proxy_is_told() -> None:
    with pytest.raises(ConfigError, match="net:line: a network's faults act at a proxy, and there is none"):
        NetworkLatency(latency=1).plan(Network("net:line", HOST, 1))


@pytest.mark.parametrize("options", [{"toxiproxy": "localhost"}, {"toxiproxy": "http://localhost:8474"}, {"toxi": 1}])
def test_options_that_lead_nowhere_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="toxi"):
        NetworkOptions.of("network", options)
