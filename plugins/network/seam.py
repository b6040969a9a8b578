"""Where a network's faults act: a proxy of Toxiproxy's, the embedded one or the operator's, and what passes it."""

from __future__ import annotations

from itertools import count
from typing import Annotated, ClassVar

from pydantic import Field

from squall.core.fault import Network
from squall.core.options import Options
from squall.plugins.network.client import ProxySpec, ToxiproxyClient, ToxiproxyError
from squall.plugins.network.proxy import Counts, Proxy


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
