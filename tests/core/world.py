"""A router over the memory store in virtual time, handlers that are finished by hand, and a store that commits on
command: what the kernel's tests watch through the public API."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Any, Self

from squall import (
    Context,
    Decision,
    Delivery,
    Event,
    EventData,
    EventPublisher,
    EventRouter,
    EventStore,
    EventSubscriber,
    FailedDelivery,
    Nak,
    Plugin,
    Priority,
    Retry,
    SettlePolicy,
    StoreError,
    Subscription,
    Term,
    VirtualClock,
    hookimpl,
)
from squall.core.config import Backlog
from squall.core.errors import Overflow
from squall.core.store import Attached, Capabilities, DeadLetter, DurableSpec, Page, Progress, Query, StoreCounts
from squall.plugins.memory import MemoryOptions, MemoryStore

OnStored = Callable[[Sequence[Event]], None]
MAX_TURNS = 20_000


async def until(condition: Callable[[], object], turns: int = MAX_TURNS) -> None:
    """Give the loop turns until the condition holds; fails when it does not within so many."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"did not come true within {turns} turns of the loop")


def event(
    event_type: str = "order.created",
    priority: Priority = Priority.NORMAL,
    *,
    event_id: str = "e",
    source: str = "shop",
    correlation_id: str = "c",
    metadata: dict[str, Any] | None = None,
    payload: bytes = b"",
    key: str | None = None,
    seq: int = 0,
) -> Event:
    """An event as the kernel makes them, without a router."""
    return Event(
        event_id,
        event_type,
        source,
        0,  # type: ignore[arg-type]  # nanoseconds, as the kernel gives them
        priority,
        correlation_id,
        metadata or {},
        payload,
        "1",
        key=key,
        seq=seq,
    )


class StoreWrapper:
    """A store that does what the one behind it does; a test overrides what it wants otherwise."""

    def __init__(self, store: EventStore) -> None:
        self.inner = store
        self.capabilities: Capabilities = store.capabilities

    @property
    def next_seq(self) -> int:
        return self.inner.next_seq

    async def open(self, on_stored: OnStored) -> int:
        return await self.inner.open(on_stored)

    async def close(self) -> None:
        await self.inner.close()

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        return self.inner.append(events)

    def settle(self, progress: Progress) -> None:
        self.inner.settle(progress)

    async def attach(self, spec: DurableSpec) -> Attached:
        return await self.inner.attach(spec)

    async def detach(self, subscription_id: str) -> None:
        await self.inner.detach(subscription_id)

    async def read(self, query: Query) -> Page:
        return await self.inner.read(query)

    async def dead_letters(self, subscription: str | None = None, after: int = 0, limit: int = 500) -> list[DeadLetter]:
        return await self.inner.dead_letters(subscription, after, limit)

    async def counts(self) -> StoreCounts:
        return await self.inner.counts()


class ManualStore(StoreWrapper):
    """Appends wait until the test commits or fails them, in their order; `auto` passes them through at once.

    A failed append's seqs are burnt, as a store that numbers before it commits burns them.
    """

    def __init__(self, store: EventStore, *, auto: bool = False) -> None:
        super().__init__(store)
        self.auto = auto
        self.waiting: list[tuple[list[Event], asyncio.Future[None]]] = []
        self.error_at_append: Exception | None = None
        self.muted = False

    @property
    def next_seq(self) -> int:
        return self.inner.next_seq + sum(len(events) for events, _ in self.waiting)

    async def open(self, on_stored: OnStored) -> int:
        def announce(events: Sequence[Event]) -> None:
            if not self.muted:
                on_stored(events)

        return await self.inner.open(announce)

    async def close(self) -> None:
        self.commit_all()
        await self.inner.close()

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        if self.error_at_append is not None:
            raise self.error_at_append
        if self.auto:
            return self.inner.append(events)
        answer = asyncio.get_running_loop().create_future()
        self.waiting.append((list(events), answer))
        return asyncio.shield(answer)

    def commit(self) -> None:
        """Store the oldest waiting append."""
        events, answer = self.waiting.pop(0)
        self.inner.append(events)
        if not answer.done():
            answer.set_result(None)

    def commit_all(self) -> None:
        while self.waiting:
            self.commit()

    def fail(self, error: Exception | None = None) -> None:
        """Refuse the oldest waiting append."""
        events, answer = self.waiting.pop(0)
        self.muted = True
        self.inner.append([event("$burnt") for _ in events])
        self.muted = False
        answer.set_exception(error or StoreError("the disk is gone"))
        answer.exception()  # a cancelled publisher does not ask for it


