"""A program that publishes to a Redis stream and reads it by consumer groups, as one writes it with redis-py alone.

XADD, and no second try: a repeated one would store the event twice. Each subscriber is a group, read by as many workers
as its concurrency says; what they have handled they XACK, what they have not they claim again when it has been idle.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import Field

from squall.core.errors import ConfigError, SquallError, WiringError
from squall.core.event import Durability
from squall.core.fault import Seam
from squall.core.identity import system_id
from squall.core.options import Options
from squall.core.target import (
    Claims,
    Counters,
    Handle,
    Message,
    Outcome,
    RunContext,
    Sink,
    SubscriberCounts,
    SubscriberSpec,
    Terminal,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from squall.plugins.redis_streams.group import Group

CONNECTIONS = 50
"""Of publishers, at most; a consumer's worker has one of its own."""
NO_COUNTS = SubscriberCounts(None, None, None, None, None, None)


class RedisStreamsOptions(Options):
    """Which Redis, and which stream of it."""

    noun: ClassVar[str] = "a target of kind redis-streams"

    url: Annotated[
        str | None,
        Field(
            pattern=r"^(redis://|env:).+$",
            description="`redis://host:port/db`, or `env:NAME`, which says where it is written; none: the Redis that "
            "the scenario has the bench start (`servers:`)",
        ),
    ] = None
    stream: Annotated[
        str, Field(min_length=1, description="the stream's key; what is published stays in it after the run")
    ] = "squall-bench"


