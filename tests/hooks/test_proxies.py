"""squall_proxies: who puts proxies before what a target connects to, where a scenario has faults in the network."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos.line_target import LineTarget
from tests.chaos.test_network_faults import LATENCY, scenario
from tests.hooks.test_targets import install

from squall import ConfigError, Plugin, hookimpl
from squall.chaos.catalogue import Catalogue, load_catalogue
from squall.chaos.networks import Networks
from squall.chaos.scenario import Scenario, load_scenario
from squall.chaos.undo import Plan, plans_in
from squall.core.clock import VirtualClock
from squall.core.config import Config
from squall.core.fault import Fault, Keep, Network, Proxies
from squall.core.plugin import Context
from squall.plugins.network import NetworkPlugin


class Cut(Fault):
    """Takes a proxy away."""

    kind = Network
    name = "cut"


class Recorded:
    """Puts no proxy anywhere, and keeps what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.closed = False

    async def between(self, name: str, host: str, port: int, keep: Keep) -> Network:
        keep(Cut, {"line": name})
        self.asked.append((name, host, port))
        return Network(name, "127.0.0.9", 9)

    async def close(self) -> None:
        self.closed = True


class Mine(Plugin):
    """Brings proxies of one's own."""

    made: list[Recorded]

    @hookimpl
    def squall_proxies(self, ctx: Context) -> Proxies:
        Mine.made.append(Recorded())
        return Mine.made[-1]


def read(folder: Path, catalogue: Catalogue) -> Scenario:
    path = folder / "line.yaml"
    path.write_text(json.dumps(scenario(LATENCY)), encoding="utf-8")
    return load_scenario(path, known=catalogue.known(Config()))


def catalogue_of(*kinds: type[Plugin]) -> Catalogue:
    """What is installed, with these alone to put proxies."""
    plugins = {kind.__name__: kind for kind in kinds}
    return replace(load_catalogue(), plugins=plugins, targets={"line": LineTarget})


async def test_a_plugin_of_ones_own_puts_the_proxies(tmp_path: Path) -> None:
    """It is asked once for each seam, when the target asks; the target connects to what it says. What takes it
    away lies in the run's folder until it is gone."""
    Mine.made = []
    catalogue = catalogue_of(Mine)
    found = replace(read(tmp_path, replace(load_catalogue(), targets={"line": LineTarget})))
    networks = Networks(found, Config(), catalogue, VirtualClock(), tmp_path)
    (mine,) = Mine.made
    assert await networks.detour("other", "h", 1) == ("h", 1)
    assert mine.asked == []
    for _ in range(2):
        assert await networks.detour("line", "h", 1) == ("127.0.0.9", 9)
    assert mine.asked == [("net:line", "h", 1)]
    assert set(networks.seams) == {"net:line"}
    (plan,) = plans_in(tmp_path)
    assert Plan.model_validate_json(plan.read_bytes()).undo == {"line": "net:line"}
    await networks.close()
    assert mine.closed
    assert plans_in(tmp_path) == []


async def test_without_such_a_plugin_a_network_has_no_faults(tmp_path: Path) -> None:
    """It is told before anything starts."""
    found = read(tmp_path, replace(load_catalogue(), targets={"line": LineTarget}))
    with pytest.raises(ConfigError, match="no plugin is installed that puts proxies there"):
        Networks(found, Config(), catalogue_of(), VirtualClock(), tmp_path)


def test_the_built_in_one_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its entry point, as a stranger's is."""
    install(monkeypatch, Mine)
    plugins = load_catalogue().plugins
    assert plugins["network"] is NetworkPlugin
    assert plugins["own"] is Mine