class KeptMemory(Plugin):
    """The memory store, kept by its plugin: what was stored is there again when the router is started again."""

    def __init__(self, wrap: Callable[[EventStore], EventStore] = lambda store: store) -> None:
        super().__init__()
        self._wrap = wrap
        self.memory: MemoryStore | None = None
        self.store: Any = None

    @hookimpl
    def squall_event_store(self, ctx: Context) -> EventStore:
        if self.memory is None:
            self.memory = MemoryStore(MemoryOptions())
            self.store = self._wrap(self.memory)
        store: EventStore = self.store
        return store


class Policy(Plugin):
    """A settle policy that is one function of (delivery, error); by default three attempts, one second apart."""

    def __init__(self, decide: Callable[[FailedDelivery, BaseException], Decision] | None = None) -> None:
        super().__init__()
        self._decide = decide or three_attempts

    @hookimpl
    def squall_settle_policy(self, ctx: Context, subscription: Subscription) -> SettlePolicy:
        return Deciding(self._decide)


class Deciding:
    """The settle policy of Policy."""

    longest_delay_s = 10.0
    max_attempts = None

    def __init__(self, decide: Callable[[FailedDelivery, BaseException], Decision]) -> None:
        self.decide = decide


def three_attempts(delivery: FailedDelivery, error: BaseException) -> Decision:
    """Nak with the delay that the handler names, else one second, until the third attempt failed."""
    if delivery.attempt >= 3:
        return Term("timeout" if delivery.outcome == "timeout" else "delivery_limit")
    asked_s = error.delay_s if isinstance(error, Retry) else None
    return Nak(1.0 if asked_s is None else asked_s)


