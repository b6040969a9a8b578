"""`squall heal`: takes back faults that a run which is gone left behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squall.chaos.cli.guard import INFRASTRUCTURE, DebugOption, JsonOption, guarded
from squall.chaos.cli.operator import ConfigOption, RunsOption, runs_folder
from squall.chaos.visible import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from squall.chaos.heal import Healing, Leftover

SIGNS = {"healed": ("✓", "green"), "failed": ("✗", "bold red"), "held": ("·", "dim")}


def command(
    run: Annotated[
        str | None, typer.Argument(metavar="RUN", help="a folder, SCENARIO/ID, SCENARIO, ID, or latest; without: all")
    ] = None,
    config: ConfigOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Take back faults that were left.

    A fault outside of squall's own process, such as one in a Toxiproxy server, outlives a run that is killed together
    with its watchdog. What takes it back lies in the run's folder; it may be asked for as often as one likes. Runs that
    go on are left alone. Exit code 4 where something could not be healed.

    \b
    Example:
      squall heal
      squall heal first-storm
    """
    guarded(lambda: _heal(run, config, runs, as_json=as_json), as_json=as_json, debug=debug)


def _heal(run: str | None, config: Path | None, runs: Path | None, *, as_json: bool) -> int:
    import asyncio

    from squall.chaos.catalogue import load_catalogue
    from squall.chaos.cli.output import print_json, print_lines
    from squall.chaos.heal import heal
    from squall.chaos.run_folder import find_run, list_runs

    where = runs_folder(config, runs)
    folders = list_runs(where) if run is None else [find_run(where, run)]
    done = asyncio.run(heal(folders, load_catalogue().faults))
    code = INFRASTRUCTURE if any(one.state == "failed" for one in done) else 0
    if as_json:
        print_json({"exit_code": code, "faults": done})
    elif not done:
        typer.echo("nothing was left to heal")
    else:
        print_lines(lambda width: healing_lines(done, width))
    return code


def healing_lines(done: Sequence[Healing], width: int) -> list[Text]:
    """A line for each plan that was found."""
    from squall.chaos.layout import field

    lines = []
    for one in done:
        told = f"{one.what} of {one.run}" if one.what else one.run
        told += {"healed": " is healed", "failed": f": {one.why}", "held": ": its run goes on, and heals it itself"}[
            one.state
        ]
        lines += field(one.fault, told, width, mark=SIGNS[one.state], indent=0)
    return lines


def leftover_words(found: Sequence[Leftover]) -> list[str]:
    """What was left, for people who asked for something else."""
    return [visible(f"{one.run} left fault {one.fault} behind ({one.what}): squall heal {one.run}") for one in found]


def tell_leftovers(runs: Path) -> None:
    """Say on stderr what earlier runs left: it may still be broken."""
    from squall.chaos.heal import leftovers

    for words in leftover_words(leftovers(runs)):
        typer.echo(words, err=True)
