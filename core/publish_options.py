"""What a publisher may ask for an event beside: an id of its own, a delay, a time to live."""

from __future__ import annotations

from uuid import UUID

from squall.core.errors import MAX_DELAY_S, InvalidEvent
from squall.core.event import Event


def with_options(event: Event, event_id: str | None, delay_s: float, ttl_s: float | None) -> None:
    """Give a new event its publisher's own id, and the times from which and until which it is delivered. Raises
    InvalidEvent."""
    if event_id is not None:
        try:
            own = str(UUID(event_id))
        except (AttributeError, TypeError, ValueError):
            raise InvalidEvent(f"event_id: expected a UUID as text, got {event_id!r:.80}") from None
        if event.correlation_id == event.id:
            event.correlation_id = own
        event.id, event.own_id = own, True
    if delay_s:
        event.due_ns = event.time_ns + _duration_ns("delay_s", delay_s)
    if ttl_s is not None:
        event.expires_ns = event.time_ns + _duration_ns("ttl_s", ttl_s)
        if event.expires_ns <= event.due_ns:
            raise InvalidEvent(
                f"ttl_s: expected more than delay_s, which is {delay_s:g} s, got {ttl_s:g} s: the event would expire "
                "before it may be delivered"
            )


def _duration_ns(name: str, value_s: float) -> int:
    number = isinstance(value_s, int | float) and not isinstance(value_s, bool)
    if not number or not 0 < value_s <= MAX_DELAY_S:
        raise InvalidEvent(f"{name}: expected seconds above 0, at most {MAX_DELAY_S}, got {value_s!r:.80}")
    return round(value_s * 1e9)
