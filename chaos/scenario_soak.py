"""A load that is to last: the scenario's own, again and again."""

from __future__ import annotations

from itertools import cycle

from squall.chaos.scenario_models import Load, Stage
from squall.core.errors import ConfigError, Problem
from squall.core.units import format_count, format_seconds

MAX_STAGES = 100_000


def soaked(load: Load, seconds: float) -> Load:
    """The load's stages one after the other, over and over, until they have lasted so long: the last one may be cut
    short. A load of one even stage is that stage, for longer. Raises ConfigError where it cannot be repeated so."""
    asked = f"--soak {format_seconds(seconds)}"
    if not load.seconds:
        raise ConfigError([Problem(asked, "the load takes no time", hint="give it a stage with 'for' and 'rate'")])
    if seconds < load.seconds:
        takes = format_seconds(round(load.seconds, 3))
        raise ConfigError([Problem(asked, f"the load alone takes {takes}", hint="soak for at least that long")])
    if len(load.stages) == 1 and load.stages[0].to is None:
        return load.model_copy(update={"stages": (load.stages[0].model_copy(update={"duration": seconds}),)})
    if (times := seconds / load.seconds) * len(load.stages) > MAX_STAGES:
        message = f"the load would be repeated {format_count(round(times))} times"
        raise ConfigError([Problem(asked, message, hint="let its stages last longer")])
    stages: list[Stage] = []
    left_s = seconds
    for stage in cycle(load.stages):
        if left_s < 1e-6:  # what rounding leaves
            break
        stages.append(_cut(stage, left_s) if stage.seconds > left_s else stage)
        left_s -= stages[-1].seconds
    return load.model_copy(update={"stages": tuple(stages)})


def _cut(stage: Stage, seconds: float) -> Stage:
    """Its begin."""
    rate = stage.rate or 0.0
    to = None if stage.to is None else rate + (stage.to - rate) * seconds / stage.seconds
    return stage.model_copy(update={"duration": seconds, "to": to})
