"""A scenario file, read and validated whole before anything starts."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from squall.chaos.check.expectations import EXPECTATIONS, Duplicates, Expectation, Growth
from squall.chaos.scenario_checks import (
    Names,
    check_expectations,
    check_load,
    check_plugins,
    check_proxies_are_the_operators,
    check_something_matches,
    check_subscribers,
)
from squall.chaos.scenario_driver import read_driver
from squall.chaos.scenario_expect import Entry, Expectations, read_expectations
from squall.chaos.scenario_faults import Kinds, Place, PlannedFault, read_faults
from squall.chaos.scenario_models import Abort, DrainSection, Load, ScenarioFile, ServersSection, Subscriber
from squall.chaos.scenario_room import room_for_faults
from squall.chaos.scenario_soak import soaked
from squall.chaos.scenario_vars import fill, set_keys, variable
from squall.core.config import Config, PluginSection, plugin_sections
from squall.core.errors import ConfigError, Problem
from squall.core.options import Options
from squall.core.plugin import Plugin
from squall.core.units import format_seconds
from squall.core.yaml_source import Document, Json, limited, load_document

DEFAULT_STALL_S = 10.0
DEFAULT_LIMIT_S = 60.0
T = TypeVar("T")


@dataclass(frozen=True)
class Known:
    """What is installed, and so what a scenario may name.

    faults: classes by kind of seam and name (`scenario_faults.by_seam`). seams: names by kind, `events` in `storage`;
    handlers need not be given, they are the scenario's subscribers; a kind that is missing is not checked.
    expectations: options models by name. plugins: classes by name, or why one cannot be imported; None: not checked.
    targets: kinds that need no section. drivers: of load, each with the model of its options.
    """

    faults: Kinds = field(default_factory=dict)
    seams: Mapping[str, Collection[str]] = field(default_factory=dict)
    expectations: Expectations = field(default_factory=lambda: EXPECTATIONS)
    plugins: Mapping[str, type[Plugin] | str] | None = None
    targets: Collection[str] = ("in-process",)
    drivers: Mapping[str, type[Options]] = field(default_factory=dict)


@dataclass(frozen=True)
class Steady:
    """The phase before any fault: how long, in seconds, and what must hold in it."""

    seconds: float
    expect: tuple[Expectation, ...]


@dataclass(frozen=True)
class Drain:
    """How long to wait after the heal, seconds: in all, and without progress."""

    limit_s: float
    stall_s: float


@dataclass(frozen=True)
class Scenario:
    """A valid scenario. Variables are filled in, random faults are drawn; `expect` None: what the target claims;
    `driver` None: the bench itself publishes. `source` is the document as it was read, `keys` what --set put in place
    of its keys, by dotted name. `soak_s`: for how long its load is repeated, where it is soaked."""

    document: Document
    source: Document
    name: str
    about: str
    seed: int
    vars: Mapping[str, bool | int | float | str]
    target: str
    plugins: tuple[PluginSection, ...]
    servers: ServersSection
    subscribers: Mapping[str, Subscriber]
    steady: Steady | None
    load: Load
    driver: PluginSection | None
    faults: tuple[PlannedFault, ...]
    abort: Abort | None
    drain: DrainSection
    expect: tuple[Expectation, ...] | None
    keys: Mapping[str, bool | int | float | str] = field(default_factory=dict)
    soak_s: float | None = None

    @property
    def watches_growth(self) -> bool:
        """Whether what the target holds is sampled, and judged."""
        return any(isinstance(one, Growth) for one in self.expectations)

    @property
    def expectations(self) -> Sequence[Expectation]:
        """What it expects; without `expect`, the safety of what the target claims. No loss is judged always, and
        condemned at subscribers that take events at most once only where a scenario says so. A soak expects that
        nothing grows, too."""
        expected = [Duplicates()] if self.expect is None else [*self.expect]
        soaks = self.soak_s is not None and not any(isinstance(one, Growth) for one in expected)
        return [*expected, Growth()] if soaks else expected

    @property
    def overridden(self) -> Mapping[str, bool | int | float | str]:
        """The variables and keys that do not have the file's value: by --set."""
        return {name: value for name, value in self.vars.items() if value != self.source.at(("vars", name))} | dict(
            self.keys
        )

    @property
    def greatest_rate(self) -> tuple[float, str]:
        """Of the load, events per second, and the variable that says it; empty where it is written out."""
        rates: list[tuple[float, str]] = [(0.0, "")]
        for index, stage in enumerate(self.load.stages):
            for key in ("rate", "to"):
                rates.append((getattr(stage, key) or 0.0, variable(self.source.at(("load", "stages", index, key)))))
        return max(rates)

    @property
    def steady_rate(self) -> float:
        """Events per second in the steady phase: the first stage's."""
        return self.load.stages[0].rate or 0.0


def load_scenario(
    path: str | Path,
    *,
    sets: Sequence[str] = (),
    seed: int | None = None,
    config: Config | None = None,
    known: Known | None = None,
    soak_s: float | None = None,
) -> Scenario:
    """Read a scenario file. Raises ConfigError with every problem in it.

    sets: `name=value`, overriding the file's vars, or keys by dotted names. seed: instead of the file's. config: the
    operator's. soak_s: for how long the load is repeated, and growth judged.
    """
    return make_scenario(load_document(path), sets=sets, seed=seed, config=config, known=known, soak_s=soak_s)


