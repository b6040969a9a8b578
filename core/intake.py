"""The way of an event from publish to the store: checked, guarded, routed, given room, stored, offered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any

from squall.core.clock import Clock
from squall.core.dispatch import Dispatcher
from squall.core.errors import InvalidEvent, NotRunning, Overflow, PublishError, Refused, StoreError
from squall.core.event import CONTENT_TYPE, MAX_PAYLOAD_BYTES, Event, Priority, check_text, encode
from squall.core.identity import NewId
from squall.core.middleware import Middleware, compose, guards_only
from squall.core.observers import Observers
from squall.core.patterns import PatternTrie, check_type
from squall.core.rules import RoutingRule, apply
from squall.core.store import EventStore

MAX_ROUTES = 16_384
MAX_BATCH = 1000
TELL_AT = 256


class Intake:
    """Takes events in. `routes` remembers, by type, who gets it: what is found there is a valid type."""

    def __init__(
        self,
        clock: Clock,
        new_id: NewId,
        store: EventStore,
        observers: Observers,
        layers: Sequence[Middleware],
        rules: Sequence[RoutingRule],
        block_s: float,
    ) -> None:
        self.head = 0
        self.refused = 0
        self.trie: PatternTrie[Dispatcher] = PatternTrie()
        self._routes: dict[str, tuple[Dispatcher, ...]] = {}
        self._clock, self._monotonic_ns, self._time_ns = clock, clock.monotonic_ns, clock.time_ns
        self._new_id, self._store, self._observers, self._block_s = new_id, store, observers, block_s
        guard = guards_only(layers)
        self._guard = guard or None
        self._layers = layers if guard is False else ()
        self._rules = rules
        self._open = True
        self._plain = not layers and not rules
        self._fresh: list[Event] = []
        self._told = 0

    @property
    def published(self) -> int:
        """Events that the store took."""
        return self._told + len(self._fresh)

    def add_rule(self, rule: RoutingRule) -> None:
        """Route by this one too."""
        self._rules = (*self._rules, rule)
        self._plain = False

    def close(self) -> None:
        """Take nothing in any more."""
        self._open = self._plain = False

    def _check_open(self) -> None:
        if not self._open:
            raise NotRunning("the router is not running: start it, and publish before it stops")

    def forget_routes(self) -> None:
        """Subscriptions changed."""
        self._routes.clear()

    def route(self, event_type: str) -> tuple[Dispatcher, ...]:
        """Who gets events of this type. Raises InvalidEvent on a malformed one."""
        found = self._routes.get(event_type)
        if found is None:
            check_type(event_type)
            if len(self._routes) >= MAX_ROUTES:
                self._routes.clear()
            found = self._routes[event_type] = tuple(self.trie.match(event_type))
        return found

    def make(
        self,
        source: str,
        event_type: str,
        payload: Any,
        priority: Priority,
        correlation_id: str | None,
        key: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> Event:
        """The event, checked but for its type. Raises InvalidEvent."""
        own = {} if metadata is None else dict(metadata)
        if type(payload) is not bytes:
            payload, content_type = encode(payload)
            if content_type is not None:
                own.setdefault(CONTENT_TYPE, content_type)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise InvalidEvent(f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
        if type(priority) is not Priority:
            raise InvalidEvent(f"priority: expected a squall.Priority, got {priority!r:.80}")
        if key is not None:
            check_text("key", key)
        new_id = self._new_id()
        if correlation_id is None:
            correlation_id = new_id
        else:
            check_text("correlation_id", correlation_id)
        return Event(
            new_id,
            event_type,
            source,
            self._time_ns(),  # type: ignore[arg-type]  # a datetime only when asked for
            priority,
            correlation_id,
            own,
            payload,
            "1",
            key=key,
            published_ns=self._monotonic_ns(),
        )

    def submit(self, event: Event) -> Awaitable[None] | None:
        """Take one event in. Returns None when it is stored, else what to await for that. Raises PublishError."""
        if not self._plain:
            self._check_open()
            if self._layers:
                return self._submit_all([event])
            if self._guard is not None:
                self._pass(event)
            if self._rules:
                return self._admit_all([event], apply(self._rules, event, self._new_id))
        targets = self._routes.get(event.type)
        if targets is None:
            targets = self.route(event.type)
        for target in targets:
            if target.wants is None or target.wants(event):
                if target.room <= 0:
                    self._return_room(event, targets[: targets.index(target)])
                    return self._admit_all([event], [event])
                target.room -= 1
        try:
            pending = self._store.append((event,))
        except StoreError:
            self._return_room(event, targets)
            raise
        return None if pending is None else self._stored(pending, [event])

    async def submit_all(self, events: Sequence[Event]) -> None:
        """Take up to 1,000 events in, all or none. Raises PublishError."""
        self._check_open()
        if len(events) > MAX_BATCH:
            raise InvalidEvent(f"events: expected at most {MAX_BATCH}, got {len(events)}")
        if events:
            await self._submit_all(list(events))

    async def _submit_all(self, events: list[Event]) -> None:
        if not self._layers:
            for event in events:
                self._pass(event)
            await self._admit(events)
            return
        # With one event the innermost layer waits for the store; a batch is stored once all have passed.
        passed: list[Event] = []

        async def last(event: Event) -> None:
            if len(events) == 1:
                await self._admit([event])
            else:
                passed.append(event)

        chain = compose(self._layers, last)
        for event in events:
            try:
                await chain(event)
            except (PublishError, asyncio.CancelledError):
                raise
            except Exception as error:
                raise Refused(f"publish middleware raised {type(error).__name__}: {error}") from error
        if passed:
            await self._admit(passed)

    def _pass(self, event: Event) -> None:
        if self._guard is None:
            return
        try:
            self._guard(event)
        except PublishError:
            self.refused += 1
            raise
        except Exception as error:
            raise Refused(f"publish middleware raised {type(error).__name__}: {error}") from error

    async def _admit(self, events: Sequence[Event]) -> None:
        routed = list(events)
        if self._rules:
            routed = [out for event in events for out in apply(self._rules, event, self._new_id)]
        await self._admit_all(events, routed)

    async def _admit_all(self, asked: Sequence[Event], events: Sequence[Event]) -> None:
        """Reserve room for all events in all their subscriptions, then store them. A wait may change who gets them."""
        for event in asked:
            if not any(event is kept for kept in events):
                self._observers.dropped(event, None, "routing rule")
        if not events:
            return
        needs = await self._needs(events)
        for target, wanted in needs.items():
            target.room -= len(wanted)
        try:
            pending = self._store.append(events)
        except StoreError:
            self._give_back(needs)
            raise
        if pending is not None:
            try:
                await pending
            except StoreError:
                self._give_back(needs)
                raise

    async def _needs(self, events: Sequence[Event]) -> dict[Dispatcher, list[Event]]:
        """Who gets which of the events, once all of them have room for that. Raises Overflow."""
        deadline_ns = self._monotonic_ns() + round(self._block_s * 1e9)
        while True:
            needs: dict[Dispatcher, list[Event]] = {}
            for event in events:
                for target in self.route(event.type):
                    if target.wants is None or target.wants(event):
                        needs.setdefault(target, []).append(event)
            short = [target for target, wanted in needs.items() if target.room < len(wanted)]
            if not await self._make_room(short, needs, deadline_ns):
                return needs

    async def _make_room(
        self, short: Sequence[Dispatcher], needs: dict[Dispatcher, list[Event]], deadline_ns: int
    ) -> bool:
        """Deal with subscriptions that lack room. Returns whether to look again; raises Overflow."""
        for target in short:
            subscription, wanted = target.subscription, needs[target]
            if subscription.overflow == "drop_new":
                for event in wanted[max(0, target.room) :]:
                    target.drop(event)
                needs[target] = wanted[: max(0, target.room)]
                continue
            left_s = (deadline_ns - self._monotonic_ns()) / 1e9
            if subscription.overflow == "reject" or len(wanted) > target.wiring.room or left_s <= 0:
                self.refused += len(wanted)
                raise Overflow(
                    f"subscription {subscription.label}: {target.wiring.room} events wait already, no room for "
                    f"{len(wanted)} more; nothing was stored (publish slower, or raise backlog.max_events)"
                )
            await target.wait_for_room(left_s)
            return True
        return False

    async def _stored(self, pending: Awaitable[None], events: Sequence[Event]) -> None:
        try:
            await pending
        except StoreError:
            for event in events:
                self._return_room(event, self.route(event.type))
            raise

    def _return_room(self, event: Event, targets: Sequence[Dispatcher]) -> None:
        for target in targets:
            if target.wants is None or target.wants(event):
                target.room += 1

    def _give_back(self, needs: Mapping[Dispatcher, Sequence[Event]]) -> None:
        for target, wanted in needs.items():
            target.room += len(wanted)

    def announce(self, events: Sequence[Event]) -> None:
        """The store has these events: offer them to their subscriptions, in seq order."""
        routes, fresh = self._routes, self._fresh
        for event in events:
            targets = routes.get(event.type)
            for target in self.route(event.type) if targets is None else targets:
                target.take_in(event)
            fresh.append(event)
        if fresh:
            self.head = fresh[-1].seq
        if len(fresh) >= TELL_AT:
            self.flush()

    def flush(self) -> None:
        """Tell observers what was published since the last time: every TELL_AT events, and with each sweep."""
        fresh = self._fresh[:]
        self._fresh.clear()
        self._told += len(fresh)
        if fresh and self._observers.wants_published:
            self._observers.published(fresh)
