"""Puts proxies up for a run's faults, and takes them down: in the embedded server, or in the operator's Toxiproxy."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from random import Random

from squall.core.clock import Clock
from squall.core.errors import ConfigError, Problem
from squall.core.fault import Keep
from squall.core.identity import system_id
from squall.plugins.network.client import INSTALL, PortTaken, ProxySpec, ProxyState, ToxiproxyClient, ToxiproxyError
from squall.plugins.network.faults import NetworkDown, NetworkUndo
from squall.plugins.network.proxy import Proxy
from squall.plugins.network.seam import NetworkOptions, ProxiedNetwork

LOOPBACK = "127.0.0.1"
PORTS = (20_000, 32_000)
"""Below the range that outgoing connections have their own ends in: who knocks at the port of a disabled proxy would be
connected to itself now and then."""
TRIES = 50


class ToxiproxyProxies:
    """Puts proxies up for a run, and takes them down: in the embedded server, or in the operator's.

    Toxiproxy itself does not say what passes it: before each of its proxies stands one of our own, that counts.
    """

    def __init__(self, options: NetworkOptions, clock: Clock, random: Random, logger: logging.Logger) -> None:
        self._options, self._clock, self._random, self._logger = options, clock, random, logger
        self._mine = f"squall-{system_id()[:8]}"  # not by the seed: a run of the same one may have left its own
        self._client: ToxiproxyClient | None = None
        self._stack = AsyncExitStack()

    async def between(self, name: str, host: str, port: int, keep: Keep) -> ProxiedNetwork:
        """A proxy before host and port. Raises ToxiproxyError where the server is not there, or takes none, and
        ConfigError where it has not the one that is to be adopted."""
        client = await self._reach()
        upstream = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._options.toxiproxy is None:
            proxy = await client.create(ProxySpec(name, upstream))
            return ProxiedNetwork(name, _address(proxy.listen), client, ProxySpec(name, upstream, proxy.listen))
        seam = name.partition(":")[2]
        lent = self._options.adopt.get(seam)
        if lent is None:
            own = f"{self._mine}-{name}"
            at, api_port = _address(client.address)
            undo = NetworkUndo(host=at, port=api_port, proxy=own, delete=True).model_dump(mode="json")
            keep(NetworkDown, undo)
            self._stack.push_async_callback(NetworkDown.heal, undo)
            spec = await self._put(client, own, upstream)
        else:
            state = await _lent(client, seam, lent)
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


async def _lent(client: ToxiproxyClient, seam: str, name: str) -> ProxyState:
    """The operator's own proxy. Raises ConfigError, which names those that there are, where it is none of them."""
    proxies = await client.proxies()
    if name not in proxies:
        there = ", ".join(sorted(proxies)) or "none: make it there, or let squall make its own, without adopt"
        message = f"Toxiproxy at {client.address} has no proxy {name!r}"
        raise ConfigError([Problem(f"squall.yaml: network.adopt.{seam}", message, hint=f"it has {there}")])
    return proxies[name]


def _is_here(address: str) -> bool:
    return _address(address)[0] in (LOOPBACK, "localhost")
