"""Faults in the network: Toxiproxy's toxics, a network that is down, and one that is parted."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from squall.core.errors import ConfigError
from squall.core.fault import Evidence, Fault, FaultContext, Network, Seam, Undo
from squall.core.units import Bytes, Ratio, Seconds
from squall.plugins.network.client import NotFound, ProxySpec, ToxiproxyClient, ToxiproxyError, Unreachable
from squall.plugins.network.seam import ProxiedNetwork
from squall.plugins.network.toxics import MAX_MS, Stream, Toxic

HEAL_TIMEOUT_S = 3.0
BOTH: tuple[Stream, ...] = ("upstream", "downstream")
Direction = Literal["upstream", "downstream", "both"]


def _in_parts(seconds: float, per_second: int, unit: str) -> int:
    parts = round(seconds * per_second)
    if abs(seconds * per_second - parts) > 1e-6:
        raise ValueError(f"expected whole {unit}")
    return parts


def _whole_ms(seconds: float) -> float:
    _in_parts(seconds, 10**3, "milliseconds")
    return seconds


def _whole_us(seconds: float) -> float:
    _in_parts(seconds, 10**6, "microseconds")
    return seconds


def _whole_kb(size: int) -> int:
    if not size or size % 1000:
        raise ValueError("expected whole kilobytes per second such as 100KB, at least 1KB")
    return size


Milliseconds = Annotated[Seconds, AfterValidator(_whole_ms)]
Microseconds = Annotated[Seconds, AfterValidator(_whole_us)]
Rate = Annotated[Bytes, AfterValidator(_whole_kb)]


def _ms(seconds: float) -> int:
    return round(seconds * 1e3)


class NetworkUndo(BaseModel):
    """How to take a fault back: of which server, which proxy (and what it was, if it is squall's own), which toxics;
    `delete`: the proxy itself."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    port: int
    proxy: str
    toxics: tuple[str, ...] = ()
    upstream: str = ""
    listen: str = ""
    lent: bool = False
    down: bool = False
    delete: bool = False


class NetworkFault(Fault):
    """A fault at a proxy. It acts on connections, or on directions of them, and not on calls one by one."""

    kind = Network
    name = ""
    per_call: ClassVar[bool] = False

    def toxics(self) -> Sequence[Toxic]:
        """What it puts into the proxy, in this order; names are given later."""
        return ()

    def plan(self, seam: Seam) -> Undo | None:
        network = _proxied(seam)
        return self._undo(network).model_dump(mode="json") if network.outlives else None

    def inject(self, seam: Seam, ctx: FaultContext) -> AbstractAsyncContextManager[None]:
        """What dies with the process is healed as everything else, by a plan that is nowhere but here."""
        undo = ctx.undo or self._undo(_proxied(seam)).model_dump(mode="json")
        return self._outside(seam, replace(ctx, undo=undo))

    def _undo(self, network: ProxiedNetwork) -> NetworkUndo:
        host, _, port = network.client.address.rpartition(":")
        return NetworkUndo(
            host=host,
            port=int(port),
            proxy=network.proxy.name,
            toxics=tuple(f"squall-{network.number()}-{toxic.name}" for toxic in self.toxics()),
            upstream=network.proxy.upstream,
            listen=network.proxy.listen,
            lent=network.lent,
        )

    async def start(self, seam: Seam, ctx: FaultContext) -> None:
        network, undo = _proxied(seam), NetworkUndo.model_validate(dict(ctx.undo or {}))
        network.acting[id(self)] = undo.toxics
        for name, toxic in zip(undo.toxics, self.toxics(), strict=True):
            await network.client.add(network.proxy.name, replace(toxic, name=name))

    async def evidence(self, seam: Seam) -> Evidence:
        """Connections and pieces of data that passed the proxy, and what of it the toxics acted on.

        A server that does not count is taken to have acted on what passed on its way there, on ends, and where a toxic
        stands on the way back on what came, and what was asked: an answer that it swallows is seen by nobody.
        """
        network = _proxied(seam)
        counts = await network.counts()
        passes = counts.connections + counts.upstream_pieces + counts.downstream_pieces
        if network.passing is not None:
            streams = {toxic.stream for toxic in self.toxics() if toxic.toxicity}
            back = counts.downstream_pieces if "downstream" in streams else 0
            ended = counts.connections - counts.open
            return Evidence(passes, counts.upstream_pieces + back + ended if streams else 0)
        return Evidence(passes, await self._bitten(network))

    async def _bitten(self, network: ProxiedNetwork) -> int:
        """How often its toxics have acted by now; never, while they are not there."""
        mine = network.acting.get(id(self), ())
        states = await network.client.toxics(network.proxy.name)
        return sum(one.counts.times for one in states if one.counts is not None and one.name in mine)

    @classmethod
    async def heal(cls, undo: Undo) -> None:
        """Take the toxics away and let connections come again. Toxiproxy's own server hangs over that where nobody
        reads what a toxic holds; a proxy of squall's own is then replaced by a new one at the same port."""
        told = NetworkUndo.model_validate(dict(undo))
        client = ToxiproxyClient(told.host, told.port, timeout_s=HEAL_TIMEOUT_S)
        if told.delete:
            with contextlib.suppress(NotFound):
                await client.delete(told.proxy)
            return
        try:
            for name in reversed(told.toxics):
                await _without(client, told.proxy, name)
        except Unreachable as error:
            if told.lent:
                raise ToxiproxyError(f"{error}; delete the proxy {told.proxy} and make it anew") from error
            await client.delete(told.proxy)
            await client.create(ProxySpec(told.proxy, told.upstream, told.listen))
        if told.down:
            with contextlib.suppress(NotFound):  # the proxy is gone, and so nothing of it is down
                await client.enable(told.proxy)


class _Toxic(NetworkFault):
    direction: Annotated[
        Direction,
        Field(description="which way: `upstream` from the client to the server, `downstream` back, or `both`"),
    ] = "downstream"
    toxicity: Annotated[Ratio, Field(description="share of connections that are bitten, each drawn once")] = 1.0

    def toxics(self) -> Sequence[Toxic]:
        streams = BOTH if self.direction == "both" else (self.direction,)
        kind = self.name.replace("-", "_")
        return [Toxic.of(kind, self.attributes(), stream=one, toxicity=self.toxicity) for one in streams]

    def attributes(self) -> Mapping[str, int]:
        """As Toxiproxy has them."""
        raise NotImplementedError


class NetworkLatency(_Toxic):
    """Everything arrives later, in order. What is still held when the fault ends arrives then."""

    name = "latency"

    latency: Annotated[Milliseconds, Field(gt=0, description="how much later")]
    jitter: Annotated[Milliseconds, Field(description="up to this much more or less, uniformly")] = 0.0

    def attributes(self) -> Mapping[str, int]:
        return {"latency": _ms(self.latency), "jitter": _ms(self.jitter)}


class NetworkBandwidth(_Toxic):
    """No more than so much passes a second, on each connection. What is still held when the fault ends arrives then."""

    name = "bandwidth"

    rate: Annotated[Rate, Field(description="bytes per second, in whole kilobytes: `100KB`")]

    def attributes(self) -> Mapping[str, int]:
        return {"rate": self.rate // 1000}


class NetworkSlowClose(_Toxic):
    """A connection's end arrives later."""

    name = "slow_close"

    delay: Annotated[Milliseconds, Field(gt=0, description="how much later")]

    def attributes(self) -> Mapping[str, int]:
        return {"delay": _ms(self.delay)}


class NetworkTimeout(_Toxic):
    """Nothing arrives, what is sent is lost, and the connection is closed: after a while, or when the fault ends."""

    name = "timeout"

    timeout: Annotated[
        Milliseconds, Field(description="close it once nothing has been sent for so long; 0: not before the fault ends")
    ] = 0.0

    def attributes(self) -> Mapping[str, int]:
        return {"timeout": _ms(self.timeout)}


class NetworkResetPeer(_Toxic):
    """The first that is sent resets the connection, on both sides."""

    name = "reset_peer"

    timeout: Annotated[Milliseconds, Field(description="so long after it was sent")] = 0.0

    def attributes(self) -> Mapping[str, int]:
        return {"timeout": _ms(self.timeout)}


class NetworkSlicer(_Toxic):
    """What is sent at once arrives in small pieces."""

    name = "slicer"

    average_size: Annotated[Bytes, Field(ge=1, description="about how large each is")]
    size_variation: Annotated[Bytes, Field(description="up to this much more or less; less than average_size")] = 0
    delay: Annotated[Microseconds, Field(description="between two pieces: `50us`")] = 0.0

    @model_validator(mode="after")
    def _pieces_have_a_size(self) -> Self:
        if self.size_variation >= self.average_size:
            raise ValueError(f"size_variation: expected less than average_size ({self.average_size}B)")
        return self

    def attributes(self) -> Mapping[str, int]:
        return {
            "average_size": self.average_size,
            "size_variation": self.size_variation,
            "delay": round(self.delay * 1e6),
        }


class NetworkLimitData(_Toxic):
    """The connection is closed once so much has arrived, counted from the fault's begin."""

    name = "limit_data"

    bytes: Annotated[Bytes, Field(description="how much still arrives")]

    def attributes(self) -> Mapping[str, int]:
        return {"bytes": self.bytes}


class NetworkDown(NetworkFault):
    """All connections end, and new ones are refused."""

    name = "down"

    def plan(self, seam: Seam) -> Undo | None:
        network = _proxied(seam)
        if network.lent:
            raise ConfigError(f"{network.name}: down would disable {network.proxy.name}, which is only lent")
        return super().plan(seam)

    def _undo(self, network: ProxiedNetwork) -> NetworkUndo:
        return super()._undo(network).model_copy(update={"down": True})

    async def start(self, seam: Seam, ctx: FaultContext) -> None:
        network = _proxied(seam)
        await network.client.disable(network.proxy.name)

    async def evidence(self, seam: Seam) -> Evidence:
        """Connections, and those that were cut. Before a server that does not count them: that ended, or found
        nobody."""
        network = _proxied(seam)
        counts = await network.counts()
        ended = counts.connections - counts.open
        return Evidence(counts.connections, counts.cut if network.passing is None else ended)


class NetworkPartition(NetworkFault):
    """Nothing arrives, either way, no end either, and nothing is closed; what was sent arrives when the fault ends."""

    name = "partition"

    def toxics(self) -> Sequence[Toxic]:
        """A bandwidth of nothing holds what is sent, and an end that has nothing before it is held by slow_close."""
        return [
            Toxic.of(kind, attributes, stream=stream)
            for stream in BOTH
            for kind, attributes in (("bandwidth", {"rate": 0}), ("slow_close", {"delay": MAX_MS}))
        ]


FAULTS: Sequence[type[NetworkFault]] = (
    NetworkLatency,
    NetworkBandwidth,
    NetworkSlowClose,
    NetworkTimeout,
    NetworkResetPeer,
    NetworkSlicer,
    NetworkLimitData,
    NetworkDown,
    NetworkPartition,
)


def _proxied(seam: Seam) -> ProxiedNetwork:
    if not isinstance(seam, ProxiedNetwork):
        raise ConfigError(f"{seam.name}: a network's faults act at a proxy, and there is none")
    return seam


async def _without(client: ToxiproxyClient, proxy: str, toxic: str) -> None:
    try:
        await client.remove(proxy, toxic)
    except NotFound:
        return  # taken away before, or never there
