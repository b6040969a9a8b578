"""What is installed for runs: targets, load drivers, faults and invariants, from every plugin there is."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from squall.chaos.check.expectations import EXPECTATIONS
from squall.chaos.scenario import Known
from squall.chaos.scenario_checks import check_plugins
from squall.chaos.scenario_faults import Kinds, by_seam
from squall.core.config import Config, PluginSection
from squall.core.errors import ConfigError, Problem, WiringError
from squall.core.fault import Fault
from squall.core.invariant import Expectation, Invariant
from squall.core.load_driver import LoadDriverKind
from squall.core.plugin import Plugin
from squall.core.target import Target
from squall.core.wiring import Registry, installed, load_class

SEAMS = {"storage": ("events",)}
T = TypeVar("T")
OFFERS = ("squall_targets", "squall_load_drivers", "squall_faults", "squall_invariants")
"""By which hooks plugins bring something for runs."""


def load_classes() -> dict[str, type[Plugin] | str]:
    """Every installed plugin: its class, or why it cannot be imported. That is told to who enables it, nobody else."""
    found: dict[str, type[Plugin] | str] = {}
    for name, point in installed().items():
        try:
            found[name] = load_class(point)
        except ConfigError as error:
            found[name] = error.problems[0].message
        except (Exception, SystemExit) as error:  # noqa: BLE001  what a stranger's module raises is told where it is enabled
            found[name] = f"plugin {name}: its module raised {type(error).__name__}: {error}"
    return found


@dataclass(frozen=True)
class Catalogue:
    """Kinds of targets by name, kinds of faults by seam and name, plugins by name: the class, or why it cannot be
    imported; kinds of invariants and of load drivers by name."""

    targets: Mapping[str, type[Target]]
    faults: Kinds
    plugins: Mapping[str, type[Plugin] | str] = field(default_factory=load_classes)
    expectations: Mapping[str, type[Expectation]] = field(default_factory=lambda: EXPECTATIONS)
    drivers: Mapping[str, LoadDriverKind] = field(default_factory=dict)

    def known(self, config: Config) -> Known:
        """What a scenario may name."""
        return Known(
            faults=self.faults,
            seams=SEAMS,
            plugins=self.plugins,
            targets=tuple(self.targets),
            drivers={name: kind.options for name, kind in self.drivers.items()},
            expectations=self.expectations,
        )

    def problems(self, sections: Sequence[PluginSection]) -> list[Problem]:
        """What is wrong with a list of plugins: names, options, and plugins that cannot be made."""
        return check_plugins(sections, self.plugins)


def load_catalogue() -> Catalogue:
    """Ask all installed plugins. Raises WiringError when one raises, or two give one name."""
    plugins = load_classes()
    kinds = {name: kind for name, kind in plugins.items() if not isinstance(kind, str)}
    wanted = [kind for kind in kinds.values() if any(hasattr(kind, hook) for hook in OFFERS)]
    targets: dict[str, type[Target]] = {}
    drivers: dict[str, LoadDriverKind] = {}
    faults: list[type[Fault]] = []
    expectations: dict[str, type[Expectation]] = {}
    for offering in wanted:
        registry = Registry([_made(offering)])
        for answer in registry.ask("squall_targets"):
            _add(targets, _targets(answer, offering), "targets")
        for answer in registry.ask("squall_load_drivers"):
            _add(drivers, _drivers(answer, offering), "load drivers")
        for answer in registry.ask("squall_faults"):
            faults += _faults(answer, offering)
        for answer in registry.ask("squall_invariants"):
            for kind in _invariants(answer, offering):  # one by one: two of one plugin may clash
                _add(expectations, {kind.name: kind}, "invariants")
    return Catalogue(targets, by_seam(faults), plugins, expectations, drivers)


def _add(known: dict[str, T], offered: Mapping[str, T], what: str) -> None:
    """Raises WiringError where a name is taken."""
    for name, kind in offered.items():
        if known.setdefault(name, kind) is not kind:
            raise WiringError(f"two {what} are called '{name}': {known[name]!r} and {kind!r}")


def _targets(answer: object, offering: type[Plugin]) -> Mapping[str, type[Target]]:
    if isinstance(answer, Mapping) and all(isinstance(n, str) and isinstance(k, type) for n, k in answer.items()):
        return answer
    raise WiringError(
        f"plugin {offering.__name__}: squall_targets returned {answer!r:.80}, expected classes of targets by name"
    )


def _drivers(answer: object, offering: type[Plugin]) -> Mapping[str, LoadDriverKind]:
    if isinstance(answer, Mapping) and all(
        isinstance(n, str) and isinstance(k, LoadDriverKind) for n, k in answer.items()
    ):
        return answer
    raise WiringError(
        f"plugin {offering.__name__}: squall_load_drivers returned {answer!r:.80}, expected LoadDriverKinds by name"
    )


def _faults(answer: object, offering: type[Plugin]) -> Sequence[type[Fault]]:
    if isinstance(answer, list | tuple) and all(isinstance(one, type) and issubclass(one, Fault) for one in answer):
        return answer
    raise WiringError(
        f"plugin {offering.__name__}: squall_faults returned {answer!r:.80}, expected a list of subclasses of Fault"
    )


def _invariants(answer: object, offering: type[Plugin]) -> Sequence[type[Expectation]]:
    if isinstance(answer, list | tuple) and all(map(_can_be_judged, answer)):
        return answer
    raise WiringError(
        f"plugin {offering.__name__}: squall_invariants returned {answer!r:.80}, expected a list of subclasses of "
        "Invariant, each with a `name` of lower-case letters, digits and _, and with its `sql`"
    )


def _can_be_judged(kind: object) -> bool:
    if kind in EXPECTATIONS.values():
        return True
    own = isinstance(kind, type) and issubclass(kind, Invariant) and isinstance(getattr(kind, "sql", None), str)
    return own and re.fullmatch("[a-z][a-z0-9_]*", getattr(kind, "name", "")) is not None


def _made(kind: type[Plugin]) -> Plugin:
    try:
        return kind()
    except Exception as error:
        raise WiringError(
            f"plugin {kind.__name__} offers what runs are made of, so it must be made without options; "
            f"that raised {type(error).__name__}: {error}"
        ) from error
