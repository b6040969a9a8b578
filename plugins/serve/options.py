"""What `squall serve` is told: its section in squall.yaml."""

from __future__ import annotations

from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from squall.core.options import Options, RelativePath
from squall.core.secret import Secret
from squall.core.units import Bytes, Seconds

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class TlsOptions(Options):
    """A certificate and its key, PEM files."""

    noun: ClassVar[str] = "tls"

    certificate: Annotated[RelativePath, Field(description="the certificate chain, a PEM file")]
    key: Annotated[RelativePath, Field(description="its private key, a PEM file")]


class ServeOptions(Options):
    """Where the server listens, who may use it, and how much of it."""

    noun: ClassVar[str] = "serve"

    host: Annotated[
        str, Field(min_length=1, description="the address to listen on; beyond loopback a token is required")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="the port to listen on; 0: any free one")] = 8787
    token: Annotated[Secret | None, Field(description="what clients must present as `Authorization: Bearer …`")] = None
    hosts: Annotated[
        tuple[str, ...],
        Field(strict=False, description="further names by which clients may call the server, without port"),
    ] = ()
    origins: Annotated[
        tuple[str, ...], Field(strict=False, description="web origins whose pages may use it; none: no page may")
    ] = ()
    tls: Annotated[TlsOptions | None, Field(description="`certificate` and `key`; none: plain HTTP")] = None
    connections: Annotated[int, Field(ge=1, description="connections at once; further ones are closed")] = 1000
    rate: Annotated[
        Annotated[float, Field(gt=0)] | None, Field(description="events per second that one address may publish")
    ] = None
    max_request: Annotated[Bytes, Field(ge=1024, description="the largest body of a request")] = 8_000_000
    max_frame: Annotated[Bytes, Field(ge=1024, description="the largest WebSocket message")] = 8_000_000
    header_timeout: Annotated[
        Seconds, Field(gt=0, description="for a request's head to arrive, from its first byte")
    ] = 10.0
    body_timeout: Annotated[Seconds, Field(gt=0, description="for a request's body to arrive")] = 10.0
    idle_timeout: Annotated[Seconds, Field(gt=0, description="for the next request on a connection to begin")] = 30.0
    write_timeout: Annotated[Seconds, Field(gt=0, description="for a client to take what is sent")] = 30.0
    heartbeat: Annotated[
        Seconds, Field(gt=0, description="between pings of a WebSocket; without an answer in as long it is closed")
    ] = 20.0
    in_flight: Annotated[
        int, Field(ge=1, le=10_000, description="unsettled deliveries of one subscription, at most")
    ] = 1000
    in_flight_bytes: Annotated[
        Bytes,
        Field(
            ge=1024,
            description="payloads of one connection's deliveries that are not sent or not settled; beyond it no more "
            "begin",
        ),
    ] = 64_000_000
    subscriptions: Annotated[int, Field(ge=1, description="subscriptions of one connection, at most")] = 100
    publishes: Annotated[
        int, Field(ge=1, description="publishes of one connection that wait for their answer; then it is not read")
    ] = 256
    drain: Annotated[Seconds, Field(description="after SIGTERM: how long deliveries in flight are waited for")] = 10.0

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        if self.host not in LOOPBACK and self.token is None:
            raise ValueError(
                f"host {self.host} is reached by others: a token is required (token: env:NAME), or listen on 127.0.0.1"
            )
        return self
