"""Publishing to a remote router: EventPublisher's calls, with their names, defaults and errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from squall.core.api import EventPublisher
from squall.core.argument_checks import entries
from squall.core.errors import InvalidEvent, WrongThread
from squall.core.event import (
    MAX_PAYLOAD_BYTES,
    Event,
    EventData,
    Priority,
    Receipt,
    check_text,
    content,
)
from squall.core.intake import MAX_BATCH
from squall.core.patterns import check_type
from squall.core.publish_options import with_options
from squall.core.thread import answer_in_thread
from squall.plugins.remote import wire

if TYPE_CHECKING:
    from squall.plugins.remote.client import RemoteRouter

GRACE_S = 1.0  # for the loop's own thread to say what became of it


class RemotePublisher(EventPublisher):
    """Publishes for one source, by way of a connection. Each publish is answered by the server, or raises within the
    router's deadline_s; what the connection loses on its way is sent again under the same id, and stored once."""

    def __init__(self, remote: RemoteRouter, source: str = "squall") -> None:
        check_text("source", source)
        self.remote = remote
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
        receipt = await self.publish_with_receipt(
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
        return receipt.id

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
        self.remote.check_running()
        event = self._make(event_type, payload, priority, correlation_id, key, metadata)
        with_options(event, event_id, delay_s, ttl_s)
        (receipt,) = await self.remote.publish((wire.outgoing(event),), atomic=False)
        return receipt

    async def publish_batch(self, events: list[EventData]) -> list[str]:
        return [receipt.id for receipt in await self.publish_batch_with_receipts(events)]

    async def publish_batch_with_receipts(self, events: list[EventData]) -> list[Receipt]:
        self.remote.check_running()
        made = []
        for number, one in entries(events):
            try:
                event = self._make(one.event_type, one.payload, one.priority, one.correlation_id, one.key, one.metadata)
                with_options(event, one.event_id, one.delay_s, one.ttl_s)
            except InvalidEvent as error:
                raise InvalidEvent(f"events[{number}].{error}; nothing of the batch was stored") from error
            made.append(wire.outgoing(event))
        if len(made) > MAX_BATCH:
            raise InvalidEvent(f"events: expected at most {MAX_BATCH}, got {len(made)}")
        return await self.remote.publish(made, atomic=True) if made else []

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
        self.remote.check_running()
        if self.remote.on_loop_thread():
            raise WrongThread("publish_sync would wait for its own event loop for ever: await publish(…) here instead")
        event = self._make(event_type, payload, priority, correlation_id, key, metadata)
        with_options(event, event_id, delay_s, ttl_s)
        publishing = self.remote.publish((wire.outgoing(event),), atomic=False, within_s=timeout_s)
        assert self.remote.loop is not None
        (receipt,) = answer_in_thread(publishing, self.remote.loop, timeout_s, GRACE_S)
        return receipt.id

    def _make(
        self,
        event_type: str,
        payload: Any,
        priority: Priority,
        correlation_id: str | None,
        key: str | None,
        metadata: Mapping[str, Any] | None,
    ) -> Event:
        """The event, checked as a local router does. Raises InvalidEvent."""
        payload, own = content(payload, metadata)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise InvalidEvent(f"payload: expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(payload)}")
        if type(priority) is not Priority:
            raise InvalidEvent(f"priority: expected a squall.Priority, got {priority!r:.80}")
        if key is not None:
            check_text("key", key)
        if correlation_id is not None:
            check_text("correlation_id", correlation_id)
        check_type(event_type)
        remote, new_id = self.remote, self.remote.new_id()
        return Event(
            new_id,
            event_type,
            self.source,
            remote.clock.time_ns(),  # type: ignore[arg-type]  # a datetime only when asked for
            priority,
            correlation_id or new_id,
            own,
            payload,
            "1",
            key=key,
        )
