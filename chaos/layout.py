"""Lines for a terminal: a label, what it says beside it, wrapped under itself."""

from __future__ import annotations

import re
import textwrap

from rich.text import Text

LABEL = 14
_UNIT = re.compile(r"([0-9]) (?=(?:s|ms|min|h|%)\b|%)")


def field(
    label: str,
    text: str,
    width: int,
    *,
    mark: tuple[str, str] | None = None,
    indent: int = 2,
    label_width: int = LABEL,
    style: str = "",
) -> list[Text]:
    """`  label   ✓ text`, wrapped to width under the text's first word. mark: a sign and its style."""
    column = max(label_width, len(label)) + 1
    room = max(20, width - indent - column - (2 if mark else 0))
    lines = []
    for number, part in enumerate(wrapped(text, room) or [""]):
        line = Text(" " * indent)
        line.append(f"{label if number == 0 else '':<{column}}", style or "bold" if number == 0 else "")
        if mark:
            line.append(f"{mark[0] if number == 0 else ' '} ", mark[1])
        line.append(part)
        line.rstrip()
        lines.append(line)
    return lines


def headline(word: str, style: str, text: str, right: str, width: int) -> list[Text]:
    """`VALID   text        right`: the text wrapped under itself, the right part at the edge of the first line."""
    column = len(word) + 3
    parts = wrapped(text, width - column - (len(right) + 3 if right else 0)) or [""]
    lines = []
    for number, part in enumerate(parts):
        line = Text.assemble((word if number == 0 else " " * len(word), style), " " * 3, (part, "bold"))
        if number == 0 and right:
            line.append(f"{right:>{width - column - len(part)}}", "dim")
        lines.append(line)
    return lines


def hanging(text: str, width: int, *, indent: int = 2, style: str = "") -> list[Text]:
    """A paragraph, its second line and those after it a little further in."""
    first, rest = " " * indent, " " * (indent + 2)
    return [Text(line, style) for line in wrapped(text, width, first, rest)]


def wrapped(text: str, width: int, first: str = "", rest: str = "") -> list[str]:
    """The text in lines of at most width, a number and its unit never torn apart."""
    whole = _UNIT.sub("\\1\xa0", text)
    lines = textwrap.wrap(whole, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False)
    return [line.replace("\xa0", " ") for line in lines]
