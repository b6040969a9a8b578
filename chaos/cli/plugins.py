"""`squall plugins`: what is enabled, what else is installed, and what it composes to; and a new one, to begin with."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from squall.chaos.cli.guard import DebugOption, JsonOption, guarded
from squall.chaos.cli.operator import ConfigOption, read_operator
from squall.chaos.cli.plugged import Group

LABEL = 9

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text

    from squall.chaos.composition import Composition


app = typer.Typer(cls=Group, invoke_without_command=True, rich_markup_mode=None)


@app.callback()
def command(
    ctx: typer.Context, config: ConfigOption = None, as_json: JsonOption = False, debug: DebugOption = False
) -> None:
    """Show plugins, and what they compose to.

    Those that squall.yaml enables with their options, the others that are installed, the way of a publish and that of
    a delivery.

    \b
    Example:
      squall plugins
      squall plugins --config shop/squall.yaml --json
    """
    if ctx.invoked_subcommand is not None:
        return

    def work() -> int:
        from squall.chaos.cli.output import print_json, print_lines
        from squall.chaos.composition import composition

        found = composition(*read_operator(config))
        if as_json:
            print_json(found)
        else:
            print_lines(lambda width: composition_lines(found, width))
        return 0

    guarded(work, as_json=as_json, debug=debug)


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="of the package and of the plugin, such as storm-kit")],
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="middleware, fault, invariant, target or page")
    ] = "middleware",
    into: Annotated[
        Path, typer.Option("--into", metavar="DIR", help="where the package's folder is made, instead of here")
    ] = Path(),
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a plugin of your own to begin with: a package that can be installed, its tests, and a scenario to try it.

    It is made whole or not at all. Nothing is overwritten.

    \b
    Example:
      squall plugins new storm-kit
      squall plugins new storm-fault --kind fault --into plugins
    """

    def work() -> int:
        from squall.chaos.scaffold import scaffold

        written = scaffold(name, kind, into)
        if as_json:
            from squall.chaos.cli.output import print_json

            print_json({"exit_code": 0, "written": written})
            return 0
        for path in written:
            typer.echo(f"wrote    {path}")
        steps = (f"cd {shlex.quote(str(into / name))}", "pip install -e '.[test]'", "pytest", "squall run try-it.yaml")
        typer.echo("\nnext     " + "\n         ".join(steps))
        return 0

    guarded(work, as_json=as_json, debug=debug)


def composition_lines(found: Composition, width: int) -> Sequence[Text]:
    """Enabled plugins with their options, the others, the way of a publish and of a delivery."""
    from rich.text import Text

    from squall.chaos.layout import field

    column = max((len(one.name) for one in (*found.enabled, *found.available)), default=0)
    across = max((len(", ".join(one.roles)) for one in found.enabled), default=0)
    lines: list[Text] = []

    def row(label: str, name: str, text: str) -> None:
        further = column + 2
        first, *rest = field(label, text, width, indent=0, label_width=LABEL + further)
        begin = LABEL + 1 + further
        lines.append(Text.assemble((f"{label:<{LABEL}} ", "bold"), f"{name:<{further}}", first[begin:]))
        lines.extend(rest)

    if found.by_default:
        lines.append(Text("no plugins are configured: the default ones are enabled", "dim"))
    for number, one in enumerate(found.enabled):
        options = " · ".join(f"{name} {value}" for name, value in one.options.items())
        row("enabled" if number == 0 else "", one.name, f"{', '.join(one.roles):<{across}}  {options}")
    if found.fallback:
        row("", found.fallback, f"{'store':<{across}}  since no store is enabled")
    for number, one in enumerate(found.available):
        row("available" if number == 0 else "", one.name, one.missing or one.summary or ", ".join(one.roles))
    lines.append(Text())
    lines += field("publish", " → ".join(found.publish), width, indent=0, label_width=LABEL)
    lines += field("deliver", " ⟩ ".join(found.deliver), width, indent=0, label_width=LABEL)
    return lines
