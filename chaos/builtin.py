"""What the bench itself contributes, by the hooks that everybody's plugins use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from squall.chaos.targets.in_process import InProcessTarget
from squall.core.plugin import Plugin, hookimpl
from squall.core.target import Target


class BenchPlugin(Plugin):
    """The targets that squall brings along."""

    summary: ClassVar[str] = "targets: in-process"

    @hookimpl
    def squall_targets(self) -> Mapping[str, type[Target]]:
        return {"in-process": InProcessTarget}
