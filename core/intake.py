"""The way of an event from publish to the store: checked, guarded, routed, given room, stored, offered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from squall.core.clock import Clock
from squall.core.dedupe import Dedupe
from squall.core.dispatch import Dispatcher
from squall.core.errors import InvalidEvent, NotRunning, Overflow, PublishError, Refused, SquallError, StoreError
from squall.core.event import MAX_PAYLOAD_BYTES, Event, Priority, check_text, content
from squall.core.identity import NewId
from squall.core.middleware import Middleware, compose, guards_only
from squall.core.observers import Observers
from squall.core.patterns import PatternTrie, check_type
from squall.core.quarantine import leave_for_reading
from squall.core.rules import RoutingRule, apply
from squall.core.store import EventStore
from squall.core.subscription import DROPS
from squall.core.thread import check_loop

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
        self._clock, self._monotonic_ns, self._loop = clock, clock.monotonic_ns, asyncio.get_running_loop()
        self._wall_ns = clock.time_ns() - clock.monotonic_ns()
        self.new_id, self._append, self._observers, self._block_s = new_id, store.append, observers, block_s
        guard = guards_only(layers)
        self._guard = guard or None
        self._layers = layers if guard is False else ()
        self._rules = rules
        self._open = True
        # A store that publishers wait for answers in the router's loop: each looks first whether that is its own.
        self._plain = not (
            self._layers or rules or store.capabilities.turns or store.capabilities.durability != "memory"
        )
        self.dedupe = Dedupe(store, clock)
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
        check_loop(self._loop)

    def forget_routes(self) -> None:
        """Subscriptions changed."""
        self._routes.clear()

    def route(self, event_type: str) -> tuple[Dispatcher, ...]:
        """Who gets events of this type. Raises InvalidEvent on a malformed one."""
        found = self._routes.get(event_type) if isinstance(event_type, str) else None
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
        own: dict[str, Any] = {}
        if type(payload) is not bytes or metadata is not None:
            payload, own = content(payload, metadata)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise InvalidEvent(f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
        if type(priority) is not Priority:
            raise InvalidEvent(f"priority: expected a squall.Priority, got {priority!r:.80}")
        if key is not None:
            check_text("key", key)
        make_id, clock_ns = self.new_id, self._monotonic_ns  # calling an attribute costs three times as much as a name
        new_id, now_ns = make_id(), clock_ns()
        if correlation_id is None:
            correlation_id = new_id
        else:
            check_text("correlation_id", correlation_id)
        return Event(
            new_id,
            event_type,
            source,
            now_ns + self._wall_ns,  # type: ignore[arg-type]  # a datetime only when asked for
            priority,
            correlation_id,
            own,
            payload,
            "1",
            key=key,
            published_ns=now_ns,
        )

    def submit(self, event: Event) -> Awaitable[None] | None:
        """Take one event in. Returns None when it is stored, else what to await for that. Raises PublishError."""
        if not self._plain and (long_way := self._check(event)) is not None:
            return long_way
        if (guard := self._guard) is not None:  # as _pass, without its call: tracing guards every event
            try:
                guard(event)
            except Exception as error:
                raise self._refusal(error) from error
        try:
            targets = self._routes[event.type]
        except (KeyError, TypeError):  # a type that is no text cannot even be looked for
            targets = self.route(event.type)
        for target in targets:
            if target.choosy and not target.expects(event):
                continue
            target.room -= 1
            if target.room < 0:
                _return_room(event, targets[: targets.index(target) + 1])
                return self._admit([event])
        try:
            pending = self._append((event,))
        except Exception as error:
            _return_room(event, targets)
            raise _store_error(error) from error
        if pending is None:
            return None
        return self._answer(pending, lambda stored: None if stored else _return_room(event, targets))

    def _check(self, event: Event) -> Awaitable[None] | None:
        self._check_open()
        return self._submit_all([event]) if self._layers or self._rules else None

    async def submit_once(self, events: Sequence[Event]) -> set[int]:
        """Take up to 1,000 events in, all or none, save those that repeat an earlier publish: returns the places of
        these. Raises PublishError."""
        self._check_open()
        if len(events) > MAX_BATCH:
            raise InvalidEvent(f"events: expected at most {MAX_BATCH}, got {len(events)}")
        if any(event.own_id for event in events):
            return await self.dedupe.publish(events, self._submit_all)
        if events:
            await self._submit_all(events)
        return set()

    async def _submit_all(self, events: Sequence[Event]) -> None:
        if not self._layers:
            for event in events:
                self._pass(event)
            await self._route_and_admit(events)
            return
        # With one event the innermost layer waits for the store; a batch is stored once all have passed.
        passed: list[Event] = []

        async def last(event: Event) -> None:
            passed.append(event)
            if len(events) == 1:
                await self._route_and_admit(events)

        chain = compose(self._layers, last)
        for number, event in enumerate(events):
            try:
                await chain(event)
                if len(passed) <= number:
                    raise Refused("publish middleware did not call next: nothing was stored (raise Refused to refuse)")
            except Exception as error:
                raise self._refusal(error, stored=len(events) == 1 and bool(passed)) from error
        if len(events) > 1:
            await self._route_and_admit(events)

    def _pass(self, event: Event) -> None:
        if self._guard is not None:
            try:
                self._guard(event)
            except Exception as error:
                raise self._refusal(error) from error

    def _refusal(self, error: Exception, *, stored: bool = False) -> SquallError:
        """What a publish is told of an error of its middleware. `stored`: the event had come through by then."""
        if stored and isinstance(error, SquallError):
            return error  # of the kernel's own, counted where it arose
        said = f"publish middleware raised {type(error).__name__}: {error}"
        if stored:
            return PublishError(said, "info")
        self.refused += 1
        return error if isinstance(error, PublishError) else Refused(said)

    async def _route_and_admit(self, events: Sequence[Event]) -> None:
        if not self._rules:
            await self._admit(events)
            return
        routed: list[Event] = []
        for event in events:
            out = apply(self._rules, event, self.new_id)
            if not any(one is event for one in out):
                self._observers.dropped(event, None, "routing rule")
            routed.extend(out)
        if routed:
            await self._admit(routed)

    async def _admit(self, events: Sequence[Event]) -> None:
        """Reserve room for all events in all their subscriptions, then store them. A wait may change who gets them."""
        self._check_open()  # middleware may have waited until the router stops
        needs = await self._needs(events)
        late = {target: target.reserve(wanted) for target, wanted in needs.items()}

        def answered(stored: bool) -> None:
            for target, wanted in needs.items():
                if stored:
                    target.make_room(late[target])
                else:
                    for event in wanted:
                        target.return_room(event)

        try:
            pending = (self.dedupe.append if self.dedupe.storing else self._append)(events)
        except Exception as error:
            answered(stored=False)
            raise _store_error(error) from error
        if pending is None:
            answered(stored=True)
        else:
            await self._answer(pending, answered)

    async def _answer(self, pending: Awaitable[None], answered: Callable[[bool], None]) -> None:
        """Wait for the store's answer. Whether it stored is told even when the publisher has gone meanwhile."""
        answer = asyncio.ensure_future(pending)
        arrived = asyncio.get_running_loop().create_future()

        def ended(answer: asyncio.Future[None]) -> None:
            answered(not answer.cancelled() and answer.exception() is None)
            if not arrived.done():
                arrived.set_result(None)

        answer.add_done_callback(ended)
        await arrived
        try:
            answer.result()
        except Exception as error:
            raise _store_error(error) from error

    async def _needs(self, events: Sequence[Event]) -> dict[Dispatcher, list[Event]]:
        """Who gets which of the events, once all have room for that but those that rather drop. Raises Overflow."""
        deadline_ns = self._monotonic_ns() + round(self._block_s * 1e9)
        while True:
            needs: dict[Dispatcher, list[Event]] = {}
            for event_type, alike in _by_type(events):
                for target in self.route(event_type):
                    wanted = alike if target.wants is None else [event for event in alike if target.wants(event)]
                    needs.setdefault(target, []).extend(wanted)
            for target, wanted in needs.items():
                if target.room < len(wanted) and target.subscription.overflow not in DROPS:
                    await self._wait_for_room(target, len(wanted), (deadline_ns - self._monotonic_ns()) / 1e9)
                    break
            else:
                return needs

    async def _wait_for_room(self, target: Dispatcher, wanted: int, left_s: float) -> None:
        subscription, room = target.subscription, target.wiring.room
        if subscription.overflow == "reject" or wanted > room or left_s <= 0:
            self.refused += wanted
            raise Overflow(
                f"subscription {subscription.label}: no room for {wanted} more, at most {room} may wait; nothing was "
                "stored (publish slower, or raise backlog.max_events)"
            )
        await target.wait_for_room(left_s)
        self._check_open()

    def announce(self, events: Sequence[Event]) -> None:
        """The store has these events: offer them to their subscriptions, in seq order."""
        routes, fresh = self._routes, self._fresh
        for event in events:
            targets = routes.get(event.type)
            if targets is None:
                targets = self.route(event.type) if event.type else leave_for_reading(self.trie, event)
            for target in targets:
                take_in = target.take_in
                take_in(event)
            self.head = event.seq
        fresh += events
        if len(fresh) >= TELL_AT:
            self.flush()

    def sweep(self) -> None:
        """Every now and then: look at the wall clock, which is a label and may lag (a second reading for each event
        costs 5 % of a publish), and tell observers."""
        self._wall_ns = self._clock.time_ns() - self._monotonic_ns()
        self.flush()

    def flush(self) -> None:
        """Tell observers what was published since the last time: every TELL_AT events, and with each sweep."""
        fresh = self._fresh[:]
        self._fresh.clear()
        self._told += len(fresh)
        if fresh and self._observers.wants_published:
            self._observers.published(fresh)


def _by_type(events: Sequence[Event]) -> Iterable[tuple[str, Sequence[Event]]]:
    """The events of a batch, those of a type together."""
    if len(events) == 1:
        return ((events[0].type, events),)
    found: dict[str, list[Event]] = {}
    for event in events:
        found.setdefault(event.type, []).append(event)
    return found.items()


def _return_room(event: Event, targets: Sequence[Dispatcher]) -> None:
    for target in targets:
        target.return_room(event)


def _store_error(error: Exception) -> PublishError:
    """A store that raises anything but a StoreError breaks its word: nobody knows whether it stored."""
    if isinstance(error, PublishError):
        return error
    return StoreError(f"the store raised {type(error).__name__}: {error}", outcome="info")
