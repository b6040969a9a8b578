"""Subscribing at a remote router: EventSubscriber's calls, with their names, defaults and errors."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from squall.core.api import EventSubscriber
from squall.core.event import Event, Priority, check_text
from squall.core.filters import Filter
from squall.core.subscription import EventHandler, OverflowPolicy, Subscription
from squall.core.subscription_checks import check_subscription
from squall.plugins.remote import wire
from squall.plugins.remote.attachment import Attachment

if TYPE_CHECKING:
    from squall.plugins.remote.client import RemoteRouter


class RemoteSubscriber(EventSubscriber):
    """Subscribes for one subscriber, by way of a connection. Handlers run here; what they come to, the server is told.

    Named subscriptions go on where they were when the connection is lost and made again, and get again what was in hand
    then. Those without a name get what is published while they are connected.
    """

    def __init__(self, remote: RemoteRouter, subscriber_id: str = "squall") -> None:
        check_text("subscriber_id", subscriber_id)
        self.remote = remote
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
        remote = self.remote
        attachments = remote.attachments
        subscription = Subscription(
            "",
            self.subscriber_id,
            pattern,
            handler,
            list(filters or ()),
            priority_filter,
            datetime.fromtimestamp(remote.clock.time_ns() / 1e9, UTC),
            priority_min=priority_min,
            name=name,
            delivery=delivery,
            concurrency=concurrency,
            timeout_s=timeout_s,
            in_flight=in_flight,
            overflow=overflow or "block",
            on_retry=on_retry,
        )
        check_subscription(subscription, start)
        settings = remote.settings
        asked = wire.subscribe(subscription, start, overflow, settings.lease_s, update=update)
        deadline_ns = remote.clock.monotonic_ns() + round(settings.deadline_s * 1e9)
        return await attachments.attach(Attachment(subscription, asked, remote, deadline_ns))

    async def unsubscribe(self, subscription_id: str) -> None:
        attachments = self.remote.attachments
        await attachments.leave(attachments.get(subscription_id), end=True)

    async def detach(self, subscription_id: str) -> None:
        attachments = self.remote.attachments
        await attachments.leave(attachments.get(subscription_id), end=False)

    async def pause_subscription(self, subscription_id: str) -> None:
        attachment = self.remote.attachments.get(subscription_id)
        attachment.subscription.paused = attachment.handling.paused = True

    async def resume_subscription(self, subscription_id: str) -> None:
        attachment = self.remote.attachments.get(subscription_id)
        attachment.subscription.paused = attachment.handling.paused = False
        attachment.handling.more()
        self.remote.wake()
