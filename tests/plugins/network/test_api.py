"""The embedded server answers requests as Toxiproxy does: status, errors, and the shape of what it shows."""

from __future__ import annotations

import asyncio
import http.client
import json
from typing import Any

import pytest
from tests.plugins.network.conftest import Serve, embedded
from tests.plugins.network.peers import echoing
from tests.servers import free_port

from squall.plugins.network.client import ProxySpec, ToxiproxyClient
from squall.plugins.network.embedded import MAX_BODY_BYTES

AGENT = {"User-Agent": "squall-tests"}
NEW = "127.0.0.1:0"


async def request(
    client: ToxiproxyClient, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Status and body of one request, which no client of ours has looked at; JSON is decoded."""
    host, _, port = client.address.rpartition(":")

    def ask() -> tuple[int, Any]:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        try:
            sent = body if isinstance(body, bytes | None) else json.dumps(body)
            connection.request(method, path, sent, AGENT | (headers or {}))
            response = connection.getresponse()
            content = response.read().decode()
        finally:
            connection.close()
        return response.status, json.loads(content) if content[:1] in ("{", "[") else content

    return await asyncio.to_thread(ask)


ERRORS = [
    ("GET", "/nothing", None, 404, "404 page not found\n"),
    ("GET", "/proxies/line/toxics/latency/more", None, 404, "404 page not found\n"),
    ("PUT", "/proxies", None, 405, ""),
    ("GET", "/reset", None, 405, ""),
    ("GET", "/proxies/nobody", None, 404, "proxy not found"),
    ("POST", "/proxies/nobody", {}, 404, "proxy not found"),
    ("DELETE", "/proxies/nobody", None, 404, "proxy not found"),
    ("GET", "/proxies/nobody/toxics", None, 404, "proxy not found"),
    ("POST", "/proxies/nobody/toxics", {}, 404, "proxy not found"),
    ("GET", "/proxies/line/toxics/none", None, 404, "toxic not found"),
    ("PATCH", "/proxies/line/toxics/none", {}, 404, "toxic not found"),
    ("DELETE", "/proxies/line/toxics/none", None, 404, "toxic not found"),
    ("POST", "/proxies", b"nonsense", 400, "bad request body: "),
    ("POST", "/proxies", {"name": 5, "upstream": "127.0.0.1:1"}, 400, "bad request body: "),
    ("POST", "/proxies", {"upstream": "127.0.0.1:1"}, 400, "missing required field: name"),
    ("POST", "/proxies", {"name": "x"}, 400, "missing required field: upstream"),
    ("POST", "/proxies", {"name": "line", "upstream": "127.0.0.1:1", "listen": NEW}, 409, "proxy already exists"),
    ("POST", "/proxies/line", b"{", 400, "bad request body: "),
    ("POST", "/populate", {"name": "x"}, 400, "bad request body: "),
    ("POST", "/populate", [{"name": "x"}], 400, "missing required field: upstream at proxy 1"),
    ("POST", "/proxies/line/toxics", b"", 400, "bad request body: "),
    ("POST", "/proxies/line/toxics", {"type": "latncy"}, 400, "invalid toxic type"),
    ("POST", "/proxies/line/toxics", {"type": "latency", "stream": "side"}, 400, "stream was invalid, can be either "),
    ("POST", "/proxies/line/toxics", {"type": "latency", "attributes": {"latency": "5"}}, 400, "bad request body: "),
    ("POST", "/proxies/line/toxics", {"type": "latency", "attributes": {"latency": 5.5}}, 400, "bad request body: "),
    ("POST", "/proxies/line/toxics", {"type": "latency", "name": "there"}, 409, "toxic already exists"),
    ("POST", "/proxies/line/toxics/there", {"attributes": {"latency": "5"}}, 400, "bad request body: "),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "said"), ERRORS)
async def test_mistakes_are_answered_alike(
    serve: Serve, method: str, path: str, body: object, status: int, said: str
) -> None:
    """The status code, and a body of JSON that repeats it and says what is wrong; and nothing has changed."""
    async with serve() as client, echoing() as echo:
        await client.create(ProxySpec("line", echo.address))
        await request(client, "POST", "/proxies/line/toxics", {"type": "latency", "name": "there"})
        before = await client.proxies()
        got, answer = await request(client, method, path, body)
        assert got == status
        if isinstance(answer, dict):
            assert answer["status"] == status
            assert answer["error"].startswith(said)
        else:
            assert answer == said
        assert await client.proxies() == before


async def test_answers_have_the_same_shape(serve: Serve) -> None:
    """What every client of Toxiproxy reads is there; PATCH and POST change alike; unknown attributes are ignored."""
    async with serve() as client, echoing() as echo:
        said = {"name": "line", "upstream": echo.address, "listen": NEW}
        status, proxy = await request(client, "POST", "/proxies", said)
        assert status == 201
        assert proxy.items() >= {"name": "line", "upstream": echo.address, "enabled": True, "toxics": []}.items()
        toxic = {"type": "latency", "attributes": {"latncy": 5, "jitter": 2}}
        status, made = await request(client, "POST", "/proxies/line/toxics", toxic)
        expected = {
            "name": "latency_downstream",
            "type": "latency",
            "stream": "downstream",
            "toxicity": 1,
            "attributes": {"latency": 0, "jitter": 2},
        }
        assert (status, {key: made[key] for key in expected}) == (200, expected)
        for method in ("POST", "PATCH"):
            path = "/proxies/line/toxics/latency_downstream"
            status, made = await request(client, method, path, {"attributes": {"latency": 7}, "toxicity": 0.5})
            assert (status, made["attributes"], made["toxicity"]) == (200, {"latency": 7, "jitter": 2}, 0.5)
            status, proxy = await request(client, method, "/proxies/line", {"enabled": False})
            assert (status, proxy["enabled"], len(proxy["toxics"])) == (200, False, 1)
        assert await request(client, "DELETE", "/proxies/line/toxics/latency_downstream") == (204, "")
        assert await request(client, "DELETE", "/proxies/line") == (204, "")
        assert await request(client, "POST", "/reset") == (204, "")
        assert await request(client, "POST", "/populate", []) == (201, {"proxies": []}) or serve is not embedded


async def test_browsers_get_nothing(serve: Serve) -> None:
    """A page that is open in a browser on this machine cannot make proxies."""
    async with serve() as client:
        status, _ = await request(client, "GET", "/proxies", headers={"User-Agent": "Mozilla/5.0"})
        assert status == 403


async def test_another_hosts_requests_get_nothing() -> None:
    """A name that was made to lead to this machine is not this machine's."""
    async with embedded() as client:
        assert (await request(client, "GET", "/proxies", headers={"Host": "evil.example:80"}))[0] == 403
        assert (await request(client, "GET", "/proxies", headers={"Host": "localhost"}))[0] == 200


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ({"listen": "0.0.0.0:0"}, "listen: expected an address of this machine's own such as 127.0.0.1"),
        ({"listen": "example.org:80"}, "listen: expected an address such as 127.0.0.1"),
        ({"listen": "127.0.0.1"}, "listen: expected host:port such as 127.0.0.1:0"),
        ({"listen": "127.0.0.1:99999"}, "listen: expected host:port such as 127.0.0.1:0"),
        ({"upstream": "127.0.0.1"}, "bad request body: upstream: expected host:port"),
    ],
)
async def test_addresses_that_lead_nowhere_are_refused(told: dict[str, str], said: str) -> None:
    """The embedded server lets nobody in from outside."""
    async with embedded() as client:
        body = {"name": "line", "upstream": "127.0.0.1:1"} | told
        status, answer = await request(client, "POST", "/proxies", body)
        assert (status, answer["error"][: len(said)]) == (400, said)


