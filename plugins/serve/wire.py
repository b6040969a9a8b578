"""What is in the messages of protos/wire.proto, as squall's own objects, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from squall.core.clock import Clock
from squall.core.errors import InvalidEvent, PublishError, Refused, SquallError, SubscriptionError
from squall.core.event import Durability, Event, Priority, Receipt
from squall.core.filters import Filter
from squall.plugins.serve.publishing import Outgoing
from squall.protos import wire_pb2 as pb

SUBPROTOCOL = "squall.v1"
NS_PER_MS = 1_000_000
_DURABILITIES: dict[Durability | None, pb.Durability] = {
    None: pb.DURABILITY_UNSPECIFIED,
    "memory": pb.DURABILITY_MEMORY,
    "process": pb.DURABILITY_PROCESS,
    "disk": pb.DURABILITY_DISK,
}
_OUTCOMES: dict[Literal["ok", "fail", "info"], pb.Outcome] = {
    "ok": pb.OUTCOME_OK,
    "fail": pb.OUTCOME_FAIL,
    "info": pb.OUTCOME_INFO,
}


def durability(level: Durability | None) -> pb.Durability:
    """The level as the wire says it."""
    return _DURABILITIES[level]


def deliveries(sub: int, batch: Iterable[tuple[int, Event]], clock: Clock) -> pb.ServerFrame:
    """One frame, to be sent now, with these deliveries: their numbers and events."""
    frame = pb.ServerFrame()
    frame.deliveries.sub = sub
    add = frame.deliveries.deliveries.add
    for number, event in batch:
        add(
            delivery=number,
            ttl_ms=_ttl_ms(event, clock) if event.expires_ns else None,
            event=pb.Event(
                id=event.id,
                type=event.type,
                source=event.source,
                time_ns=event.time_ns,
                priority=event.priority + 1,  # type: ignore[arg-type]  # the wire's are one more: 0 is "not said"
                correlation_id=event.correlation_id,
                key=event.key,
                metadata=msgspec.json.encode(event.metadata) if event.metadata else b"",
                payload=event.payload,
                version=event.version,
                seq=event.seq,
                expires_ns=event.expires_ns,
            ),
        )
    return frame


def _ttl_ms(event: Event, clock: Clock) -> int:
    """What is left, rounded up: by this router's clock it is over when it is for the client."""
    return max(0, -(-event.left_ns(event.expires_ns, clock) // NS_PER_MS))


def outgoing(message: pb.Outgoing) -> Outgoing:
    """An event that a client publishes. Raises InvalidEvent."""
    event = message.event
    return Outgoing(
        type=event.type,
        payload=event.payload,
        source=event.source,
        priority=Priority.NORMAL if (level := priority(event.priority)) is None else level,  # CRITICAL is 0
        correlation_id=event.correlation_id or None,
        key=event.key if event.HasField("key") else None,
        metadata=_metadata(event.metadata) if event.metadata else None,
        event_id=event.id or None,
        delay_s=message.delay_ms / 1000,
        ttl_s=message.ttl_ms / 1000 if message.HasField("ttl_ms") else None,
    )


def priority(number: int) -> Priority | None:
    """The priority behind the wire's number; None where it is not said. Raises InvalidEvent."""
    if number == pb.PRIORITY_UNSPECIFIED:
        return None
    try:
        return Priority(number - 1)
    except ValueError:
        raise InvalidEvent(f"priority: expected 1 (CRITICAL) to 4 (LOW), got {number}") from None


def _metadata(text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise InvalidEvent(f"metadata: expected a JSON object ({error})") from error


def filters(text: bytes) -> list[Filter]:
    """The filters of a Subscribe. Raises SubscriptionError."""
    try:
        found = msgspec.json.decode(text, type=list[dict[str, Any]]) if text else []
        return [Filter.of(f"filters[{number}]", one) for number, one in enumerate(found)]
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError) as error:
        raise SubscriptionError(f"filters: expected a JSON list of objects ({error})") from error
    except SquallError as error:
        raise SubscriptionError(str(error)) from error


def receipt(result: Receipt | SquallError) -> pb.Receipt:
    """How one event's publish ended."""
    if isinstance(result, Receipt):
        return pb.Receipt(
            outcome=pb.OUTCOME_OK,
            id=result.id,
            seq=result.seq,
            durability=_DURABILITIES[result.durability],
            duplicate=result.duplicate,
        )
    outcome = result.outcome if isinstance(result, PublishError) else "fail"
    after_s = result.retry_after_s if isinstance(result, Refused) else None
    return pb.Receipt(
        outcome=_OUTCOMES[outcome],
        error=type(result).__name__,
        message=str(result),
        retry_after_ms=None if after_s is None else round(after_s * 1000),
    )
