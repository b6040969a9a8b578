"""What is given up without having been delivered: stored events that cannot be decoded, and what finds no room."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from squall.core.delivery import Attempt, Term
from squall.core.errors import Overflow, SquallError, StoreFileError
from squall.core.event import Event, Priority
from squall.core.store import DeadReason, EventStore, Page, Query

if TYPE_CHECKING:
    from squall.core.dispatch import Dispatcher

UNDECODABLE = "undecodable"


class Undecodable(StoreFileError):
    """A stored event cannot be decoded, and the text says where it is. `event` stands for it: seq, priority, and its
    bytes as they are stored as the payload."""

    def __init__(self, text: str, event: Event) -> None:
        super().__init__(text)
        self.event = event


def stand_in(
    seq: int, priority: int, raw: bytes, event_type: str = UNDECODABLE, metadata: dict[str, object] | None = None
) -> Event:
    """What stands for a stored event that cannot be decoded."""
    event_id = f"{UNDECODABLE}-{seq}"
    level = Priority(priority) if priority in list(Priority) else Priority.NORMAL
    return Event(event_id, event_type, "", 0, level, event_id, metadata or {}, raw, "1", seq=seq)  # type: ignore[arg-type]


async def read_around(store: EventStore, query: Query, skip: Container[int] = ()) -> tuple[Page, Sequence[Undecodable]]:
    """A page of the store, and what stood in the way and is passed over: of a query for seqs all such events, else one
    at the page's end. What is to be skipped is not told. Raises as read does, but for Undecodable."""
    broken: list[Undecodable] = []
    while True:
        try:
            page = await store.read(query)
        except Undecodable as error:
            seq = error.event.seq
            if query.seqs is None:
                broken, query = [error], replace(query, before_seq=seq)
            else:
                broken.append(error)
                query = replace(query, seqs=tuple(one for one in query.seqs if one != seq))
            continue
        if query.seqs is not None or not broken:
            return page, broken
        if len(page.events) >= query.limit or page.searched_to < seq - 1:
            return page, ()  # it is met again, when what comes before was read
        return Page(page.events, seq), [one for one in broken if seq not in skip]


class Decodable:
    """The store, without what in it cannot be decoded."""

    def __init__(self, store: EventStore) -> None:
        self._store = store

    async def read(self, query: Query) -> Page:
        """As EventStore.read, but that it raises no Undecodable."""
        return (await read_around(self._store, query))[0]


def quarantine(dispatcher: Dispatcher, broken: Iterable[Undecodable]) -> None:
    """Events that the subscription is owed as far as anybody knows, and that cannot be decoded: into its dead letters.
    What an operator does about the first of them is to be done about all."""
    wiring, subscription = dispatcher.wiring, dispatcher.subscription
    for error in broken:
        if not dispatcher.quarantined:
            wiring.observers.logger.error(
                "subscription %s: %s. It is in the dead letters, with its bytes, and the subscription goes on; further "
                "ones are counted there and not logged",
                subscription.label,
                error,
            )
        dispatcher.quarantined += 1
        dispatcher.give_room(1)
        _give_up(dispatcher, error.event, "undecodable", error)
        wiring.observers.dropped(error.event, subscription.id, UNDECODABLE)


def overflowed(dispatcher: Dispatcher, event: Event) -> None:
    """An event for which there is no room."""
    error = Overflow(f"at most {dispatcher.wiring.room} may wait: {dispatcher.subscription.overflow}")
    dispatcher.endings.log.add(event, error, Term("overflow"))
    _give_up(dispatcher, event, "overflow", error)


def _give_up(dispatcher: Dispatcher, event: Event, reason: DeadReason, error: SquallError) -> None:
    """To the dead letters, with what is known of the event's attempts."""
    progress, clock = dispatcher.progress, dispatcher.wiring.clock
    failure, now_ns = dispatcher.endings.failures.get(event.seq), clock.monotonic_ns()
    attempt = Attempt(event, now_ns, now_ns, attempt=failure.attempts if failure else 0, error=error)
    progress.bury(attempt, Term(reason), (failure.first_wall_ns if failure else 0) or clock.time_ns())
    progress.ended(event)
    dispatcher.wiring.store.settle(progress)


def leave_for_reading(everyone: Iterable[Dispatcher], event: Event) -> tuple[Dispatcher, ...]:
    """Another router's event, announced without its type as it cannot be decoded: windows that are live come to it by
    reading. Returns who is offered it: nobody."""
    for dispatcher in everyone:
        if dispatcher.window is not None:
            dispatcher.window.fall_behind(event)
            dispatcher.window.refill()
    return ()
