"""HTTP at its edges: what is refused, how, and what it costs those beside it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
from tests.plugins.serve.served import Served, read_answer, until

from squall import Event, Plugin, hookimpl
from squall.core.config import Backlog
from squall.core.errors import PublishError, Refused, StoreError
from squall.core.middleware import Middleware, guard
from squall.core.plugin import Context
from squall.plugins.memory import MemoryPlugin
from squall.plugins.serve.transports import MAX_HEAD_BYTES

pytestmark = pytest.mark.slow  # each has a server and connections to it

CE = {"id": "1", "source": "/shop", "type": "order.paid", "specversion": "1.0"}
POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n"
CE_HEAD = b"".join(f"ce-{name}: {value}\r\n".encode() for name, value in CE.items())


class Refuses(Plugin):
    """Refuses every publish with this error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        def refuse(event: Event) -> None:
            raise self.error

        return guard(refuse)


@pytest.mark.parametrize(
    ("error", "status", "outcome", "retry_after"),
    [
        (Refused("too fast", 1.2), 429, "fail", "2"),
        (Refused("not you"), 403, "fail", None),
        (ValueError("a bug"), 403, "fail", None),
        (StoreError("the disk is full"), 503, "fail", None),
        (StoreError("the connection broke", "info"), 503, "info", None),
        (PublishError("who knows", "info"), 503, "info", None),
    ],
)
async def test_a_publish_that_fails_says_what_became_of_it(
    error: Exception, status: int, outcome: str, retry_after: str | None
) -> None:
    """By status, outcome, and when to try again; over the WebSocket too."""
    async with Served(MemoryPlugin(), Refuses(error)) as served, served.client() as client:
        answer = await served.post(b"", **CE)
        assert (answer.status, answer.json["outcome"]) == (status, outcome)
        assert answer.headers.get("retry-after") == retry_after
        (receipt,) = await client.publish("a")
        assert receipt.outcome == {"fail": 2, "info": 3}[outcome]
        assert receipt.message == answer.json["detail"]
        assert receipt.HasField("retry_after_ms") == (retry_after is not None)


async def test_a_full_subscription_is_too_many_requests() -> None:
    """Its publishers may come again."""
    async with Served(backlog=Backlog(max_events=1, overflow="reject")) as served, served.client() as client:
        await client.subscribe(credit=0)
        assert (await served.post(b"", **CE)).status == 200
        answer = await served.post(b"", **{**CE, "id": "2"})
        assert (answer.status, answer.json["title"], answer.headers["retry-after"]) == (429, "Overflow", "1")


async def test_an_address_is_held_to_its_rate() -> None:
    """By HTTP and WebSocket together; a batch counts as a whole; it may go on when it has waited."""
    async with Served(rate=10) as served, served.client() as client:
        assert len([one for one in await client.publish(*["a"] * 25) if one.outcome == 1]) == 25
        answer = await served.post(b"", **CE)
        assert (answer.status, answer.json["title"]) == (429, "Refused")
        assert 1 <= int(answer.headers["retry-after"]) <= 2
        receipts = await client.publish("a", "b", atomic=True)
        assert [one.error for one in receipts] == ["Refused"] * 2
        assert 0 < receipts[0].retry_after_ms <= 1500
        assert served.router.get_metrics().published == 25


