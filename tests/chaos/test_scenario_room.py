"""A load that is too short for its faults is refused with what else to set, and that works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.chaos.scenario_texts import MINIMAL, complaints

from squall.chaos.catalogue import load_catalogue
from squall.chaos.scenario import Scenario, load_scenario
from squall.core.config import Config
from squall.core.errors import ConfigError
from squall.core.units import format_seconds, parse_seconds

SHIPPED = Path(__file__).resolve().parents[2] / "scenarios"
TIMED = sorted(path.stem for path in SHIPPED.glob("*.yaml") if re.search(r"^vars:.*\bseconds:", path.read_text(), re.M))
SET = re.compile(r"--set (\S+=[^\s,]+)")


def read(name: str, *sets: str) -> Scenario:
    """One that is shipped."""
    return load_scenario(SHIPPED / f"{name}.yaml", sets=sets, known=load_catalogue().known(Config()))


def test_scenarios_that_are_shipped_say_how_long_they_last() -> None:
    """Else nothing is tested below."""
    assert len(TIMED) > 10


@pytest.mark.parametrize("share", [0.9, 0.4, 0.1])
@pytest.mark.parametrize("name", TIMED)
def test_a_scenario_can_be_shortened_by_its_seconds(name: str, share: float) -> None:
    """At once, or with what its refusal says: either way it names suffices, and the faults keep their order."""
    whole = read(name)
    seconds = f"seconds={format_seconds(round(parse_seconds(whole.vars['seconds']) * share, 3))}"
    try:
        shortened = read(name, seconds)
    except ConfigError as error:
        hints = [problem.hint for problem in error.problems if problem.hint]
        assert len(hints) == 1, "it is told once"
        longer, sooner = hints[0].split(", or its faults be over sooner: ")
        (least,) = SET.findall(longer)
        assert least.startswith("seconds=")
        read(name, least)
        shortened = read(name, seconds, *SET.findall(sooner))
        assert shortened.faults[-1].end_s == pytest.approx(shortened.load.seconds, abs=0.01)
    assert [fault.id for fault in shortened.faults] == [fault.id for fault in whole.faults]


FAULTS = (
    "faults: [{id: one, at: 2s, for: 3s, do: slow, on: handler:all}, {at: 12s, id: two, do: slow, on: handler:all}]"
)
STORM = "faults: [{random: {count: 2, between: [1s, 11s], for: [1s, 2s], of: [{do: slow, on: handler:all}]}}]"


def test_a_load_without_a_variable_is_told_how_long_it_is_to_last() -> None:
    """A fault that stands to the end of the load needs some of it; random ones are not shrunk."""
    (told,) = complaints(f"{MINIMAL}{FAULTS}\n")
    assert "let the load last for 15s, or its faults be over sooner" in told
    assert SET.findall(told) == ["faults.one.at=1.333s", "faults.one.for=2s", "faults.two.at=8s"]
    (told,) = complaints(f"{MINIMAL}{STORM}\n")
    assert "let the load last for 11s" in told
    assert "sooner" not in told
