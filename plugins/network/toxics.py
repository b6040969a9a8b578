"""The toxics by name, with the attributes that they have on the wire: Toxiproxy's own names, units and defaults.

Toxiproxy's server takes any attribute and ignores what it does not know, and some values end its process (a slicer
without a size, a negative rate). These models say what is sent, and what the embedded proxy takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from squall.core.errors import ConfigError, Problem
from squall.core.options import Options, did_you_mean

Stream = Literal["upstream", "downstream"]
"""Which way bytes flow: upstream is from the client to the server."""

MAX_MS = 3650 * 86_400_000
Milliseconds = Annotated[int, Field(ge=0, le=MAX_MS)]
Microseconds = Annotated[int, Field(ge=0, le=MAX_MS * 1000)]
Size = Annotated[int, Field(ge=0, le=2**40)]


class Attributes(Options):
    """What one kind of toxic is told."""


class Latency(Attributes):
    """Everything arrives later, by `latency` ± `jitter`, in order."""

    latency: Milliseconds = 0
    jitter: Milliseconds = 0


class Bandwidth(Attributes):
    """At most `rate` KB/s. A rate of 0 stops the flow: what is under way waits, nothing is lost."""

    rate: Size = 0


class SlowClose(Attributes):
    """The end of the stream arrives later, by `delay`."""

    delay: Milliseconds = 0


class Timeout(Attributes):
    """Nothing arrives, and once nothing has been sent for `timeout` the connection is closed; 0: never. What was sent
    is lost, so taking the toxic away closes the connection too."""

    timeout: Milliseconds = 0


class ResetPeer(Attributes):
    """The first that is sent resets the connection (RST, to both sides), `timeout` afterwards."""

    timeout: Milliseconds = 0


class Slicer(Attributes):
    """What is sent at once arrives in pieces of about `average_size` ± `size_variation` bytes, `delay` µs apart."""

    average_size: Annotated[Size, Field(ge=1)]
    size_variation: Size = 0
    delay: Microseconds = 0

    @model_validator(mode="after")
    def _pieces_have_a_size(self) -> Self:
        if self.size_variation >= self.average_size:
            raise ValueError(
                f"size_variation: expected less than average_size ({self.average_size}), got {self.size_variation}"
            )
        return self


class LimitData(Attributes):
    """The connection is closed once `bytes` have arrived."""

    bytes: Size = 0


class Noop(Attributes):
    """Does nothing."""


KINDS: Mapping[str, type[Attributes]] = MappingProxyType(
    {
        "latency": Latency,
        "bandwidth": Bandwidth,
        "slow_close": SlowClose,
        "timeout": Timeout,
        "reset_peer": ResetPeer,
        "slicer": Slicer,
        "limit_data": LimitData,
        "noop": Noop,
    }
)


@dataclass(frozen=True)
class Toxic:
    """One toxic of a proxy. It acts on a connection with the probability `toxicity`, drawn once for each."""

    name: str
    type: str
    stream: Stream
    toxicity: float
    attributes: Attributes

    @classmethod
    def of(
        cls,
        kind: str,
        attributes: Mapping[str, object] = MappingProxyType({}),
        *,
        stream: str = "downstream",
        toxicity: float = 1.0,
        name: str = "",
    ) -> Self:
        """A toxic made of what somebody says. Raises ConfigError naming what is wrong, and what may have been meant."""
        if kind not in KINDS:
            raise ConfigError([_wrong("type", f"there is no toxic '{kind}'", did_you_mean(kind, KINDS, "toxics"))])
        way: Stream = "upstream" if stream == "upstream" else "downstream"
        if stream != way:
            raise ConfigError([_wrong("stream", f"expected upstream or downstream, got '{stream}'")])
        if not 0 <= toxicity <= 1:
            raise ConfigError([_wrong("toxicity", f"expected a share from 0 to 1, got {toxicity:g}")])
        return cls(name or f"{kind}_{way}", kind, way, toxicity, KINDS[kind].of(f"toxic {kind}", attributes))


def _wrong(where: str, message: str, hint: str = "") -> Problem:
    return Problem(f"toxic.{where}", message, hint=hint)
