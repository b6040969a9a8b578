"""What every store promises, one coroutine a promise: each takes a Bench and fails with an AssertionError.

A store of one's own is held to them by a StoreKind that makes it: the same folder gives the same stored events.
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.plugins.event_promises import EVENT_PROMISES
from tests.plugins.id_promises import ID_PROMISES
from tests.plugins.store_bench import (
    NOW_NS,
    Bench,
    FakeProgress,
    Promise,
    StoreKind,
    assert_dead,
    assert_same,
    dead_letter,
    make_event,
)
from tests.plugins.subscription_promises import SUBSCRIPTION_PROMISES

from squall.core.store import (
    AttemptRow,
    Cursor,
    Query,
)


async def everything_survives_reopening(bench: Bench) -> None:
    """Events, subscriptions, cursors, attempts, dead letters; and numbering goes on above all that was ever given."""
    if bench.store.capabilities.durability == "memory":
        return
    events = await bench.fill(50)
    attached = await bench.attach(start=events[0].seq)
    ahead = await bench.attach("ahead")
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[30].seq, (events[4].seq,))])
    progress.naks = [AttemptRow(events[7].seq, 3, NOW_NS, "ValueError")]
    progress.dead = letters = [dead_letter(events[8], attached)]
    await bench.settle(progress)
    await bench.reopen()
    assert bench.head == events[-1].seq
    assert_same(await bench.all(Query()), events)
    again = await bench.attach()
    assert (again.id, again.from_seq) == (attached.id, attached.from_seq)
    assert list(again.cursors) == progress.cursors
    assert list(again.attempts) == progress.taken[0].naks
    assert_dead(await bench.store.dead_letters("billing"), letters)
    more = await bench.fill(3, lambda index: make_event(1000 + index))
    assert more[0].seq == ahead.from_seq == events[-1].seq + 1
    assert_same(await bench.all(Query()), events + more)
    assert json.dumps([e.seq for e in bench.announced]) == json.dumps([e.seq for e in events + more])


PROMISES: tuple[Promise, ...] = (
    *EVENT_PROMISES,
    *ID_PROMISES,
    *SUBSCRIPTION_PROMISES,
    everything_survives_reopening,
)


async def hold(promise: Promise, kind: StoreKind, folder: Path) -> None:
    """Hold one store to one promise. Raises AssertionError when it does not keep it."""
    bench = Bench(kind, folder)
    await bench.open()
    try:
        await promise(bench)
    finally:
        await bench.store.close()
