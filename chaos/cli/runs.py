"""`squall runs`: what was run, newest first."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squall.chaos.cli.guard import DebugOption, JsonOption, guarded
from squall.chaos.cli.operator import ConfigOption, RunsOption, runs_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text


def command(
    config: ConfigOption = None,
    runs: RunsOption = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="so many of the newest")] = 20,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """List runs and their verdicts.

    \b
    Example:
      squall runs
      squall runs --json --limit 100
    """

    def work() -> int:
        from squall.chaos.cli.output import print_json, print_lines
        from squall.chaos.run_folder import list_runs

        folders = list_runs(runs_folder(config, runs))
        rows = [read_row(folder) for folder in folders[:limit]]
        if as_json:
            print_json({"runs": [asdict(row) for row in rows]})
        elif not rows:
            typer.echo("no runs yet: squall run first-storm")
        else:
            print_lines(lambda width: row_lines(rows, len(folders), width))
        return 0

    guarded(work, as_json=as_json, debug=debug)


@dataclass(frozen=True)
class Row:
    """One run. state: valid, invalid, unknown; unfinished where there is no verdict, unreadable where it is damaged."""

    run: str
    state: str
    started: str
    seed: int | None
    headline: str
    folder: str


def read_row(folder: Path) -> Row:
    """What the folder of a run says of it."""
    import json

    from squall.chaos.check.output import load_verdict
    from squall.chaos.run_folder import ENVIRONMENT, VERDICT, run_name
    from squall.core.errors import StoreFileError

    state, headline = "unfinished", "no verdict: the run was ended, or goes on"
    try:
        if (folder / VERDICT).exists():
            verdict = load_verdict(folder / VERDICT)
            state, headline = verdict.state, verdict.headline
        environment = json.loads((folder / ENVIRONMENT).read_text("utf-8"))
        started, seed = str(environment["started"]), int(environment["seed"])
    except (StoreFileError, OSError, ValueError, KeyError, TypeError) as error:
        return Row(run_name(folder), "unreadable", "", None, str(error).splitlines()[0], str(folder))
    return Row(run_name(folder), state, started, seed, headline, str(folder))


def row_lines(rows: Sequence[Row], total: int, width: int) -> list[Text]:
    """A line for each run, cut to width."""
    from rich.text import Text

    from squall.chaos.present import state_style

    column = max(len(row.run) for row in rows)
    lines = []
    for row in rows:
        line = Text.assemble((f"{row.state:<10}", state_style(row.state)), f" {row.run:<{column}}  {row.headline}")
        line.truncate(width, overflow="ellipsis")
        lines.append(line)
    if total > len(rows):
        lines.append(Text(f"and {total - len(rows)} older: --limit {total}", "dim"))
    return lines
