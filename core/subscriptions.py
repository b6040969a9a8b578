"""The table of subscriptions: made, paused, resumed, ended, and wired to the plugins."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import msgspec

from squall.core.clock import Clock
from squall.core.config import Backlog
from squall.core.dispatch import Dispatcher, Wiring
from squall.core.errors import SquallError, SubscriptionError
from squall.core.event import Event
from squall.core.filters import Filter, Predicate, combine
from squall.core.intake import Intake
from squall.core.metrics import Meter, RouterMetrics, Totals, router_metrics
from squall.core.middleware import Next, compose
from squall.core.observers import Observers
from squall.core.plugin import Context
from squall.core.queue import CriticalFirst
from squall.core.scrub import known_secrets, scrubber
from squall.core.settle import Delivery
from squall.core.store import Attached, DurableSpec, EventStore
from squall.core.subscription import DROPS, EventHandler, OverflowPolicy, Subscription
from squall.core.subscription_checks import Start, check_subscription, takes_delivery
from squall.core.taking_up import open_window
from squall.core.turns import TakingTurns
from squall.core.wiring import Registry
from squall.core.workers import Worker

SAVED_WITHIN_S = 10.0


class Subscriptions:
    """All subscriptions of a running router, by id."""

    def __init__(
        self,
        ctx: Context,
        registry: Registry,
        store: EventStore,
        observers: Observers,
        intake: Intake,
        backlog: Backlog,
    ) -> None:
        self._ctx, self._registry, self._store = ctx, registry, store
        self._observers, self._intake, self._backlog = observers, intake, backlog
        self._scrub = scrubber(
            known_secrets(os.environ, [one.options for one in registry.plugins if hasattr(one, "options")])
        )
        self.dispatchers: dict[str, Dispatcher] = {}
        self._ended: list[Dispatcher] = []
        self._attaching: set[str] = set()
        self._leaving: set[asyncio.Task[SquallError | None]] = set()
        self._left: dict[str, Dispatcher] = {}
        self._shared = store.capabilities.turns is not None
        self._turns = TakingTurns(store.capabilities.turns, ctx, self._begin, self._yield, self._close)
        self._totals = Totals()

    def get(self, subscription_id: str) -> Dispatcher:
        """Raises SubscriptionError where there is none."""
        found = self.dispatchers.get(subscription_id)
        if found is None:
            raise SubscriptionError(f"there is no subscription {subscription_id!r:.80}")
        return found

    def meter(self, subscription_id: str) -> Meter:
        """What reads the sums of one subscription, by its id or a durable one's name, also of one that was left here.
        Raises SubscriptionError where there is none."""
        named = {one.subscription.name: one for one in self.dispatchers.values() if one.subscription.durable}
        return Meter(named.get(subscription_id) or self._left.get(subscription_id) or self.get(subscription_id))

    def is_changing(self, name: str) -> bool:
        """Is a durable subscription of this name just being attached or left?"""
        return name in self._attaching

    def default_overflow(self, durable: bool) -> OverflowPolicy:
        """What a full subscription does unless it says otherwise; a durable one never drops."""
        return "block" if durable and self._backlog.overflow in DROPS else self._backlog.overflow

    async def attach(self, subscription: Subscription, start: Start, update: bool) -> str:
        """Begin to deliver to a new subscription, or take a named one up again. Raises SubscriptionError."""
        check_subscription(subscription, start)
        if subscription.name is None:
            # No await from here to the routes: what is announced from now on is offered.
            next_seq = self._store.next_seq
            subscription.from_seq = next_seq if start == "new" else 1 if start == "earliest" else start
            # Nobody reserves room for what other routers append: it is taken in through a window.
            await self._begin(subscription, start != "new" or self._shared, None)
        else:
            async with self._attached(subscription, subscription.name, start, update) as attached:
                if self._shared:
                    self.dispatchers[subscription.id] = self._dispatcher(subscription)
                    self._turns.start(subscription)
                else:
                    await self._begin(subscription, True, attached)
        self._observers.subscription_changed(subscription, "subscribed")
        return subscription.id

    @contextlib.asynccontextmanager
    async def _attached(
        self, subscription: Subscription, name: str, start: Start, update: bool
    ) -> AsyncIterator[Attached]:
        """The subscription in the store. What fails afterwards leaves a new one as unknown as it was."""
        taken = {one.subscription.name for one in self.dispatchers.values()} | self._attaching
        if name in taken:
            raise SubscriptionError(f"subscription {name!r} is attached already, in this router")
        self._attaching.add(name)
        try:
            new_id = subscription.id
            attached = await self._store.attach(_spec(subscription, name, start, update))
            subscription.id, subscription.from_seq = attached.id, attached.from_seq
            self._left = {key: one for key, one in self._left.items() if one.subscription.name != name}
            if attached.given_up:
                self._ctx.logger.warning(
                    "subscription %r: its pattern or filters are others now; what it was owed before seq %d is not "
                    "delivered any more (events: up to %d)",
                    name,
                    attached.from_seq,
                    attached.given_up,
                )
            try:
                yield attached
            except BaseException:
                if attached.id == new_id:
                    await self._store.detach(new_id)
                raise
        finally:
            self._attaching.remove(name)

    async def _begin(self, subscription: Subscription, backlog: bool, attached: Attached | None) -> None:
        if self._backlog.strict_critical is not None:
            subscription.queue = CriticalFirst(self._backlog.strict_critical)
        dispatcher = self._dispatcher(subscription)
        if backlog:
            await open_window(dispatcher, attached, shared=self._shared)
        self.dispatchers[subscription.id] = dispatcher
        self._intake.trie.add(subscription.pattern, dispatcher)
        self._intake.forget_routes()
        if dispatcher.window is not None:
            dispatcher.window.refill()
        dispatcher.more_workers()
        if subscription.durable and self._shared:
            self._store.settle(dispatcher.progress)  # within this turn: it belongs to it from now on

    def _dispatcher(self, subscription: Subscription) -> Dispatcher:
        return Dispatcher(subscription, self._wire(subscription), lambda: self._intake.head)

    async def _yield(self, subscription: Subscription) -> None:
        """Another router delivers now: only be there for whoever asks."""
        await self._close(subscription.id, kept=True).halt()
        self.dispatchers[subscription.id] = self._dispatcher(subscription)

    async def detach(self, subscription_id: str) -> None:
        """End it: nothing more is offered to it; of a durable one nothing more is owed."""
        self._turns.stop(subscription_id)
        subscription = self._close(subscription_id).subscription
        try:
            if subscription.durable:
                await self._store.detach(subscription_id)
        finally:
            await self._turns.give_up(subscription_id)
        self._observers.subscription_changed(subscription, "unsubscribed")

    async def leave(self, subscription_id: str) -> None:
        """Deliver nothing more to it here. A durable one stays in the store, with all that it is owed."""
        self._turns.stop(subscription_id)
        dispatcher = self._take_out(subscription_id)
        dispatcher.cease()  # at once: a handler that calls may end before anything else is done
        self._ended.append(dispatcher)
        if (name := dispatcher.subscription.name) is not None:
            self._attaching.add(name)  # until the store has its last settlement
            if not self._shared:  # else another router may go on with it, and counts
                self._left[name] = self._left[subscription_id] = dispatcher
        own = dispatcher.workers.current
        # In a task of its own: whoever asks for it may be cancelled, or be a handler that is to end first.
        leaving = asyncio.get_running_loop().create_task(self._leave(dispatcher, own))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        if own is None and (error := await asyncio.shield(leaving)) is not None:
            raise error

    async def _leave(self, dispatcher: Dispatcher, own: Worker | None) -> SquallError | None:
        subscription, progress = dispatcher.subscription, dispatcher.progress
        try:
            await dispatcher.halt(own)
            if subscription.durable and not _stands_by(dispatcher):
                progress.unattended_ns = self._ctx.clock.time_ns()
                await progress.saved(SAVED_WITHIN_S)
        except SquallError as error:
            self._ctx.logger.warning("subscription %s: detached, but %s", subscription.label, error)
            return error
        finally:
            dispatcher.close(kept=subscription.durable)
            await self._turns.give_up(subscription.id)
            self._attaching.discard(subscription.name or "")
            self._observers.subscription_changed(subscription, "detached")
        return None

    def _close(self, subscription_id: str, *, kept: bool = False) -> Dispatcher:
        dispatcher = self._take_out(subscription_id)
        dispatcher.close(kept=kept)
        self._ended.append(dispatcher)
        return dispatcher

    def _take_out(self, subscription_id: str) -> Dispatcher:
        dispatcher = self.get(subscription_id)
        del self.dispatchers[subscription_id]
        if not _stands_by(dispatcher):
            self._intake.trie.remove(dispatcher.subscription.pattern, dispatcher)
            self._intake.forget_routes()
        return dispatcher

    def pause(self, subscription_id: str) -> None:
        """Deliver nothing until resume; handlers that run may end."""
        dispatcher = self.get(subscription_id)
        dispatcher.subscription.paused = True
        dispatcher.credit.withdraw()
        self._observers.subscription_changed(dispatcher.subscription, "paused")

    def resume(self, subscription_id: str) -> None:
        """Deliver again."""
        dispatcher = self.get(subscription_id)
        dispatcher.subscription.paused = False
        dispatcher.more_workers()
        self._observers.subscription_changed(dispatcher.subscription, "resumed")

    def gate_changed(self, subscription_id: str, gate: str, state: str) -> None:
        """A gate's answer may be another now: what it gave is withdrawn, and it is asked again."""
        dispatcher = self.dispatchers.get(subscription_id)
        if dispatcher is not None:
            dispatcher.credit.changed()
            self._observers.gate_changed(dispatcher.subscription, gate, state)

    def busy(self) -> bool:
        """Is there anything that a stop should wait for?"""
        return any(one.busy for one in (*self.dispatchers.values(), *self._ended))

    def sweep(self, now_ns: int) -> None:
        """Watch all deadlines. Subscriptions that ended go when their last handler has; their counts stay."""
        for one in (*self.dispatchers.values(), *self._ended):
            one.sweep(now_ns)
            one.queue.measure(now_ns)
        for one in self._ended[:]:
            if one.closed and not (
                one.workers.present or one.workers.abandoned or any(one.queue.processing_rates.values())
            ):
                self._ended.remove(one)
                self._totals.add(one)

    def metrics(self, published: int, refused: int) -> RouterMetrics:
        """The router's sums, with what it published and refused."""
        live, totals = [*self.dispatchers.values()], replace(self._totals)
        for one in (*live, *self._ended):
            totals.add(one)
        return router_metrics(published, refused, totals, live)

    async def halt(self) -> None:
        """The router stops: cancel what runs. Durable subscriptions are owed the rest, of others it is cancelled."""
        await self._turns.halt()
        await asyncio.gather(*(one.halt() for one in (*self.dispatchers.values(), *self._ended)))
        for one in (*self.dispatchers.values(), *self._ended):
            if one.subscription.durable:
                if not (one.closed or _stands_by(one)):
                    self._store.settle(one.progress)
            elif one.pending:
                self._ctx.logger.warning(
                    "subscription %s: stopped; it is not durable, so what was not delivered is cancelled (events: %d)",
                    one.subscription.label,
                    one.pending,
                )
                one.close()
        if left := sum(len(one.workers.abandoned) for one in (*self.dispatchers.values(), *self._ended)):
            self._ctx.logger.error("handlers run on, though cancelled: %d; asyncio.run waits for them", left)

    async def given_up(self) -> None:
        """The store is closed: what waits for it is told, and nothing is left over."""
        for one in (*self.dispatchers.values(), *self._ended):
            one.progress.give_up("the router has stopped")
        await asyncio.gather(*self._leaving)

    def _wire(self, subscription: Subscription) -> Wiring:
        layers = self._registry.deliver_layers(self._ctx, subscription)
        by_hand = takes_delivery(subscription.handler)
        handler = subscription.handler

        def bind(worker: Worker) -> Next:
            last: Next = handler
            if by_hand:
                last = _by_hand(handler, subscription, worker, self._ctx.clock)
            return compose(layers, last)

        return Wiring(
            self._ctx.clock,
            self._store,
            self._observers,
            bind,
            self._registry.gate(self._ctx, subscription),
            self._registry.settle_policy(self._ctx, subscription),
            # Of a shared store, what is published here may be handled elsewhere: there is nothing to count.
            sys.maxsize if self._shared else self._backlog.max_events,
            self._backlog.max_events,
            by_hand,
            self._scrub,
            self._wanted(subscription),
        )

    def _wanted(self, subscription: Subscription) -> Predicate | None:
        tests: list[Predicate] = [
            one.compile() if isinstance(one, Filter) else self._safe(one, subscription) for one in subscription.filters
        ]
        if (least := subscription.priority_min) is not None:
            tests.append(lambda event: event.priority <= least)
        if (exact := subscription.priority_filter) is not None:
            tests.append(lambda event: event.priority == exact)
        return combine(tests) if tests else None

    def _safe(self, test: Callable[[Event], bool], subscription: Subscription) -> Predicate:
        """A user's function that raises is not the publisher's problem: the event is delivered, and it is logged."""

        def wanted(event: Event) -> bool:
            try:
                return test(event)
            except Exception:
                self._ctx.logger.exception(
                    "subscription %s: a filter raised; the event is delivered", subscription.label
                )
                return True

        return wanted


def _stands_by(dispatcher: Dispatcher) -> bool:
    return dispatcher.subscription.durable and dispatcher.window is None


def _spec(subscription: Subscription, name: str, start: Start, update: bool) -> DurableSpec:
    conditions = {
        "filters": [
            one.model_dump(mode="json", exclude_none=True) for one in subscription.filters if isinstance(one, Filter)
        ],
        "priority_min": subscription.priority_min,
        "priority_filter": subscription.priority_filter,
    }
    filters = msgspec.json.encode(conditions, order="deterministic").decode()
    return DurableSpec(subscription.id, name, subscription.subscriber_id, subscription.pattern, filters, start, update)


def _by_hand(handler: EventHandler, subscription: Subscription, worker: Worker, clock: Clock) -> Next:
    def extend() -> None:
        worker.begun_ns = clock.monotonic_ns()

    def call(event: Event) -> Awaitable[None]:
        worker.delivery = Delivery(subscription, extend)
        return handler(event, worker.delivery)

    return call
