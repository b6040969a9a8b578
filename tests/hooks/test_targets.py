"""squall_targets: kinds of systems under test, by name, from every installed plugin."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from squall import Plugin, WiringError, hookimpl
from squall.chaos.catalogue import load_catalogue
from squall.chaos.targets.in_process import InProcessTarget
from squall.core import wiring
from squall.core.target import Target
from squall.core.wiring import Registry


class MyTarget(InProcessTarget):
    """A system under test of one's own."""


class Mine(Plugin):
    """Brings a target along."""

    @hookimpl
    def squall_targets(self) -> Mapping[str, type[Target]]:
        return {"mine": MyTarget}


class Clashes(Plugin):
    """Takes a name that is taken."""

    @hookimpl
    def squall_targets(self) -> Mapping[str, type[Target]]:
        return {"in-process": MyTarget}


def install(monkeypatch: pytest.MonkeyPatch, kind: type[Plugin]) -> None:
    """As if the plugin were installed besides the built-in ones."""
    points = wiring.installed()
    point = type(next(iter(points.values())))("own", f"{__name__}:{kind.__name__}", wiring.GROUP)
    load_class = wiring.load_class
    monkeypatch.setattr("squall.chaos.catalogue.installed", lambda: {**points, "own": point})
    monkeypatch.setattr("squall.chaos.catalogue.load_class", lambda one: kind if one is point else load_class(one))


def test_a_plugins_target_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the one that squall brings along."""
    install(monkeypatch, Mine)
    targets = load_catalogue().targets
    assert targets["mine"] is MyTarget
    assert targets["in-process"] is InProcessTarget


def test_a_name_given_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are shown."""
    install(monkeypatch, Clashes)
    with pytest.raises(WiringError, match=r"two targets are called 'in-process': .*(InProcess|My)Target.* and "):
        load_catalogue()


def test_a_plugin_without_targets_is_not_asked() -> None:
    """Nothing is nothing."""
    assert Registry([Mine(), Plugin()]).ask("squall_targets") == [{"mine": MyTarget}]
