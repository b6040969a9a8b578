"""The store for several routers: events, subscriptions and dead letters in Redis Streams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Protocol

from pydantic import Field

from squall.core.errors import NotRunning, WiringError
from squall.core.options import Options
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.recent import MAX_EVENTS_HELD
from squall.core.secret import Secret
from squall.core.store import EventStore
from squall.core.units import Seconds

if TYPE_CHECKING:
    from squall.plugins.redis.directory import StoredSubscription
    from squall.plugins.redis.store import RedisStore


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
    inactive_after: Annotated[
        Seconds,
        Field(
            gt=0,
            description="a named subscription that no router has handled for so long is reported at the start",
        ),
    ] = 7 * 86400.0
    recent_events: Annotated[
        int,
        Field(
            ge=0,
            description="so many of the latest events are kept in each router's memory, for whoever reads near the "
            "head; 0: all is read from the server",
        ),
    ] = MAX_EVENTS_HELD
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
    _store: RedisStore | None = None

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
        self._store = RedisStore(
            server,
            options.name,
            options.durability,
            options.lease,
            options.max_events,
            ctx.clock,
            random,
            ctx.logger,
            options.dedupe_window,
            options.recent_events,
            options.inactive_after,
        )
        return self._store

    @hookimpl
    def squall_metrics_text(self) -> str:
        store = self._store
        return "" if store is None else cache_text({"events": store.reader, "subscriptions": store.directory})

    async def subscriptions(self) -> Sequence[StoredSubscription]:
        """All named subscriptions of all routers that share the store, in the order of their names. Read from the
        server when it has told of a change since the last time. Raises NotRunning and StoreError."""
        return await self._running().directory.subscriptions()

    async def routes(self, event_type: str) -> list[StoredSubscription]:
        """Those whose pattern matches this type, whichever router delivers them; filters are not asked. Raises as
        subscriptions does."""
        return await self._running().directory.routes(event_type)

    def _running(self) -> RedisStore:
        if self._store is None:
            raise NotRunning("the router is not running: use `async with router:`, or await router.start()")
        return self._store


class Counted(Protocol):
    """What answers from memory or from the server, and counts both."""

    hits: int
    misses: int


def cache_text(caches: Mapping[str, Counted]) -> str:
    """Samples for Prometheus, by what is remembered."""
    lines = []
    for count, says in (("hits", "Reads answered from memory."), ("misses", "Reads answered by the server.")):
        name = f"squall_redis_cache_{count}_total"
        lines += [f"# HELP {name} {says}", f"# TYPE {name} counter"]
        lines += [f'{name}{{of="{of}"}} {getattr(cache, count)}' for of, cache in caches.items()]
    return "\n".join(lines) + "\n"
