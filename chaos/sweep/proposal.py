"""What to raise, and how far, where a sweep is not asked for in full: a command that works as it is printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress

from squall.chaos.scenario import Scenario
from squall.chaos.scenario_vars import found_at
from squall.chaos.sweep.values import NUMBER, Range
from squall.core.errors import ConfigError

Given = Mapping[str, str | None]
"""The values of `--over`, `--from` and `--to`; None: it was not given."""

LOWEST = 0.4
HIGHEST = (16, 8, 4, 2, 1.5, 1.1, 1)
"""Parts of the scenario's own value: from where to begin, and up to where, the first that the scenario takes."""


def propose(scenario: Scenario, given: Given, read: Callable[[str, str], object]) -> Given:
    """What was not given, filled in. `read` reads the scenario with a value at a name, and raises ConfigError where it
    does not take that. None stays where nothing is known to work. Raises ConfigError where `--over` names nothing, or
    the scenario does not take what was given."""
    _, rate = scenario.greatest_rate
    over = given["--over"] or rate or "load.stages.0.rate"
    own = _own_value(scenario, over)
    found = NUMBER.fullmatch(own)
    if found is None:
        _check_name(over, read)
        return {**given, "--over": over}
    value, unit = float(found[1]), found[2]
    values = Range(value, value, unit, "." not in own)
    low = given["--from"] or values.text(max(value * LOWEST, 1.0 if values.whole else 0.0))
    for one in filter(None, (given["--from"], given["--to"])):
        read(over, one)
    for high in [given["--to"]] if given["--to"] else [values.text(value * times) for times in HIGHEST]:
        with suppress(ConfigError):
            read(over, low)
            read(over, high)
            return {"--over": over, "--from": low, "--to": high}
    return {**given, "--over": over}


def _check_name(over: str, read: Callable[[str, str], object]) -> None:
    """Whatever the value is: raises ConfigError where there is nothing of that name."""
    try:
        read(over, "1")
    except ConfigError as error:
        if any(problem.where == f"--set {over}" for problem in error.problems):
            raise


def _own_value(scenario: Scenario, name: str) -> str:
    """What the scenario says there, as it is written."""
    return str(scenario.vars[name] if name in scenario.vars else found_at(scenario.document.data, name))
