"""The store's side on the event loop: a group gathers while the one before it is on its way."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from logging import Logger
from random import Random
from typing import Any
from weakref import WeakKeyDictionary

import msgspec

from squall.core.clock import Clock, Timer
from squall.core.errors import SquallError, StoreError, StoreFileError, SubscriptionError
from squall.core.event import Durability, Event
from squall.core.identity import system_id
from squall.core.recent import MAX_EVENTS_HELD
from squall.core.store import (
    Attached,
    Capabilities,
    DeadLetter,
    DurableSpec,
    Page,
    Progress,
    Query,
    Redrive,
    Settlement,
    StoreCounts,
)
from squall.plugins.redis import scripts, subscriptions
from squall.plugins.redis.adoption import adopt
from squall.plugins.redis.announcing import Announcer
from squall.plugins.redis.codec import pack_event
from squall.plugins.redis.directory import Directory
from squall.plugins.redis.groups import Group, Work, answer, not_stored
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.reading import Reader
from squall.plugins.redis.retention import Retention
from squall.plugins.redis.server import PASSING, Interrupted, Link, Links, Rejected, Server, Unreachable
from squall.plugins.redis.turns import Leases

MAX_EVENTS = 500
MAX_BYTES = 8_000_000
READERS = 4
SETTLE_WITHIN_S = 0.02
RETRY_AFTER_S, RETRY_AT_MOST_AFTER_S = 0.05, 2.0
DEDUPE_WINDOW_S = 120.0
INACTIVE_AFTER_S = 7 * 86400.0


class RedisStore:
    """The protocol of core/store.py over one Redis server, or over the node of a cluster that has our slot.

    One task writes: a group at a time, by a script that does it once however often it is sent, so that after a lost
    connection it is simply sent again. Another follows what other routers write.
    """

    def __init__(
        self,
        server: Server,
        name: str,
        durability: Durability,
        lease_s: float,
        max_events: int,
        clock: Clock,
        random: Random,
        logger: Logger,
        dedupe_window_s: float = DEDUPE_WINDOW_S,
        recent_events: int = MAX_EVENTS_HELD,
        inactive_after_s: float = INACTIVE_AFTER_S,
    ) -> None:
        self._server, self._keys, self._clock, self._random, self._logger = server, Keys(name), clock, random, logger
        self._link, self._tail = Link(server), Link(server)
        self._readers = Links(server, READERS)
        self.directory = Directory(self._tail, self._readers, self._keys, logger)
        recent_events, self._inactive_after_s = min(recent_events, max_events), inactive_after_s
        self._announcer = Announcer(
            self._tail, self._readers, self._keys, self.directory, recent_events, clock, logger, self._backoff_s
        )
        self.reader = Reader(self._readers, self._keys, self._announcer)
        self._router_id = system_id()
        self._leases = Leases(self._readers, self._keys, self._router_id, lease_s, clock, random, logger)
        self.capabilities = Capabilities(durability, dedupe_window_s, self._leases, dedupes=True, max_events=max_events)
        self._retention = Retention(
            self._readers, self._keys, max_events, lambda: self._announcer.head, self._ask_all, clock, logger
        )
        self._turn_of: WeakKeyDictionary[Progress, tuple[str, str]] = WeakKeyDictionary()
        self._specs: dict[str, DurableSpec] = {}
        self._epoch = b""
        self._waiting = self._number = 0
        self._refusal: str | None = "it is not open"
        self._groups: deque[Group] = deque((Group(),))
        self._dirty: dict[Progress, None] = {}
        self._settle_now = self._closed = False
        self._settle_timer: Timer | None = None
        self._due = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: asyncio.Task[None] | None = None

    @property
    def next_seq(self) -> int:
        return self._announcer.head + self._waiting + 1

    async def open(self, on_stored: Callable[[Sequence[Event]], None]) -> int:
        self._loop = asyncio.get_running_loop()
        try:
            head = await self._adopt()
            unattended = await self.directory.unattended(self._inactive_after_s)
        except BaseException as error:
            for link in (self._link, self._readers):
                await link.close()
            if isinstance(error, Unreachable | Interrupted | Rejected | StoreError):
                raise StoreFileError(f"the redis store cannot start: {error}") from error
            raise
        self._refusal = None
        self._announcer.begin(head, on_stored)
        for name in unattended:
            self._logger.warning(
                "Redis at %s: no router has handled subscription %s for a long time, and all that it is owed is kept: "
                "subscribe with this name to go on, and unsubscribe then if it is needed no more",
                self._server.address,
                name,
            )
        jobs = (self._write(), self._announcer.follow(self._server.timeout_s / 2), self._leases.renew_all())
        self._tasks = [self._loop.create_task(one) for one in (*jobs, self._retention.run())]
        return head

    async def close(self) -> None:
        if self._closing is None:
            if not self._tasks:
                return
            self._closing = self._loop.create_task(self._close())
        await asyncio.shield(self._closing)

    async def _close(self) -> None:
        self._refusal, self._closed = "it is closed", True
        self._due.set()
        writing, *others = self._tasks
        await writing
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._leases.release_all()
        for link in (self._link, self._tail, self._readers):
            await link.close()

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        if self._refusal is not None:
            raise StoreError(f"redis: nothing was stored: {self._refusal}", "fail")
        try:
            packed = [pack_event(event) for event in events]
        except (TypeError, ValueError, msgspec.MsgspecError) as error:
            raise StoreError(f"redis: nothing was stored, this event cannot be: {error}", "fail") from error
        group = self._groups[-1]
        size_bytes = sum(map(len, packed))
        if group.events and (len(group.events) + len(events) > MAX_EVENTS or group.size_bytes + size_bytes > MAX_BYTES):
            self._groups.append(group := Group())
        future: asyncio.Future[None] = self._loop.create_future()
        self._waiting += group.add(events, packed, size_bytes, future)
        self._due.set()
        return future

    def settle(self, progress: Progress) -> None:
        self._dirty[progress] = None
        if self._settle_timer is None:
            self._settle_timer = self._clock.call_later(SETTLE_WITHIN_S, self._settle_alone)

    async def attach(self, spec: DurableSpec) -> Attached:
        attached: Attached = await self._work(lambda link: subscriptions.attach(link, self._keys, spec))
        self._specs[attached.id] = replace(spec, id=attached.id, start="new", update=False)
        self.directory.forget()
        return attached

    async def detach(self, subscription_id: str) -> None:
        self._specs.pop(subscription_id, None)
        await self._work(lambda link: subscriptions.detach(link, self._keys, subscription_id))
        self.directory.forget()

    async def read(self, query: Query) -> Page:
        return await self.reader.read(query)

    async def dead_letters(self, subscription: str | None = None, after: int = 0, limit: int = 500) -> list[DeadLetter]:
        return await self.reader.dead_letters(subscription, after, limit)

    async def redrive(self, wanted: Sequence[Redrive]) -> list[Redrive]:
        names, arguments = subscriptions.redrive_arguments(self._keys, wanted, system_id(), self._leases.token)
        until_ns = self._clock.monotonic_ns() + round(self._server.timeout_s * 1e9)
        unknown: StoreError | None = None
        while True:
            try:
                given = await self._work(lambda link: link.run(scripts.REDRIVE, names, arguments))
                return [wanted[number - 1] for number in given]
            except StoreError as error:
                unknown = error if error.outcome == "info" else unknown
                if unknown is None:
                    raise
                if self._closed or self._clock.monotonic_ns() >= until_ns:
                    raise unknown from error
            await self._clock.sleep(self._backoff_s(0))

    async def counts(self) -> StoreCounts:
        unattended = await self.directory.unattended(self._inactive_after_s)
        return StoreCounts(*await self.reader.counts(), unattended)

    async def _work(self, work: Work) -> Any:
        """What work returns, done after all that was appended before."""
        if self._refusal is not None:
            raise StoreError(f"redis: nothing was changed: {self._refusal}", "fail")
        future: asyncio.Future[Any] = self._loop.create_future()
        self._groups[-1].works.append((future, work))
        self._due.set()
        return await future

    def _ask_all(self) -> None:
        """Have every subscription whose turn it is say how far it is."""
        for progress, (subscription_id, token) in list(self._turn_of.items()):
            if token and token == self._leases.token(subscription_id):
                self.settle(progress)

    def _settle_alone(self) -> None:
        self._settle_timer, self._settle_now = None, True
        self._due.set()

    # The writer

    async def _write(self) -> None:
        """Store group after group, until the store is closed and nothing waits."""
        while True:
            group = self._next_group()
            if group is not None:
                self._announcer.idle.clear()
                await self._store(group)
                self._announcer.idle.set()
            elif self._closed:
                return
            else:
                self._due.clear()
                await self._due.wait()

    def _next_group(self) -> Group | None:
        """What is to be stored now, with all settlements; None when nothing is."""
        settle = bool(self._dirty) and (self._settle_now or self._closed)
        if not (self._groups[0] or settle):
            return None
        group = self._groups.popleft()
        if not self._groups:
            self._groups.append(Group())
        dirty, self._dirty, self._settle_now = self._dirty, {}, False
        if self._settle_timer is not None:
            self._settle_timer.cancel()
            self._settle_timer = None
        for progress in dirty:
            settlement = progress.take()
            # Of the turn in which it was first asked: what is left of an earlier one does not count in a later.
            turn = (settlement.subscription_id, self._leases.token(settlement.subscription_id))
            group.settlements.append((progress, settlement, self._turn_of.setdefault(progress, turn)[1]))
        return group

    async def _store(self, group: Group) -> None:
        """Store a group, announce it, and answer everybody who waits for it."""
        error: StoreError | None = None
        outdated: list[Settlement] = []
        if group.events or group.settlements:
            self._number += 1
            try:
                first, outdated = await self._commit(group)
                await self._announcer.own(group.events, first, others=bool(group.events or group.refused))
            except StoreError as failed:
                error = failed
            except Exception as bug:  # whoever writes must go on writing
                self._logger.exception("storing a group failed")
                error = StoreError(f"whether it was stored is not known: {bug}", "info")
        self._waiting -= group.numbered
        group.tell(error, outdated)
        await group.do(self._ready, self._link)
        if error is not None and not await self._link.is_open():
            await self._go_down(error)

    async def _commit(self, group: Group) -> tuple[int, list[Settlement]]:
        """Send the group until it is stored, at most for timeout_s. Returns its first seq, and the settlements that
        do not count: of turns that are over. Raises StoreError."""
        ids, settled = subscriptions.settlement_arguments([one[1:] for one in group.settlements])
        keys = self._keys
        names = (keys.head, *keys.streams, keys.writer(self._router_id), keys.dead, keys.died)
        names += (keys.redriven, keys.given_back)
        names += tuple(keys.subscription(one) for one in ids)
        names += tuple(keys.own_id(group.events[own - 1].id) for *_, own in group.ids)
        priorities = "".join([str(int(event.priority)) for event in group.events])
        arguments: tuple[str | bytes | int, ...] = (
            self._number, max(1, round(self.capabilities.dedupe_window_s * 1000)), priorities, *group.packed,
            len(group.ids), *group.id_arguments(), *settled,
        )  # fmt: skip
        until_ns = self._clock.monotonic_ns() + round(self._server.timeout_s * 1e9)
        sent, tries = False, 0
        while True:
            try:
                await self._ready()
                answered, _, repeated = (await self._link.run(scripts.COMMIT, names, arguments)).partition(b";")
                group.take_out(repeated.split(), self.capabilities.dedupe_window_s)
                first, *numbers = answered.split()
                return int(first), self._outdated(group, numbers)
            except Rejected as error:
                sent = sent or not error.harmless
                if error.code == "LOST":
                    await self._link.close()  # and is adopted anew
                elif not error.harmless or not (sent or error.code in PASSING):
                    raise not_stored(error, sent) from error
                failed: SquallError = error
            except Interrupted as error:
                sent, failed = True, error
            except (Unreachable, StoreFileError) as error:
                failed = error
            tries += 1
            if self._clock.monotonic_ns() >= until_ns:
                raise not_stored(failed, sent) from failed
            await self._clock.sleep(self._backoff_s(tries))

    def _outdated(self, group: Group, numbers: Sequence[bytes]) -> list[Settlement]:
        """The settlements of these numbers, counted from one among the durable ones; turns that they show to be over
        end."""
        durable = [(settlement, token) for _, settlement, token in group.settlements if settlement.durable]
        found = [durable[int(number) - 1] for number in numbers]
        for settlement, token in found:
            self._leases.lost(settlement.subscription_id, token)
        return [settlement for settlement, _ in found]

    def _backoff_s(self, tries: int) -> float:
        return self._random.uniform(0, min(RETRY_AT_MOST_AFTER_S, RETRY_AFTER_S * 2**tries))

    async def _adopt(self) -> int:
        """Adopt the server that the connection leads to; returns the greatest seq that it gave. Raises StoreFileError,
        and as Link.calls."""
        durability, head = self.capabilities.durability, self._announcer.head
        found = await adopt(self._link, self._server, self._keys, durability, head, self._epoch, self._logger)
        self._epoch = found.epoch
        if found.lost:
            self._announcer.forget()
            await self._restore()
        return found.head

    async def _restore(self) -> None:
        """The named subscriptions of this router exist again, and its turns with them. Raises as Link.calls."""
        for spec in list(self._specs.values()):
            try:
                await subscriptions.attach(self._link, self._keys, spec)
            except SubscriptionError as error:
                self._logger.warning("%s", error)  # another router was quicker, and wants it otherwise
            await self._leases.reclaim(self._link, spec.id)

    async def _ready(self) -> None:
        """See that there is a connection, to a server that was adopted. Raises as Link.calls but for Interrupted, and
        StoreFileError."""
        if not await self._link.is_open():
            try:
                await self._adopt()
            except Interrupted as error:
                await self._link.close()
                raise Unreachable(str(error)) from error
            except (Rejected, StoreFileError):
                await self._link.close()
                raise

    async def _go_down(self, error: StoreError) -> None:
        """Refuse everything until the server answers again."""
        if self._closed:
            return
        self._refusal = str(error)
        self._logger.error("%s; it is tried again until the server answers", error)
        waiting, self._groups = self._groups, deque((Group(),))
        for group in waiting:
            self._waiting -= group.numbered
            refused = StoreError(f"nothing was stored: {error}", "fail")
            for future in (*(one for one, _ in group.appends), *(one for one, _ in group.works)):
                answer(future, None, refused)
        tries = 0
        while not self._closed:
            tries += 1
            await self._clock.sleep(self._backoff_s(tries))
            try:
                await self._adopt()
            except (Unreachable, Interrupted, Rejected, StoreFileError) as failed:
                self._refusal = str(failed)
                continue
            self._logger.warning("Redis at %s answers again", self._server.address)
            if not self._closed:
                self._refusal = None
            return
