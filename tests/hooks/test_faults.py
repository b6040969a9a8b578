"""squall_faults: kinds of faults, by the seam they act in and by name, from every installed plugin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import pytest
from tests.hooks.test_targets import install

from squall import Plugin, WiringError, hookimpl
from squall.chaos.catalogue import load_catalogue
from squall.core.fault import Fault, Handler, Seam, Storage


class Hiccup(Fault):
    """Does nothing, now and then."""

    kind: ClassVar[type[Seam]] = Handler
    name: ClassVar[str] = "hiccup"


class StoredHiccup(Hiccup):
    """The same name in another seam."""

    kind: ClassVar[type[Seam]] = Storage


class OtherHang(Hiccup):
    """A built-in fault's name."""

    name: ClassVar[str] = "hang"


class Mine(Plugin):
    """Brings two faults of one name, for two kinds of seams."""

    @hookimpl
    def squall_faults(self) -> Sequence[type[Fault]]:
        return [Hiccup, StoredHiccup]


class Clashes(Plugin):
    """Takes a name that is taken."""

    @hookimpl
    def squall_faults(self) -> Sequence[type[Fault]]:
        return [OtherHang]


def test_a_plugins_faults_are_found_by_seam_and_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the built-in ones; one name may stand in several seams."""
    install(monkeypatch, Mine)
    faults = load_catalogue().faults
    assert (faults["handler"]["hiccup"], faults["storage"]["hiccup"]) == (Hiccup, StoredHiccup)
    assert {"exception", "hang", "slow", "crash"} <= set(faults["handler"])


def test_a_name_given_twice_for_one_seam_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are shown."""
    install(monkeypatch, Clashes)
    with pytest.raises(WiringError, match=r"two faults in handler are called 'hang': .* and .*"):
        load_catalogue()
