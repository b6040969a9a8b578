"""Publishing for remote clients: what they send becomes events of the router, and receipts."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from squall.core.errors import InvalidEvent, NotRunning, SquallError
from squall.core.event import Event, Priority, Receipt, check_text
from squall.core.intake import Intake
from squall.core.router import EventRouter

Result = Receipt | SquallError


@dataclass(slots=True)
class Outgoing:
    """An event as a client publishes it."""

    type: str
    payload: bytes
    source: str
    priority: Priority = Priority.NORMAL
    correlation_id: str | None = None
    key: str | None = None
    metadata: Mapping[str, Any] | None = None
    event_id: str | None = None
    delay_s: float = 0.0
    ttl_s: float | None = None


class Begun:
    """Events that were handed to the router together; `waiting` are those whose answer is still to come."""

    __slots__ = ("_made", "_router", "waiting")

    def __init__(self, router: EventRouter, made: list[Event | SquallError]) -> None:
        self._router, self._made = router, made
        self.waiting: list[tuple[int, Awaitable[None]]] = []

    async def answered(self) -> None:
        """All have their answer. One after the other, without a task each: the store commits them together."""
        for number, pending in self.waiting:
            try:
                await pending
            except SquallError as error:
                self._made[number] = error

    def results(self) -> list[Result]:
        """How each ended, once all are answered."""
        return [one if isinstance(one, SquallError) else _receipt(self._router, one) for one in self._made]


class Publishing:
    """Publishes on behalf of remote clients, until it is closed."""

    def __init__(self, router: EventRouter) -> None:
        self._router = router
        self._open = True

    def close(self) -> None:
        """Take nothing in any more."""
        self._open = False

    def begin(self, events: Sequence[Outgoing | SquallError]) -> Begun:
        """Hand events to the router in this order, each on its own; what is wrong already keeps its place."""
        made: list[Event | SquallError] = []
        begun = Begun(self._router, made)
        for one in events:
            try:
                if isinstance(one, SquallError):
                    raise one
                intake = self._intake()
                event = _make(intake, one)
                pending = intake.submit(event)
            except SquallError as error:
                made.append(error)
                continue
            if pending is not None:
                begun.waiting.append((len(made), pending))
            made.append(event)
        return begun

    async def together(self, events: Sequence[Outgoing | SquallError]) -> list[Receipt]:
        """Publish all of them or none. Raises PublishError or NotRunning; InvalidEvent names the event."""
        intake, made = self._intake(), list[Event]()
        for number, one in enumerate(events):
            try:
                if isinstance(one, SquallError):
                    raise one
                made.append(_make(intake, one))
                intake.route(one.type)
            except InvalidEvent as error:
                raise InvalidEvent(f"events[{number}].{error}; nothing of the batch was stored") from error
        await intake.submit_all(made)
        return [_receipt(self._router, event) for event in made]

    def _intake(self) -> Intake:
        if not self._open:
            raise NotRunning("the server is stopping: publish to another one, or again when it is back")
        return self._router.intake


def _make(intake: Intake, one: Outgoing) -> Event:
    check_text("source", one.source)
    event = intake.make(one.source, one.type, one.payload, one.priority, one.correlation_id, one.key, one.metadata)
    return event if one.event_id is None else msgspec.structs.replace(event, id=one.event_id)


def _receipt(router: EventRouter, event: Event) -> Receipt:
    return Receipt(event.id, event.seq, router.durability if event.seq else None)
