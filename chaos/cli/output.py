"""Where the command line prints: stdout for what was asked for, stderr for what happens meanwhile."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from typing import IO, Any

from pydantic import ConfigDict, TypeAdapter
from rich.console import Console
from rich.text import Text

from squall.chaos.visible import visible

MIN_WIDTH, MAX_WIDTH = 40, 120


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Rich would leave with 1, which here is a verdict."""
        raise BrokenPipeError


def console(file: IO[str] | None = None) -> Console:
    """A console on file (stdout). Colours only on a terminal, and not where NO_COLOR is set."""
    file = file or sys.stdout
    plain = bool(os.environ.get("NO_COLOR")) or not file.isatty() or os.environ.get("TERM") == "dumb"
    return _Console(file=file, color_system=None if plain else "auto", width=width(), highlight=False, soft_wrap=True)


def width() -> int:
    """Columns to write for: the terminal's (or COLUMNS), from 40 to 120."""
    return max(MIN_WIDTH, min(MAX_WIDTH, shutil.get_terminal_size((100, 24)).columns))


def print_lines(lines: Callable[[int], Sequence[Text]]) -> None:
    """Print lines that are made for a width."""
    out = console()
    for line in lines(width()):
        line.plain = visible(line.plain)
        out.print(line, soft_wrap=True)


def print_json(value: object) -> None:
    """Print dataclasses, mappings and lists as one JSON document; infinite numbers are the text "Infinity"."""
    adapter = TypeAdapter(Any, config=ConfigDict(ser_json_inf_nan="strings"))
    sys.stdout.write(adapter.dump_json(value, indent=2).decode() + "\n")
