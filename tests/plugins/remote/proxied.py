"""A server behind a proxy that a test may cut or silence, and a client on its other side."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random

from tests.plugins.serve.served import Served, until

from squall import Plugin, SystemClock
from squall.plugins.network.client import ProxySpec, ToxiproxyClient
from squall.plugins.network.embedded import EmbeddedToxiproxy
from squall.plugins.network.toxics import Toxic

NAME = "serve"
SILENT = {"timeout": {"timeout": 0}, "bandwidth": {"rate": 0}}


@dataclass
class Network:
    """What stands between the client and the server at `url`."""

    url: str
    _toxiproxy: ToxiproxyClient
    served: Served

    async def cut(self) -> None:
        """End all connections, and let nobody through."""
        await self._toxiproxy.disable(NAME)

    async def mend(self) -> None:
        """Let everybody through again."""
        await self._toxiproxy.enable(NAME)

    @contextlib.asynccontextmanager
    async def silent(self, kind: str = "timeout") -> AsyncIterator[None]:
        """Nothing passes, and nobody is told: what is sent is lost (timeout), or held until it is over (bandwidth)."""
        toxics = [Toxic.of(kind, SILENT[kind], stream=stream) for stream in ("upstream", "downstream")]
        for toxic in toxics:
            await self._toxiproxy.add(NAME, toxic)
        try:
            yield
        finally:
            for toxic in toxics:
                await self._toxiproxy.remove(NAME, toxic.name)

    async def stored(self) -> list[str]:
        """The ids of all stored events, in their order."""
        return [event.id async for event in self.served.router.replay()]

    async def alone(self) -> None:
        """The server has noticed that nobody is there."""
        await until(lambda: not self.served.server.hub.connections)


@contextlib.asynccontextmanager
async def network(*plugins: Plugin, **options: object) -> AsyncIterator[Network]:
    """A server and a proxy before it."""
    async with Served(*plugins, **options) as served, EmbeddedToxiproxy(SystemClock(), Random(5)) as server:  # type: ignore[arg-type]
        toxiproxy = ToxiproxyClient(server.host, server.port)
        async with toxiproxy.proxied(ProxySpec(NAME, f"127.0.0.1:{served.port}")) as state:
            yield Network(f"http://{state.listen}", toxiproxy, served)
