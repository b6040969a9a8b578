"""What the embedded proxy does beyond Toxiproxy: half-closes, bounded memory, counts, and removals that never hang."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from random import Random

import pytest
from tests.plugins.network.conftest import embedded
from tests.plugins.network.peers import FOREVER_MS, GREETING, Peer, connect, echoing, line

from squall.core.clock import Clock, SystemClock
from squall.plugins.network.client import ProxySpec, ProxyState, ToxiproxyClient
from squall.plugins.network.connection import HOLD_BYTES, WRITE_BYTES, Connection
from squall.plugins.network.embedded import EmbeddedToxiproxy
from squall.plugins.network.proxy import Proxy
from squall.plugins.network.stages import PIECE_COST_BYTES
from squall.plugins.network.toxics import Toxic

READ_BYTES = 2**18  # what the loop reads at once
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@asynccontextmanager
async def serving(serve: object, client: ToxiproxyClient) -> AsyncIterator[ProxyState]:
    """A proxy before a server of the test's own."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)  # type: ignore[arg-type]
    host, port = server.sockets[0].getsockname()
    try:
        async with client.proxied(ProxySpec("line", f"{host}:{port}")) as proxy:
            yield proxy
    finally:
        server.close()


async def test_a_half_close_is_passed_on_as_one() -> None:
    """Who has said everything still hears the answer."""

    async def summed(reader: StreamReader, writer: StreamWriter) -> None:
        heard = await reader.read(-1)
        writer.write(b"%d" % len(heard))
        writer.close()

    async with embedded() as client, serving(summed, client) as proxy:
        peer = await connect(proxy)
        await peer.say(b"x" * 1_000)
        peer.writer.write_eof()
        assert await peer.rest() == b"1000"
        peer.close()
        await until_open(client, 0)


async def until_open(client: ToxiproxyClient, number: int) -> ProxyState:
    """Wait until so many connections pass the proxy."""
    while True:
        state = await client.proxy("line")
        assert state.counts is not None
        if state.counts.open == number:
            return state