@pytest.mark.parametrize(
    ("request_line", "status", "title"),
    [
        (b"GET /v1/events", 405, "MethodNotAllowed"),
        (b"POST /readyz", 405, "MethodNotAllowed"),
        (b"GET /nowhere", 404, "NotFound"),
        (b"GET /v1/stream", 426, "BadRequest"),
        (b"GET /../etc/passwd", 404, "NotFound"),
    ],
)
async def test_other_requests_are_problems_too(request_line: bytes, status: int, title: str) -> None:
    """As JSON, with what was asked, and named for what is wrong."""
    async with Served() as served:
        answer = await served.raw(request_line + b" HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
        assert answer.json["title"] == title
        assert request_line.split()[1].decode() in answer.json["detail"]
        assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize(
    "request_",
    [b"\x16\x03\x01\x02\x00", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", POST + b"Content-Length: -1\r\n\r\n"],
)
async def test_what_is_no_http_is_answered_400(request_: bytes) -> None:
    """And closed."""
    async with Served() as served:
        assert (await served.raw(request_)).status == 400


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_too_large_is_refused_before_it_is_read(chunked: bool) -> None:
    """413, and the connection is closed; by what it announces, or by what came."""
    async with Served(max_request=10_000) as served:
        if chunked:
            body = POST + CE_HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + bytes(4096) + b"\r\n") * 4
        else:
            body = POST + CE_HEAD + b"Content-Length: 10001\r\n\r\n"
        answer = await served.raw(body)
        assert (answer.status, answer.headers["connection"]) == (413, "close")
        assert answer.json["outcome"] == "fail"


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    """408 after body_timeout."""
    async with Served(body_timeout=0.2) as served:
        answer = await served.raw(POST + CE_HEAD + b"Content-Length: 5\r\n\r\nab")
        assert (answer.status, answer.headers["connection"]) == (408, "close")


async def test_a_body_cut_off_publishes_nothing() -> None:
    """However much of it came."""
    async with Served() as served:
        for cut in range(0, 5):
            _, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(POST + CE_HEAD + b"Content-Length: 5\r\n\r\n" + b"abcd"[:cut])
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        assert (await served.post(b"", **CE)).json["seq"] == 1


async def test_a_head_that_does_not_end_is_cut() -> None:
    """By time, and by size."""
    async with Served(header_timeout=0.2) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(b"GET /readyz HTTP/1.1\r\nHost: local")
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
    async with Served() as served:
        assert (await served.raw(POST + b"X: " + b"a" * (2 * MAX_HEAD_BYTES))).status == 400


async def test_a_connection_that_says_nothing_is_cut() -> None:
    """It never began a request."""
    async with Served(header_timeout=0.2) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_a_connection_is_kept_for_the_next_request_and_no_longer() -> None:
    """Until idle_timeout; a request that drips then has a head's time again."""
    async with Served(idle_timeout=0.2, header_timeout=0.4) as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        for _ in range(3):
            writer.write(POST + CE_HEAD + b"Content-Length: 0\r\n\r\n")
            assert (await read_answer(reader)).status == 200
        assert await reader.read() == b""
        writer.close()
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(POST + CE_HEAD + b"Content-Length: 0\r\n\r\n")
        assert (await read_answer(reader)).status == 200
        writer.write(b"\r\n")  # a blank line, which begins nothing
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()


async def test_connections_beyond_the_limit_are_closed() -> None:
    """And one may come when another has gone."""
    async with Served(connections=3) as served:
        async with held_open(served.port, 3, b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.close()
        assert served.server._uvicorn is not None
        state = served.server._uvicorn.server_state
        await until(lambda: not state.connections)
        assert (await served.http("GET", "/readyz")).status == 200


@contextlib.asynccontextmanager
async def held_open(port: int, n: int, drip: bytes) -> AsyncIterator[list[asyncio.StreamReader]]:
    """n connections that send a byte of `drip` a turn, for ever."""
    streams = [await asyncio.open_connection("127.0.0.1", port) for _ in range(n)]
    await asyncio.sleep(0.05)

    async def dripping() -> None:
        for byte in drip:
            for _, writer in streams:
                if not writer.is_closing():
                    writer.write(bytes([byte]))
            await asyncio.sleep(0.02)

    task = asyncio.ensure_future(dripping())
    try:
        yield [reader for reader, _ in streams]
    finally:
        task.cancel()
        for _, writer in streams:
            writer.close()
        await asyncio.gather(*(writer.wait_closed() for _, writer in streams), task, return_exceptions=True)


@pytest.mark.parametrize("path", ["/v1/events", "/v1/stream"])
async def test_two_hundred_connections_that_drip_hurt_nobody(path: str) -> None:
    """They are cut when a head's time is over, one client publishes and subscribes all the while."""
    drip = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX: ".encode() + b"a" * 10_000
    async with Served(header_timeout=1.0) as served, served.client() as client:
        await client.subscribe(credit=100_000)
        async with held_open(served.port, 200, drip) as readers:
            for number in range(100):
                await client.publish(f"n{number}")
                await client.deliveries(1)
                assert (await served.http("GET", "/readyz")).status == 200
            for reader in readers:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""


async def test_metrics_are_prometheus_text() -> None:
    """What plugins count, and the server's own."""
    async with Served() as served, served.client() as client:
        await client.subscribe()
        answer = await served.http("GET", "/metrics")
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"\nsquall_connections 1\n" in answer.body
        assert b"\nsquall_remote_subscriptions 1\n" in answer.body


async def test_health_and_readiness() -> None:
    """Not ready while it drains; healthy still."""
    async with Served() as served:
        assert (await served.http("GET", "/healthz")).json == {"status": "ok"}
        assert (await served.http("GET", "/readyz")).json == {"status": "ready"}
        served.server.hub.drain(1)
        answer = await served.http("GET", "/readyz")
        assert (answer.status, answer.json["detail"]) == (503, "the server is stopping")
        assert (await served.http("GET", "/healthz")).status == 200
        refused = await served.post(b"", **CE)
        assert (refused.status, refused.json["outcome"], refused.headers["retry-after"]) == (503, "fail", "5")


async def test_small_writes_do_not_wait_for_each_other() -> None:
    """TCP_NODELAY: a frame after a frame would be held for 40 ms."""
    async with Served() as served, served.client():
        assert served.server._uvicorn is not None
        for connection in served.server._uvicorn.server_state.connections:
            own = connection.transport.get_extra_info("socket")
            assert own.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