class RedisStreamsTarget:
    """The program: it claims what Redis promises with the settings that the server itself tells."""

    Options = RedisStreamsOptions

    def __init__(self) -> None:
        self.claims = Claims()
        self._groups: dict[str, Group] = {}
        self._client: Redis | None = None
        self._run = system_id()[:8]
        self._described = ""

    async def start(self, ctx: RunContext) -> None:
        """Raises ConfigError where no Redis is named, SquallError where it does not answer."""
        try:  # only here, so that the target can be listed without the extra
            from redis.asyncio import BlockingConnectionPool, ConnectionPool, Redis
            from redis.asyncio.retry import Retry
            from redis.backoff import NoBackoff
            from redis.exceptions import RedisError
        except ModuleNotFoundError as error:
            raise WiringError(f"target redis-streams needs {error.name}: pip install 'squall[redis]'") from error
        options = ctx.options if isinstance(ctx.options, RedisStreamsOptions) else RedisStreamsOptions()
        url = _url(options, ctx.servers)
        parts = urlsplit(url)
        real = parts.hostname or "127.0.0.1", parts.port or 6379
        host, port = await ctx.detour("redis", *real)
        login, at, _ = parts.netloc.rpartition("@")
        settings: dict[str, Any] = {
            "protocol": 3,
            "legacy_responses": False,
            "socket_timeout": None,  # commands have a time of their own, which no cancellation is lost in
            "retry": Retry(NoBackoff(), 0),  # whether to try again depends on the command
        }
        url = parts._replace(netloc=f"{login}{at}{host}:{port}").geturl()
        pool = BlockingConnectionPool.from_url(url, max_connections=CONNECTIONS, timeout=None, **settings)
        self._ctx, self._client, self._stream = ctx, Redis(connection_pool=pool), options.stream
        # Each worker holds a connection while it waits for entries: those of publishers are none of them.
        self._readers = Redis(connection_pool=ConnectionPool.from_url(url, max_connections=sys.maxsize, **settings))
        try:
            found = await self._call(self._client.config_get("append*", "no-appendfsync-on-rewrite"))
        except (RedisError, OSError) as error:
            raise SquallError(f"Redis at {real[0]}:{real[1]} cannot be used: {error}") from error
        durability, says = _durability(found)
        path = ("net:redis", "process:redis")
        self.claims = replace(self.claims, durability=durability, kept_by="redis", publish_path=path)
        self._described = f"redis-streams · {durability} ({says})"

    async def _call(self, answer: Any) -> Any:
        from squall.plugins.redis_streams.group import answered

        return await answered(answer)

    async def publish(self, message: Message) -> Outcome:
        from redis.exceptions import BusyLoadingError, RedisError, ResponseError

        from squall.plugins.redis_streams.group import seq_of

        fields: dict[str, str | bytes] = {
            "type": message.type,
            "priority": str(int(message.priority)),
            "payload": message.payload,
        }
        if message.key is not None:
            fields["key"] = message.key
        try:
            entry = await self._call(self._running.xadd(self._stream, fields))  # type: ignore[arg-type]
        except (ResponseError, BusyLoadingError) as error:
            return Outcome("fail", why=str(error))  # it answered: nothing was done
        except (RedisError, OSError) as error:
            refused = isinstance(error.__context__, ConnectionRefusedError)
            return Outcome("fail" if refused else "info", why=str(error) or type(error).__name__)
        return Outcome("ok", seq_of(entry))

    async def subscribe(self, spec: SubscriberSpec, sink: Sink) -> Handle:
        from squall.plugins.redis_streams.group import Group

        group = Group(self._readers, self._stream, f"{spec.name}-{self._run}", spec, sink, self._ctx.clock)
        from_seq = await group.begin()
        self._groups[spec.name] = group
        self.claims = replace(
            self.claims,
            # Several workers of a group take entries as they come: which of a key is handled first is chance.
            order="key" if all(one.spec.concurrency == 1 for one in self._groups.values()) else "none",
            longest_delay_s=max(one.longest_delay_s for one in self._groups.values()),
        )
        return Handle(spec.name, from_seq)

    async def unsubscribe(self, handle: Handle) -> int | None:
        return await self._groups[handle.id].leave()

    async def counters(self) -> Counters:
        from redis.exceptions import RedisError

        try:
            stored = await self._call(self._running.xlen(self._stream))
            sums = {
                name: NO_COUNTS._replace(pending=0 if group.left else await group.pending())
                for name, group in self._groups.items()
            }
        except (RedisError, OSError):
            return Counters(None, dict.fromkeys(self._groups, NO_COUNTS))
        return Counters(stored, sums)

    async def terminals(self) -> Sequence[Terminal]:
        return ()

    def seams(self) -> Mapping[str, Seam]:
        return {}

    async def describe(self) -> str:
        return self._described

    async def stop(self) -> None:
        for group in self._groups.values():
            await group.stop()
        if self._client is not None:
            for client in (self._client, self._readers):
                await client.aclose()
                await client.connection_pool.disconnect()

    @property
    def _running(self) -> Redis:
        if self._client is None:
            raise SquallError("the target redis-streams is not started")
        return self._client


def _url(options: RedisStreamsOptions, servers: Mapping[str, tuple[str, int]]) -> str:
    if options.url is None:
        if "redis" not in servers:
            raise ConfigError(
                "target redis-streams needs a Redis: let the scenario have one started (servers: {redis: {}}), or name "
                "yours in squall.yaml (targets: {mine: {kind: redis-streams, url: env:NAME}})"
            )
        host, port = servers["redis"]
        return f"redis://{host}:{port}"
    kind, _, name = options.url.partition(":")
    if kind != "env":
        return options.url
    if not (found := os.environ.get(name)):
        raise ConfigError(f"target redis-streams: url: the environment variable {name} is not set")
    return found


def _durability(config: Mapping[Any, Any]) -> tuple[Durability, str]:
    """What an acknowledgement of the server is worth, and the settings that say so."""
    found = {_text(name): _text(value) for name, value in config.items()}
    names = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite")
    values = [found.get(name, "?") for name in names]
    if values[0] == "no":
        return "memory", "appendonly no"
    says = f"appendonly {values[0]}, appendfsync {values[1]}"
    return ("disk" if values == ["yes", "always", "no"] else "memory"), says


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
