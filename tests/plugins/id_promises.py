"""What every store promises of ids that publishers give, by way of the kernel: stored once within the window."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence

import pytest
from tests.plugins.store_bench import Bench, Promise, make_event

from squall.core.clock import SystemClock
from squall.core.dedupe import Dedupe
from squall.core.errors import Conflict
from squall.core.event import Event
from squall.core.store import Query


class Publishes:
    """Publishes events with ids of their own into the bench's store, as the kernel does."""

    def __init__(self, bench: Bench) -> None:
        self._bench, self._clock = bench, SystemClock()
        self.dedupe = Dedupe(bench.store, self._clock)

    def event(self, index: int, **values: object) -> Event:
        return make_event(index, timestamp=self._clock.time_ns(), own_id=True, **values)

    def __call__(self, *events: Event) -> Awaitable[set[int]]:
        async def store(rest: Sequence[Event]) -> None:
            pending = self.dedupe.append(rest)
            if pending is not None:
                await pending

        return self.dedupe.publish(events, store)


async def ids_that_were_given_before_are_stored_once(bench: Bench) -> None:
    """Alone, in a batch with what is new, and at the same moment; whoever repeats is given the first one's seq."""
    publish = Publishes(bench)
    first = publish.event(1)
    assert await publish(first) == set()
    again, new = publish.event(1), publish.event(2)
    assert await publish(publish.event(3), again, new) == {1}
    assert again.seq == first.seq
    several = [publish.event(4) for _ in range(5)]
    repeated = await asyncio.gather(*map(publish, several))
    assert sorted(map(len, repeated)) == [0, 1, 1, 1, 1]
    assert len({event.seq for event in several}) == 1
    assert [event.payload for event in await bench.all(Query())] == [b"1", b"3", b"2", b"4"]
    assert [event.seq for event in bench.announced] == [event.seq for event in await bench.all(Query())]


async def another_event_under_an_id_is_a_conflict(bench: Bench) -> None:
    """Nothing of its batch is stored, and what was new in it may be published again."""
    publish = Publishes(bench)
    await publish(publish.event(1))
    for other in ({"payload": b"other"}, {"key": "k"}, {"source": "other"}, {"type": "order.paid"}):
        for batch in ([], [publish.event(2)]):
            with pytest.raises(Conflict) as told:
                await publish(*batch, publish.event(1, **other))
            assert told.value.outcome == "fail"
    with pytest.raises(Conflict):
        await publish(publish.event(2), publish.event(2, payload=b"other"))
    assert await publish(publish.event(2)) == set()
    assert [event.payload for event in await bench.all(Query())] == [b"1", b"2"]


async def an_id_given_twice_in_a_batch_is_stored_once(bench: Bench) -> None:
    """Both have its seq; what stands between them is stored too."""
    publish = Publishes(bench)
    first, between, again = publish.event(1), publish.event(2), publish.event(1)
    assert await publish(first, between, again) == {2}
    assert again.seq == first.seq
    assert await publish(publish.event(1), publish.event(3), publish.event(1)) == {0, 2}
    assert [event.payload for event in await bench.all(Query())] == [b"1", b"2", b"3"]


async def ids_are_remembered_over_reopening(bench: Bench) -> None:
    if bench.store.capabilities.durability == "memory":
        return
    publish = Publishes(bench)
    first = publish.event(1)
    await publish(first)
    await bench.reopen()
    publish = Publishes(bench)
    await publish.dedupe.load(bench.head)
    again = publish.event(1)
    assert await publish(again) == {0}
    assert again.seq == first.seq
    with pytest.raises(Conflict):
        await publish(publish.event(1, payload=b"other"))


ID_PROMISES: tuple[Promise, ...] = (
    ids_that_were_given_before_are_stored_once,
    another_event_under_an_id_is_a_conflict,
    an_id_given_twice_in_a_batch_is_stored_once,
    ids_are_remembered_over_reopening,
)
