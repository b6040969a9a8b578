"""squall_load_drivers: who may publish a scenario's load, by name, from every installed plugin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
from tests.hooks.test_targets import install

from squall import Plugin, WiringError, hookimpl
from squall.chaos.catalogue import load_catalogue
from squall.core.load_driver import Generated, LoadContext, LoadDriver, LoadDriverKind, Publish
from squall.core.options import Options


class MyDriver:
    """Publishes nothing."""

    users, failure = 1, ""

    def __init__(self, options: Options) -> None:
        self.options = options

    async def start(self, ctx: LoadContext) -> None: ...

    def publish(self, due: Sequence[Publish]) -> None: ...

    def withdraw(self) -> None: ...

    async def describe(self) -> str:
        return "mine"

    async def stop(self) -> Generated | None:
        return None


def make(options: Options) -> LoadDriver:
    return MyDriver(options)


KIND = LoadDriverKind(Options, make)


class Mine(Plugin):
    """Brings a driver along."""

    @hookimpl
    def squall_load_drivers(self) -> Mapping[str, LoadDriverKind]:
        return {"mine": KIND}


class Clashes(Plugin):
    """Takes a name that is taken."""

    @hookimpl
    def squall_load_drivers(self) -> Mapping[str, LoadDriverKind]:
        return {"locust": KIND}


class Wrong(Plugin):
    """Gives a class where a kind is expected."""

    @hookimpl
    def squall_load_drivers(self) -> object:
        return {"mine": MyDriver}


def test_a_plugins_driver_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the one that squall brings along."""
    install(monkeypatch, Mine)
    drivers = load_catalogue().drivers
    assert drivers["mine"] is KIND
    assert "locust" in drivers


def test_a_name_given_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Clashes)
    with pytest.raises(WiringError, match="two load drivers are called 'locust'"):
        load_catalogue()


def test_what_is_no_kind_of_driver_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Wrong)
    with pytest.raises(WiringError, match=r"plugin Wrong: squall_load_drivers returned .* expected LoadDriverKinds"):
        load_catalogue()
