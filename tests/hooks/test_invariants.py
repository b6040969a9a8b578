"""squall_invariants: kinds of expectations, by name, from every installed plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
from tests.hooks.test_targets import install

from squall import Plugin, WiringError, hookimpl
from squall.chaos.catalogue import load_catalogue
from squall.chaos.check.expectations import EXPECTATIONS
from squall.chaos.scenario_schema import json_schema
from squall.core.config import Config
from squall.core.invariant import Expectation, Invariant


class Odd(Invariant):
    """No event has an odd number."""

    name: ClassVar[str] = "odd"
    sql: ClassVar[str] = "SELECT event FROM publish WHERE event % $by = 1"
    by: int = 2


class OtherLoss(Odd):
    """A built-in invariant's name."""

    name: ClassVar[str] = "no_loss"


class Unspeakable(Odd):
    """A name that could stand in no file."""

    name: ClassVar[str] = "no loss; DROP"


class Silent(Invariant):
    """It cannot be judged."""

    name: ClassVar[str] = "silent"


class Unjudged(Expectation):
    """Nobody knows how to judge it."""

    name: ClassVar[str] = "unjudged"


class Mine(Plugin):
    """Brings one along."""

    kinds: ClassVar[Sequence[type[Expectation]]] = (Odd,)

    @hookimpl
    def squall_invariants(self) -> Sequence[type[Expectation]]:
        return self.kinds


def test_a_plugins_invariants_are_found_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the built-in ones; a scenario may name them, and an editor knows them."""
    install(monkeypatch, Mine)
    known = load_catalogue().known(Config())
    assert known.expectations == {**EXPECTATIONS, "odd": Odd}
    assert "odd" in json_schema(known)["$defs"]["Expectation"]["anyOf"][0]["enum"]


def test_a_name_given_twice_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are shown."""
    monkeypatch.setattr(Mine, "kinds", [OtherLoss])
    install(monkeypatch, Mine)
    with pytest.raises(WiringError, match=r"two invariants are called 'no_loss': .*NoLoss.* and .*OtherLoss"):
        load_catalogue()


@pytest.mark.parametrize("kind", [Unspeakable, Silent, Unjudged, Plugin, "odd"])
def test_what_could_not_be_judged_is_an_error(monkeypatch: pytest.MonkeyPatch, kind: object) -> None:
    """It would hold whatever happened. The plugin is named."""
    monkeypatch.setattr(Mine, "kinds", [kind])
    install(monkeypatch, Mine)
    with pytest.raises(WiringError, match="plugin Mine: squall_invariants returned"):
        load_catalogue()