@pytest.mark.parametrize("attributes", [{}, {"average_size": 0}, {"average_size": 5, "size_variation": 9}])
async def test_what_would_end_the_server_is_refused(attributes: dict[str, int]) -> None:
    """A slicer that can never be done."""
    async with embedded() as client, echoing() as echo:
        await client.create(ProxySpec("line", echo.address))
        toxic = {"type": "slicer", "attributes": attributes}
        assert (await request(client, "POST", "/proxies/line/toxics", toxic))[0] == 400


async def test_bodies_are_bounded() -> None:
    """More than a megabyte is not read."""
    async with embedded() as client:
        body = b'"' + b"x" * MAX_BODY_BYTES + b'"'
        assert (await request(client, "POST", "/populate", body))[0] == 413
        assert await client.version()


async def test_a_nesting_bomb_is_an_error() -> None:
    async with embedded() as client:
        assert (await request(client, "POST", "/populate", b"[" * 200_000))[0] == 400


async def test_nonsense_and_silence_disturb_nobody() -> None:
    """Bytes that are no HTTP are not answered, who says nothing is in nobody's way, and leaving ends them all."""
    async with embedded() as client:
        host, _, port = client.address.rpartition(":")
        silent = [await asyncio.open_connection(host, int(port)) for _ in range(70)]
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
        assert await client.version()
    for reader, writer in silent:
        assert await reader.read() == b""
        writer.close()


async def test_several_requests_may_share_a_connection() -> None:
    """Kept alive, and told to go on with a body."""
    async with embedded() as client:
        host, _, port = client.address.rpartition(":")

        def ask() -> list[int]:
            connection = http.client.HTTPConnection(host, int(port), timeout=10)
            statuses = []
            for _ in range(3):
                connection.request("POST", "/populate", b"[]", AGENT)
                response = connection.getresponse()
                response.read()
                statuses.append(response.status)
            connection.close()
            return statuses

        assert await asyncio.to_thread(ask) == [201, 201, 201]
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"POST /populate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"[]")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 201 ")
        writer.close()


async def test_its_own_port_may_be_chosen_and_may_be_taken() -> None:
    from random import Random

    from squall.core.clock import SystemClock
    from squall.plugins.network.embedded import EmbeddedToxiproxy

    port = free_port()
    async with EmbeddedToxiproxy(SystemClock(), Random(5), port=port) as server:
        assert server.port == port
        with pytest.raises(OSError, match="address already in use"):
            async with EmbeddedToxiproxy(SystemClock(), Random(5), port=port):
                pass
