"""`squall sweep`: raises a value of a scenario until what it expects breaks, and says where that is."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squall.chaos.cli.guard import DebugOption, JsonOption, guarded
from squall.chaos.cli.heal import tell_leftovers
from squall.chaos.cli.operator import (
    ConfigOption,
    RunsOption,
    SeedOption,
    SetOption,
    read_operator,
    read_scenarios,
    within_reach,
    writable_runs,
)
from squall.chaos.visible import visible

if TYPE_CHECKING:
    from squall.chaos.catalogue import Catalogue
    from squall.chaos.cli.interrupts import Interrupts
    from squall.chaos.cli.operator import Plan as RunPlan
    from squall.chaos.run import RunResult
    from squall.chaos.sweep.file import Point
    from squall.chaos.sweep.plan import Plan
    from squall.chaos.sweep.values import Range
    from squall.core.config import Config
    from squall.core.errors import ConfigError

SWEEP_REPORT = "sweep.html"
TOLD = {
    "held": ("✓", "green", "holds"),
    "broke": ("✗", "bold red", "breaks"),
    "generator": ("»", "yellow", "the generator was the limit"),
    "unknown": ("?", "yellow", "unknown"),
}


def command(
    file: Annotated[str, typer.Argument(metavar="SCENARIO", help="a scenario file, or the name of one of squall's")],
    over: Annotated[
        str | None,
        typer.Option("--over", metavar="NAME", help="what is raised: a variable, or a key by its dotted name"),
    ] = None,
    low: Annotated[
        str | None, typer.Option("--from", metavar="VALUE", help="the lowest value, with its unit: 100, 5ms, 2KB")
    ] = None,
    high: Annotated[
        str | None, typer.Option("--to", metavar="VALUE", help="the highest value, in the same unit")
    ] = None,
    grid: Annotated[
        int | None, typer.Option("--grid", metavar="N", min=2, max=200, help="try N values instead of bisecting")
    ] = None,
    log: Annotated[bool, typer.Option("--log", help="space values on a logarithmic axis")] = False,
    tolerance: Annotated[
        float, typer.Option("--tolerance", metavar="SHARE", min=0.001, max=0.5, help="how near bisecting goes")
    ] = 0.05,
    repeats: Annotated[
        int, typer.Option("--repeats", metavar="N", min=1, max=100, help="runs of each value beside the knee")
    ] = 5,
    most: Annotated[
        int, typer.Option("--max-runs", metavar="N", min=2, max=1000, help="at most so many runs in all")
    ] = 40,
    config: ConfigOption = None,
    sets: SetOption = None,
    seed: SeedOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Raise a value until what a scenario expects breaks, and say where.

    Every run is an ordinary run, with the next seed. Exit codes: 0 a knee, or none in the range, 1 broken at the lowest
    value already, 2 a mistake in a file, plugin or option, 3 unknown (the generator was the limit, too little was
    decided), 4 a folder or file that cannot be used, 130 interrupted: Ctrl-C keeps the runs that there are.

    \b
    Example:
      squall sweep capacity --over rate --from 50 --to 400
      squall sweep shop.yaml --over faults.slow.by --from 1ms --to 900ms --log
    """

    def work() -> int:
        from squall.chaos.sweep.plan import Plan
        from squall.chaos.sweep.values import read_range

        if over is None or low is None or high is None:
            raise _incomplete(file, {"--over": over, "--from": low, "--to": high}, sets or [], seed, config)
        values = read_range(low, high, log=log)
        points = values.grid(2 if grid is None else grid, log=log)
        plan = Plan(points, grid is None, tolerance, repeats, most, values.whole, log)
        writable_runs(config, runs)
        settings, catalogue = read_operator(config)
        where = settings.folder / settings.bench.runs if runs is None else runs
        runner = _Runner(file, over, tuple(sets or ()), seed, settings, catalogue, where)
        first, *_ = [runner.read(values.text(value)) for value in points]  # all of them, before any is run
        tell_leftovers(where)
        with within_reach(settings.folder):
            return _sweep(runner, first.scenario.name, values, plan, as_json=as_json)

    guarded(work, as_json=as_json, debug=debug)


