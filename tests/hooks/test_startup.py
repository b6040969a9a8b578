"""squall_startup: what plugins do beside the router begins with it, in the configuration's order."""

from __future__ import annotations

import asyncio

import pytest
from tests.core.world import KeptMemory, OpensThenFails, World

from squall import Context, Plugin, WiringError, hookimpl
from squall.core.errors import StoreFileError


class Beside(Plugin):
    """Writes down when it is started and shut down, and waits a turn of the loop in between."""

    def __init__(self, name: str, diary: list[str], wrong: str = "") -> None:
        super().__init__()
        self.name, self.diary, self.wrong = name, diary, wrong

    @hookimpl
    async def squall_startup(self, ctx: Context) -> None:
        self.diary.append(f"{self.name} starts")
        await asyncio.sleep(0)
        if self.wrong:
            raise ValueError(self.wrong)
        self.diary.append(f"{self.name} runs")

    @hookimpl
    async def squall_shutdown(self, ctx: Context) -> None:
        self.diary.append(f"{self.name} ends")


class Plain(Plugin):
    """Needs nothing to be awaited."""

    def __init__(self, diary: list[str]) -> None:
        super().__init__()
        self.diary = diary

    @hookimpl
    def squall_startup(self) -> None:
        self.diary.append("plain")


async def test_plugins_start_one_after_the_other() -> None:
    """Each has started before the next begins, and all before the router takes anything in."""
    diary: list[str] = []
    async with World(Beside("one", diary), Plain(diary), Beside("two", diary)):
        assert diary == ["one starts", "one runs", "plain", "two starts", "two runs"]


async def test_a_plugin_that_cannot_start_keeps_the_router_from_it() -> None:
    """What was started is shut down, the store closed, and a later start begins from the beginning."""
    diary: list[str] = []
    kept, broken = KeptMemory(), Beside("two", diary, wrong="no server")
    world = World(Beside("one", diary), broken, Beside("three", diary), store=kept)
    with pytest.raises(WiringError, match=r"plugin Beside#3 raised in squall_startup: ValueError: no server"):
        await world.router.start()
    assert diary == ["one starts", "one runs", "two starts", "one ends"]
    async with World(store=kept) as other:
        await other.publish("a")
    broken.wrong = ""
    async with world:
        await world.publish("a")


async def test_nothing_starts_beside_a_router_whose_store_cannot_be_opened() -> None:
    """There is nothing to be beside of."""
    diary: list[str] = []
    world = World(Beside("one", diary), store=KeptMemory(OpensThenFails))
    with pytest.raises(StoreFileError, match="audit file"):
        await world.router.start()
    assert diary == []
