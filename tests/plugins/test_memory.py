"""The memory store keeps the latest: what makes room, and what is said of it."""

from __future__ import annotations

from tests.plugins.store_bench import FakeProgress, dead_letter, make_event, until

from squall.core.event import Event
from squall.core.store import DurableSpec, Query
from squall.plugins.memory import WEIGHED_AT_ONCE, MemoryOptions, MemoryStore

SPEC = DurableSpec("s-1", "billing", "shop", ">", "[]", "earliest")


async def opened(**options: int) -> tuple[MemoryStore, list[Event]]:
    """A store, and what it announces."""
    store, stored = MemoryStore(MemoryOptions.of("memory", options)), list[Event]()
    await store.open(stored.extend)
    return store, stored


async def test_the_oldest_events_make_room() -> None:
    """Past max_events they are not found any more, and who comes late is told where it begins now."""
    store, stored = await opened(max_events=10)
    attached = await store.attach(SPEC)
    store.append([make_event(index) for index in range(30)])
    assert [event.seq for event in (await store.read(Query())).events] == [*range(21, 31)]
    assert (attached.from_seq, (await store.attach(SPEC)).from_seq) == (1, 21)
    assert (len(stored), (await store.counts()).events) == (30, 10)


async def test_the_oldest_bytes_make_room() -> None:
    """Past max_bytes: what is kept weighs no more than that and one weighing's worth, and is the latest."""
    store, _ = await opened(max_bytes=100_000)
    for index in range(1000):
        store.append([make_event(index, payload=b"x" * 1000)])
    seqs = [event.seq for event in (await store.read(Query(limit=1000))).events]
    assert seqs == [*range(seqs[0], 1001)]
    assert 100 - WEIGHED_AT_ONCE <= len(seqs) <= 100 + WEIGHED_AT_ONCE


async def test_the_oldest_dead_letters_make_room_and_are_counted() -> None:
    """As many as there was no place for, and none before."""
    store, _ = await opened(max_dead_letters=3)
    store.append([make_event(index) for index in range(5)])
    events = (await store.read(Query())).events
    attached = await store.attach(SPEC)
    for few, dropped in ((events[:2], 0), (events[2:4], 1), (events[4:], 2)):
        progress = FakeProgress(attached.id, dead=[dead_letter(event, attached) for event in few])
        store.settle(progress)
        await until(lambda progress=progress: bool(progress.told))  # type: ignore[misc]
        assert store.dropped_dead_letters == dropped
    assert len(await store.dead_letters()) == 3
