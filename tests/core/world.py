"""A router over the memory store in virtual time: what the kernel's tests watch through the public API. Handlers that
are finished by hand are in handlers.py, stores that commit on command in stores.py; all are found here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from tests.core.events import event
from tests.core.handlers import Call, FromAnswers, Heard, Held
from tests.core.stores import (
    KeptMemory,
    ManualStore,
    OnStored,
    OpensThenFails,
    Settlements,
    SlowToSettle,
    Stepwise,
    StoreWrapper,
)

from squall import (
    Context,
    Decision,
    Event,
    EventData,
    EventPublisher,
    EventRouter,
    EventSubscriber,
    FailedDelivery,
    Nak,
    Observer,
    Plugin,
    Priority,
    Retry,
    SettlePolicy,
    Subscription,
    Term,
    VirtualClock,
    hookimpl,
)
from squall.core.config import Backlog
from squall.core.errors import Overflow
from squall.core.store import DeadLetter, Query

__all__ = [
    "MAX_TURNS",
    "Call",
    "Deciding",
    "Drops",
    "FromAnswers",
    "Heard",
    "Held",
    "KeptMemory",
    "Log",
    "ManualStore",
    "OnStored",
    "OpensThenFails",
    "Policy",
    "Settlements",
    "SlowToSettle",
    "Stepwise",
    "StoreWrapper",
    "World",
    "event",
    "paused",
    "stored",
    "three_attempts",
    "until",
]

MAX_TURNS = 20_000


async def until(condition: Callable[[], object], turns: int = MAX_TURNS) -> None:
    """Give the loop turns until the condition holds; fails when it does not within so many."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError(f"did not come true within {turns} turns of the loop")


class Drops(Observer, Plugin):
    """Remembers what was dropped, by whom and why."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[tuple[str, str | None, str]] = []

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self

    def dropped(self, event: Event, subscription_id: str | None, why: str) -> None:
        self.told.append((event.type, subscription_id, why))

    @property
    def reasons(self) -> list[tuple[str, str]]:
        """Each event's type, and why it was dropped."""
        return [(kind, why) for kind, _, why in self.told]


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

    def _lost(self) -> int:
        metrics = self.router.get_metrics()
        return metrics.dropped + metrics.dead_lettered

    async def places(self, subscription_id: str, most: int, event_type: str = "probe") -> int:
        """How many events a subscription takes, paused, until it has no room left: at most so many are tried."""
        await self.subscriber.pause_subscription(subscription_id)
        lost, taken = self._lost(), 0
        for _ in range(most):
            publishing = self.publishing(event_type)
            await self.clock.settle()
            if not publishing.done():
                await self.clock.advance(self.block_s + 0.1)
            (answer,) = await asyncio.gather(publishing, return_exceptions=True)
            if isinstance(answer, Overflow) or self._lost() > lost:
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


async def paused(world: World, pattern: str = ">", **options: object) -> str:
    """A subscription that is full once its room is used up."""
    own = await world.subscriber.subscribe(pattern, Heard(), **options)  # type: ignore[arg-type]
    await world.subscriber.pause_subscription(own)
    return own


async def stored(world: World) -> list[str]:
    """The types of all stored events, in their order."""
    return [one.type for one in (await world.router.store.read(Query())).events]
