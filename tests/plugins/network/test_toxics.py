"""Each toxic does the same through the embedded proxy and through Toxiproxy, in the direction that it is put in.

What is to be slow is measured from below only; what is to be held is held for ten minutes, so that whatever comes at
all comes because the toxic was taken away.
"""

from __future__ import annotations

import asyncio

import pytest
from tests.plugins.network.conftest import Serve
from tests.plugins.network.peers import FOREVER_MS, GREETING, Line, Peer, Stopwatch, line

from squall.plugins.network.toxics import Toxic

pytestmark = pytest.mark.slow  # each has a server and connections to it

BOTH = pytest.mark.parametrize("stream", ["upstream", "downstream"])
SLACK_S = 0.005  # a server's timers count in milliseconds


async def put(to: Line, kind: str, stream: str, toxicity: float = 1.0, **attributes: int) -> None:
    await to.client.add(to.proxy.name, Toxic.of(kind, attributes, stream=stream, toxicity=toxicity))


async def take(away: Line, kind: str, stream: str) -> None:
    await away.client.remove(away.proxy.name, f"{kind}_{stream}")


async def test_without_toxics_everything_passes(serve: Serve) -> None:
    """Both ways, whole and in order, also more than any buffer holds."""
    data = bytes(range(256)) * 20_000
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        _, back = await asyncio.gather(peer.say(data), peer.hear(len(data)))
        assert back == data
        peer.close()


@BOTH
async def test_latency_delays_what_is_sent(serve: Serve, stream: str) -> None:
    """Every answer takes that much longer, on a connection that was there before too."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "latency", stream, latency=120)
        watch = Stopwatch()
        assert await peer.ask(b"ping") == b"ping"
        assert watch() >= 0.12 - SLACK_S
        peer.close()


async def test_latency_acts_in_its_direction_alone(serve: Serve) -> None:
    """With ten minutes upstream, the server's greeting comes, and what is said is not heard."""
    async with serve() as client, line(client) as through:
        await put(through, "latency", "upstream", latency=FOREVER_MS)
        peer = await through.greeted()
        await peer.say(b"ping")
        assert await peer.silent()
        assert through.echo.heard == b""
        await take(through, "latency", "upstream")
        assert await peer.hear(4) == b"ping"
        peer.close()


@BOTH
async def test_what_latency_holds_goes_on_when_it_is_taken_away(serve: Serve, stream: str) -> None:
    """Nothing is lost, and the order stays."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "latency", stream, latency=FOREVER_MS)
        for number in range(10):
            await peer.say(b"%d" % number)
        assert await peer.silent()
        await take(through, "latency", stream)
        assert await peer.ask(b"end") + await peer.hear(10) == b"0123456789end"
        peer.close()


async def test_jitter_varies_the_latency(serve: Serve) -> None:
    """Delays lie around the latency, and are not all the same."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "latency", "downstream", latency=60, jitter=50)
        delays = []
        for _ in range(12):
            watch = Stopwatch()
            assert await peer.ask(b"ping") == b"ping"
            delays.append(watch())
        assert min(delays) >= 0.01 - SLACK_S
        assert max(delays) - min(delays) > 0.01
        peer.close()


async def test_a_toxic_can_be_told_otherwise(serve: Serve) -> None:
    """From ten minutes to nothing: what was held comes, and what follows too."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "latency", "downstream", latency=FOREVER_MS)
        await peer.say(b"held")
        assert await peer.silent()
        state = await client.change("line", Toxic.of("latency", {"latency": 0}))
        assert state.attributes == {"latency": 0, "jitter": 0}
        assert await peer.hear(4) == b"held"
        assert await peer.ask(b"next") == b"next"
        peer.close()


@BOTH
async def test_bandwidth_limits_the_rate(serve: Serve, stream: str) -> None:
    """40 KB at 100 KB/s take 0.4 s."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "bandwidth", stream, rate=100)
        data = b"x" * 40_000
        watch = Stopwatch()
        assert await peer.ask(data) == data
        assert watch() >= 0.4 - 0.1 - SLACK_S  # Toxiproxy lets the first tenth of a second pass early
        peer.close()


@BOTH
async def test_slow_close_delays_the_end(serve: Serve, stream: str) -> None:
    """Data passes at once, the end of the stream later."""
    async with serve() as client, line(client) as through:
        await put(through, "slow_close", stream, delay=150)
        peer = await through.greeted()
        assert await peer.ask(b"ping") == b"ping"
        watch = Stopwatch()
        if stream == "upstream":
            peer.close()
            await through.echo.ended.wait()
        else:
            through.echo.peers[0].close()
            assert await peer.rest() == b""
        assert watch() >= 0.15 - SLACK_S
        peer.close()