@pytest.mark.parametrize("toxic", [None, Toxic.of("latency", {"latency": 20}, stream="upstream")])
async def test_a_reset_is_passed_on_as_one(toxic: Toxic | None) -> None:
    """Through a toxic too, after what was sent before."""
    ends: asyncio.Queue[str] = asyncio.Queue()

    async def listener(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            while await reader.read(100):
                pass
            await ends.put("end")
        except ConnectionResetError:
            await ends.put("reset")
        writer.close()

    async with embedded() as client, serving(listener, client) as proxy:
        if toxic is not None:
            await client.add("line", toxic)
        peer = await connect(proxy)
        await peer.say(b"hello")
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        peer.writer.transport.abort()
        assert await ends.get() == "reset"
        await until_open(client, 0)


@pytest.mark.slow  # megabytes through each stage
@pytest.mark.parametrize("toxic", [None, "latency", "bandwidth", "slicer"])
async def test_a_slow_reader_holds_the_sender_back(toxic: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for it is bounded, with and without toxics; when it reads, everything comes."""
    total = 64 * 2**20  # more than the kernel would ever hold
    sent = 0
    connections: list[Connection] = []

    def connection(clock: Clock, random: Random, ended: Callable[[Connection], None]) -> Connection:
        connections.append(Connection(clock, random, ended))
        return connections[-1]

    monkeypatch.setattr("squall.plugins.network.proxy.Connection", connection)

    async def flood(reader: StreamReader, writer: StreamWriter) -> None:
        nonlocal sent
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2**16)
        while sent < total:
            writer.write(b"x" * 2**16)
            await writer.drain()
            sent += 2**16
        writer.close()

    options = {"latency": {"latency": 1}, "bandwidth": {"rate": 10**6}, "slicer": {"average_size": 2**12}}
    async with embedded() as client, serving(flood, client) as proxy:
        if toxic is not None:
            await client.add("line", Toxic.of(toxic, options[toxic]))
        host, _, port = proxy.listen.rpartition(":")
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**16)
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
        before = -1
        while sent > before:  # until the sender stands still
            before = sent
            await asyncio.sleep(0.1)
        (only,) = connections
        assert held_bytes(only) <= HOLD_BYTES + 2 * READ_BYTES + WRITE_BYTES
        assert sent < total
        heard = 0
        while data := await asyncio.get_running_loop().sock_recv(sock, 2**18):
            heard += len(data)
        assert heard == total
        sock.close()


def held_bytes(connection: Connection) -> int:
    """What a connection holds, in stages and in what is to be written."""
    sides = (connection.client.transport, connection.server.transport)
    written = sum(transport.get_write_buffer_size() for transport in sides if transport is not None)
    return connection.upstream.held_bytes + connection.downstream.held_bytes + written


async def test_small_pieces_that_wait_are_bounded_too() -> None:
    """Each counts more than its byte."""
    async with embedded() as client, line(client) as through:
        peer = await through.greeted()
        await client.add("line", Toxic.of("latency", {"latency": FOREVER_MS}, stream="upstream"))
        peer.writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(20_000):
            peer.writer.write(b"x")
            await asyncio.sleep(0)
        counts = (await client.proxy("line")).counts
        assert counts is not None
        assert counts.upstream_pieces <= HOLD_BYTES // PIECE_COST_BYTES + 1
        await client.remove("line", "latency_upstream")
        assert await peer.hear(20_000) == b"x" * 20_000
        peer.close()


async def test_a_toxic_is_taken_from_a_connection_that_nobody_reads() -> None:
    """Toxiproxy's own server hangs here, and its API with it."""

    async def flood(reader: StreamReader, writer: StreamWriter) -> None:
        while True:
            writer.write(b"x" * 2**16)
            try:
                await writer.drain()
            except ConnectionError:
                break
        writer.close()

    async with embedded() as client, serving(flood, client) as proxy:
        await client.add("line", Toxic.of("latency", {"latency": 1}))
        peer = await connect(proxy)
        peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
        before = None
        while before != (before := await client.proxy("line")):  # until nothing moves
            await SystemClock().sleep(0.05)
        await client.remove("line", "latency_downstream")
        await client.reset()
        assert (await client.proxy("line")).toxics == ()
        peer.writer.transport.abort()
        await until_open(client, 0)


async def test_what_passes_and_what_is_bitten_is_counted() -> None:
    """Connections and bytes of the proxy, and of each toxic."""
    async with embedded() as client, line(client) as through:
        peer = await through.greeted()
        await client.add("line", Toxic.of("latency", {"latency": 1}, stream="upstream"))
        await client.add("line", Toxic.of("limit_data", {"bytes": 100}))
        assert await peer.ask(b"12345") == b"12345"
        other = await through.greeted()
        state = await until_open(client, 2)
        assert state.counts is not None
        assert (state.counts.connections, state.counts.cut) == (2, 0)
        assert (state.counts.upstream_bytes, state.counts.downstream_bytes) == (5, 5 + 2 * len(GREETING))
        bitten = {toxic.type: toxic.counts for toxic in state.toxics}
        assert (bitten["latency"].connections, bitten["latency"].bytes) == (1, 5)  # type: ignore[union-attr]
        assert bitten["limit_data"].connections == 0  # type: ignore[union-attr]
        await client.disable("line")
        counts = (await until_open(client, 0)).counts
        assert counts is not None
        assert (counts.cut, counts.connections, counts.upstream_bytes) == (2, 2, 5)
        peer.close()
        other.close()


async def test_which_connections_are_bitten_repeats_with_the_seed() -> None:
    """Chance is the run's own."""

    async def fates(seed: int) -> str:
        async with EmbeddedToxiproxy(SystemClock(), Random(seed)) as server:
            client = ToxiproxyClient(server.host, server.port)
            async with line(client) as through:
                await client.add("line", Toxic.of("limit_data", {"bytes": 0}, toxicity=0.5))
                found = ""
                for _ in range(16):
                    peer = await through.connect()
                    found += "." if await peer.hear(1) else "x"
                    peer.close()
                return found

    assert await fates(1) == await fates(1) != await fates(2)


async def test_a_change_of_attributes_bites_the_same_connections() -> None:
    """Who was spared is spared still."""
    async with embedded() as client, line(client) as through:
        await client.add("line", Toxic.of("latency", {"latency": 0}, toxicity=0.5))
        peers = [await through.greeted() for _ in range(16)]
        for latency_ms in (1, 2, 1, 2, 1, 2):
            await client.change("line", Toxic.of("latency", {"latency": latency_ms}, toxicity=0.5))
            for peer in peers:
                assert await peer.ask(b"ping") == b"ping"
        state = await client.toxic("line", "latency_downstream")
        assert state.counts is not None
        assert 0 < state.counts.connections < 16
        for peer in peers:
            peer.close()


async def test_a_disabled_proxys_port_is_nobodys_own_end() -> None:
    """It stays bound, so that the kernel gives it to no outgoing connection, and refuses."""
    async with embedded() as client, line(client) as through:
        await client.disable("line")
        host, _, port = through.proxy.listen.rpartition(":")
        with socket.socket() as probe, pytest.raises(OSError, match="Address already in use"):
            probe.bind((host, int(port)))
        with pytest.raises(ConnectionRefusedError):
            await through.connect()


@pytest.mark.slow
async def test_who_is_gone_for_good_takes_nothing_more() -> None:
    """A client that was reset while what it said is held: the server learns of it when it answers, as over TCP."""
    async with embedded() as client, line(client) as through:
        peer = await through.greeted()
        await client.add("line", Toxic.of("bandwidth", {"rate": 0}, stream="upstream"))
        await peer.say(b"held")
        peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        peer.writer.transport.abort()
        while through.echo.tasks and not through.echo.tasks[0].done():
            with suppress(ConnectionError):
                await through.echo.peers[0].say(b"news")
        await until_open(client, 0)


async def test_whom_the_loop_has_accepted_already_is_sent_away() -> None:
    """Between a connection's acceptance and its begin the proxy may be disabled, and its server be found gone."""
    async with echoing() as echo:
        proxy = Proxy("line", ("127.0.0.1", 0), echo.address, SystemClock(), Random(1))
        over = Connection(SystemClock(), Random(1), lambda connection: None)
        over.close()
        for protocol in (proxy._accept(), over.client):
            ours, theirs = socket.socketpair()
            reader, writer = await asyncio.open_connection(sock=theirs)
            await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, ours)  # noqa: B023
            assert await reader.read() == b""
            writer.close()
        assert proxy.counts.open == 0
        await proxy.close()


async def test_leaving_ends_everything() -> None:
    """Connections in use, held, half open, and on their way: their clients see an end, and nothing stays behind."""
    async with echoing() as echo:
        async with embedded() as client:
            proxy = await client.create(ProxySpec("line", echo.address))
            peers: list[Peer] = [await connect(proxy) for _ in range(5)]
            await peers[0].hear(1)
            await client.add("line", Toxic.of("bandwidth", {"rate": 0}))
            await client.add("line", Toxic.of("latency", {"latency": FOREVER_MS}, stream="upstream"))
            await peers[1].say(b"held")
            peers[2].writer.write_eof()
            on_their_way = [asyncio.create_task(connect(proxy)) for _ in range(20)]
            await asyncio.sleep(0)
        came = await asyncio.gather(*on_their_way, return_exceptions=True)  # some are refused, or reset at once
        for peer in [*peers, *(one for one in came if isinstance(one, Peer))]:
            with suppress(ConnectionError):
                await peer.rest()
            peer.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(proxy)