class World:
    """A router in virtual time with a publisher and a subscriber; stopped, still in virtual time, at its end."""

    def __init__(
        self,
        *plugins: Plugin,
        store: Plugin | None = None,
        backlog: Backlog | None = None,
        clock: VirtualClock | None = None,
    ) -> None:
        self.kept = store or KeptMemory()
        self.clock = clock or VirtualClock()
        self.log = Log()
        self.block_s = (backlog or Backlog()).timeout
        self.router = EventRouter(
            [self.kept, *plugins], clock=self.clock, seed=7, backlog=backlog, logger=self.log.logger
        )
        self.publisher: EventPublisher = self.router.publisher("shop")
        self.subscriber: EventSubscriber = self.router.subscriber("billing")

    async def __aenter__(self) -> Self:
        await self.router.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self, timeout_s: float = 1.0) -> None:
        """Stop the router; its time limit passes in virtual time. Fails when it does not end."""
        await self.finish(asyncio.ensure_future(self.router.stop(timeout_s=timeout_s)), timeout_s + 5)

    async def finish(self, task: asyncio.Future[None], within_s: float) -> None:
        """Move time on until the task is done, at most so far."""
        until_ns = self.clock.monotonic_ns() + round(within_s * 1e9)
        await self.clock.settle()
        while not task.done() and self.clock.monotonic_ns() < until_ns:
            await self.clock.advance(0.05)
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            raise AssertionError(f"was not done within {within_s} s of virtual time")
        await task

    async def publish(self, *types: str, priority: Priority = Priority.NORMAL, key: str | None = None) -> list[str]:
        """Publish one event of each type, in this order."""
        return [await self.publisher.publish(one, b"", priority, key=key) for one in types]

    def publishing(self, event_type: str = "order.created", **options: Any) -> asyncio.Task[str]:
        """A publish in a task of its own."""
        return asyncio.ensure_future(self.publisher.publish(event_type, b"", **options))

    def publishing_batch(self, n: int, event_type: str = "order.created") -> asyncio.Task[list[str]]:
        """A batch in a task of its own."""
        return asyncio.ensure_future(self.publisher.publish_batch([EventData(event_type, b"") for _ in range(n)]))

    async def places(self, subscription_id: str, most: int, event_type: str = "probe") -> int:
        """How many events a subscription takes, paused, until it has no room left: at most so many are tried."""
        await self.subscriber.pause_subscription(subscription_id)
        dropped, taken = self.router.get_metrics().dropped, 0
        for _ in range(most):
            publishing = self.publishing(event_type)
            await self.clock.settle()
            if not publishing.done():
                await self.clock.advance(self.block_s + 0.1)
            (answer,) = await asyncio.gather(publishing, return_exceptions=True)
            if isinstance(answer, Overflow) or self.router.get_metrics().dropped > dropped:
                break
            assert isinstance(answer, str), answer
            taken += 1
        await self.subscriber.resume_subscription(subscription_id)
        return taken

    async def dead(self) -> list[DeadLetter]:
        return await self.router.store.dead_letters()

    async def reasons(self) -> list[str]:
        return [letter.reason for letter in await self.dead()]


class Log(logging.Handler):
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.logger = logging.Logger("squall.test")
        self.logger.addHandler(self)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)

    def at_least(self, level: int) -> list[str]:
        """The messages of this level and above."""
        return [record.getMessage() for record in self.records if record.levelno >= level]

    @property
    def text(self) -> str:
        return "\n".join(record.getMessage() for record in self.records)


class Heard:
    """A handler that remembers what it was given; `fail` is raised for each event while it is set."""

    def __init__(self, fail: BaseException | None = None) -> None:
        self.events: list[Event] = []
        self.fail = fail

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self.fail is not None:
            raise self.fail

    @property
    def types(self) -> list[str]:
        return [one.type for one in self.events]

    @property
    def seqs(self) -> list[int]:
        return [one.seq for one in self.events]

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.events]


class Call:
    """A handler's call that waits for the test's word."""

    def __init__(self, event: Event, delivery: Delivery | None) -> None:
        self.event = event
        self.delivery = delivery
        self.word: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(self) -> None:
        self.word.set_result(None)

    def fail(self, error: BaseException) -> None:
        self.word.set_exception(error)


class Held:
    """A handler whose calls each wait until the test finishes them. `stubborn` swallows cancellation."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.calls: list[Call] = []
        self.running: list[Call] = []
        self.cancelled = 0
        self.stubborn = stubborn

    async def __call__(self, event: Event) -> None:
        await self.wait(Call(event, None))

    async def by_hand(self, event: Event, delivery: Delivery) -> None:
        """The same, as a handler that settles by hand."""
        await self.wait(Call(event, delivery))

    async def wait(self, call: Call) -> None:
        self.calls.append(call)
        self.running.append(call)
        try:
            while True:
                try:
                    await asyncio.shield(call.word)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    if not self.stubborn or call.word.done():
                        raise
                else:
                    return
        finally:
            self.running.remove(call)

    def finish_all(self) -> None:
        """Finish what runs, and stop being in the way of what comes."""
        for call in self.running:
            if not call.word.done():
                call.finish()

    @property
    def seqs(self) -> list[int]:
        return [call.event.seq for call in self.calls]


class FromAnswers:
    """A handler that does what a list of answers says, one a call: None is success, an error is raised."""

    def __init__(self, *answers: BaseException | None) -> None:
        self.answers = list(answers)
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
