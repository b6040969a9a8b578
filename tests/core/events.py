"""Events for tests."""

from __future__ import annotations

from typing import Any

from squall import Event, Priority


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
