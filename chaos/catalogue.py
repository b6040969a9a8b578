"""What is installed for runs: targets and faults, from every plugin there is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from squall.chaos.scenario import Known
from squall.chaos.scenario_faults import Kinds, by_seam
from squall.core.config import Config
from squall.core.errors import WiringError
from squall.core.fault import Fault
from squall.core.target import Target
from squall.core.wiring import Registry, installed, load_class

SEAMS = {"storage": ("events",)}


@dataclass(frozen=True)
class Catalogue:
    """Kinds of targets by name, kinds of faults by seam and name."""

    targets: Mapping[str, type[Target]]
    faults: Kinds

    def known(self, config: Config) -> Known:
        """What a scenario may name."""
        return Known(faults=self.faults, seams=SEAMS, plugins=tuple(installed()), targets=tuple(self.targets))


def load_catalogue() -> Catalogue:
    """Ask all installed plugins. Raises WiringError when two give one name."""
    kinds = [load_class(point) for point in installed().values()]
    wanted = [kind for kind in kinds if hasattr(kind, "squall_targets") or hasattr(kind, "squall_faults")]
    registry = Registry([kind() for kind in wanted])
    targets: dict[str, type[Target]] = {}
    for answer in registry.ask("squall_targets"):
        for name, kind in answer.items():
            if targets.setdefault(name, kind) is not kind:
                raise WiringError(f"two targets are called '{name}': {targets[name]!r} and {kind!r}")
    faults: list[type[Fault]] = [fault for answer in registry.ask("squall_faults") for fault in answer]
    return Catalogue(targets, by_seam(faults))