def make_scenario(
    document: Document,
    *,
    sets: Sequence[str] = (),
    seed: int | None = None,
    config: Config | None = None,
    known: Known | None = None,
    soak_s: float | None = None,
) -> Scenario:
    """The scenario that a document holds; as load_scenario."""
    config, known, source = config or Config(), known or Known(), document
    document, misnamed = fill(document, sets)
    problems: list[Problem] = []
    reading = _Reading(document, problems)
    file = reading.attempt(lambda: document.validate(ScenarioFile))
    load = file.load if file else reading.quietly(lambda: document.validate(Load, ("load",)))
    names = _names(document, config, known)

    plugins = reading.keep(plugin_sections(document, ("plugins",)))
    driver = reading.keep(read_driver(document, known.drivers, known.plugins))
    load_s, too_short = (load.seconds, room_for_faults(document, source, load)) if load else (None, "")
    place = Place(known.faults, names.seams, config.bench.allow_faults, load_s, too_short)
    faults = reading.keep(read_faults(document, place, _seed(document, seed)))
    expect = reading.keep(read_expectations(document, ("expect",), known.expectations))
    steady = reading.keep(read_expectations(document, ("steady", "expect"), known.expectations))
    problems += check_plugins(plugins, known.plugins)
    problems += check_proxies_are_the_operators(plugins, known.plugins)
    steady_s = file.steady.duration if file and file.steady else None
    problems += check_expectations(expect, steady, steady_s, _fault_ids(document, faults), names.subscribers)
    problems += check_subscribers(document, names, place.load_s)
    if load and soak_s is not None:
        load = reading.attempt(partial(soaked, load, soak_s))
    if load:
        problems += check_load(document, load, config.bench.limits)
    if file:
        problems += check_something_matches(document, file.load, file.subscribers)
    problems = [*misnamed, *_elsewhere(problems, misnamed)]
    if problems or file is None or load is None:
        raise ConfigError(limited(problems))
    return Scenario(
        document=document,
        source=source,
        name=file.name,
        about=file.about,
        seed=_seed(document, seed),
        vars=file.vars,
        target=file.target,
        plugins=tuple(plugins),
        servers=file.servers,
        subscribers=file.subscribers,
        steady=Steady(file.steady.duration, _models(steady)) if file.steady else None,
        load=load,
        driver=driver,
        faults=faults,
        abort=file.abort,
        drain=file.drain,
        expect=None if file.expect is None else _models(expect),
        keys=set_keys(sets),
        soak_s=soak_s,
    )


def drain_limits(
    scenario: Scenario, longest_s: float, why: str = "the longest legal wait (backoff, gate and timeout together)"
) -> Drain:
    """How long to drain, given the longest time that may legally pass without progress, seconds.

    What the scenario leaves out is long enough. Raises ConfigError where it says a time that does not exceed longest_s,
    since the drain would then end while the target does what it may; `why` names where longest_s comes from.
    """
    wait = format_seconds(round(longest_s, 3))
    problems = [
        scenario.document.problem(
            ("drain", key), f"{format_seconds(given)} does not exceed {why}, {wait}", f"expected more than {wait}"
        )
        for key, given in (("limit", scenario.drain.limit), ("stall", scenario.drain.stall))
        if given is not None and given <= longest_s
    ]
    stall_s = scenario.drain.stall or max(DEFAULT_STALL_S, 1.5 * longest_s)
    limit_s = scenario.drain.limit or max(DEFAULT_LIMIT_S, 2 * stall_s)
    if not problems and limit_s < stall_s:
        key = "limit" if scenario.drain.limit is not None else "stall"
        message = (
            f"the limit ({format_seconds(limit_s)}) ends the drain before a stall ({format_seconds(stall_s)}) shows"
        )
        problems.append(scenario.document.problem(("drain", key), message))
    if problems:
        raise ConfigError(problems)
    return Drain(limit_s, stall_s)


class _Reading:
    """Collects the problems of sections that are validated one by one."""

    def __init__(self, document: Document, problems: list[Problem]) -> None:
        self.document = document
        self.problems = problems

    def attempt(self, validate: Callable[[], T]) -> T | None:
        try:
            return validate()
        except ConfigError as error:
            self.problems.extend(error.problems)
            return None

    def quietly(self, validate: Callable[[], T]) -> T | None:
        """For a section whose problems are told already."""
        try:
            return validate()
        except ConfigError:
            return None

    def keep(self, result: tuple[T, list[Problem]]) -> T:
        self.problems.extend(result[1])
        return result[0]


def _names(document: Document, config: Config, known: Known) -> Names:
    subscribers = _keys(document.at(("subscribers",)))
    targets = [*known.targets, *config.targets]
    return Names(subscribers, targets, list(config.handlers), {"handler": subscribers, **known.seams})


def _models(entries: Sequence[Entry]) -> tuple[Expectation, ...]:
    return tuple(entry.expectation for entry in entries)


def _keys(data: Json) -> list[str]:
    return list(data) if isinstance(data, dict) else []


def _seed(document: Document, given: int | None) -> int:
    written = document.at(("seed",))
    default: int = ScenarioFile.model_fields["seed"].default
    return given if given is not None else written if isinstance(written, int) else default


def _fault_ids(document: Document, faults: Sequence[PlannedFault]) -> list[str]:
    """Ids of the faults as written, the wrong ones too, and of those that were drawn."""
    entries = document.at(("faults",))
    written = [entry.get("id") for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    return [*(fault_id for fault_id in written if isinstance(fault_id, str)), *(fault.id for fault in faults)]


def _elsewhere(problems: Sequence[Problem], misnamed: Sequence[Problem]) -> list[Problem]:
    """Each problem once, and none where a misspelt variable stands: what it would be is judged when it has a value."""
    taken = {(problem.line, problem.column) for problem in misnamed}
    return [problem for problem in dict.fromkeys(problems) if (problem.line, problem.column) not in taken]
