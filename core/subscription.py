"""A subscription as its owner and plugins see it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from squall.core.event import Event, Priority
from squall.core.filters import Filter
from squall.core.queue import PriorityEventQueue

EventHandler = Callable[..., Awaitable[Any]]
OverflowPolicy = Literal["block", "reject", "drop_new", "dead_letter_new", "drop_old", "drop_lowest"]
DROPS_NEW = ("drop_new", "dead_letter_new")
DROPS_OLD = ("drop_old", "drop_lowest")
DROPS = (*DROPS_NEW, *DROPS_OLD)


@dataclass
class Subscription:
    """Who gets which events, and how that went so far. The counts move per batch, shortly after the handlers; `queue`
    holds what waits in memory."""

    id: str
    subscriber_id: str
    pattern: str
    handler: EventHandler
    filters: list[Filter | Callable[[Event], bool]]
    priority_filter: Priority | None
    created_at: datetime
    last_delivered: datetime | None = None
    delivery_count: int = 0
    error_count: int = 0
    priority_min: Priority | None = field(default=None, kw_only=True)
    name: str | None = field(default=None, kw_only=True)
    delivery: Literal["at-least-once", "at-most-once"] = field(default="at-least-once", kw_only=True)
    concurrency: int = field(default=1, kw_only=True)
    timeout_s: float = field(default=30.0, kw_only=True)
    in_flight: int = field(default=1000, kw_only=True)
    overflow: OverflowPolicy = field(default="block", kw_only=True)
    on_retry: Literal["skip", "block_key"] = field(default="skip", kw_only=True)
    from_seq: int = field(default=0, kw_only=True)
    paused: bool = field(default=False, kw_only=True)
    queue: PriorityEventQueue = field(default_factory=PriorityEventQueue, kw_only=True, repr=False, compare=False)

    @property
    def durable(self) -> bool:
        """Named subscriptions are stored and survive the process."""
        return self.name is not None

    @property
    def label(self) -> str:
        """Its name if it has one, else the subscriber's."""
        return self.name or self.subscriber_id
