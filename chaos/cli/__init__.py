"""The command line: one module a verb.

What a verb needs is imported inside it: `squall --help` must not wait for databases.
"""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated

import typer

from squall.chaos.cli.doctor import command as doctor
from squall.chaos.cli.heal import command as heal
from squall.chaos.cli.init import command as init
from squall.chaos.cli.plugged import Verbs
from squall.chaos.cli.plugins import app as plugins
from squall.chaos.cli.report import command as report
from squall.chaos.cli.run import command as run
from squall.chaos.cli.runs import command as runs
from squall.chaos.cli.schema import command as schema
from squall.chaos.cli.sweep import command as sweep
from squall.chaos.cli.validate import command as validate
from squall.chaos.cli.why import command as why

app = typer.Typer(
    cls=Verbs,
    help="Break your event system on purpose, and know what it lost.",
    epilog="Begin with: squall run first-storm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"squall {version('squall')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="show the version and exit", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    """What stands before a verb."""


app.command("init")(init)
app.command("run")(run)
app.command("sweep")(sweep)
app.command("validate")(validate)
app.add_typer(plugins, name="plugins")
app.command("why")(why)
app.command("runs")(runs)
app.command("report")(report)
app.command("heal")(heal)
app.command("schema")(schema)
app.command("doctor")(doctor)


def main() -> None:
    """The entry point of the `squall` command."""
    # A stream that is closed is None, which nobody expects to write to.
    sys.stdout = sys.stdout or io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8")
    sys.stderr = sys.stderr or io.TextIOWrapper(io.FileIO(os.devnull, "w"), encoding="utf-8")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no ✓ shows a ?, and the run goes on
    app(prog_name="squall")
