"""What the bench itself contributes, by the hooks that everybody's plugins use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from squall.chaos.check.expectations import EXPECTATIONS
from squall.chaos.targets.in_process import InProcessTarget
from squall.core.invariant import Expectation
from squall.core.plugin import Plugin, hookimpl
from squall.core.target import Target


class BenchPlugin(Plugin):
    """The targets and invariants that squall brings along."""

    summary: ClassVar[str] = "targets: in-process"

    @hookimpl
    def squall_targets(self) -> Mapping[str, type[Target]]:
        return {"in-process": InProcessTarget}

    @hookimpl
    def squall_invariants(self) -> Sequence[type[Expectation]]:
        return tuple(EXPECTATIONS.values())
