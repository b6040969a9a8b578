"""squall_event_store: one store a router; without one, the installed fallback."""

from __future__ import annotations

import pytest
from tests.core.world import Heard, KeptMemory, OnStored, StoreWrapper, World, until

from squall import Context, EventRouter, EventStore, Plugin, StoreFileError, VirtualClock, WiringError, hookimpl
from squall.plugins.memory import MemoryPlugin


class NoStore(Plugin):
    """Has none to give."""

    @hookimpl
    def squall_event_store(self, ctx: Context) -> EventStore | None:
        return None


class Locked(StoreWrapper):
    """Cannot be opened."""

    async def open(self, on_stored: OnStored) -> int:
        raise StoreFileError("data/squall.db is locked by process 7")


async def test_the_plugins_store_is_the_routers() -> None:
    """What is published is in it, and it is opened and closed with the router."""
    kept = KeptMemory()
    async with World(store=kept) as world:
        await world.publish("a")
        assert world.router.store is kept.store
        assert kept.memory is not None
        assert (await kept.memory.counts()).events == 1


async def test_without_a_store_events_are_kept_in_memory() -> None:
    """The fallback is found by entry point; a plugin that answers None has not given one."""
    for plugins in ([], [NoStore()]):
        heard = Heard()
        router = EventRouter(plugins, clock=VirtualClock())
        await router.start()
        await router.subscriber("billing").subscribe(">", heard)
        await router.publisher("shop").publish("a", b"")
        await until(lambda heard=heard: heard.types == ["a"])  # type: ignore[misc]
        assert router.durability == "memory"
        await router.stop(timeout_s=0)


async def test_two_stores_are_refused() -> None:
    """Both are named, and what to do; nothing runs."""
    router = EventRouter([MemoryPlugin(), KeptMemory()])
    with pytest.raises(WiringError, match=r"two stores .*MemoryStore and MemoryStore.* remove"):
        await router.start()
    await router.stop()


async def test_a_store_that_cannot_be_opened_stops_the_start() -> None:
    """With the store's own error; the router can be started once it can."""
    kept = KeptMemory(Locked)
    world = World(store=kept)
    with pytest.raises(StoreFileError, match="locked by process 7"):
        await world.router.start()
    kept.store = kept.memory
    async with world:
        await world.publish("a")
