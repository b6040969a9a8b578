"""The latest stored events in memory: how many are held."""

from __future__ import annotations

from tests.plugins.store_bench import make_event

from squall.core.event import Event
from squall.core.recent import MAX_BYTES_HELD, RecentEvents
from squall.core.store import Query


def group(first: int, number: int, size_bytes: int) -> tuple[list[Event], int]:
    """Events from seq first on, and what they weigh together."""
    events = [make_event(seq, payload=b"") for seq in range(first, first + number)]
    for seq, event in enumerate(events, start=first):
        event.seq = seq
    return events, size_bytes


def test_what_is_held_is_bounded_by_events_and_by_bytes_and_stays_so() -> None:
    """The oldest groups go, and no more of them than must, however long it goes on."""
    recent = RecentEvents(1)
    for number in range(100):
        recent.add(*group(1 + 10 * number, 10, MAX_BYTES_HELD // 4))
        held = [event.seq for event in recent.page(Query(limit=10_000), recent.first, 10 * number + 10).events]
        assert held == [*range(recent.first, 10 * number + 11)]
        assert len(held) == 10 * min(4, number + 1)
    few = RecentEvents(1, max_events=25)
    for number in range(10):
        few.add(*group(1 + 10 * number, 10, 0))
    assert few.first == 81
