"""Faults in the network: Toxiproxy's toxics, in an embedded proxy or in a Toxiproxy server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from squall.core.fault import Fault, Proxies
from squall.core.plugin import Context, Plugin, hookimpl
from squall.plugins.network.faults import FAULTS
from squall.plugins.network.proxies import ToxiproxyProxies
from squall.plugins.network.seam import NetworkOptions


class NetworkPlugin(Plugin):
    """Offers a network's faults to scenarios, and puts proxies where they act."""

    summary: ClassVar[str] = "faults: latency, slow and broken connections, partitions, through Toxiproxy or embedded"
    Options = NetworkOptions
    options: NetworkOptions

    @hookimpl
    def squall_faults(self) -> Sequence[type[Fault]]:
        return FAULTS

    @hookimpl
    def squall_proxies(self, ctx: Context) -> Proxies:
        return ToxiproxyProxies(self.options, ctx.clock, ctx.random("network"), ctx.logger)
