"""The connection itself: what is let in, how it is trusted, and what breaks the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.core.world import Log
from tests.plugins.remote.proxied import network
from tests.plugins.serve.served import Served, until
from websockets.asyncio.server import ServerConnection, serve
from websockets.typing import Subprotocol

import squall
from squall import PublishError
from squall.plugins.remote.errors import ProtocolError, Unreachable
from squall.protos import wire_pb2 as pb

pytestmark = pytest.mark.slow  # each has a server and connections to it

WRONG = pb.Delivery(delivery=1, event=pb.Event(id="e", type="a", metadata=b"no JSON"))
WELCOME = pb.ServerFrame(
    welcome=pb.Welcome(
        max_frame_bytes=10**6, max_events=1000, max_publishes=8, max_in_flight=10, dedupe_window_ms=120_000
    )
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem of localhost."""
    folder = tmp_path_factory.mktemp("tls")
    command = "req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(["openssl", *command.split(), *files], check=True, capture_output=True)
    return folder


async def test_tls_is_spoken_where_the_certificate_is_trusted(certificate: Path) -> None:
    """And nothing is said to a server whose certificate is not: at once, since that does not change."""
    tls = {"certificate": str(certificate / "cert.pem"), "key": str(certificate / "key.pem")}
    async with Served(tls=tls) as served:
        url = f"https://localhost:{served.port}"
        trusted = ssl.create_default_context(cafile=certificate / "cert.pem")
        async with squall.connect(url, tls=trusted) as remote:
            assert await remote.publisher("shop").publish("a", b"")
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            async with squall.connect(url):
                pass


@pytest.mark.parametrize(
    ("asked", "said"), [("http", "if it speaks TLS, connect to it by https://"), ("https", "if it speaks no TLS, ")]
)
async def test_a_url_of_the_other_scheme_is_told(certificate: Path, asked: str, said: str) -> None:
    """Who wrote http where the server speaks TLS, and the other way round, reads it."""
    tls = {"certificate": str(certificate / "cert.pem"), "key": str(certificate / "key.pem")}
    async with Served(tls=tls if asked == "http" else None) as served:
        log = Log()
        remote = squall.connect(f"{asked}://localhost:{served.port}", logger=log.logger)
        starting = asyncio.ensure_future(remote.start())
        await until(lambda: said in log.text)
        await remote.stop(timeout_s=0)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)


@pytest.mark.parametrize(
    ("url", "options", "said"),
    [
        ("ftp://a", {}, "url: expected http, https, ws or wss"),
        ("http://", {}, "url"),
        ("http://name:secret@a", {}, "url"),
        ("http://a:99999", {}, "url"),
        ("http://a", {"tls": ssl.create_default_context()}, "tls: expected an https"),
        ("http://a", {"deadline_s": 0}, "deadline_s: expected 0.001 to 86400, got 0"),
        ("http://a", {"buffer_events": True}, "buffer_events"),
        ("http://a", {"token": "two\nlines"}, "token: expected printable ASCII text"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_done(url: str, options: dict[str, Any], said: str) -> None:
    """Without the secrets that stand in it."""
    with pytest.raises(ValueError, match=said) as caught:
        squall.connect(url, **options)
    assert "secret" not in str(caught.value)
    assert "lines" not in str(caught.value)


@contextlib.asynccontextmanager
async def server(say: Callable[[ServerConnection], Any]) -> AsyncIterator[str]:
    """One that says what it likes; its url."""
    async with serve(say, "127.0.0.1", 0, subprotocols=[Subprotocol("squall.v1")]) as listening:
        port = next(iter(listening.sockets)).getsockname()[1]
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ("text", "expected a ServerFrame"),
        (b"\xff\xff", "expected a ServerFrame"),
        (pb.ServerFrame(pong=pb.Pong()).SerializeToString(), "expected the server's welcome first, got pong"),
    ],
)
async def test_a_server_that_does_not_speak_squall_is_told_at_once(first: str | bytes, said: str) -> None:
    """Clearly, and not waited for."""

    async def say(socket: ServerConnection) -> None:
        await socket.send(first)
        await socket.wait_closed()

    async with server(say) as url:
        with pytest.raises(ProtocolError, match=said):
            async with squall.connect(url):
                pass


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff",
        pb.ServerFrame(published=pb.Published(request=77)).SerializeToString(),
        pb.ServerFrame(published=pb.Published(request=1)).SerializeToString(),
        pb.ServerFrame(deliveries=pb.Deliveries(sub=1, deliveries=[WRONG])).SerializeToString(),
        pb.ServerFrame(failure=pb.Failure(error="ProtocolError", message="what?", fatal=True)).SerializeToString(),
    ],
)
async def test_a_connection_that_breaks_the_protocol_is_made_anew(frame: bytes) -> None:
    """What was sent on it is not known, and is sent again; the reason is logged."""
    connections = 0
    log = Log()

    async def say(socket: ServerConnection) -> None:
        nonlocal connections
        connections += 1
        await socket.send(WELCOME.SerializeToString())
        while not (publish := pb.ClientFrame.FromString(bytes(await socket.recv(decode=False))).publish).request:
            await socket.send(pb.ServerFrame(subscribed=pb.Subscribed(sub=1, subscription_id="s")).SerializeToString())
        if connections == 1:
            await socket.send(frame)
            if b"what?" not in frame:
                await socket.wait_closed()
        else:
            receipt = pb.Receipt(outcome=pb.OUTCOME_OK, id=publish.events[0].event.id, seq=5, durability=3)  # type: ignore[arg-type]
            published = pb.Published(request=publish.request, receipts=[receipt])
            await socket.send(pb.ServerFrame(published=published).SerializeToString())
            await socket.wait_closed()

    async with server(say) as url, squall.connect(url, logger=log.logger) as remote:
        await remote.subscriber("billing").subscribe("a", _nothing)
        receipt = await remote.publisher("shop").publish_with_receipt("a", b"")
        assert (receipt.seq, receipt.durability) == (5, "disk")
        assert connections == 2
        assert "connecting again" in log.text


