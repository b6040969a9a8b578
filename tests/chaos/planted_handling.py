"""More faults of the system under test: who is called, when, how often, and what is made of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from squall import (
    Ack,
    Decision,
    Event,
    FailedDelivery,
    Gate,
    Nak,
    Permits,
    Plugin,
    Subscription,
    WaitUntil,
    around,
    hookimpl,
)
from squall.chaos.targets.in_process import InProcessTarget
from squall.core.delivery import Attempt, SettlePolicy
from squall.core.middleware import Middleware, Next
from squall.core.plugin import Context
from squall.core.target import Counters, Message, Outcome, RunContext


class CallsOthersToo(Plugin):
    """What billing has handled is given to audit as well, wanted or not, as long as it lives and beyond."""

    def __init__(self) -> None:
        super().__init__()
        self._audit: Subscription | None = None

    def chosen(self, event: Event) -> bool:
        return event.type == "order.paid" and event.seq % 10 == 0

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware | None:
        if subscription.subscriber_id == "audit":
            self._audit = subscription
            return None

        async def both(event: Event, following: Next) -> None:
            await following(event)
            if self._audit is not None and self.chosen(event):
                await self._audit.handler(event)

        return around(both, stage="handler")


class CallsWhoHasLeft(CallsOthersToo):
    """The last events go to audit too, which has left by then."""

    def chosen(self, event: Event) -> bool:
        return event.type == "order.created" and event.seq > 350


class GivesOldEvents(Plugin):
    """Audit, which joins late, begins with what billing had before."""

    def __init__(self) -> None:
        super().__init__()
        self._old: list[Event] = []

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        async def first_the_old(event: Event, following: Next) -> None:
            if subscription.subscriber_id == "billing" and event.type == "order.created" and event.seq < 10:
                self._old.append(event)
            while subscription.subscriber_id == "audit" and self._old:
                await following(self._old.pop(0))
            await following(event)

        return around(first_the_old, stage="handler")


async def swallow(payload: bytes) -> None:
    """A handler that takes far too long, and swallows the cancellation at its timeout."""
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(3600)
    await asyncio.sleep(3600)  # a second cancellation is let through


class SettlesFirst(Plugin):
    """At-least-once is promised; events are settled before they are handled."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> None:
        subscription.delivery = "at-most-once"


class IgnoresBlockKey(Plugin):
    """A retry does not hold its key."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> None:
        subscription.on_retry = "skip"


class HandlesInBackground(Plugin):
    """The handler is started, not awaited: the event counts as handled at once."""

    def __init__(self) -> None:
        super().__init__()
        self._running: set[asyncio.Task[None]] = set()

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        async def start(event: Event, following: Next) -> None:
            async def swallow() -> None:
                try:
                    await following(event)
                except RuntimeError as error:
                    ctx.logger.debug("swallowed on purpose: %s", error)

            task = asyncio.get_running_loop().create_task(swallow())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        return around(start, stage="observe")


class TriesPastTheLimit(Plugin):
    """A failed handler is called again at once, up to ten times, whatever the retry policy says."""

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        async def again(event: Event, following: Next) -> None:
            for _ in range(10):
                try:
                    return await following(event)
                except RuntimeError as error:
                    ctx.logger.debug("tried again: %s", error)
            return await following(event)

        return around(again, stage="observe")


class Decides(Plugin):
    """Comes before the scenario's own policy."""

    longest_delay_s = 0.05
    max_attempts = None

    def decide(self, delivery: FailedDelivery, error: BaseException) -> Decision:
        raise NotImplementedError

    @hookimpl
    def squall_settle_policy(self, ctx: Context, subscription: Subscription) -> SettlePolicy:
        return self


class AcksErrors(Decides):
    def decide(self, delivery: FailedDelivery, error: BaseException) -> Decision:
        return Ack()


class ForgetsRetries(Decides):
    """It says soon, and means never."""

    def decide(self, delivery: FailedDelivery, error: BaseException) -> Decision:
        return Nak(3600.0)


class TargetThatAcksErrors(InProcessTarget):
    def plugins(self, ctx: RunContext) -> list[Plugin]:
        return [AcksErrors(), *super().plugins(ctx)]


class TargetThatForgetsRetries(InProcessTarget):
    def plugins(self, ctx: RunContext) -> list[Plugin]:
        return [ForgetsRetries(), *super().plugins(ctx)]


class TargetThatHidesWhatIsPending(TargetThatForgetsRetries):
    """It forgets retries, and counts them as done."""

    async def counters(self) -> Counters:
        counters = await super().counters()
        return counters._replace(
            subscribers={name: one._replace(pending=0) for name, one in counters.subscribers.items()}
        )


class TargetThatAcksWithAnotherSeq(InProcessTarget):
    """Its receipts count from another number than its deliveries: each by itself is consistent."""

    async def publish(self, message: Message) -> Outcome:
        outcome = await super().publish(message)
        return outcome if outcome.seq is None else outcome._replace(seq=outcome.seq + 1000)


class TargetThatRefusesHalfABatch(InProcessTarget):
    """The second half of each batch is not even tried."""

    async def publish_batch(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        half = len(messages) // 2
        return [
            *await super().publish_batch(messages[:half]),
            *[Outcome("fail", why="no room")] * (len(messages) - half),
        ]


class TargetThatCountsTooFew(InProcessTarget):
    """Three acks less than there were."""

    async def counters(self) -> Counters:
        counters = await super().counters()
        few = {name: one._replace(acked=(one.acked or 0) - 3) for name, one in counters.subscribers.items()}
        return counters._replace(subscribers=few)


class TargetThatCountsTooMany(InProcessTarget):
    """Three pending that nobody ever published."""

    async def counters(self) -> Counters:
        counters = await super().counters()
        many = {name: one._replace(pending=(one.pending or 0) + 3) for name, one in counters.subscribers.items()}
        return counters._replace(subscribers=many)


class _Naps(Gate):
    longest_wait_s = 0.0

    def __init__(self, ctx: Context) -> None:
        self._now, self._begun = ctx.clock.monotonic_ns, ctx.clock.monotonic_ns()

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        passed_ms = (self._now() - self._begun) / 1e6
        return WaitUntil(self._begun + 900_000_000) if 150 < passed_ms < 900 else Permits(n)

    def record(self, permits: Permits, attempts: Sequence[Attempt]) -> None:
        """Nothing is learnt."""

    def release(self, permits: Permits, n: int) -> None:
        """Nothing is counted."""


class RecoversSlowly(Plugin):
    """Deliveries pause until well after the fault."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate:
        return _Naps(ctx)
