"""Faults that a load has no time for: what else to set, so that it lasts long enough, or they are over sooner."""

from __future__ import annotations

import math
from collections.abc import Iterator

from squall.chaos.scenario_checks import seconds_or_none
from squall.chaos.scenario_models import Load
from squall.chaos.scenario_vars import variable
from squall.core.units import format_seconds
from squall.core.yaml_source import Document, Json


def room_for_faults(document: Document, source: Document, load: Load) -> str:
    """What to set, in words of the command line. `document` has its variables filled in, `source` has their names.

    Sooner means that all faults keep their order: their times shrink alike.
    """
    entries = document.at(("faults",))
    faults = entries if isinstance(entries, list) else []
    ends = [end for one in faults if (end := _end_s(one)) is not None]
    last_s = max(ends, default=0.0)
    advice = _longer(source, load, last_s)
    if not any(isinstance(one, dict) and "random" in one for one in faults) and last_s and load.seconds:
        sooner = " ".join(f"--set {name}={value}" for name, value in _shrunk(faults, load.seconds / last_s))
        advice += f", or its faults be over sooner: {sooner}"
    return advice


def _longer(source: Document, load: Load, last_s: float) -> str:
    """The first stage whose time is a variable can be longer."""
    more_s = last_s - load.seconds
    for index, stage in enumerate(load.stages):
        if name := variable(source.at(("load", "stages", index, "for"))):
            needed = format_seconds(math.ceil((stage.seconds + more_s) * 1000) / 1000)
            return f"let the load last longer: --set {name}={needed}"
    return f"let the load last for {format_seconds(math.ceil(last_s * 1000) / 1000)}"


def _shrunk(faults: list[Json], share: float) -> Iterator[tuple[str, str]]:
    """The times of all faults, in milliseconds that are whole: rounded down, so that none ends too late."""
    for index, one in enumerate(faults):
        if isinstance(one, dict):
            for key in ("at", "for"):
                if seconds := seconds_or_none(one.get(key)):
                    yield f"faults.{one.get('id', index)}.{key}", format_seconds(int(seconds * share * 1000) / 1000)


def _end_s(fault: Json) -> float | None:
    """When it is over; one that stands to the end of the load takes some time too."""
    if not isinstance(fault, dict):
        return None
    if isinstance(random := fault.get("random"), dict):
        between = random.get("between")
        return seconds_or_none(between[-1]) if isinstance(between, list) and between else None
    begin_s, length_s = seconds_or_none(fault.get("at")), seconds_or_none(fault.get("for"))
    if begin_s is None:
        return None
    return begin_s + (begin_s / 4 if length_s is None else length_s)
