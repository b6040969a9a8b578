"""Events and subscriptions as frames of protos/wire.proto, and back."""

from __future__ import annotations

from typing import Any

import msgspec

from squall.core.event import Durability, Event, Priority, Receipt
from squall.core.filters import Filter
from squall.core.subscription import OverflowPolicy, Subscription
from squall.core.subscription_checks import Start
from squall.protos import wire_pb2 as pb

SUBPROTOCOL = "squall.v1"
_PRIORITIES = (Priority.NORMAL, *Priority)  # the wire's are one more: 0 is "not said"
_DURABILITIES: tuple[Durability | None, ...] = (None, "memory", "process", "disk")


def outgoing(event: Event) -> pb.Outgoing:
    """An event to be published."""
    message = pb.Outgoing(
        event=pb.Event(
            id=event.id,
            type=event.type,
            source=event.source,
            priority=event.priority + 1,  # type: ignore[arg-type]
            correlation_id="" if event.correlation_id == event.id else event.correlation_id,
            key=event.key,
            metadata=msgspec.json.encode(event.metadata) if event.metadata else b"",
            payload=event.payload,
        )
    )
    if event.due_ns:
        message.delay_ms = _ms(event.due_ns - event.time_ns)
    if event.expires_ns:
        message.ttl_ms = _ms(event.expires_ns - event.time_ns)
    return message


def _ms(duration_ns: int) -> int:
    return max(1, round(duration_ns / 1e6))


def receipt(message: pb.Receipt) -> Receipt:
    """What an acknowledged publish is worth."""
    return Receipt(message.id, message.seq, _DURABILITIES[message.durability], message.duplicate)


def event(message: pb.Event) -> Event:
    """A delivered event. Raises msgspec.DecodeError or IndexError for what no server sends."""
    return Event(
        message.id,
        message.type,
        message.source,
        message.time_ns,  # type: ignore[arg-type]  # a datetime only when asked for
        _PRIORITIES[message.priority],
        message.correlation_id,
        msgspec.json.decode(message.metadata) if message.metadata else {},
        message.payload,
        message.version,
        key=message.key if message.HasField("key") else None,
        seq=message.seq,
        expires_ns=message.expires_ns,
    )


def subscribe(
    subscription: Subscription, start: Start, overflow: OverflowPolicy | None, lease_s: float, *, update: bool
) -> pb.Subscribe:
    """What is asked for a subscription, but for what each connection gives it: sub, credit and in_flight."""
    asked = pb.Subscribe(
        subscriber_id=subscription.subscriber_id,
        pattern=subscription.pattern,
        name=subscription.name,
        at_most_once=subscription.delivery == "at-most-once",
        lease_ms=round(lease_s * 1000),
        filters=_filters(subscription),
        block_key=subscription.on_retry == "block_key",
        overflow=overflow or "",
        update=update,
    )
    if start == "earliest":
        asked.earliest = True
    elif start != "new":
        asked.seq = start
    if subscription.priority_min is not None:
        asked.priority_min = subscription.priority_min + 1  # type: ignore[assignment]
    if subscription.priority_filter is not None:
        asked.priority_filter = subscription.priority_filter + 1  # type: ignore[assignment]
    return asked


def _filters(subscription: Subscription) -> bytes:
    """Those that are data: functions of an event stay here."""
    data = [_plain(one.model_dump(exclude_none=True)) for one in subscription.filters if isinstance(one, Filter)]
    return msgspec.json.encode(data) if data else b""


def _plain(value: Any) -> Any:
    """Priorities by name, as a filter in a file has them."""
    if isinstance(value, Priority):
        return value.name
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, tuple | list) else value
