"""What a plugin is: a class whose methods are hooks, and whose options model is its section in squall.yaml."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from logging import Logger
from pathlib import Path
from random import Random
from typing import ClassVar, Self

import pluggy

from squall.core.clock import Clock
from squall.core.options import Options as BaseOptions

hookspec = pluggy.HookspecMarker("squall")
hookimpl = pluggy.HookimplMarker("squall")


class NoOptions(BaseOptions):
    """For plugins without options."""


@dataclass(frozen=True)
class Context:
    """What every hook may use. `random(name)` is a generator of its own, seeded from the router's seed and the name;
    `changed(subscription_id, gate, state)` tells the kernel that a gate's answer may be another now."""

    clock: Clock
    random: Callable[[str], Random]
    logger: Logger
    changed: Callable[[str, str, str], None]


class Plugin:
    """Base of all plugins: `options` holds the section's values, checked by the class's own Options.

    Options may be given as an instance, or by keyword. Raises ConfigError when they don't fit.
    """

    Options: ClassVar[type[BaseOptions]] = NoOptions
    options: BaseOptions
    summary: ClassVar[str] = ""

    def __init__(self, options: BaseOptions | None = None, **values: object) -> None:
        self.options = options if options is not None else type(self).Options.of(type(self).__name__, values)

    def in_run(self, folder: Path) -> Self:
        """The plugin as it is in a run of the bench, whose folder this is: what it writes belongs there."""
        return self
