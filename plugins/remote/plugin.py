"""What remote clients bring to the bench: `squall serve` as a target, used from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from squall.core.plugin import Plugin, hookimpl
from squall.core.target import Target
from squall.plugins.remote.target import ServedTarget


class RemotePlugin(Plugin):
    """Offers a router in a process of its own as a target."""

    summary: ClassVar[str] = "targets: squall (a squall serve of the run's own, with remote clients; squall[serve])"

    @hookimpl
    def squall_targets(self) -> Mapping[str, type[Target]]:
        return {"squall": ServedTarget}
