"""What is done to proxies, by one client on the embedded server and on Toxiproxy; each mistake is one clear error."""

from __future__ import annotations

import asyncio
import re

import pytest
from tests.plugins.network.conftest import Serve
from tests.plugins.network.peers import FOREVER_MS, connect, echoing, line
from tests.servers import free_port

from squall.core.errors import ConfigError
from squall.plugins.network.client import (
    AlreadyExists,
    NotFound,
    PortTaken,
    ProxySpec,
    Refused,
    ToxiproxyClient,
    ToxiproxyError,
    Unreachable,
)
from squall.plugins.network.toxics import Toxic

LATENCY = Toxic.of("latency", {"latency": FOREVER_MS})


async def test_the_version_is_told(serve: Serve) -> None:
    async with serve() as client:
        assert await client.version()


async def test_a_proxy_is_made_found_and_deleted(serve: Serve) -> None:
    """It listens where its state says, on a port that was free."""
    async with serve() as client, echoing() as echo:
        made = await client.create(ProxySpec("line", echo.address))
        assert (made.name, made.upstream, made.enabled, made.toxics) == ("line", echo.address, True, ())
        assert re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", made.listen)
        assert (await client.proxy("line")).listen == (await client.proxies())["line"].listen == made.listen
        peer = await connect(made)
        assert await peer.hear(6) == b"hello\n"
        await client.delete("line")
        assert await client.proxies() == {}
        assert await peer.rest() == b""
        peer.close()
        with pytest.raises(ConnectionRefusedError):
            await connect(made)


async def test_a_name_may_be_anything(serve: Serve) -> None:
    """Blanks, slashes and question marks too."""
    async with serve() as client, echoing() as echo:
        name = "squall 7f?x#ü"
        await client.create(ProxySpec(name, echo.address))
        await client.add(name, LATENCY)
        assert [toxic.name for toxic in (await client.proxy(name)).toxics] == ["latency_downstream"]
        await client.delete(name)


async def test_down_ends_connections_and_refuses_new_ones(serve: Serve) -> None:
    """Enabled again, it listens at the port that it had."""
    async with serve() as client, line(client) as through:
        peer = await through.greeted()
        await client.disable("line")
        assert not (await client.proxy("line")).enabled
        assert await peer.rest() == b""
        peer.close()
        with pytest.raises(ConnectionRefusedError):
            await through.connect()
        assert (await client.enable("line")).listen == through.proxy.listen
        peer = await through.greeted()
        assert await peer.ask(b"ping") == b"ping"
        peer.close()


async def test_enabling_and_disabling_twice_changes_nothing(serve: Serve) -> None:
    async with serve() as client, line(client) as through:
        await client.enable("line")
        peer = await through.greeted()
        await client.enable("line")
        assert await peer.ask(b"ping") == b"ping"
        await client.disable("line")
        await client.disable("line")
        await client.enable("line")
        peer.close()


async def test_a_proxy_whose_server_is_gone_ends_the_connection(serve: Serve) -> None:
    """Its clients are connected, and then are not."""
    async with serve() as client:
        proxy = await client.create(ProxySpec("line", f"127.0.0.1:{free_port()}"))
        peer = await connect(proxy)
        assert await peer.rest() == b""
        peer.close()


async def test_a_proxy_can_lead_elsewhere(serve: Serve) -> None:
    """Those who came before are sent away."""
    async with serve() as client, line(client) as through, echoing(b"other\n") as other:
        peer = await through.greeted()
        moved = await client.update(ProxySpec("line", other.address, through.proxy.listen))
        assert moved.upstream == other.address
        assert await peer.rest() == b""
        peer.close()
        peer = await through.connect()
        assert await peer.hear(6) == b"other\n"
        peer.close()


async def test_populate_makes_proxies_and_keeps_those_that_are_there(serve: Serve) -> None:
    """What is there and the same stays as it is, toxics too; what leads elsewhere is made anew."""
    async with serve() as client, echoing() as echo, echoing() as other:
        first, second = (ProxySpec(name, echo.address, f"127.0.0.1:{free_port()}") for name in ("first", "second"))
        made = await client.populate([first, second])
        assert [(one.name, one.listen, one.enabled) for one in made] == [
            ("first", first.listen, True),
            ("second", second.listen, True),
        ]
        await client.add("first", LATENCY)
        await client.add("second", LATENCY)
        made = await client.populate([first, ProxySpec("second", other.address, second.listen)])
        assert [one.upstream for one in made] == [echo.address, other.address]
        assert [len(one.toxics) for one in made] == [1, 0]
        assert set(await client.proxies()) == {"first", "second"}


async def test_reset_enables_all_proxies_and_takes_all_toxics_away(serve: Serve) -> None:
    """What toxics held goes on."""
    async with serve() as client, line(client) as through, line(client, "other"):
        peer = await through.greeted()
        await client.add("line", LATENCY)
        await client.add("line", Toxic.of("bandwidth", {"rate": 0}, stream="upstream"))
        await client.disable("other")
        await peer.say(b"held")
        await client.reset()
        proxies = await client.proxies()
        assert all(proxy.enabled and not proxy.toxics for proxy in proxies.values())
        assert await peer.hear(4) == b"held"
        peer.close()


async def test_toxics_are_listed_shown_and_removed(serve: Serve) -> None:
    """With what they were told, and the defaults for the rest."""
    async with serve() as client, line(client):
        await client.add("line", Toxic.of("slicer", {"average_size": 9, "delay": 5}, stream="upstream", toxicity=0.25))
        await client.add("line", Toxic.of("timeout", {"timeout": 7}, name="mine"))
        states = {toxic.name: toxic for toxic in await client.toxics("line")}
        assert set(states) == {"slicer_upstream", "mine"}
        slicer = await client.toxic("line", "slicer_upstream")
        assert (slicer.type, slicer.stream, slicer.toxicity) == ("slicer", "upstream", 0.25)
        assert slicer.attributes == {"average_size": 9, "size_variation": 0, "delay": 5}
        assert states["mine"].stream == "downstream"
        await client.remove("line", "mine")
        assert [toxic.name for toxic in await client.toxics("line")] == ["slicer_upstream"]


