"""The two ways to a router, plugins=[…] and squall.yaml, and what plugins are given."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import FrozenInstanceError
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
from tests.core.world import Heard, KeptMemory, World, until

from squall import ConfigError, Context, EventRouter, Plugin, VirtualClock, WiringError, guard, hookimpl
from squall.core import wiring
from squall.core.config import Backlog
from squall.core.errors import Overflow
from squall.core.middleware import Middleware
from squall.plugins.breaker import BreakerPlugin
from squall.plugins.memory import MemoryPlugin
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin


def written(folder: Path, text: str) -> Path:
    path = folder / "squall.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def enabled(router: EventRouter, kind: type[Plugin]) -> bool:
    try:
        router.plugin(kind)
    except KeyError:
        return False
    return True


async def test_without_configuration_the_default_plugins_are_on() -> None:
    """Retry, breaker and metrics, over the memory store."""
    heard = Heard()
    async with EventRouter() as router:
        assert all(enabled(router, kind) for kind in (RetryPlugin, BreakerPlugin, MetricsPlugin))
        assert not enabled(router, SqlitePlugin)
        await router.subscriber("billing").subscribe(">", heard)
        await router.publisher("shop").publish("a", b"")
        await until(lambda: heard.events)
        assert router.durability == "memory"


async def test_given_plugins_are_all_there_are() -> None:
    """None at all, where the list is empty: a failed delivery is dead-lettered at once."""
    assert not enabled(EventRouter([]), RetryPlugin)
    with pytest.raises(KeyError, match="no RetryPlugin is enabled"):
        EventRouter([]).plugin(RetryPlugin)
    plugin = RetryPlugin(attempts=3)
    assert EventRouter([plugin]).plugin(RetryPlugin) is plugin


async def test_a_router_is_made_from_a_file(tmp_path: Path) -> None:
    """Its plugins with their options, and its backlog; the same as by hand."""
    path = written(
        tmp_path,
        "version: 1\n"
        "plugins:\n"
        "  - retry: {attempts: 2, base: 10ms}\n"
        "  - memory: {max_events: 50}\n"
        "backlog: {max_events: 3, overflow: reject}\n",
    )
    router = EventRouter.from_config(path, clock=VirtualClock(), seed=7)
    assert router.plugin(RetryPlugin).options == RetryPlugin(attempts=2, base=0.01).options
    assert router.plugin(MemoryPlugin).options.max_events == 50
    assert not enabled(router, BreakerPlugin)
    await router.start()
    own = await router.subscriber("billing").subscribe(">", Heard())
    await router.subscriber("billing").pause_subscription(own)
    for _ in range(3):
        await router.publisher("shop").publish("a", b"")
    with pytest.raises(Overflow):
        await router.publisher("shop").publish("a", b"")
    await router.stop(timeout_s=0)


def test_a_file_that_names_no_plugins_has_the_default_ones(tmp_path: Path) -> None:
    """One that names an empty list has none."""
    assert enabled(EventRouter.from_config(written(tmp_path, "version: 1\n")), RetryPlugin)
    assert not enabled(EventRouter.from_config(written(tmp_path, "version: 1\nplugins: []\n")), RetryPlugin)


@pytest.mark.parametrize(
    ("section", "complaint"),
    [
        ("retyr", r"squall\.yaml:3:5: .*no plugin 'retyr'.*did you mean 'retry'"),
        ("retry: {atempts: 3}", r"squall\.yaml:3:13: .*'atempts'.*did you mean 'attempts'"),
        ("retry: {attempts: none}", r"squall\.yaml:3:23: .*attempts: expected a whole number"),
        ("retry: {attempts: 0}", r"squall\.yaml:3:23: .*attempts: expected at least 1, got 0"),
    ],
)
def test_a_wrong_plugin_or_option_is_told_with_its_place(tmp_path: Path, section: str, complaint: str) -> None:
    """And with the nearest right name."""
    with pytest.raises(ConfigError, match=f"(?s){complaint}"):
        EventRouter.from_config(written(tmp_path, f"version: 1\nplugins:\n  - {section}\n"))


def test_all_mistakes_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """Of several plugins too."""
    with pytest.raises(ConfigError) as caught:
        EventRouter.from_config(written(tmp_path, "version: 1\nplugins:\n  - retyr\n  - retry: {attempts: 0}\n"))
    assert len(caught.value.problems) == 2


async def test_two_stores_in_a_file_are_refused(tmp_path: Path) -> None:
    """A router has one."""
    path = written(tmp_path, f"version: 1\nplugins:\n  - memory\n  - sqlite: {{path: {tmp_path}/squall.db}}\n")
    with pytest.raises(WiringError, match="two stores are configured"):
        await EventRouter.from_config(path).start()


def test_a_plugin_whose_extra_is_missing_says_which_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the place where it is enabled."""
    point = EntryPoint("fancy", "squall_fancy.plugin:Fancy [fancy]", wiring.GROUP)
    monkeypatch.setattr(wiring, "installed", lambda group=wiring.GROUP: {"fancy": point})
    with pytest.raises(
        ConfigError, match=r"(?s)squall\.yaml:3:5: .*fancy: cannot be imported.*install squall\[fancy\]"
    ):
        EventRouter.from_config(written(tmp_path, "version: 1\nplugins:\n  - fancy\n"))


