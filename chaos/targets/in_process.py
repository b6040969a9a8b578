"""squall itself as the system under test: a router in the bench's own process, its store in the run folder."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace

from squall.core.compose import compose, keeper, located, publish_path
from squall.core.delivery import Ack, Attempt, Attempts, Nak, Observer
from squall.core.errors import NotRunning, PublishError, StoreError
from squall.core.event import Event, EventData
from squall.core.fault import Seam, Storage, passing
from squall.core.metrics import Meter
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.router import EventRouter
from squall.core.store import Capabilities, EventStore, Progress
from squall.core.subscription import Subscription
from squall.core.target import (
    Claims,
    Counters,
    Handle,
    Message,
    Outcome,
    Received,
    RunContext,
    Settlement,
    Sink,
    SubscriberCounts,
    SubscriberSpec,
    Terminal,
)

STORAGE = "storage:events"
PAGE = 500
SinkOf = Callable[[Subscription], Sink | None]
Dropped = Callable[[Event, str | None, str], None]
STORED_S = 2.5
STOP_S = 1.0  # the run has drained already: what is left would not end by waiting


class InProcessTarget:
    """A router made of the operator's plugins, the scenario's over them, and a probe that reports settlements."""

    claims = Claims()

    def __init__(self) -> None:
        self._seam = Storage(STORAGE)
        self._sinks: dict[str, Sink] = {}
        self._names: dict[str, str] = {}
        self._meters: dict[str, Meter] = {}
        self._router: EventRouter | None = None
        self._turns: dict[str, object] = {}
        self._shared = False
        self._described = ""
        self._drops: list[Terminal] = []

    async def start(self, ctx: RunContext) -> None:
        """Raises ConfigError, WiringError or StoreFileError."""
        plugins = await located(self.plugins(ctx), ctx)
        self._router = EventRouter(
            [*plugins, _Probe(self._reported, self._dropped, self._seam)],
            clock=ctx.clock,
            seed=ctx.random.getrandbits(63),
            backlog=ctx.config.backlog,
        )
        await self._router.start()
        self._publisher = self._router.publisher("bench")
        capabilities, path = self._router.store.capabilities, (STORAGE, *publish_path(plugins))
        self._shared = capabilities.turns is not None
        self.claims = Claims(
            durability=self._router.durability,
            kept_by=keeper(plugins),
            publish_path=path,
            max_events=capabilities.max_events,
        )
        store = type(self._router.store).__name__
        names = [type(plugin).__name__.removesuffix("Plugin").lower() for plugin in plugins]
        self._described = f"in-process · {self._router.durability} · {' · '.join(names) or store}"

    def plugins(self, ctx: RunContext) -> list[Plugin]:
        """What the router is made of, but for the probe."""
        return compose(ctx.config.plugins, ctx.plugins, ctx.folder)

    async def publish(self, message: Message) -> Outcome:
        try:
            receipt = await self._publisher.publish_with_receipt(
                message.type, message.payload, message.priority, key=message.key
            )
        except PublishError as error:
            return Outcome(error.outcome, why=str(error))
        except NotRunning as error:
            return Outcome("fail", why=str(error))
        return Outcome("ok", receipt.seq, duplicate=receipt.duplicate)

    async def publish_batch(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        events = [EventData(one.type, one.payload, one.priority, key=one.key) for one in messages]
        try:
            receipts = await self._publisher.publish_batch_with_receipts(events)
            return [Outcome("ok", receipt.seq or None) for receipt in receipts]  # 0: it got none
        except PublishError as error:
            outcome = Outcome(error.outcome, why=str(error))
        except NotRunning as error:
            outcome = Outcome("fail", why=str(error))
        return [outcome] * len(messages)

    async def subscribe(self, spec: SubscriberSpec, sink: Sink) -> Handle:
        async def handle(event: Event) -> None:
            if self._shared:
                self._see_turn(spec.name)
            passing.set((event,))
            await sink.deliver(Received(event.payload, event.seq, event.key, event.priority, type=event.type))

        self._sinks[spec.name] = sink
        subscription_id = await spec.subscribe(self._running.subscriber(spec.name), handle)
        meter = self._running.subscriptions.meter(subscription_id)
        self._names[subscription_id] = spec.name
        self._meters[spec.name] = meter
        self._claim()
        return Handle(subscription_id, meter.subscription.from_seq)

    def _see_turn(self, name: str) -> None:
        """Of a store that routers share: with a turn is lost what was asked for in it and not answered."""
        meter = self._meters.get(name)
        turn = None if meter is None else self._running.subscriptions.dispatchers.get(meter.subscription.id)
        if turn is not None and self._turns.setdefault(name, turn) is not turn:
            self._turns[name] = turn
            self._sinks[name].settled((), self._running.clock.monotonic_ns(), "lost")

    def _meter(self, name: str) -> Meter:
        """Of the turn that it has now, or had last."""
        subscriptions, before = self._running.subscriptions, self._meters[name]
        current = before.subscription.id in subscriptions.dispatchers
        return subscriptions.meter(before.subscription.id) if current else before

    def _claim(self) -> None:
        """What its subscriptions, as they are wired, let a delivery wait, and be tried."""
        wired = self._meters.values()
        limits = [one.max_attempts for one in wired]
        self.claims = replace(
            self.claims,
            longest_delay_s=max(one.longest_wait_s for one in wired),
            max_attempts=None if None in limits else max(limit or 0 for limit in limits),
        )

    def _reported(self, subscription: Subscription) -> Sink | None:
        return self._sinks.get(subscription.subscriber_id)

    def _dropped(self, event: Event, subscription_id: str | None, why: str) -> None:
        name = self._names.get(subscription_id or "")
        if name is not None and why == "expired":
            self._drops.append(Terminal(event.payload, name, "expired", why))
        elif name is not None and self._meters[name].subscription.overflow == "drop_new":  # others' are dead letters
            self._drops.append(Terminal(event.payload, name, "cancelled", why))

    async def unsubscribe(self, handle: Handle) -> int | None:
        to_seq = self._running.store.next_seq
        await self._running.subscriber("bench").unsubscribe(handle.id)
        return to_seq

    async def counters(self) -> Counters:
        try:
            return await self._counted()
        except StoreError:  # it does not say what waits in it
            nothing = SubscriberCounts(None, None, None, None, None, None)
            return Counters(None, dict.fromkeys(self._meters, nothing))

    async def _counted(self) -> Counters:
        router = self._running
        counts = {}
        for name in self._meters:
            meter = self._meter(name)
            sums = await meter.read()
            if self._shared:  # other sums begin anew with each turn
                pending = None if meter.stands_by else sums.pending
                counts[name] = SubscriberCounts(None, None, None, None, None, pending)
                continue
            counts[name] = SubscriberCounts(
                owed=None,
                acked=sums.acked,
                dead_lettered=sums.dead_lettered,
                expired=sums.expired,
                cancelled=sums.cancelled + sums.dropped,
                pending=sums.pending,
            )
        return Counters((await router.store.counts()).events, counts)

    async def terminals(self) -> Sequence[Terminal]:
        await self._dead_letters_stored()
        letters: list[Terminal] = []
        while page := await self._running.store.dead_letters(after=len(letters), limit=PAGE):
            letters += [
                Terminal(
                    letter.event.payload,
                    self._names.get(letter.subscription_id, letter.subscription),
                    "dead_lettered",
                    "dead letters",
                )
                for letter in page
            ]
        return [*letters, *self._drops]

    async def _dead_letters_stored(self) -> None:
        """What a store refused is given to it again a second later: a run may have drained before."""
        router = self._running
        deadline_ns = router.clock.monotonic_ns() + round(STORED_S * 1e9)
        while router.clock.monotonic_ns() < deadline_ns:
            if (await router.store.counts()).dead_letters >= router.get_metrics().dead_lettered:
                return
            await router.clock.sleep(0.05)

    def seams(self) -> Mapping[str, Seam]:
        return {STORAGE: self._seam}

    async def describe(self) -> str:
        return self._described

    async def stop(self) -> None:
        if self._router is not None:
            await self._router.stop(timeout_s=STOP_S)

    @property
    def _running(self) -> EventRouter:
        if self._router is None:
            raise NotRunning("the in-process target is not started")
        return self._router


class _Probe(Plugin):
    """Reports settlements to the bench, and lets faults stand before the store: by hooks that every plugin has."""

    def __init__(self, sink_of: SinkOf, dropped: Dropped, seam: Storage) -> None:
        super().__init__()
        self._sink_of, self._dropped, self._seam = sink_of, dropped, seam

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return _Reports(self._sink_of, self._dropped)

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return SeamStore(store, self._seam)


class _Reports(Observer):
    def __init__(self, sink_of: SinkOf, dropped: Dropped) -> None:
        self._sink_of, self._dropped = sink_of, dropped

    def dropped(self, event: Event, subscription_id: str | None, why: str) -> None:
        self._dropped(event, subscription_id, why)

    def attempted(self, subscription: Subscription, attempts: Attempts, settle_invoked_ns: int) -> None:
        sink = self._sink_of(subscription)
        if sink is None:
            return
        if not attempts.unusual:
            sink.settling([attempt.event.payload for attempt in attempts], "ack", settle_invoked_ns)
            return
        groups: dict[Settlement, list[bytes]] = {}
        for attempt in attempts:
            decision = attempt.decision
            settlement: Settlement = (
                "ack" if isinstance(decision, Ack) else "nak" if isinstance(decision, Nak) else "term"
            )
            groups.setdefault(settlement, []).append(attempt.event.payload)
        for settlement, payloads in groups.items():
            sink.settling(payloads, settlement, settle_invoked_ns)

    def settled(self, subscription: Subscription, attempts: Sequence[Attempt], ok_ns: int, answer: str) -> None:
        sink = self._sink_of(subscription)
        if sink is not None and answer == "ok":  # what is refused is asked for again: no answer yet
            sink.settled([attempt.event.payload for attempt in attempts], ok_ns)

    def gate_changed(self, subscription: Subscription, gate: str, state: str) -> None:
        sink = self._sink_of(subscription)
        if sink is not None:
            sink.gate_changed(gate, state)


class SeamStore:
    """A store behind a seam: appends and settlements pass the faults that stand there, and fail as they say."""

    def __init__(self, store: EventStore, seam: Storage) -> None:
        self._store, self._seam = store, seam
        self._passing: set[asyncio.Task[None]] = set()
        self.open, self.close = store.open, store.close
        self.attach, self.detach, self.read = store.attach, store.detach, store.read
        self.dead_letters, self.counts = store.dead_letters, store.counts
        self.redrive = store.redrive

    @property
    def capabilities(self) -> Capabilities:
        return self._store.capabilities

    @property
    def next_seq(self) -> int:
        return self._store.next_seq

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        self._seam.passes += 1
        return self._append(events) if self._seam.acts else self._store.append(events)

    async def _append(self, events: Sequence[Event]) -> None:
        payloads = [event.payload for event in events]
        passing.set(events)
        await self._seam.run(payloads)
        for event, payload in zip(events, payloads, strict=True):
            event.payload = payload
        pending = self._store.append(events)
        if pending is not None:
            await pending

    def settle(self, progress: Progress) -> None:
        if not self._seam.acts:
            self._store.settle(progress)
            return
        task = asyncio.get_running_loop().create_task(self._settle(progress))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _settle(self, progress: Progress) -> None:
        self._seam.passes += 1
        passing.set(())
        try:
            await self._seam.run([])
        except Exception as error:  # noqa: BLE001  whatever a fault raises is the store's refusal
            progress.committed(progress.take(), error)
        else:
            self._store.settle(progress)