@BOTH
async def test_timeout_lets_nothing_through_and_then_closes(serve: Serve, stream: str) -> None:
    """Nothing that was sent arrives."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "timeout", stream, timeout=150)
        watch = Stopwatch()
        await peer.say(b"lost")
        assert await peer.rest() == b""
        assert watch() >= 0.15 - SLACK_S
        assert bytes(through.echo.heard) == (b"" if stream == "upstream" else b"lost")
        peer.close()


@BOTH
async def test_timeout_of_zero_never_closes_until_it_is_taken_away(serve: Serve, stream: str) -> None:
    """After loss a connection makes no sense: taking the toxic away ends it."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "timeout", stream, timeout=0)
        await peer.say(b"lost")
        assert await peer.silent()
        await take(through, "timeout", stream)
        assert await peer.rest() == b""
        peer.close()
        after = await through.greeted()
        assert await after.ask(b"ping") == b"ping"
        after.close()


@BOTH
async def test_reset_peer_resets_the_connection(serve: Serve, stream: str) -> None:
    """The client sees a reset, not an end."""
    async with serve() as client, line(client) as through:
        await put(through, "reset_peer", stream, timeout=50)
        watch = Stopwatch()
        peer = await through.connect()
        await peer.say(b"ping")
        with pytest.raises(ConnectionResetError):
            await peer.rest()
        assert watch() >= 0.05 - SLACK_S
        peer.close()


@BOTH
async def test_slicer_cuts_what_is_sent_into_pieces(serve: Serve, stream: str) -> None:
    """A thousand bytes at a hundred each come in about ten pieces, ten milliseconds apart."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "slicer", stream, average_size=100, size_variation=20, delay=10_000)
        data = bytes(range(250)) * 4
        watch = Stopwatch()
        await peer.say(data)
        first = await peer.reader.read(2**16)
        assert 0 < len(first) <= 400
        assert first + await peer.hear(len(data) - len(first)) == data
        assert watch() >= 0.05
        peer.close()


async def test_limit_data_closes_after_so_many_bytes(serve: Serve) -> None:
    """The bytes arrive, and then the end."""
    async with serve() as client, line(client) as through:
        await put(through, "limit_data", "downstream", bytes=len(GREETING) + 4)
        peer = await through.greeted()
        await peer.say(b"01234567")
        assert await peer.hear(8) == b"0123"
        peer.close()


async def test_limit_data_counts_in_its_direction(serve: Serve) -> None:
    """Upstream it is what the client says that counts, not what it hears."""
    async with serve() as client, line(client) as through:
        await put(through, "limit_data", "upstream", bytes=4)
        peer = await through.greeted()
        await peer.say(b"01234567")
        await through.echo.ended.wait()
        assert through.echo.heard == b"0123"
        peer.close()


async def test_toxicity_chooses_connections(serve: Serve) -> None:
    """At one half some connections are bitten and others are not, each for as long as it lasts."""
    async with serve() as client, line(client) as through:
        await put(through, "limit_data", "downstream", toxicity=0.5, bytes=0)
        fates: set[str] = set()
        while fates != {"bitten", "spared"}:
            peer = await through.connect()
            if await peer.hear(len(GREETING)) == b"":
                fates.add("bitten")
            else:
                assert await peer.ask(b"ping") == b"ping"
                fates.add("spared")
            peer.close()


async def test_toxicity_of_nothing_bites_nobody(serve: Serve) -> None:
    async with serve() as client, line(client) as through:
        await put(through, "limit_data", "downstream", toxicity=0.0, bytes=0)
        for _ in range(10):
            peer = await through.greeted()
            peer.close()


async def test_toxics_act_one_after_the_other(serve: Serve) -> None:
    """A slow link that is cut: both are noticed."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await put(through, "latency", "downstream", latency=100)
        await put(through, "limit_data", "downstream", bytes=4)
        watch = Stopwatch()
        await peer.say(b"ping")
        assert await peer.rest() == b"ping"
        assert watch() >= 0.1 - SLACK_S
        peer.close()


async def test_many_connections_at_once(serve: Serve) -> None:
    """Two hundred, each with its own answers."""

    async def talk(through: Line, number: int) -> None:
        peer: Peer = await through.greeted()
        said = b"%06d" % number * 50
        assert await peer.ask(said) == said
        peer.close()

    async with serve() as client, line(client) as through:
        await put(through, "latency", "downstream", latency=20)
        await asyncio.gather(*(talk(through, number) for number in range(200)))
