"""What a plugin stands in when no router is around it: a context, a clock moved by hand, subscriptions, attempts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import cast

from squall.core.clock import VirtualClock
from squall.core.delivery import Attempt, Outcome
from squall.core.event import Event, Priority
from squall.core.plugin import Context
from squall.core.subscription import Subscription


class HandClock(VirtualClock):
    """A virtual clock that also moves without an event loop, where nothing sleeps."""

    def move(self, seconds: float) -> None:
        self._now_ns += round(seconds * 1e9)


@dataclass
class Surroundings:
    """A plugin's context, and what the plugin told it: gate changes as (subscription id, gate, state)."""

    clock: HandClock = field(default_factory=HandClock)
    seed: int = 7
    changes: list[tuple[str, str, str]] = field(default_factory=list)
    when_changed: Callable[[str, str, str], None] | None = None

    @property
    def ctx(self) -> Context:
        def changed(subscription_id: str, gate: str, state: str) -> None:
            self.changes.append((subscription_id, gate, state))
            if self.when_changed is not None:
                self.when_changed(subscription_id, gate, state)

        return Context(
            clock=self.clock,
            random=lambda name: Random(f"{self.seed}:{name}"),
            logger=logging.getLogger("squall.tests"),
            changed=changed,
        )


def event(
    event_type: str = "order.created", source: str = "shop", published_ns: int = 0, payload: bytes = b""
) -> Event:
    return Event(
        id="00000000-0000-4000-8000-000000000001",
        type=event_type,
        source=source,
        timestamp=datetime(2026, 1, 1, tzinfo=UTC),
        priority=Priority.NORMAL,
        correlation_id="c",
        metadata={},
        payload=payload,
        version="1",
        published_ns=published_ns,
    )


async def _handle(event: Event) -> None: ...


def subscription(
    subscriber_id: str = "billing", *, subscription_id: str = "s-1", name: str | None = None
) -> Subscription:
    return Subscription(
        subscription_id, subscriber_id, "order.>", _handle, [], None, datetime(2026, 1, 1, tzinfo=UTC), name=name
    )


def attempt(
    begun_ns: int, ended_ns: int, outcome: str = "ok", error: BaseException | None = None, published_ns: int = 0
) -> Attempt:
    return Attempt(event(published_ns=published_ns), begun_ns, ended_ns, outcome=cast(Outcome, outcome), error=error)
