"""What shares a transaction does not share its mistakes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tests.plugins.sqlite.workload import Settling, make_store
from tests.plugins.store_bench import dead_letter, make_event

from squall.core.errors import StoreError
from squall.core.event import Event
from squall.core.store import DurableSpec, Query, Settlement
from squall.plugins.sqlite.store import SqliteStore

UNSTORABLE = "\ud800"


async def append(store: SqliteStore, *events: Event) -> None:
    done = store.append(events)
    assert done is not None
    await done


@pytest.mark.parametrize("large", [False, True], ids=["on-the-loop", "in-the-thread"])
async def test_an_event_that_cannot_be_stored_fails_alone(large: bool, tmp_path: Path) -> None:
    """With its batch, and surely; everything else in the group is stored in order."""
    store = make_store(tmp_path / "squall.db")
    announced: list[Event] = []
    await store.open(announced.extend)
    good = [make_event(index) for index in range(5)]
    if large:
        good[0].payload = bytes(1_100_000)
    batch = [make_event(10), make_event(11, type=f"order.{UNSTORABLE}"), make_event(12)]
    waits = [asyncio.ensure_future(append(store, event)) for event in good[:2]]
    refused = [
        asyncio.ensure_future(append(store, *bad))
        for bad in (batch, [make_event(13, source=UNSTORABLE)], [make_event(14, metadata={"a": object()})])
    ]
    waits += [asyncio.ensure_future(append(store, event)) for event in good[2:]]
    await asyncio.gather(*waits)
    for wait in refused:
        with pytest.raises(StoreError, match="this event cannot be") as error:
            await wait
        assert error.value.outcome == "fail"
    found = (await store.read(Query())).events
    assert [event.id for event in found] == [event.id for event in announced] == [event.id for event in good]
    await append(store, make_event(20, type="another.type"))
    await store.close()


@pytest.mark.parametrize("values", [{"name": UNSTORABLE}, {"start": 2**70}, {"subscriber_id": UNSTORABLE}])
async def test_a_subscription_that_cannot_be_stored_fails_alone(values: dict[str, object], tmp_path: Path) -> None:
    """The store goes on: events of the same group are stored, and the next subscription is made."""
    store = make_store(tmp_path / "squall.db")
    await store.open(lambda events: None)
    fields: dict[str, object] = {
        "id": "new",
        "name": "billing",
        "subscriber_id": "shop",
        "pattern": ">",
        "filters": "[]",
    }
    wait = asyncio.ensure_future(append(store, make_event(0)))
    await asyncio.sleep(0)
    with pytest.raises((ValueError, OverflowError)):
        await store.attach(DurableSpec(**(fields | values)))  # type: ignore[arg-type]
    await wait
    assert (await store.counts()).events == 1
    await store.attach(DurableSpec(**fields))  # type: ignore[arg-type]
    await store.close()


async def test_a_settlement_that_cannot_be_stored_fails_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path / "squall.db")
    announced: list[Event] = []
    await store.open(announced.extend)
    attached = await store.attach(DurableSpec("own", "billing", "shop", ">", "[]"))
    other = await store.attach(DurableSpec("other", "audit", "shop", ">", "[]"))
    await append(store, make_event(0))

    class Bad(Settling):
        __hash__ = object.__hash__

        def take(self) -> Settlement:
            letter = dead_letter(make_event(0, source=UNSTORABLE), attached)
            return Settlement(self.subscription_id, True, dead=[letter])

    bad, good = Bad(store, attached.id), Settling(store, other.id)
    bad.settle(1)
    good.settle(1)
    await append(store, make_event(1))
    assert (bad.refused, good.refused, good.told_high) == (True, False, 1)
    assert await store.dead_letters() == []
    await store.close()
