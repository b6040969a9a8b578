"""The command line: `squall run`, `validate`, `runs`, `plugins`, `schema`.

What a verb needs is imported inside it: `squall --help` must not wait for databases.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from squall.chaos.catalogue import Catalogue
    from squall.chaos.run import Progress
    from squall.chaos.scenario import Scenario
    from squall.core.config import Config
    from squall.core.errors import SquallError

INTERRUPTED = 130
USAGE, INFRASTRUCTURE = 2, 4
CONFIG = Path("squall.yaml")
_SEVERITY = (0, 3, 1, 4, 2, INTERRUPTED)

app = typer.Typer(
    help="Break your event system on purpose, and know what it lost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
Files = Annotated[list[str], typer.Argument(metavar="FILE…", help="scenario files, or names of squall's own")]
ConfigOption = Annotated[Path | None, typer.Option("--config", help="the operator's squall.yaml")]
Sets = Annotated[list[str] | None, typer.Option("--set", help="name=value, over the scenario's vars")]
Seed = Annotated[int | None, typer.Option(help="instead of the scenario's seed")]
Debug = Annotated[bool, typer.Option(help="show tracebacks")]


def main() -> None:
    """The entry point of the `squall` command."""
    app()


@app.command()
def run(
    files: Files,
    config: ConfigOption = None,
    sets: Sets = None,
    seed: Seed = None,
    runs: Annotated[Path | None, typer.Option(help="where run folders are made")] = None,
    dry_run: Annotated[bool, typer.Option(help="print the timeline, start nothing")] = False,
    debug: Debug = False,
) -> None:
    """Run scenarios and judge them. Example: squall run first-storm --set rate=5000"""
    raise typer.Exit(_guarded(lambda: _run_all(files, config, sets or [], seed, runs, dry_run=dry_run), debug=debug))


@app.command()
def validate(files: Files, config: ConfigOption = None, sets: Sets = None, debug: Debug = False) -> None:
    """Check scenarios, and say all that is wrong at once. Example: squall validate shop.yaml"""

    def work() -> int:
        from squall.chaos.scenario import load_scenario
        from squall.core.errors import ConfigError

        settings, catalogue = _operator(config)
        wrong = 0
        for file in files:
            try:
                load_scenario(_path(file), sets=sets or [], config=settings, known=catalogue.known(settings))
            except ConfigError as error:
                _complain(error, len(error.problems))
                wrong += 1
            else:
                typer.echo(f"{file}: valid")
        return USAGE if wrong else 0

    raise typer.Exit(_guarded(work, debug=debug))


@app.command("runs")
def list_all(
    config: ConfigOption = None, runs: Annotated[Path | None, typer.Option(help="where run folders are")] = None
) -> None:
    """List runs, newest first. Example: squall runs"""

    def work() -> int:
        import json

        from squall.chaos.run_folder import VERDICT, list_runs

        settings, _ = _operator(config)
        folders = list_runs(runs or settings.folder / settings.bench.runs)
        for folder in folders:
            path = folder / VERDICT
            verdict = json.loads(path.read_text("utf-8")) if path.exists() else {}
            state, headline = verdict.get("state", "unfinished"), verdict.get("headline", "")
            typer.echo(f"{state:10s} {folder.parent.name}/{folder.name}  {headline}")
        if not folders:
            typer.echo("no runs yet: squall run first-storm")
        return 0

    raise typer.Exit(_guarded(work, debug=False))


@app.command()
def plugins() -> None:
    """List the plugins that are installed. Example: squall plugins"""

    def work() -> int:
        from squall.core.wiring import DEFAULTS, installed, load_class

        defaults = installed(DEFAULTS)
        for name, point in installed().items():
            summary = load_class(point).summary
            typer.echo(f"{name:12s} {'default' if name in defaults else '':8s} {summary}".rstrip())
        return 0

    raise typer.Exit(_guarded(work, debug=False))


@app.command()
def schema(out: Annotated[Path | None, typer.Option(help="the file to write, instead of printing")] = None) -> None:
    """Print the JSON Schema of scenario files. Example: squall schema --out scenario.schema.json"""

    def work() -> int:
        import json

        from squall.chaos.scenario_schema import json_schema

        settings, catalogue = _operator(None)
        text = json.dumps(json_schema(catalogue.known(settings)), indent=2) + "\n"
        if out is None:
            typer.echo(text, nl=False)
        else:
            out.write_text(text, encoding="utf-8")
        return 0

    raise typer.Exit(_guarded(work, debug=False))


def _guarded(work: object, *, debug: bool) -> int:
    """Run a verb; a mistake becomes one message and its exit code."""
    from squall.core.errors import ConfigError, SquallError, StoreFileError, WiringError

    assert callable(work)
    try:
        return int(work())
    except (ConfigError, WiringError) as error:
        code = USAGE
        problem: SquallError | OSError = error
    except (StoreFileError, OSError) as error:
        code, problem = INFRASTRUCTURE, error
    except SquallError as error:
        code, problem = INFRASTRUCTURE, error
    if debug:
        raise problem
    _complain(problem, len(getattr(problem, "problems", (problem,))))
    return code


def _complain(error: SquallError | OSError, count: int) -> None:
    typer.echo(str(error), err=True)
    typer.echo(f"{count} error{'s' if count != 1 else ''}, nothing was started", err=True)


def _operator(path: Path | None) -> tuple[Config, Catalogue]:
    from squall.chaos.catalogue import load_catalogue
    from squall.core.config import Config, load_config

    if path is None and not CONFIG.exists():
        return Config(), load_catalogue()
    return load_config(path or CONFIG), load_catalogue()


def _path(file: str) -> Path:
    """A scenario file; a bare name is one that squall carries, unless a file is called so."""
    from squall.chaos.carried import carried

    return Path(file) if Path(file).exists() or "/" in file or file.endswith(".yaml") else carried(file)


def _run_all(
    files: list[str], config: Path | None, sets: list[str], seed: int | None, runs: Path | None, *, dry_run: bool
) -> int:
    from squall.chaos.run import run_scenario
    from squall.chaos.scenario import drain_limits, load_scenario
    from squall.chaos.timeline import render, timeline

    settings, catalogue = _operator(config)
    known = catalogue.known(settings)
    scenarios = [load_scenario(_path(file), sets=sets, seed=seed, config=settings, known=known) for file in files]
    codes = [0]
    for scenario in scenarios:
        if dry_run:
            typer.echo("\n".join(render(timeline(scenario, drain_limits(scenario, 0.0)))))
            continue
        typer.echo(f"{scenario.name}   {scenario.about}   seed {scenario.seed}")

        async def one(scenario: Scenario = scenario) -> int:
            stop = asyncio.Event()
            asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stop.set)
            result = await run_scenario(scenario, settings, catalogue, runs=runs, on_progress=_Ticker().show, stop=stop)
            from squall.chaos.present import verdict_lines

            typer.echo("\n".join(verdict_lines(result)))
            return INTERRUPTED if result.interrupted else result.verdict.exit_code

        codes.append(asyncio.run(one()))
    return max(codes, key=_SEVERITY.index)


class _Ticker:
    """Live progress: one line that is written over on a terminal, a line each few seconds elsewhere."""

    def __init__(self) -> None:
        self._calls = 0

    def show(self, progress: Progress) -> None:
        faults = " · ".join(f"{one.id} {one.hits} hits" for one in progress.faults if one.state == "active")
        line = (
            f"  {progress.phase:6s} {progress.elapsed_s:4.0f}/{progress.total_s:.0f} s   "
            f"{progress.asked:,.0f}/s asked, {progress.achieved:,.0f} acknowledged   in flight {progress.in_flight}"
            + (f"   {faults}" if faults else "")
        )
        if sys.stderr.isatty():
            typer.echo(f"\r\033[K{line[:119]}", nl=False, err=True)
        elif self._calls % 12 == 0:
            typer.echo(line, err=True)
        self._calls += 1