def test_an_entry_point_that_is_no_plugin_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With what was found there."""
    point = EntryPoint("fancy", "squall.core.event:Event", wiring.GROUP)
    monkeypatch.setattr(wiring, "installed", lambda group=wiring.GROUP: {"fancy": point})
    with pytest.raises(ConfigError, match=r"(?s)expected a subclass of squall\.Plugin at squall\.core\.event:Event"):
        EventRouter.from_config(written(tmp_path, "version: 1\nplugins:\n  - fancy\n"))


@pytest.mark.parametrize("wrong", [{"atempts": 3}, {"attempts": "3"}, {"attempts": 0}])
def test_a_plugins_options_are_checked_in_python_too(wrong: dict[str, Any]) -> None:
    """By the same model."""
    with pytest.raises(ConfigError, match=r"RetryPlugin: .*attempts"):
        RetryPlugin(**wrong)


class Notes(Plugin):
    """Keeps what it is given."""

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Sequence[Middleware]:
        self.ctx = ctx
        return [guard(lambda event: None)]


async def test_what_plugins_are_given_is_small_and_frozen() -> None:
    """The router's clock and logger, and randomness that repeats with seed and name."""
    drawn: list[list[float]] = []
    for seed in (1, 1, 2):
        notes, clock = Notes(), VirtualClock()
        router = EventRouter([notes], clock=clock, seed=seed)
        await router.start()
        assert notes.ctx.clock is clock
        drawn.append([notes.ctx.random(name).random() for name in ("a", "b", "a")])
        with pytest.raises(FrozenInstanceError):
            notes.ctx.clock = clock  # type: ignore[misc]
        await router.stop(timeout_s=0)
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0][0] == drawn[0][2] != drawn[0][1]


async def test_identifiers_repeat_with_the_seed_in_virtual_time_only() -> None:
    """Two processes that share a seed must not make the same ones."""
    repeated = []
    for _ in range(2):
        async with World() as world:
            repeated.append(await world.publish("a", "b"))
    assert repeated[0] == repeated[1]
    assert len(set(repeated[0])) == 2
    real = []
    for _ in range(2):
        async with EventRouter([KeptMemory()], seed=7) as router:
            real.append(await router.publisher("shop").publish("a", b""))
    assert real[0] != real[1]


async def test_a_routers_plugins_may_serve_a_second_router() -> None:
    """Wiring keeps nothing in the class: two routers side by side do not share events."""
    heard = [Heard(), Heard()]
    routers = [EventRouter([RetryPlugin()], clock=VirtualClock(), backlog=Backlog(max_events=5)) for _ in heard]
    for router, own in zip(routers, heard, strict=True):
        await router.start()
        await router.subscriber("billing").subscribe(">", own)
    await routers[0].publisher("shop").publish("a", b"")
    for _ in range(20):
        await asyncio.sleep(0)
    for router in routers:
        await router.stop(timeout_s=0)
    assert [own.types for own in heard] == [["a"], []]