def _incomplete(
    file: str, given: Mapping[str, str | None], sets: Sequence[str], seed: int | None, config: Path | None
) -> ConfigError:
    """What is missing, with a command that works. Raises ConfigError where the scenario itself is wrong."""
    from squall.chaos.sweep.proposal import propose
    from squall.core.errors import ConfigError, Problem

    settings, catalogue = read_operator(config)
    (plan,) = read_scenarios([file], sets, seed, settings, catalogue)
    others = ["--config", str(config)] if config else []
    others += [word for one in sets for word in ("--set", one)] + (["--seed", str(seed)] if seed is not None else [])

    def read(name: str, value: str) -> None:
        read_scenarios([file], [*sets, f"{name}={value}"], seed, settings, catalogue)

    proposed = propose(plan.scenario, given, read)
    options = [word for option, value in proposed.items() for word in (option, value or "VALUE")]
    missing = ", ".join(option for option, value in given.items() if value is None)
    message = "required: what is raised, from its lowest to its highest value"
    hint = f"such as: {shlex.join(['squall', 'sweep', file, *options, *others])}"
    return ConfigError([Problem(missing, message, hint=hint)])


@dataclass(frozen=True)
class _Runner:
    """Runs the scenario with one value after the other."""

    file: str
    over: str
    sets: tuple[str, ...]
    seed: int | None
    config: Config
    catalogue: Catalogue
    runs: Path

    def read(self, text: str, more: int | None = None) -> RunPlan:
        """The scenario with a value; with the seed by so much greater. Raises ConfigError."""
        sets = [*self.sets, f"{self.over}={text}"]
        (found,) = read_scenarios([self.file], sets, self.seed, self.config, self.catalogue)
        if more:
            (found,) = read_scenarios([self.file], sets, found.scenario.seed + more, self.config, self.catalogue)
        return found

    def run(self, interrupts: Interrupts, text: str, more: int) -> RunResult:
        """One run, on a loop of its own: what hangs in one must not slow the next."""
        from squall.chaos.cli import loop
        from squall.chaos.run import run_scenario

        plan = self.read(text, more)

        async def one() -> RunResult:
            stop = interrupts.stop(lambda told: typer.echo(told, err=True))
            return await run_scenario(
                plan.scenario, self.config, self.catalogue, runs=self.runs, composed=plan.composed, stop=stop
            )

        return loop.run(one())


def _sweep(runner: _Runner, name: str, values: Range, plan: Plan, *, as_json: bool) -> int:
    from squall.chaos.cli.interrupts import Interrupts
    from squall.chaos.cli.output import print_json
    from squall.chaos.report.words import many
    from squall.chaos.sweep.drive import Asked, run_sweep
    from squall.chaos.sweep.file import make_sweep_folder
    from squall.core.clock import SystemClock
    from squall.core.identity import system_id

    clock = SystemClock()
    folder = make_sweep_folder(runner.runs, clock, system_id()[:6])

    def tell(point: Point) -> None:
        if not as_json:
            _print_point(runner.over, point)

    with Interrupts() as interrupts:
        asked = Asked(name, runner.over, values, plan)
        swept = run_sweep(asked, partial(runner.run, interrupts), folder, clock.time_ns(), tell)
    report = folder / SWEEP_REPORT
    if as_json:
        print_json({"exit_code": swept.exit_code, "folder": folder, "report": report, "sweep": swept})
    else:
        most = ", as many as --max-runs allows: more would tell it better" if swept.cut_short else ""
        typer.echo(visible(f"\n{swept.sentence}\n\n{many(len(swept.points), 'run')}{most}\n{report}"))
    return swept.exit_code


def _print_point(over: str, point: Point) -> None:
    from rich.text import Text

    from squall.chaos.cli.output import print_lines
    from squall.chaos.figures import latency

    mark, style, told = TOLD[point.outcome]
    figures = f"p99 {latency(point.p99_s)}" if point.p99_s is not None else ""
    said = ", ".join(point.broke) if point.outcome == "broke" else "" if point.outcome == "held" else point.headline
    words = "  ".join(part for part in (f"{over} {point.text}", told, figures, said) if part)

    def lines(width: int) -> list[Text]:
        line = Text.assemble((mark, style), " ", words)
        line.truncate(width, overflow="ellipsis")
        return [line]

    print_lines(lines)
