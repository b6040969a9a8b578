"""`squall report`: where a run's report is, written anew where it is missing."""

from __future__ import annotations

import typer

from squall.chaos.cli.guard import DebugOption, JsonOption, guarded
from squall.chaos.cli.operator import ConfigOption, RunArgument, RunsOption, runs_folder


def command(
    run: RunArgument = "latest",
    config: ConfigOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Print where a run's report is.

    It is written anew where it is missing, or the run has no verdict yet.

    \b
    Example:
      squall report latest
      xdg-open "$(squall report first-storm)"
    """

    def work() -> int:
        from squall.chaos.run_folder import REPORT, VERDICT, find_run

        folder = find_run(runs_folder(config, runs), run)
        path = folder / REPORT
        if not (path.exists() and (folder / VERDICT).exists()):
            from squall.chaos.report import write_report

            path = write_report(folder)
        if as_json:
            from squall.chaos.cli.output import print_json

            print_json({"exit_code": 0, "folder": folder, "report": path})
        else:
            typer.echo(path)
        return 0

    guarded(work, as_json=as_json, debug=debug)
