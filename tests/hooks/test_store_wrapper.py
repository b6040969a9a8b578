"""squall_store_wrapper: stores that stand before the store, for faults and audits."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

from tests.core.world import Heard, KeptMemory, StoreWrapper, World

from squall import Context, Event, EventStore, Plugin, hookimpl


class Noting(StoreWrapper):
    """Writes down who sees an append."""

    def __init__(self, store: EventStore, name: str, notes: list[str]) -> None:
        super().__init__(store)
        self.name, self.notes = name, notes

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        self.notes.append(self.name)
        return self.inner.append(events)


class Wraps(Plugin):
    """Puts a Noting before the store, or nothing."""

    def __init__(self, name: str, notes: list[str]) -> None:
        super().__init__()
        self.name, self.notes = name, notes

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> EventStore | None:
        return Noting(store, self.name, self.notes) if self.name else None


async def test_each_wrapper_is_given_the_store_so_far() -> None:
    """In the configuration's order: the last one stands outermost. None leaves it as it is."""
    notes: list[str] = []
    heard, kept = Heard(), KeptMemory()
    async with World(Wraps("inner", notes), Wraps("", notes), Wraps("outer", notes), store=kept) as world:
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        await world.clock.settle()
        assert notes == ["outer", "inner"]
        assert heard.types == ["a"]
        outer = world.router.store
        assert isinstance(outer, Noting)
        assert isinstance(outer.inner, Noting)
        assert outer.inner.inner is kept.store
