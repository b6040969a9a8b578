"""What the operator has set up: squall.yaml, what is installed, where runs are, and their code within reach."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from squall.chaos.catalogue import Catalogue
    from squall.chaos.scenario import Scenario
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
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="over the scenario's vars; may be repeated")
]
SeedOption = Annotated[int | None, typer.Option("--seed", help="instead of the scenario's seed")]


def read_operator(path: Path | None) -> tuple[Config, Catalogue]:
    """squall.yaml, whole and right, and what is installed. Raises ConfigError or WiringError."""
    from squall.chaos.catalogue import load_catalogue
    from squall.core.config import Config, load_config
    from squall.core.errors import ConfigError

    catalogue = load_catalogue()
    if path is None and not CONFIG.exists():
        return Config(), catalogue
    config = load_config(path or CONFIG)
    problems = catalogue.problems(config.plugins or ())
    if problems:
        raise ConfigError(problems)
    return config, catalogue


def runs_folder(config: Path | None, runs: Path | None) -> Path:
    """Where run folders are. Of squall.yaml only this is needed to look back: its plugins need not be installed."""
    from squall.core.config import Config, load_config

    if runs is not None:
        return runs
    settings = Config() if config is None and not CONFIG.exists() else load_config(config or CONFIG)
    return settings.folder / settings.bench.runs


def scenario_path(file: str) -> Path:
    """A scenario file; a bare name is one that squall carries, unless a file is called so."""
    from squall.chaos.carried import carried

    return Path(file) if Path(file).exists() or "/" in file or file.endswith((".yaml", ".yml")) else carried(file)


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
    files: Sequence[str], sets: Sequence[str], seed: int | None, repeat: int, config: Config, catalogue: Catalogue
) -> list[Scenario]:
    """The scenarios, each `repeat` times, with one seed after the other. Raises ConfigError with all that is wrong."""
    from squall.chaos.scenario import drain_limits, load_scenario
    from squall.core.errors import ConfigError

    known = catalogue.known(config)
    scenarios: list[Scenario] = []
    problems: list[Problem] = []
    for file in files:
        try:
            path = scenario_path(file)
            first = load_scenario(path, sets=sets, seed=seed, config=config, known=known)
            drain_limits(first, 0.0)
            seeds = range(first.seed + 1, first.seed + repeat)
            scenarios += [first, *(load_scenario(path, sets=sets, seed=n, config=config, known=known) for n in seeds)]
        except ConfigError as error:
            problems.extend(error.problems)
    if problems:
        raise ConfigError(problems)
    return scenarios
