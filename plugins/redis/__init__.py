"""The store for several routers: events, subscriptions and dead letters in Redis Streams."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from squall.core.errors import WiringError
from squall.core.options import Options
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.secret import Secret
from squall.core.store import EventStore
from squall.core.units import Seconds


class RedisUrl(Secret):
    """A URL that redis-py understands, or where it is written."""

    directly: ClassVar[str] = r"(redis|rediss|unix)://.+"
    expected: ClassVar[str] = "redis://, rediss:// or unix://, or env:NAME or file:PATH where it is written"


class RedisOptions(Options):
    """Which server, and what an acknowledgement must be worth there."""

    noun: ClassVar[str] = "the redis store"

    url: Annotated[
        RedisUrl,
        Field(
            description="`redis://`, `rediss://` (TLS) or `unix://`, with user and password where they are needed; "
            "`env:NAME` or `file:PATH` says where it is written, so that no password stands in this file",
        ),
    ] = RedisUrl("redis://localhost:6379")
    name: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._-]{1,64}$",
            description="whose events: routers with the same name share them; the keys begin with `squall:{name}:`",
        ),
    ] = "squall"
    durability: Annotated[
        Literal["memory", "disk"],
        Field(
            description="what an acknowledgement must be worth: `disk` starts only on a server with `appendonly yes` "
            "and `appendfsync always`; all else is `memory`"
        ),
    ] = "disk"
    lease: Annotated[
        Seconds,
        Field(
            ge=1,
            le=3600,
            description="a named subscription is delivered by one router at a time; when that falls "
            "silent, another takes over after so long",
        ),
    ] = 10.0
    max_events: Annotated[
        int,
        Field(
            ge=1,
            description="how many events are kept; the oldest go, but for those that a named subscription is "
            "still owed",
        ),
    ] = 1_000_000
    dedupe_window: Annotated[
        Seconds,
        Field(
            le=604_800,
            description="for how long an event_id that is given again, to whichever router, is stored once; 0: not "
            "at all",
        ),
    ] = 120.0
    timeout: Annotated[
        Seconds,
        Field(ge=0.05, le=60, description="how long an append is tried, over lost connections too, before its "
        "publisher is told"),
    ] = 5.0  # fmt: skip


class RedisPlugin(Plugin):
    """Events in Redis Streams: several routers share them, and subscriptions with a name go on where they stood."""

    Options = RedisOptions
    options: RedisOptions
    summary: ClassVar[str] = "store: events in Redis Streams, shared by several routers (needs squall[redis])"

    @hookimpl
    def squall_event_store(self, ctx: Context) -> EventStore:
        options = self.options
        try:  # only here, so that the plugin can be listed and its options checked without the extra
            from squall.plugins.redis.server import Server
            from squall.plugins.redis.store import RedisStore
        except ModuleNotFoundError as error:
            raise WiringError(f"plugin redis needs {error.name}: pip install 'squall[redis]'") from error
        server = Server(options.url, options.timeout)
        random = ctx.random("redis")
        return RedisStore(
            server,
            options.name,
            options.durability,
            options.lease,
            options.max_events,
            ctx.clock,
            random,
            ctx.logger,
            options.dedupe_window,
        )
