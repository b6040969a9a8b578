"""`squall doctor`: what this machine has of what optional parts need, what is missing, and how to get it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from squall.chaos.cli.guard import INFRASTRUCTURE, DebugOption, JsonOption, guarded
from squall.chaos.cli.heal import leftover_words
from squall.chaos.cli.operator import ConfigOption, RunsOption, runs_folder

LABEL = 11

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from squall.chaos.heal import Leftover
    from squall.chaos.installed import Piece


def command(
    parts: Annotated[
        list[str] | None, typer.Argument(metavar="PART...", help="must be there: redis, neo4j, toxiproxy, …")
    ] = None,
    config: ConfigOption = None,
    runs: RunsOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Show what optional parts need, and what of it is here.

    Python packages, servers, programs, and how to get what is missing; and faults that runs left behind. With PART only
    those, and exit code 4 unless all that they need is here.

    \b
    Example:
      squall doctor
      squall doctor redis neo4j --json
    """

    def work() -> int:
        from squall.chaos.cli.output import print_json, print_lines
        from squall.chaos.heal import leftovers
        from squall.chaos.installed import pieces

        found = [piece for part in checked(parts or ()) for piece in pieces(part)]
        lacking = any(piece.state != "found" for piece in found)
        code = INFRASTRUCTURE if parts and lacking else 0
        left = [] if parts else leftovers(runs_folder(config, runs))
        if as_json:
            print_json({"exit_code": code, "pieces": found, "left": left})
        else:
            print_lines(lambda width: [*piece_lines(found, width), *left_lines(left, width)])
        return code

    guarded(work, as_json=as_json, debug=debug)


def checked(names: Sequence[str]) -> Sequence[str]:
    """The parts that are named, each once; all of them where none is. Raises ConfigError for unknown ones."""
    from squall.chaos.installed import parts
    from squall.core.errors import ConfigError, Problem

    known = parts()
    wrong = [name for name in names if name not in known]
    if wrong:
        raise ConfigError([Problem("PART", f"there is no {name!r}; expected {', '.join(known)}") for name in wrong])
    return list(dict.fromkeys(names)) or known


def piece_lines(pieces: Sequence[Piece], width: int) -> Sequence[Text]:
    """A line for each piece; under what is not usable how to get it."""
    from squall.chaos.layout import field

    lines: list[Text] = []
    before = ""
    for piece in pieces:
        mark = ("✓", "green") if piece.state == "found" else ("✗", "red")
        text = f"{piece.name} {piece.version}".rstrip()
        if piece.state == "found":
            text += f"   {piece.where}" if piece.where else ""
        else:
            text += f" ({piece.where}): {piece.detail}" if piece.detail else " is missing"
            text += f" · {piece.get}"
        label = piece.part if piece.part != before else ""
        lines += field(label, f"{piece.kind:<8} {text}", width, mark=mark, indent=0, label_width=LABEL)
        before = piece.part
    return lines


def left_lines(left: Sequence[Leftover], width: int) -> Sequence[Text]:
    """What runs left broken, and how it is healed."""
    from squall.chaos.layout import field

    lines: list[Text] = []
    for words in leftover_words(left):
        lines += field("runs", words, width, mark=("✗", "red"), indent=0, label_width=LABEL)
    return lines
