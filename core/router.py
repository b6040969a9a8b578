"""The router: wires plugins, starts and stops, and keeps the subscriptions."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from squall.core import thread, wiring
from squall.core.api import EventPublisher, EventSubscriber
from squall.core.argument_checks import check_kind
from squall.core.clock import Clock, SystemClock, Timer
from squall.core.config import Backlog, load_config
from squall.core.errors import AlreadyRunning, ConfigError, InvalidEvent, NotRunning
from squall.core.event import Durability, Event, check_text
from squall.core.identity import fresh_seed, seeded_ids, system_ids
from squall.core.intake import Intake
from squall.core.metrics import RouterMetrics
from squall.core.observers import Observers
from squall.core.plugin import Context, Plugin
from squall.core.query import history
from squall.core.redrive import DeadLetterQuery, Redriven, RedrivePlan, Redrives
from squall.core.rules import RoutingRule
from squall.core.store import EventStore, Query
from squall.core.subscriptions import Subscriptions

SWEEP_S = 0.05
DRAIN_POLL_S = 0.005
P = TypeVar("P", bound=Plugin)


@dataclass
class _Running:
    """What exists between start and stop."""

    ctx: Context
    store: EventStore
    intake: Intake
    subscriptions: Subscriptions
    redrives: Redrives
    sweeper: Timer | None = None


class EventRouter:
    """Routes events from publishers to subscriptions, by way of the store.

    `plugins` are instances, in the order of a configuration; None takes the default ones (retry, breaker and
    metrics, and memory as store). A `seed` makes whatever is random repeat. Use it as `async with`, or start and stop.
    """

    def __init__(
        self,
        plugins: Sequence[Plugin] | None = None,
        *,
        clock: Clock | None = None,
        seed: int | None = None,
        backlog: Backlog | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self._registry = wiring.Registry(wiring.default_plugins() if plugins is None else plugins)
        self.clock = clock or SystemClock()
        self._seed = seed
        self._backlog = backlog or Backlog()
        self._logger = logger or logging.getLogger("squall")
        self._rules: list[RoutingRule] = []
        self._running: _Running | None = None
        self._last: RouterMetrics | None = None
        self.entry: Intake | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self._thread: int | None = None

    @classmethod
    def from_config(cls, path: str | Path, *, clock: Clock | None = None, seed: int | None = None) -> Self:
        """A router as a squall.yaml says. Raises ConfigError with every problem in it."""
        config = load_config(path)
        plugins = None if config.plugins is None else wiring.from_sections(config.plugins)
        return cls(plugins, clock=clock, seed=seed, backlog=config.backlog)

    @classmethod
    def in_thread(
        cls,
        plugins: Sequence[Plugin] | None = None,
        *,
        config: str | Path | None = None,
        seed: int | None = None,
        backlog: Backlog | None = None,
    ) -> contextlib.AbstractContextManager[Self]:
        """A router that runs in a daemon thread, for programs without an event loop; stopped at the end of `with`.

        It is made of `plugins` and `backlog`, or as the file `config` says. Raises ConfigError, and as `start` does.
        """
        if config is None:
            return thread.running(cls(plugins, seed=seed, backlog=backlog))
        if plugins is not None or backlog is not None:
            raise ConfigError("in_thread: expected plugins and backlog, or a config that says both, got them together")
        return thread.running(cls.from_config(config, seed=seed))

    # Start and stop

    async def start(self) -> None:
        """Start the event routing engine; after a stop it may be started again, and begins anew. Raises WiringError,
        ServerError, ConfigError or StoreFileError, and nothing runs then; AlreadyRunning where it runs."""
        if self._running is not None:
            raise AlreadyRunning("start: the router runs already, or is still stopping: await stop() first")
        base = self._seed if self._seed is not None else fresh_seed()
        new_id = seeded_ids(Random(f"{base}:ids")) if self.clock.virtual else system_ids()
        ctx = Context(self.clock, lambda name: Random(f"{base}:{name}"), self._logger, self._gate_changed)
        layers = self._registry.publish_layers(ctx)
        observers = Observers(self._registry.ask("squall_observer", ctx=ctx), self._logger)
        store = self._registry.store(ctx)
        intake = Intake(self.clock, new_id, store, observers, layers, tuple(self._rules), self._backlog.timeout)
        try:
            intake.head = await store.open(intake.announce)
            await intake.dedupe.load(intake.head)
            await self._registry.startup(ctx)
        except BaseException:
            await store.close()
            raise
        self.loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        subscriptions = Subscriptions(ctx, self._registry, store, observers, intake, self._backlog)
        redrives = Redrives(ctx.clock, store, subscriptions, observers)
        self._running, self.entry = _Running(ctx, store, intake, subscriptions, redrives), intake
        self._sweep()

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Gracefully stop routing: take nothing in, finish what waits within timeout_s, release the rest, close.

        Durable subscriptions keep what is not finished in the store; of others it is cancelled, and logged.
        """
        running = self._running
        if running is None:
            return
        thread.check_loop(self.loop)
        running.intake.close()
        deadline_ns = self.clock.monotonic_ns() + round(timeout_s * 1e9)
        subscriptions = running.subscriptions
        while subscriptions.busy() and self.clock.monotonic_ns() < deadline_ns:
            await self.clock.sleep(DRAIN_POLL_S)
        await subscriptions.halt()
        running.intake.flush()
        self._last = self.get_metrics()
        if running.sweeper is not None:
            running.sweeper.cancel()
        self._running = self.entry = self.loop = self._thread = None
        try:
            await running.store.close()
        finally:
            await subscriptions.given_up()
            await self._registry.shutdown(running.ctx)

    def _sweep(self) -> None:
        """Watch the deadlines of all handlers, by one timer."""
        if self._running is not None:
            now_ns = self.clock.monotonic_ns()
            self._running.intake.sweep()
            self._running.subscriptions.sweep(now_ns)
            self._running.sweeper = self.clock.call_later(SWEEP_S, self._sweep)

    def _gate_changed(self, subscription_id: str, gate: str, state: str) -> None:
        if self._running is not None:
            self._running.subscriptions.gate_changed(subscription_id, gate, state)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Use

    def publisher(self, source: str) -> EventPublisher:
        """A publisher of this source."""
        return EventPublisher(self, source)

    def subscriber(self, subscriber_id: str) -> EventSubscriber:
        """A subscriber with this id."""
        return EventSubscriber(self, subscriber_id)

    def plugin(self, kind: type[P]) -> P:
        """The enabled plugin of this class. Raises KeyError."""
        return self._registry.find(kind)

    def ask(self, hook: str) -> list[Any]:
        """What the plugins answer to a hook that is asked of a running router. Raises WiringError."""
        return self._registry.ask(hook)

    async def route_event(self, event: Event) -> None:
        """Route event to subscribers: publish a ready-made event, through the whole chain. Raises PublishError."""
        intake = self.intake
        check_kind(InvalidEvent, "route_event", Event, event)
        for name in ("id", "source", "correlation_id", "version"):
            check_text(name, getattr(event, name))
        made = intake.make(
            event.source, event.type, event.payload, event.priority, event.correlation_id, event.key, event.metadata
        )
        published_ns = made.published_ns
        if event.due_ns or event.expires_ns:  # a delay and a time to live count from when it was published first
            published_ns = event.published_ns or published_ns - (self.clock.time_ns() - event.time_ns)
        own = msgspec.structs.replace(event, metadata=made.metadata, seq=0, published_ns=published_ns)
        if own.own_id:
            await intake.submit_once([own])
        elif (pending := intake.submit(own)) is not None:
            await pending

    def replay(self, query: Query | None = None) -> AsyncIterator[Event]:
        """History, read page by page up to what is stored now: no handlers, no acknowledgements. `async for event in
        router.replay(Query(pattern="order.>"))`. Raises NotRunning and, while reading, StoreError and WrongThread."""
        running = self._started()
        return history(running.store, query, running.intake.head, partial(thread.check_loop, self.loop))

    async def plan_redrive(self, query: DeadLetterQuery | None = None) -> RedrivePlan:
        """The dry run of a redrive: which dead letters would be given back, and the token that allows just that. Raises
        NotRunning, WrongThread and StoreError."""
        return await self._redrives.plan(query or DeadLetterQuery())

    async def redrive(
        self, token: str, query: DeadLetterQuery | None = None, *, per_second: float = 100.0, origin: str = ""
    ) -> Redriven:
        """Deliver dead letters again, each to the subscription that gave it up and to no other, with attempts that
        start anew. `token` is of plan_redrive with the same query; what has changed since is refused. `origin` tells an
        audit who asks, or from where. Raises OutdatedToken, ConfigError, SubscriptionError, and as plan_redrive."""
        return await self._redrives.give_back(token, query or DeadLetterQuery(), per_second, origin)

    def add_routing_rule(self, rule: RoutingRule) -> None:
        """Add custom routing rule: rules act in the order in which they were added, before an event is stored."""
        check_kind(ConfigError, "add_routing_rule", RoutingRule, rule)
        self._rules.append(rule)
        if self._running is not None:
            self._running.intake.add_rule(rule)

    def get_metrics(self) -> RouterMetrics:
        """Get router performance metrics: of what was done since the last start, after a stop too. Raises NotRunning
        before the first start."""
        if self._running is None and self._last is not None:
            return self._last
        running = self._started()
        return running.subscriptions.metrics(running.intake.published, running.intake.refused)

    async def backlog(self, subscription: str) -> int:
        """How many events a subscription is owed that have not ended, those that wait in the store alone included. It
        is given by id or name; a durable one after `detach` too, unless routers share the store: then only who delivers
        it counts. Raises SubscriptionError for one that this router does not know, NotRunning, and StoreError."""
        return (await self.subscriptions.meter(subscription).read()).pending

    @property
    def intake(self) -> Intake:
        """Where events come in. Raises NotRunning."""
        return self._started().intake

    @property
    def store(self) -> EventStore:
        """The store, for reading: events, dead letters, counts. Raises NotRunning."""
        return self._started().store

    @property
    def durability(self) -> Durability:
        """What an acknowledgement is worth."""
        return self._started().store.capabilities.durability

    def on_loop_thread(self) -> bool:
        """Is the caller on the thread in which the router runs?"""
        return threading.get_ident() == self._thread

    @property
    def subscriptions(self) -> Subscriptions:
        """All subscriptions, for the router's own loop. Raises NotRunning and WrongThread."""
        running = self._started()
        thread.check_loop(self.loop)
        return running.subscriptions

    @property
    def _redrives(self) -> Redrives:
        running = self._started()
        thread.check_loop(self.loop)
        return running.redrives

    def _started(self) -> _Running:
        if self._running is None:
            raise NotRunning("the router is not running: use `async with router:`, or await router.start()")
        return self._running
