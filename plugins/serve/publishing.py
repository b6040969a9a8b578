"""Publishing for remote clients: what they send becomes events of the router, and receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from squall.core.errors import InvalidEvent, NotRunning, PublishError, SquallError
from squall.core.event import Durability, Event, Priority, Receipt, check_text
from squall.core.intake import Intake
from squall.core.publish_options import with_options
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
    """Events that were handed to the router together; `waiting` is what is still to be awaited for their answers."""

    __slots__ = ("_again", "_made", "_router", "waiting")

    def __init__(self, router: EventRouter, made: list[Event | SquallError]) -> None:
        self._router, self._made = router, made
        self._again: set[int] = set()
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
        durability = self._router.durability
        return [
            one if isinstance(one, SquallError) else _receipt(one, durability, number in self._again)
            for number, one in enumerate(self._made)
        ]

    async def once(self, intake: Intake, numbers: list[int]) -> None:
        """Publish these events, some of which may repeat others, as one group: it is one append. Where the group as a
        whole is refused, nothing of it was stored, and each is tried by itself."""
        events = [event for number in numbers if isinstance(event := self._made[number], Event)]
        try:
            again = await intake.submit_once(events)
        except SquallError as error:
            if len(numbers) > 1 and isinstance(error, PublishError) and error.outcome == "fail":
                await asyncio.gather(*(self.once(intake, [number]) for number in numbers))
                return
            for number in numbers:
                self._made[number] = error
        else:
            self._again.update(number for place, number in enumerate(numbers) if place in again)


class Publishing:
    """Publishes on behalf of remote clients, until it is closed."""

    def __init__(self, router: EventRouter) -> None:
        self._router = router
        self._open = True

    def close(self) -> None:
        """Take nothing in any more."""
        self._open = False

    def begin(self, events: Sequence[Outgoing | SquallError], origin: str) -> Begun:
        """Hand events of a client at this address to the router in this order, each on its own; what is wrong already
        keeps its place."""
        made: list[Event | SquallError] = []
        begun = Begun(self._router, made)
        for one in events:
            try:
                made.append(one if isinstance(one, SquallError) else _make(self._intake(), one, origin))
            except SquallError as error:
                made.append(error)
        fine = [number for number, one in enumerate(made) if isinstance(one, Event)]
        if any(isinstance(one, Event) and one.own_id for one in made):
            begun.waiting.append((fine[0], begun.once(self._intake(), fine)))
            return begun
        for number in fine:
            event = made[number]
            assert isinstance(event, Event)
            try:
                pending = self._intake().submit(event)
            except SquallError as error:
                made[number] = error
            else:
                if pending is not None:
                    begun.waiting.append((number, pending))
        return begun

    async def together(self, events: Sequence[Outgoing | SquallError], origin: str) -> list[Receipt]:
        """Publish all of them or none, for a client at this address. Raises PublishError or NotRunning; InvalidEvent
        names the event."""
        intake, made = self._intake(), list[Event]()
        for number, one in enumerate(events):
            try:
                if isinstance(one, SquallError):
                    raise one
                made.append(_make(intake, one, origin))
                intake.route(one.type)
            except InvalidEvent as error:
                raise InvalidEvent(f"events[{number}].{error}; nothing of the batch was stored") from error
        again = await intake.submit_once(made)
        durability = self._router.durability
        return [_receipt(event, durability, number in again) for number, event in enumerate(made)]

    def _intake(self) -> Intake:
        if not self._open:
            raise NotRunning("the server is stopping: publish to another one, or again when it is back")
        return self._router.intake


def _make(intake: Intake, one: Outgoing, origin: str) -> Event:
    check_text("source", one.source)
    event = intake.make(one.source, one.type, one.payload, one.priority, one.correlation_id, one.key, one.metadata)
    event.origin = origin
    if one.event_id is not None or one.delay_s or one.ttl_s is not None:
        with_options(event, one.event_id, one.delay_s, one.ttl_s)
    return event


def _receipt(event: Event, durability: Durability, again: bool) -> Receipt:
    return Receipt(event.id, event.seq, durability if event.seq else None, again)