@pytest.mark.parametrize(
    ("kind", "attributes", "said"),
    [
        ("latency", {"latncy": 300}, "'latncy' is not an option of toxic latency (did you mean 'latency'?)"),
        ("latency", {"latency": "300ms"}, "latency: expected a whole number, got the text '300ms'"),
        ("latency", {"latency": -1}, "latency: expected at least 0, got -1"),
        ("latncy", {}, "there is no toxic 'latncy' (did you mean 'latency'?)"),
        ("bandwidth", {"rate": 1.5}, "rate: expected a whole number, got 1.5"),
        ("bandwidth", {"rate": -1}, "rate: expected at least 0, got -1"),
        ("slicer", {}, "'average_size' is required in toxic slicer"),
        ("slicer", {"average_size": 0}, "average_size: expected at least 1, got 0"),
        ("slicer", {"average_size": 5, "size_variation": 5}, "expected less than average_size (5), got 5"),
        ("limit_data", {"byte": 1}, "(did you mean 'bytes'?)"),
    ],
)
def test_what_a_toxic_is_told_is_checked_before_it_is_sent(kind: str, attributes: dict[str, object], said: str) -> None:
    """Toxiproxy would take a wrong name without a word, and end itself over some of the values."""
    with pytest.raises(ConfigError, match=re.escape(said)) as caught:
        Toxic.of(kind, attributes)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"stream": "sideways"}, "stream: expected upstream or downstream, got 'sideways'"),
        ({"toxicity": 1.5}, "toxicity: expected a share from 0 to 1, got 1.5"),
    ],
)
def test_where_and_how_often_a_toxic_acts_is_checked(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Toxic.of("latency", {}, **options)  # type: ignore[arg-type]


async def test_each_mistake_is_an_error_of_its_own(serve: Serve) -> None:
    """Names that are there or are not, ports that are taken: each says who was asked what, and the answer."""
    async with serve() as client, line(client) as through:
        other = ProxySpec("other", through.echo.address, through.proxy.listen)
        with pytest.raises(AlreadyExists, match=r"POST /proxies: proxy already exists \(409\)"):
            await client.create(ProxySpec("line", through.echo.address))
        with pytest.raises(PortTaken, match=rf"{through.proxy.listen}: bind: address already in use .*port 0"):
            await client.create(other)
        with pytest.raises(PortTaken):
            await client.populate([other])
        assert set(await client.proxies()) == {"line"}
        with pytest.raises(NotFound, match=r"GET /proxies/nobody: proxy not found \(404\)"):
            await client.proxy("nobody")
        with pytest.raises(NotFound, match="toxic not found"):
            await client.remove("line", "latency_downstream")
        with pytest.raises(NotFound, match="toxic not found"):
            await client.change("line", LATENCY)
        await client.add("line", LATENCY)
        with pytest.raises(AlreadyExists, match="toxic already exists"):
            await client.add("line", LATENCY)
        with pytest.raises(Refused, match="missing required field: upstream"):
            await client.create(ProxySpec("empty", ""))
        with pytest.raises(Refused, match="missing required field: name at proxy 1"):
            await client.populate([ProxySpec("", through.echo.address)])


async def test_a_server_that_ignores_what_it_is_told_is_noticed(serve: Serve) -> None:
    """What it has is compared with what it was told."""

    class Newer(type(LATENCY.attributes)):  # type: ignore[misc]
        noun = "a toxic of a version to come"
        drift: int = 1

    async with serve() as client, line(client):
        newer = Toxic("newer", "latency", "downstream", 1.0, Newer(latency=1))
        with pytest.raises(Refused, match=r"took \{'latency': 1, 'jitter': 0\}, told .*'drift': 1"):
            await client.add("line", newer)


async def test_two_servers_have_a_client_each(serve: Serve) -> None:
    """The library has one host and port for all of its users; a client here has its own."""
    async with serve() as client, line(client):
        nobody = ToxiproxyClient("127.0.0.1", free_port())
        with pytest.raises(Unreachable, match=rf"Toxiproxy at {nobody.address}: .* is it running"):
            await nobody.version()
        assert set(await client.proxies()) == {"line"}


async def test_the_environments_http_proxy_is_not_asked(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of this machine's own server does not go elsewhere."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    async with serve() as client:
        assert await client.version()


async def test_who_is_not_toxiproxy_is_noticed() -> None:
    """Somebody else's HTTP server, and a server that does not speak HTTP."""

    async def page(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
        writer.close()

    async with echoing() as echo:
        host, _, port = echo.address.rpartition(":")
        with pytest.raises(ToxiproxyError, match=f"Toxiproxy at {echo.address}"):
            await ToxiproxyClient(host, int(port)).version()
    server = await asyncio.start_server(page, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    with pytest.raises(Unreachable, match="is not Toxiproxy: GET /version: b'hi'"):
        await ToxiproxyClient("127.0.0.1", int(port)).version()
    server.close()


async def test_a_server_that_does_not_answer_is_waited_for_only_so_long() -> None:
    """And the next call is not held up by it."""

    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    server = await asyncio.start_server(deaf, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    client = ToxiproxyClient("127.0.0.1", port, timeout_s=0.1)
    with pytest.raises(Unreachable, match=r"no answer within 0\.1 s"):
        await client.version()
    server.close()
