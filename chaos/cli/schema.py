"""`squall schema`: the JSON Schema of scenario files, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from squall.chaos.cli.guard import DebugOption, guarded
from squall.chaos.cli.operator import ConfigOption, read_operator


def command(
    out: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="write it there, not to stdout")] = None,
    config: ConfigOption = None,
    debug: DebugOption = False,
) -> None:
    """Print the JSON Schema of scenario files.

    An editor that knows it completes and checks them.

    \b
    Example:
      squall schema --out scenario.schema.json
    """

    def work() -> int:
        import json

        from squall.chaos.scenario_schema import json_schema

        settings, catalogue = read_operator(config)
        text = json.dumps(json_schema(catalogue.known(settings)), indent=2) + "\n"
        if out is None:
            typer.echo(text, nl=False)
        else:
            out.write_text(text, encoding="utf-8")
        return 0

    guarded(work, debug=debug)
