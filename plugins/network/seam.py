"""Where a network's faults act: a proxy of Toxiproxy's, the embedded one or the operator's, and what passes it."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from itertools import count
from random import Random
from typing import Annotated, ClassVar

from pydantic import Field

from squall.core.clock import Clock
from squall.core.errors import ConfigError
from squall.core.fault import Network
from squall.core.options import Options
from squall.plugins.network.client import INSTALL, PortTaken, ProxySpec, ToxiproxyClient, ToxiproxyError
from squall.plugins.network.proxy import Counts, Proxy

LOOPBACK = "127.0.0.1"
PORTS = (20_000, 32_000)
"""Below the range that outgoing connections have their own ends in: who knocks at the port of a disabled proxy would be
connected to itself now and then."""
TRIES = 50


class NetworkOptions(Options):
    """Through which server a network's faults act."""

    noun: ClassVar[str] = "network"

    toxiproxy: Annotated[
        Annotated[str, Field(pattern=r"^[^\s:/]+:\d{1,5}$")] | None,
        Field(description="`host:port` of a Toxiproxy server's HTTP API; none: the embedded proxy"),
    ] = None
    adopt: Annotated[
        dict[str, str],
        Field(
            description="proxies of that server that are lent to faults, by the name of the seam: "
            "`{redis: my-proxy}`; they get toxics, and nothing else of them is changed"
        ),
    ] = Field(default_factory=dict)


class ProxiedNetwork(Network):
    """The seam at a proxy. lent: the proxy is the operator's. passing: what counts before a server that does not;
    None: the server counts itself, and is gone with the bench's own process."""

    def __init__(
        self, name: str, at: tuple[str, int], client: ToxiproxyClient, proxy: ProxySpec, *, lent: bool = False
    ) -> None:
        super().__init__(name, *at)
        self.client, self.proxy, self.lent = client, proxy, lent
        self.passing: Proxy | None = None
        self.acting: dict[int, tuple[str, ...]] = {}  # names of toxics that stand here, by the fault's identity
        self._numbers = count(1)

    @property
    def outlives(self) -> bool:
        """Whether faults stay when the bench's own process dies."""
        return self.passing is not None

    def number(self) -> int:
        """Another one each time, so that two faults of one kind do not meet."""
        return next(self._numbers)

    async def counts(self) -> Counts:
        """What has passed so far."""
        counts = self.passing.counts if self.passing is not None else (await self.client.proxy(self.proxy.name)).counts
        if counts is None:
            raise ToxiproxyError(f"{self.name}: the proxy does not count what passes")
        return counts


class ToxiproxyProxies:
    """Puts proxies up for a run, and takes them down: in the embedded server, or in the operator's.

    Toxiproxy itself does not say what passes it: before each of its proxies stands one of our own, that counts.
    """

    def __init__(self, options: NetworkOptions, clock: Clock, random: Random, logger: logging.Logger) -> None:
        self._options, self._clock, self._random, self._logger = options, clock, random, logger
        self._mine = f"squall-{random.getrandbits(32):08x}"
        self._client: ToxiproxyClient | None = None
        self._stack = AsyncExitStack()

    async def between(self, name: str, host: str, port: int) -> ProxiedNetwork:
        """A proxy before host and port. Raises ToxiproxyError where the server is not there, or takes none."""
        client = await self._reach()
        upstream = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._options.toxiproxy is None:
            proxy = await client.create(ProxySpec(name, upstream))
            return ProxiedNetwork(name, _address(proxy.listen), client, ProxySpec(name, upstream, proxy.listen))
        lent = self._options.adopt.get(name.partition(":")[2])
        if lent is None:
            spec = await self._put(client, f"{self._mine}-{name}", upstream)
            self._stack.push_async_callback(client.delete, spec.name)
        else:
            state = await client.proxy(lent)
            spec = ProxySpec(lent, state.upstream, state.listen)
        counting = Proxy(name, (LOOPBACK, 0), self._seen_from_here(spec.listen), self._clock, self._random)
        self._stack.push_async_callback(counting.close)
        await counting.enable()
        network = ProxiedNetwork(name, counting.address, client, spec, lent=lent is not None)
        network.passing = counting
        return network

    async def close(self) -> None:
        await self._stack.aclose()

    async def _reach(self) -> ToxiproxyClient:
        if self._client is None:
            if self._options.toxiproxy is None:
                host, port = await self._embed()
            else:
                host, port = _address(self._options.toxiproxy)
            client = ToxiproxyClient(host, port)
            version = await client.version()
            self._logger.info("network faults: Toxiproxy %s at %s", version, client.address)
            self._client = client
        return self._client

    async def _embed(self) -> tuple[str, int]:
        try:
            from squall.plugins.network.embedded import EmbeddedToxiproxy
        except ImportError as error:
            raise ToxiproxyError(f"network faults need h11: {INSTALL}") from error
        server = await self._stack.enter_async_context(EmbeddedToxiproxy(self._clock, self._random))
        return server.host, server.port

    async def _put(self, client: ToxiproxyClient, name: str, upstream: str) -> ProxySpec:
        """A proxy at a port that was free, on the server's own loopback where the server is on this machine."""
        host = LOOPBACK if _is_here(client.address) else "0.0.0.0"
        for _ in range(TRIES):
            try:
                made = await client.create(ProxySpec(name, upstream, f"{host}:{self._random.randrange(*PORTS)}"))
            except PortTaken:
                continue
            return ProxySpec(name, upstream, made.listen)
        raise ToxiproxyError(f"Toxiproxy at {client.address}: {TRIES} ports were all taken")

    def _seen_from_here(self, listen: str) -> str:
        """Where a proxy is reached that listens there on its server."""
        host, port = _address(listen)
        there, _ = _address(self._options.toxiproxy or listen)
        return f"{there if host in ('::', '0.0.0.0') else host}:{port}"


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdigit():
        raise ConfigError(f"expected host:port, got '{text}'")
    return host.strip("[]"), int(port)


def _is_here(address: str) -> bool:
    return _address(address)[0] in (LOOPBACK, "localhost")
