"""`squall plugins`: what is enabled, what else is installed, and what it composes to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from squall.chaos.cli.guard import DebugOption, JsonOption, guarded
from squall.chaos.cli.operator import ConfigOption, read_operator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from squall.chaos.composition import Composition, Entry


def command(config: ConfigOption = None, as_json: JsonOption = False, debug: DebugOption = False) -> None:
    """Show plugins, and what they compose to.

    Those that squall.yaml enables with their options, the others that are installed, the way of a publish and that of
    a delivery.

    \b
    Example:
      squall plugins
      squall plugins --config shop/squall.yaml --json
    """

    def work() -> int:
        from squall.chaos.cli.output import print_json, print_lines
        from squall.chaos.composition import composition

        found = composition(*read_operator(config))
        if as_json:
            print_json(found)
        else:
            print_lines(lambda width: composition_lines(found, width))
        return 0

    guarded(work, debug=debug)


def composition_lines(found: Composition, width: int) -> Sequence[Text]:
    """Enabled plugins with their options, the others, the way of a publish and of a delivery."""
    from rich.text import Text

    from squall.chaos.layout import field

    lines = []
    names = [one.name for one in (*found.enabled, *found.available)]
    column = max(map(len, names), default=0)
    rows: list[tuple[str, Entry]] = [("enabled", one) for one in found.enabled]
    rows += [("available", one) for one in found.available]
    before = ""
    for label, entry in rows:
        options = " · ".join(f"{name} {value}" for name, value in entry.options.items())
        told = entry.missing or (options if label == "enabled" else entry.summary)
        roles = ", ".join(entry.roles)
        text = f"{entry.name:<{column}}  {roles:<13}  {told}".rstrip()
        lines += _row(label if label != before else "", text, column + 2, width)
        before = label
    if found.by_default:
        lines += field("", "(the default ones: there is no `plugins:` in squall.yaml)", width, indent=0, label_width=9)
    if found.fallback:
        lines += field("store", f"{found.fallback}: no store is enabled", width, indent=0, label_width=9)
    lines.append(Text())
    lines += field("publish", " → ".join(found.publish), width, indent=0, label_width=9)
    lines += field("deliver", " ⟩ ".join(found.deliver), width, indent=0, label_width=9)
    return lines


def _row(label: str, text: str, indent: int, width: int) -> list[Text]:
    """A row whose further lines begin below the second column."""
    import textwrap

    from rich.text import Text

    gap = " " * 10
    wrapped = textwrap.wrap(text, width, initial_indent=gap, subsequent_indent=gap + " " * indent, drop_whitespace=True)
    lines = [Text(line) for line in wrapped]
    lines[0] = Text.assemble((f"{label:<10}", "bold"), wrapped[0][len(gap) :])
    return lines
