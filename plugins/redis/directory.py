"""The directory: all named subscriptions of a store, remembered until the server says that one was changed."""

from __future__ import annotations

from collections.abc import Sequence
from logging import Logger
from typing import Any, NamedTuple

from squall.core.errors import StoreError
from squall.core.patterns import PatternTrie
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.server import Command, Interrupted, Link, Links, Rejected, Unreachable

MAX_SUBSCRIPTIONS = 10_000
"""Of more than so many none are remembered."""


class StoredSubscription(NamedTuple):
    """A named subscription as all routers of a store know it. `filters` is JSON; nothing before from_seq is owed."""

    id: str
    name: str
    subscriber_id: str
    pattern: str
    filters: str
    from_seq: int


class _Known(NamedTuple):
    subscriptions: tuple[StoredSubscription, ...]
    routes: PatternTrie[StoredSubscription]


class Directory:
    """`tail` is the connection by which the server tells of changes (client-side caching, by broadcast: redis-py's own
    has no asyncio). What is remembered counts only while that very connection is open."""

    def __init__(self, tail: Link, links: Links, keys: Keys, logger: Logger) -> None:
        self._tail, self._links, self._keys, self._logger = tail, links, keys, logger
        tail.on_invalidated = self.forget
        self._known: _Known | None = None
        self._changes = 0
        self._asked = self._told_by = 0
        self.hits = self.misses = 0

    def forget(self) -> None:
        """Some may be others now."""
        self._known = None
        self._changes += 1

    async def watch(self) -> None:
        """Have the server tell of changes by the connection that `tail` has now. Raises Unreachable, Interrupted."""
        if await self._tail.is_open() and self._asked == self._tail.opened:
            return
        self.forget()  # what was changed while nobody was told
        try:
            await self._tail.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", self._keys.names)
        except Rejected as error:
            self._logger.warning("subscriptions are read anew each time, the server tells of no changes: %s", error)
        else:
            self._told_by = self._tail.opened
        self._asked = self._tail.opened

    async def subscriptions(self) -> Sequence[StoredSubscription]:
        """All of them, in the order of their names. Raises StoreError."""
        return (await self._now()).subscriptions

    async def routes(self, event_type: str) -> list[StoredSubscription]:
        """Those whose pattern matches this type; their filters are not asked. Raises StoreError."""
        return sorted((await self._now()).routes.match(event_type), key=lambda one: one.name)

    async def unattended(self, for_s: float) -> tuple[str, ...]:
        """The names of those that no router has had the turn of for so long, the longest first. Raises StoreError."""
        found = (await self._now()).subscriptions
        if not found:
            return ()
        asked: list[Command] = [("TIME",)]
        for one in found:
            asked += (("HGET", self._keys.subscription(one.id), "attended"), ("EXISTS", self._keys.lease(one.id)))
        (now_s, _), *answers = await self._calls(asked)
        since = zip((int(one or now_s) for one in answers[::2]), found, answers[1::2], strict=True)
        return tuple(one.name for since_s, one, held in sorted(since) if not held and int(now_s) - since_s >= for_s)

    async def _calls(self, commands: Sequence[Command]) -> list[Any]:
        try:
            async with self._links.use() as link:
                return await link.calls(commands)
        except (Unreachable, Interrupted, Rejected) as error:
            raise StoreError(f"{error}; nothing is lost, try again") from error

    async def _now(self) -> _Known:
        told = self._tail.is_connected and self._told_by == self._tail.opened
        if told and self._known is not None:
            self.hits += 1
            return self._known
        self.misses += 1
        changes = self._changes
        found = await self._read()
        if told and changes == self._changes and len(found.subscriptions) <= MAX_SUBSCRIPTIONS:
            self._known = found
        return found

    async def _read(self) -> _Known:
        (names,) = await self._calls([("HGETALL", self._keys.names)])
        ids = {one.decode(): name.decode() for name, one in names.items()}
        wanted = ("subscriber", "pattern", "filters", "from")
        hashes = await self._calls([("HMGET", self._keys.subscription(one), *wanted) for one in ids]) if ids else []
        routes = PatternTrie[StoredSubscription]()
        subscriptions = []
        for (subscription_id, name), values in sorted(zip(ids.items(), hashes, strict=True), key=lambda one: one[0][1]):
            if None not in values:  # ended meanwhile
                subscriber, pattern, filters, from_seq = (value.decode() for value in values)
                one = StoredSubscription(subscription_id, name, subscriber, pattern, filters, int(from_seq))
                subscriptions.append(one)
                routes.add(pattern, one)
        return _Known(tuple(subscriptions), routes)
