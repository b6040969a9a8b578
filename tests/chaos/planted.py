"""Faults of the system under test, planted by plugins: what the checker must find."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from squall import Event, EventStore, Gate, Permits, Plugin, StoreError, Subscription, WaitUntil, around, hookimpl
from squall.core.delivery import Attempt
from squall.core.middleware import Middleware, Next
from squall.core.plugin import Context
from squall.core.store import Progress, Settlement

OnStored = Callable[[Sequence[Event]], None]


class StoreWrapper:
    """A store that does what the one behind it does; planted faults override a method."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.capabilities = store.capabilities
        self.close, self.attach, self.detach = store.close, store.attach, store.detach
        self.read, self.dead_letters, self.counts = store.read, store.dead_letters, store.counts
        self.redrive = store.redrive

    @property
    def next_seq(self) -> int:
        return self._store.next_seq

    async def open(self, on_stored: OnStored) -> int:
        return await self._store.open(on_stored)

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        return self._store.append(events)

    def settle(self, progress: Progress) -> None:
        self._store.settle(progress)


class _Drops(StoreWrapper):
    async def open(self, on_stored: OnStored) -> int:
        def announce(events: Sequence[Event]) -> None:
            if kept := [event for event in events if event.seq % 97]:
                on_stored(kept)

        return await self._store.open(announce)


class DropsAcknowledged(Plugin):
    """Every 97th event is stored and acknowledged, and given to nobody."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _Drops(store)


class _Swaps(StoreWrapper):
    async def open(self, on_stored: OnStored) -> int:
        held: list[Event] = []

        def announce(events: Sequence[Event]) -> None:
            for event in events:
                if not held and event.seq % 50 == 0 and event.seq < 400 and event.key is not None:
                    held.append(event)
                    continue
                on_stored([event])
                if held and (event.key, event.priority) == (held[0].key, held[0].priority):
                    on_stored([held.pop()])

        return await self._store.open(announce)


class SwapsWithinKey(Plugin):
    """Now and then an event is announced after the next one of its key."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _Swaps(store)


class _Refuses(StoreWrapper):
    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        refused = self.next_seq % 60 == 0
        pending = self._store.append(events)
        if refused:
            raise StoreError("refused, and stored all the same")
        return pending


class DeliversRefused(Plugin):
    """Every 60th publish is refused, stored and delivered."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _Refuses(store)


class _WithoutDead:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def take(self) -> Settlement:
        settlement = self._progress.take()
        settlement.dead = settlement.dead[1:]
        return settlement

    def committed(self, settlement: Settlement, error: Exception | None) -> None:
        self._progress.committed(settlement, error)


class _LosesDead(StoreWrapper):
    def settle(self, progress: Progress) -> None:
        self._store.settle(_WithoutDead(progress))


class LosesDeadLetters(Plugin):
    """The first dead letter of each settlement is not stored."""

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore:
        return _LosesDead(store)


class DeliversTwice(Plugin):
    """Every 50th event is handled twice in a row."""

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        async def twice(event: Event, following: Next) -> None:
            await following(event)
            if event.seq % 50 == 0:
                await following(event)

        return around(twice, stage="handler")


class SkipsSubscription(Plugin):
    """Billing does not get every 40th event, which counts as handled."""

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        async def skip(event: Event, following: Next) -> None:
            if subscription.subscriber_id != "billing" or event.seq % 40:
                await following(event)

        return around(skip, stage="handler")


class SettlesWhateverHappens(Plugin):
    """What the handler raises is swallowed: the event is acknowledged though nobody handled it."""

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        async def swallow(event: Event, following: Next) -> None:
            try:
                await following(event)
            except RuntimeError as error:
                ctx.logger.debug("swallowed on purpose: %s", error)

        return around(swallow, stage="handler")


class _Shut(Gate):
    longest_wait_s = 0.0

    def __init__(self) -> None:
        self._left = 300

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        if self._left <= 0:
            return WaitUntil(1 << 62)
        self._left -= n
        return Permits(n)

    def record(self, permits: Permits, attempts: Sequence[Attempt]) -> None:
        """Nothing is learnt."""

    def release(self, permits: Permits, n: int) -> None:
        self._left += n


class NeverProgresses(Plugin):
    """After some 300 deliveries of a subscription its gate stays shut for ever."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate:
        return _Shut()
