"""`squall run`: runs scenarios, shows how they go on, and judges them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from squall.chaos.cli.guard import INTERRUPTED, DebugOption, JsonOption, guarded, worst
from squall.chaos.cli.heal import tell_leftovers
from squall.chaos.cli.operator import (
    ConfigOption,
    FilesArgument,
    RunsOption,
    SeedOption,
    SetOption,
    read_operator,
    read_scenarios,
    with_seeds,
    within_reach,
    writable_runs,
)
from squall.chaos.visible import visible

if TYPE_CHECKING:
    from squall.chaos.catalogue import Catalogue
    from squall.chaos.cli.interrupts import Interrupts
    from squall.chaos.cli.operator import Plan
    from squall.chaos.composition import Composed
    from squall.chaos.run import RunResult
    from squall.chaos.scenario import Scenario
    from squall.core.config import Config

    RunOne = Callable[[Scenario, Composed | None, Interrupts], Coroutine[Any, Any, RunResult]]


def command(
    files: FilesArgument,
    config: ConfigOption = None,
    sets: SetOption = None,
    seed: SeedOption = None,
    repeat: Annotated[
        int, typer.Option("--repeat", metavar="N", min=1, max=10_000, help="so many runs, each with the next seed")
    ] = 1,
    soak: Annotated[
        str | None,
        typer.Option("--soak", metavar="TIME", help="repeat the load for so long, and judge if what is held grows"),
    ] = None,
    runs: RunsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the timeline, start nothing")] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="a sampled profile of each run, in its folder (squall[profile])")
    ] = False,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Run scenarios and judge them.

    Exit codes: 0 valid, 1 invalid, 2 a mistake in a file, plugin or option, 3 unknown, 4 a folder or file that cannot
    be used, 130 interrupted. Ctrl-C heals, drains briefly and judges what there is; a second one ends at once.

    \b
    Example:
      squall run first-storm
      squall run scenarios/calm.yaml --set rate=500 --seed 7 --repeat 5
      squall run calm --soak 30m
    """

    done: list[tuple[Scenario, RunResult]] = []

    def work() -> int:
        soak_s = _soak_seconds(soak, profile=profile)
        if not dry_run:
            writable_runs(config, runs)
        settings, catalogue = read_operator(config)
        read = read_scenarios(files, sets or (), seed, settings, catalogue, soak_s)
        if dry_run:
            return _show_timelines(read, as_json=as_json)
        tell_leftovers(settings.folder / settings.bench.runs if runs is None else runs)
        scenarios = chain(*(with_seeds(one, sets or (), repeat, settings, catalogue) for one in read))
        with within_reach(settings.folder):
            run_one = partial(_run, config=settings, catalogue=catalogue, runs=runs, profile=profile)
            return _run_all(scenarios, run_one, done, as_json=as_json)

    def consequence() -> str:
        return f"no run after the first {len(done)}" if done else "nothing was started"

    guarded(work, as_json=as_json, debug=debug, consequence=consequence)


def _soak_seconds(soak: str | None, *, profile: bool) -> float | None:
    """How long to soak, None: not at all. Raises ConfigError."""
    from squall.chaos.scenario_models import MAX_STAGE_S
    from squall.core.errors import ConfigError
    from squall.core.units import format_seconds, parse_seconds

    if soak is None:
        return None
    if profile:
        raise ConfigError("--soak and --profile: a profile keeps what it sees, which looks like a leak; leave one out")
    try:
        seconds = parse_seconds(soak)
    except ValueError as error:
        raise ConfigError(f"--soak: {error}, got '{soak}'") from error
    if seconds > MAX_STAGE_S:
        raise ConfigError(f"--soak: expected at most {format_seconds(MAX_STAGE_S)}, got {soak}")
    return seconds


def _show_timelines(read: Sequence[Plan], *, as_json: bool) -> int:
    from squall.chaos.cli.output import print_json, width
    from squall.chaos.timeline import render, timeline

    plans = [timeline(*plan) for plan in read]
    if as_json:
        print_json(plans)
    else:
        typer.echo(visible("\n\n".join("\n".join(render(plan, width())) for plan in plans)))
    return 0


def _run_all(
    scenarios: Iterable[tuple[Scenario, Composed | None]],
    run_one: RunOne,
    done: list[tuple[Scenario, RunResult]],
    *,
    as_json: bool,
) -> int:
    """Run one after the other, until interrupted, and add each that is over to done."""
    from squall.chaos.cli import loop
    from squall.chaos.cli.interrupts import Interrupts
    from squall.chaos.cli.output import print_json, print_lines
    from squall.chaos.present import result_lines, summary_lines

    with Interrupts() as interrupts:
        for scenario, made in scenarios:
            result = loop.run(run_one(scenario, made, interrupts))
            done.append((scenario, result))
            if not as_json:
                print_lines(partial(result_lines, result))
            if interrupts.interrupted:
                break
    code = worst(*(_exit_code(result) for _, result in done))
    if as_json:
        print_json({"exit_code": code, "runs": [_as_data(scenario, result) for scenario, result in done]})
    elif len(done) > 1:
        print_lines(lambda width: summary_lines([(s.name, s.seed, r.verdict.state) for s, r in done], width))
    return code


async def _run(
    scenario: Scenario,
    made: Composed | None,
    interrupts: Interrupts,
    *,
    config: Config,
    catalogue: Catalogue,
    runs: Path | None,
    profile: bool,
) -> RunResult:
    from squall.chaos.cli.live import Live
    from squall.chaos.run import run_scenario

    with Live(scenario) as live:
        stop = interrupts.stop(live.say)
        return await run_scenario(
            scenario, config, catalogue, runs=runs, composed=made, on_progress=live.show, stop=stop, profile=profile
        )


def _exit_code(result: RunResult) -> int:
    return INTERRUPTED if result.interrupted else result.verdict.exit_code


def _as_data(scenario: Scenario, result: RunResult) -> dict[str, object]:
    """One run for programs; `verdict` has the fields of verdict.json's."""
    from squall.chaos.run_folder import REPORT

    report = result.folder / REPORT
    return {
        "scenario": scenario.name,
        "seed": scenario.seed,
        "folder": str(result.folder),
        "report": str(report) if report.exists() else None,
        "exit_code": _exit_code(result),
        "interrupted": result.interrupted,
        "duration_s": result.duration_s,
        "faulty_s": result.faulty_s,
        "warnings": result.warnings,
        "errors": result.errors,
        "verdict": result.verdict,
    }
