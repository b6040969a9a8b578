"""History read by a caller: from the router, over either store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from squall import Event, EventRouter, NotRunning, Plugin, Query
from squall.plugins.memory import MemoryPlugin
from squall.plugins.sqlite import SqlitePlugin

STORES: list[Callable[[Path], Plugin]] = [
    lambda folder: MemoryPlugin(),
    lambda folder: SqlitePlugin(path=str(folder / "squall.db")),
]


async def types(router: EventRouter, query: Query | None = None) -> list[str]:
    return [event.type async for event in router.replay(query)]


@pytest.mark.parametrize("store", STORES)
async def test_all_of_it_in_order_page_by_page(tmp_path: Path, store: Callable[[Path], Plugin]) -> None:
    """More than a page, upward and downward, whole or a part; what is published meanwhile is not in it."""
    async with EventRouter([store(tmp_path)]) as router:
        publisher = router.publisher("shop")
        names = [f"order.n{number}" for number in range(25)]
        for name in names:
            await publisher.publish(name, b"")
        assert await types(router) == names
        assert await types(router, Query(limit=4)) == names
        assert await types(router, Query(limit=4, newest_first=True)) == names[::-1]
        assert await types(router, Query(limit=3, after_seq=5, before_seq=20)) == names[5:19]
        assert await types(router, Query(limit=3, after_seq=5, before_seq=20, newest_first=True)) == names[5:19][::-1]
        assert await types(router, Query(pattern="other.>", limit=2)) == []
        seen = []
        async for event in router.replay(Query(limit=10)):
            seen.append(event.type)
            await publisher.publish("late", b"")
        assert seen == names


@pytest.mark.parametrize("store", STORES)
async def test_nothing_is_stored_yet(tmp_path: Path, store: Callable[[Path], Plugin]) -> None:
    """An empty history is no error."""
    async with EventRouter([store(tmp_path)]) as router:
        assert await types(router) == []
        assert await types(router, Query(newest_first=True)) == []


async def test_history_calls_no_handler() -> None:
    """Reading settles nothing and delivers nothing again."""
    seen: list[Event] = []

    async def handle(event: Event) -> None:
        seen.append(event)

    async with EventRouter([MemoryPlugin()]) as router:
        await router.subscriber("billing").subscribe(">", handle)
        await router.publisher("shop").publish("order.paid", b"")
        assert await types(router) == ["order.paid"]
    assert len(seen) == 1


async def test_a_router_that_does_not_run_has_no_history() -> None:
    """The error says to start it."""
    with pytest.raises(NotRunning, match="start"):
        EventRouter([MemoryPlugin()]).replay()
