"""Who is served: by the names the server has, to the pages that may, with the token."""

from __future__ import annotations

import logging

import pytest
from tests.plugins.serve.served import TOKEN, Served
from websockets.exceptions import InvalidStatus

EVENT = {"ce-id": "1", "ce-source": "/shop", "ce-type": "order.paid", "ce-specversion": "1.0"}


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch) -> str:
    """The option, with the secret where it says."""
    monkeypatch.setenv("SERVE_TOKEN", TOKEN)
    return "env:SERVE_TOKEN"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:80", "[::1]:5", "LOCALHOST:9", "bus.example:443"])
async def test_the_server_answers_to_its_names(host: str) -> None:
    """Those of loopback, and those that it was given."""
    async with Served(hosts=["bus.example"]) as served:
        assert (await served.http("GET", "/readyz", headers={"Host": host})).status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "localhost.evil.example:80", "[::1"])
async def test_another_name_is_refused(host: str) -> None:
    """So that no page lets its own name resolve to a server on loopback; the WebSocket neither."""
    async with Served() as served:
        answer = await served.http("POST", "/v1/events", b"", {"Host": host, **EVENT})
        assert (answer.status, answer.json["title"], answer.json["outcome"]) == (403, "WrongHost", "fail")
        assert "serve.hosts" in answer.json["detail"]
        assert served.router.get_metrics().published == 0


async def test_a_request_without_a_host_is_refused() -> None:
    """HTTP/1.0 has none."""
    async with Served() as served:
        assert (await served.raw(b"GET /readyz HTTP/1.0\r\n\r\n")).status == 403


async def test_a_page_may_use_the_server_only_where_it_is_allowed() -> None:
    """By its origin, for HTTP and the WebSocket."""
    async with Served(origins=["https://shop.example"]) as served:
        refused = await served.http("POST", "/v1/events", b"", {"Origin": "https://evil.example", **EVENT})
        assert (refused.status, refused.json["title"]) == (403, "WrongOrigin")
        assert (await served.http("POST", "/v1/events", b"", {"Origin": "https://shop.example", **EVENT})).status == 200
        with pytest.raises(InvalidStatus) as caught:
            async with served.client(origin="https://evil.example"):
                pass
        assert caught.value.response.status_code == 403
        async with served.client(origin="https://shop.example") as client:
            await client.synced()


@pytest.mark.parametrize(
    "authorization", [None, "Bearer wrong-token-of-nobody", TOKEN, f"Basic {TOKEN}", f"Bearer {TOKEN}x", "Bearer"]
)
async def test_a_wrong_token_is_refused(token: str, authorization: str | None) -> None:
    """By HTTP and WebSocket, for whatever is not merely health; nothing is published."""
    headers = {"Authorization": authorization} if authorization else {}
    async with Served(token=token) as served:
        for method, path in (("POST", "/v1/events"), ("GET", "/metrics"), ("GET", "/nowhere")):
            answer = await served.http(method, path, b"", {**EVENT, **headers})
            assert (answer.status, answer.json["title"]) == (401, "Unauthorized")
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert TOKEN not in answer.body.decode()
        with pytest.raises(InvalidStatus) as caught:
            async with served.client(additional_headers=headers):
                pass
        assert caught.value.response.status_code == 401
        assert served.router.get_metrics().published == 0
        assert (await served.http("GET", "/healthz")).status == 200


async def test_whoever_is_refused_writes_nothing_into_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """A client that comes again and again would fill it."""
    async with Served() as served:
        with pytest.raises(InvalidStatus):
            async with served.client(origin="https://evil.example"):
                pass
        async with served.client() as client:
            await client.synced()
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_the_token_opens(token: str) -> None:
    """The scheme's name in any case."""
    async with Served(token=token) as served:
        for scheme in ("Bearer", "bearer"):
            headers = {"Authorization": f"{scheme} {TOKEN}"}
            assert (await served.http("POST", "/v1/events", b"", {**EVENT, **headers})).status == 200
            async with served.client(additional_headers=headers) as client:
                await client.synced()
