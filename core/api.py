"""What users publish and subscribe with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from squall.core.argument_checks import entries
from squall.core.errors import InvalidEvent, NotRunning, WrongThread
from squall.core.event import Event, EventData, Priority, Receipt, check_text
from squall.core.filters import Filter
from squall.core.publish_options import with_options
from squall.core.subscription import EventHandler, OverflowPolicy, Subscription
from squall.core.thread import answer_in_thread

if TYPE_CHECKING:
    from squall.core.router import EventRouter


class EventPublisher:
    """Publishes for one source. Every method raises PublishError, whose `outcome` says what became of the event, or
    NotRunning, when nothing was stored."""

    def __init__(self, router: EventRouter, source: str = "squall") -> None:
        check_text("source", source)
        self.router = router
        self.source = source

    async def publish(
        self,
        event_type: str,
        payload: Any,
        priority: Priority = Priority.NORMAL,
        correlation_id: str | None = None,
        *,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        delay_s: float = 0.0,
        ttl_s: float | None = None,
    ) -> str:
        """Publish a single event; returns its id once it is as durable as the store promises.

        With an `event_id` of your own, a UUID, a publish may be repeated: within the store's dedupe window the event is
        stored once. It is delivered no sooner than after `delay_s`, and no later than `ttl_s` after its publish.
        """
        router = self.router
        intake = router.entry or router.intake  # asked for with each publish: the property costs more than a check
        event = intake.make(self.source, event_type, payload, priority, correlation_id, key, metadata)
        if event_id is not None or delay_s or ttl_s is not None:
            with_options(event, event_id, delay_s, ttl_s)
            await intake.submit_once([event])  # not the quickest way, for what is rare
        elif (pending := intake.submit(event)) is not None:
            await pending
        return event.id

    async def publish_with_receipt(
        self,
        event_type: str,
        payload: Any,
        priority: Priority = Priority.NORMAL,
        correlation_id: str | None = None,
        *,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        delay_s: float = 0.0,
        ttl_s: float | None = None,
    ) -> Receipt:
        """Like publish; returns id, seq, the durability reached, and whether it was a repetition."""
        intake = self.router.intake
        event = intake.make(self.source, event_type, payload, priority, correlation_id, key, metadata)
        with_options(event, event_id, delay_s, ttl_s)
        again = False
        if event.own_id:
            again = bool(await intake.submit_once([event]))
        elif (pending := intake.submit(event)) is not None:
            await pending
        return Receipt(event.id, event.seq, self.router.durability if event.seq else None, again)

    async def publish_batch(self, events: list[EventData]) -> list[str]:
        """Publish up to 1,000 events atomically: all are stored, or none; returns their ids. Those that repeat an
        earlier publish, by their own ids, are stored already."""
        made, _ = await self._publish_batch(events)
        return [event.id for event in made]

    async def publish_batch_with_receipts(self, events: list[EventData]) -> list[Receipt]:
        """Like publish_batch; returns the receipts, in the same order."""
        made, again = await self._publish_batch(events)
        durability = self.router.durability
        return [
            Receipt(one.id, one.seq, durability if one.seq else None, number in again)
            for number, one in enumerate(made)
        ]

    async def _publish_batch(self, events: list[EventData]) -> tuple[list[Event], set[int]]:
        """The events as they were published, and the places of those that were repetitions."""
        intake = self.router.intake
        made = []
        for number, one in entries(events):
            try:
                event = intake.make(
                    self.source, one.event_type, one.payload, one.priority, one.correlation_id, one.key, one.metadata
                )
                if one.event_id is not None or one.delay_s or one.ttl_s is not None:
                    with_options(event, one.event_id, one.delay_s, one.ttl_s)
                intake.route(one.event_type)
            except InvalidEvent as error:
                raise InvalidEvent(f"events[{number}].{error}; nothing of the batch was stored") from error
            made.append(event)
        return made, await intake.submit_once(made)

    def publish_sync(
        self,
        event_type: str,
        payload: Any,
        *,
        priority: Priority = Priority.NORMAL,
        correlation_id: str | None = None,
        key: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        event_id: str | None = None,
        delay_s: float = 0.0,
        ttl_s: float | None = None,
        timeout_s: float = 30.0,
    ) -> str:
        """Publish from a thread without a loop; the router runs in another. Waits at most timeout_s, then the outcome
        is `info`. Raises WrongThread on the loop's own thread."""
        loop = self.router.loop
        if loop is None:
            raise NotRunning("publish_sync: the router is not running: start it, or use EventRouter.in_thread(…)")
        if self.router.on_loop_thread():
            raise WrongThread("publish_sync would wait for its own event loop for ever: await publish(…) here instead")
        publishing = self.publish(
            event_type,
            payload,
            priority,
            correlation_id,
            key=key,
            metadata=metadata,
            event_id=event_id,
            delay_s=delay_s,
            ttl_s=ttl_s,
        )
        return answer_in_thread(publishing, loop, timeout_s)


