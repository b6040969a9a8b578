"""What the operator has set up: squall.yaml, what is installed, where runs are, and their code within reach."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

if TYPE_CHECKING:
    from squall.chaos.catalogue import Catalogue
    from squall.chaos.composition import Composed
    from squall.chaos.scenario import Drain, Scenario
    from squall.core.config import Config
    from squall.core.errors import Problem

CONFIG = Path("squall.yaml")

FilesArgument = Annotated[list[str], typer.Argument(metavar="FILE", help="scenario files, or names of squall's own")]
RunArgument = Annotated[
    str, typer.Argument(metavar="RUN", help="a folder, SCENARIO/ID, SCENARIO (its newest), ID, or latest")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="the operator's file, instead of ./squall.yaml")
]
RunsOption = Annotated[
    Path | None, typer.Option("--runs", metavar="DIR", help="where run folders are, instead of bench.runs")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="over the scenario's vars, or its keys by dotted names"),
]
SeedOption = Annotated[
    int | None, typer.Option("--seed", metavar="N", min=0, max=2**63 - 1, help="instead of the scenario's seed")
]


class Plan(NamedTuple):
    """A scenario that may be run: how long it drains at most, and what it runs against, where the bench composes it."""

    scenario: Scenario
    drain: Drain
    composed: Composed | None


def read_operator(path: Path | None) -> tuple[Config, Catalogue]:
    """squall.yaml, whole and right, and what is installed. Raises ConfigError or WiringError."""
    from squall.chaos.answers import answer_problems
    from squall.chaos.catalogue import load_catalogue
    from squall.core.config import Config, load_config
    from squall.core.errors import ConfigError
    from squall.core.yaml_source import limited

    catalogue = load_catalogue()
    if path is None and not os.path.lexists(CONFIG):
        return Config(), catalogue
    config = load_config(path or CONFIG)
    sections = config.plugins or ()
    problems = catalogue.problems(sections) or answer_problems(sections, catalogue.plugins)
    if problems:
        raise ConfigError(limited(problems))
    return config, catalogue


def runs_folder(config: Path | None, runs: Path | None) -> Path:
    """Where run folders are. Of squall.yaml only this is needed to look back: its plugins need not be installed."""
    from squall.core.config import Config, load_config

    if runs is not None:
        return runs
    settings = Config() if config is None and not os.path.lexists(CONFIG) else load_config(config or CONFIG)
    return settings.folder / settings.bench.runs


def writable_runs(config: Path | None, runs: Path | None) -> None:
    """That runs can be written where they are to be: told before anything is imported that takes its time. Raises
    ConfigError or StoreFileError."""
    from squall.chaos.run_folder import check_runs

    check_runs(runs_folder(config, runs))


def scenario_path(file: str) -> Path:
    """A scenario file; a bare name is one that squall carries, unless a file is called so."""
    from squall.chaos.carried import carried

    named = "/" in file or file.endswith((".yaml", ".yml")) or os.path.lexists(file)
    return Path(file) if named else carried(file)


@contextlib.contextmanager
def within_reach(folder: Path) -> Iterator[None]:
    """Python modules in folder, that of squall.yaml, can be imported: `handlers:` names them."""
    entry = str(folder.resolve())
    sys.path.insert(0, entry)
    try:
        yield
    finally:
        sys.path.remove(entry)


def read_scenarios(
    files: Sequence[str],
    sets: Sequence[str],
    seed: int | None,
    config: Config,
    catalogue: Catalogue,
    soak_s: float | None = None,
) -> list[Plan]:
    """The scenarios, each soaked for soak_s, and what is known of their runs beforehand. Raises ConfigError with
    all that is wrong."""
    from squall.chaos.answers import answer_problems
    from squall.chaos.composition import composed
    from squall.chaos.scenario import drain_limits, load_scenario
    from squall.core.errors import ConfigError

    known = catalogue.known(config)
    found: list[Plan] = []
    problems: list[Problem] = []
    for file in files:
        try:
            path = scenario_path(file)
            scenario = load_scenario(path, sets=sets, seed=seed, config=config, known=known, soak_s=soak_s)
            wrong = [*answer_problems(scenario.plugins, catalogue.plugins), *handler_problems(scenario, config)]
            if wrong:
                raise ConfigError(wrong)
            made = composed(scenario, config, catalogue)
            found.append(Plan(scenario, drain_limits(scenario, made.longest_wait_s if made else 0.0), made))
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(list(dict.fromkeys(problems)))
    return found


def handler_problems(scenario: Scenario, config: Config) -> list[Problem]:
    """What is wrong with the operator's code that the scenario calls: it is imported."""
    from squall.core.errors import ConfigError

    problems: list[Problem] = []
    with within_reach(config.folder):
        for name in dict.fromkeys(one.handler.call for one in scenario.subscribers.values()):
            try:
                _ = config.handler(name) if name is not None else None
            except ConfigError as error:
                problems.extend(error.problems)
    return problems


def with_seeds(
    plan: Plan, sets: Sequence[str], repeat: int, config: Config, catalogue: Catalogue
) -> Iterator[tuple[Scenario, Composed | None]]:
    """The scenario `repeat` times, each time with the next seed. Made one by one: there may be very many."""
    from squall.chaos.scenario import make_scenario

    known, first = catalogue.known(config), plan.scenario
    yield first, plan.composed
    for seed in range(first.seed + 1, first.seed + repeat):
        soak_s = first.soak_s
        made = make_scenario(first.source, sets=sets, seed=seed, config=config, known=known, soak_s=soak_s)
        yield made, plan.composed
