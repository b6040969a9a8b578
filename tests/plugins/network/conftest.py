"""Both servers that speak Toxiproxy's API: the embedded one, and Toxiproxy itself."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from random import Random

import pytest
from tests.servers import HOST, toxiproxy_server

from squall.core.clock import SystemClock
from squall.plugins.network.client import ToxiproxyClient
from squall.plugins.network.embedded import EmbeddedToxiproxy

Serve = Callable[[], AbstractAsyncContextManager[ToxiproxyClient]]
"""Opens a client of a server that has no proxies; afterwards it has none again."""


@pytest.fixture(scope="session")
def toxiproxy_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The HTTP API's port of a Toxiproxy server of these tests' own."""
    with toxiproxy_server(tmp_path_factory.mktemp("toxiproxy")) as server:
        yield server.port


@pytest.fixture(params=["embedded", "toxiproxy"])
def serve(request: pytest.FixtureRequest) -> Serve:
    """Each of the two servers: what is tested with this holds for both, by the same client."""
    return embedded if request.param == "embedded" else partial(real, request.getfixturevalue("toxiproxy_port"))


@asynccontextmanager
async def embedded() -> AsyncIterator[ToxiproxyClient]:
    async with EmbeddedToxiproxy(SystemClock(), Random(5)) as server:
        yield ToxiproxyClient(server.host, server.port)


@asynccontextmanager
async def real(port: int) -> AsyncIterator[ToxiproxyClient]:
    client = ToxiproxyClient(HOST, port)
    try:
        yield client
    finally:
        for name in await client.proxies():
            await client.delete(name)
