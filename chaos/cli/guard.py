"""What a mistake comes to: one message on stderr, and an exit code."""

from __future__ import annotations

import contextlib
import os
import sys
import traceback
from collections.abc import Callable
from typing import Annotated, NoReturn

import typer

from squall.chaos.visible import visible

USAGE, INFRASTRUCTURE, INTERRUPTED = 2, 4, 130
NOT_READ = 141  # as a shell says of who is ended by SIGPIPE: it must not look like a verdict
_SEVERITY = (0, 3, 1, INFRASTRUCTURE, USAGE, INTERRUPTED)

DebugOption = Annotated[bool, typer.Option("--debug", help="show the traceback of an error")]
JsonOption = Annotated[bool, typer.Option("--json", help="print one JSON document on stdout, for programs")]


def worst(*codes: int) -> int:
    """The exit code of several: interrupted > usage > infrastructure > invalid > unknown > valid."""
    return max(codes, key=_SEVERITY.index, default=0)


def guarded(
    work: Callable[[], int],
    *,
    as_json: bool = False,
    debug: bool = False,
    consequence: Callable[[], str] = str,
) -> NoReturn:
    """Run a verb and leave with its exit code. What `consequence` says then is told after mistakes in files and
    plugins. as_json: programs get a document of what went wrong too.

    Exit 2 for what a file or plugin has wrong, 4 for folders, files and everything unforeseen, 130 when interrupted.
    """
    from squall.core.errors import ConfigError, SquallError, WiringError

    try:
        code = work()
    except (ConfigError, WiringError) as error:
        complain(error, debug=debug)
        if what := consequence():
            typer.echo(f"{_count(error)}, {what}", err=True)
        code = _failed(USAGE, error, as_json=as_json)
    except BrokenPipeError:
        # Whoever read the output has enough. What is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = NOT_READ
    except KeyboardInterrupt as error:
        typer.echo("interrupted", err=True)
        code = _failed(INTERRUPTED, error, as_json=as_json)
    except SystemExit as error:  # not squall's: code that was run would choose the exit code, and so the verdict
        ended = SquallError(f"code that was run ended the process: {error!r}")
        complain(ended, debug=debug)
        code = _failed(INFRASTRUCTURE, ended, as_json=as_json)
    except Exception as error:  # noqa: BLE001  whatever goes wrong, people get one message
        complain(error, debug=debug)
        code = _failed(INFRASTRUCTURE, error, as_json=as_json)
    raise typer.Exit(code)


def _count(error: Exception) -> str:
    from squall.core.errors import ConfigError
    from squall.core.yaml_source import number_of

    return errors(number_of(error.problems) if isinstance(error, ConfigError) else 1)


def errors(count: int) -> str:
    """`1 error`, `1,204 errors`."""
    return f"{count:,} error{'s' if count != 1 else ''}"


def _failed(code: int, error: BaseException, *, as_json: bool) -> int:
    """The code, after it was told to programs: with each problem where a file is wrong."""
    if as_json:
        from squall.chaos.cli.output import print_json

        message = _message(error) if isinstance(error, Exception) else "interrupted"
        with contextlib.suppress(OSError):  # stdout itself may be what failed
            print_json({"exit_code": code, "error": message, "problems": getattr(error, "problems", ())})
    return code


def complain(error: Exception, *, debug: bool = False) -> None:
    """One error on stderr, after its traceback if wanted; what squall did not raise on purpose is named by its type."""
    if debug:
        traceback.print_exception(error)
    typer.echo(visible(_message(error)), err=True)


def _message(error: Exception) -> str:
    from squall.core.errors import SquallError

    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, SquallError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}\nnot foreseen; --debug shows where it was raised"