async def test_a_server_that_never_answers_ends_as_unknown() -> None:
    """It says hello, and then takes everything."""

    async def say(socket: ServerConnection) -> None:
        await socket.send(WELCOME.SerializeToString())
        async for data in socket:
            frame = pb.ClientFrame.FromString(bytes(data))  # type: ignore[arg-type]
            if frame.WhichOneof("frame") == "ping":
                await socket.send(pb.ServerFrame(pong=pb.Pong(number=frame.ping.number)).SerializeToString())

    async with server(say) as url, squall.connect(url, deadline_s=1.5) as remote:
        with pytest.raises(PublishError) as caught:
            await remote.publisher("shop").publish("a", b"")
        assert caught.value.outcome == "info"
        with pytest.raises(squall.SubscriptionError, match=r"no answer within 1\.5 s"):
            await remote.subscriber("billing").subscribe("a", _nothing)


async def _nothing(event: squall.Event) -> None: ...


async def test_publish_sync_from_many_threads() -> None:
    """Each waits for its own answer."""
    async with Served() as served, squall.connect(served.server.url) as remote:
        publisher = remote.publisher("shop")

        def ids(number: int) -> list[str]:
            return [publisher.publish_sync("a", number) for _ in range(50)]

        found = await asyncio.gather(*(asyncio.to_thread(ids, number) for number in range(4)))
        assert len({one for batch in found for one in batch}) == 200
        assert served.router.get_metrics().published == 200


async def test_publish_sync_says_what_it_knows_at_the_end_of_its_patience() -> None:
    """What was never sent is not stored."""
    async with network() as net, squall.connect(net.url) as remote:
        await net.cut()
        await until(lambda: not remote.connected)
        with pytest.raises(PublishError, match="not sent") as caught:
            await asyncio.to_thread(remote.publisher("shop").publish_sync, "a", b"", timeout_s=0.2)
        assert caught.value.outcome == "fail"


async def test_a_remote_router_may_be_started_again() -> None:
    """As a new one."""
    heard: list[str] = []

    async def handler(event: squall.Event) -> None:
        heard.append(event.type)

    async with Served() as served:
        remote = squall.connect(served.server.url)
        for kind in "ab":
            async with remote:
                await remote.subscriber("billing").subscribe("*", handler, name="n")
                await remote.publisher("shop").publish(kind, b"")
                await until(lambda kind=kind: kind in heard)  # type: ignore[misc]
        assert heard == ["a", "b"]


async def test_nothing_is_left_running_at_the_end() -> None:
    """No task, no connection."""
    async with Served() as served:
        before = asyncio.all_tasks()
        async with squall.connect(served.server.url) as remote:
            await remote.subscriber("billing").subscribe("a", _nothing, concurrency=4)
            await remote.publisher("shop").publish("a", b"")
        await until(lambda: not served.server.hub.connections)
        await until(lambda: not {one for one in asyncio.all_tasks() - before if "squall" in one.get_name()})


@pytest.mark.slow  # processes
def test_without_the_extra_it_says_what_to_install() -> None:
    """And the rest of squall imports without it."""
    program = (
        "import sys; sys.modules['websockets'] = None\nimport squall\ntry: squall.connect('http://a')\n"
        "except squall.SquallError as error: print(error)"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "pip install 'squall[remote]'" in said


async def test_a_flush_says_whether_all_that_was_said_was_received() -> None:
    """Settlements too. It waits while nothing passes, and says so when the connection is lost meanwhile."""
    seen: list[squall.Event] = []

    async def handler(event: squall.Event) -> None:
        seen.append(event)

    async with network() as way, squall.connect(way.url) as remote:
        await remote.subscriber("billing").subscribe("*", handler, name="billing")
        await remote.publisher("shop").publish("a", b"")
        await until(lambda: len(seen) == 1)
        assert await remote.flush()
        await until(lambda: way.served.pending() == 0)
        async with way.silent():
            flushing = asyncio.create_task(remote.flush())
            await asyncio.sleep(0.05)
            assert not flushing.done()
            await way.cut()
            assert not await flushing
        assert not await remote.flush()


async def test_what_was_flushed_is_forgotten_once_it_is_known() -> None:
    """However many are under way at once, each has an answer of its own; a connection may last for months."""
    async with Served() as served, squall.connect(f"http://127.0.0.1:{served.port}") as remote:
        link = remote._link
        assert link is not None
        flushes = []
        for _ in range(50):
            flushes.append(asyncio.ensure_future(remote.flush()))
            await asyncio.sleep(0)
        assert await asyncio.gather(*flushes) == [True] * 50
        assert link._flushes == {}