class EventSubscriber:
    """Subscribes for one subscriber, whose id says whose the subscriptions are."""

    def __init__(self, router: EventRouter, subscriber_id: str = "squall") -> None:
        check_text("subscriber_id", subscriber_id)
        self.router = router
        self.subscriber_id = subscriber_id

    async def subscribe(
        self,
        pattern: str,
        handler: EventHandler,
        filters: list[Filter | Callable[[Event], bool]] | None = None,
        priority_min: Priority | None = None,
        *,
        priority_filter: Priority | None = None,
        name: str | None = None,
        delivery: Literal["at-least-once", "at-most-once"] = "at-least-once",
        start: int | Literal["new", "earliest"] = "new",
        concurrency: int = 1,
        timeout_s: float = 30.0,
        in_flight: int = 1000,
        overflow: OverflowPolicy | None = None,
        on_retry: Literal["skip", "block_key"] = "skip",
        update: bool = False,
    ) -> str:
        """Subscribe to events matching pattern; returns the subscription's id.

        The handler is `async def h(event)` or `async def h(event, delivery)`. With a `name` the subscription is
        durable: what it is owed survives the process, and subscribing again with the name takes it up where it was;
        `update` allows its pattern and filters to be others then. Raises SubscriptionError.
        """
        router = self.router
        subscription = Subscription(
            router.intake.new_id(),
            self.subscriber_id,
            pattern,
            handler,
            list(filters or ()),
            priority_filter,
            datetime.fromtimestamp(router.clock.time_ns() / 1e9, UTC),
            priority_min=priority_min,
            name=name,
            delivery=delivery,
            concurrency=concurrency,
            timeout_s=timeout_s,
            in_flight=in_flight,
            overflow=overflow or router.subscriptions.default_overflow(name is not None),
            on_retry=on_retry,
        )
        return await router.subscriptions.attach(subscription, start, update)

    async def unsubscribe(self, subscription_id: str) -> None:
        """Remove a subscription; of a durable one nothing more is owed. A handler that runs may end."""
        await self.router.subscriptions.detach(subscription_id)

    async def detach(self, subscription_id: str) -> None:
        """Deliver nothing more here. Handlers that run are cancelled, which does not count as an attempt; a durable
        subscription is owed what it was owed, and its name may be subscribed again. Returns when the store knows; or at
        once where its own handler calls, which ends what it has in hand first. Raises StoreError after ten seconds in
        which the store did not take the last settlements: what they say may be delivered again."""
        await self.router.subscriptions.leave(subscription_id)

    async def pause_subscription(self, subscription_id: str) -> None:
        """Temporarily pause delivery. What is owed stays owed; a handler that runs may end."""
        self.router.subscriptions.pause(subscription_id)

    async def resume_subscription(self, subscription_id: str) -> None:
        """Resume paused subscription."""
        self.router.subscriptions.resume(subscription_id)
