"""What a mistake comes to: one message on stderr, and an exit code."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

USAGE, INFRASTRUCTURE, INTERRUPTED = 2, 4, 130
_SEVERITY = (0, 3, 1, INFRASTRUCTURE, USAGE, INTERRUPTED)

DebugOption = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout, for programs")]


def worst(*codes: int) -> int:
    """The exit code of several: interrupted > usage > infrastructure > invalid > unknown > valid."""
    return max(codes, key=_SEVERITY.index, default=0)


def guarded(work: Callable[[], int], *, debug: bool = False, consequence: str = "") -> NoReturn:
    """Run a verb and leave with its exit code. `consequence` is told after mistakes in files and plugins.

    Exit 2 for what a file or plugin has wrong, 4 for folders, files and everything unforeseen, 130 when interrupted.
    """
    from squall.core.errors import ConfigError, WiringError

    try:
        code = work()
    except (ConfigError, WiringError) as error:
        count = len(error.problems) if isinstance(error, ConfigError) else 1
        complain(error, debug=debug)
        if consequence:
            typer.echo(f"{count} error{'s' if count != 1 else ''}, {consequence}", err=True)
        code = USAGE
    except BrokenPipeError:
        raise  # whoever read the output has enough; typer knows what to do
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        code = INTERRUPTED
    except Exception as error:  # noqa: BLE001  whatever goes wrong, people get one message
        complain(error, debug=debug)
        code = INFRASTRUCTURE
    raise typer.Exit(code)


def complain(error: Exception, *, debug: bool = False) -> None:
    """One error on stderr, after its traceback if wanted; what squall did not raise on purpose is named by its type."""
    from squall.core.errors import SquallError

    if debug:
        traceback.print_exception(error)
    known = isinstance(error, SquallError | OSError)
    text = str(error) if known else f"{type(error).__name__}: {error}\nnot foreseen; --debug shows where it was raised"
    typer.echo(text, err=True)
