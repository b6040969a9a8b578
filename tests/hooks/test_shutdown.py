"""squall_shutdown: what plugins do beside the router ends after it, in the reverse order."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.core.world import Heard, KeptMemory, StoreWrapper, World

from squall import Context, Event, Observer, Plugin, hookimpl


class Told(Observer, Plugin):
    """Says at its end what it was told until then."""

    def __init__(self, name: str, diary: list[str]) -> None:
        super().__init__()
        self.name, self.diary = name, diary
        self.count = 0

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self

    def published(self, events: Sequence[Event]) -> None:
        self.count += len(events)

    @hookimpl
    async def squall_shutdown(self, ctx: Context) -> None:
        await asyncio.sleep(0)
        self.diary.append(f"{self.name} was told of {self.count}")


class DoesNotClose(StoreWrapper):
    """Raises when it is closed."""

    async def close(self) -> None:
        await self.inner.close()
        raise OSError("the disk is gone")


async def test_plugins_end_in_the_reverse_order_when_all_is_told() -> None:
    """So that the last observations can be brought where they belong; again after each start."""
    diary: list[str] = []
    world = World(Told("one", diary), Told("two", diary))
    for _ in range(2):
        async with world:
            await world.subscriber.subscribe(">", Heard())
            await world.publish("a", "b")
    assert diary == ["two was told of 2", "one was told of 2", "two was told of 4", "one was told of 4"]
    await world.router.stop()
    assert len(diary) == 4


async def test_plugins_end_when_the_store_cannot_be_closed_too() -> None:
    """One error is no reason for another."""
    diary: list[str] = []
    world = World(Told("one", diary), store=KeptMemory(DoesNotClose))
    await world.router.start()
    with pytest.raises(OSError, match="the disk is gone"):
        await world.router.stop()
    assert diary == ["one was told of 0"]
