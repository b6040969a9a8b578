"""`squall validate`: everything that is wrong with scenarios, at once."""

from __future__ import annotations

import typer

from squall.chaos.cli.guard import USAGE, DebugOption, JsonOption, complain, errors, guarded
from squall.chaos.cli.operator import (
    ConfigOption,
    FilesArgument,
    SeedOption,
    SetOption,
    read_operator,
    read_scenarios,
)


def command(
    files: FilesArgument,
    config: ConfigOption = None,
    sets: SetOption = None,
    seed: SeedOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,
) -> None:
    """Say all that is wrong with scenarios.

    Nothing is started.

    \b
    Example:
      squall validate scenarios/shop.yaml
      squall validate scenarios/*.yaml --json
    """

    def work() -> int:
        from squall.core.errors import ConfigError, Problem
        from squall.core.yaml_source import number_of

        settings, catalogue = read_operator(config)
        found: dict[str, tuple[Problem, ...]] = {}
        for file in files:
            try:
                read_scenarios([file], sets or (), seed, settings, catalogue)
                found[file] = ()
            except ConfigError as error:
                found[file] = error.problems
                if not as_json:
                    complain(error)
            if not found[file] and not as_json:
                typer.echo(f"{file}: valid")
        wrong = sum(map(number_of, found.values()))
        if as_json:
            from squall.chaos.cli.output import print_json

            files_data = [
                {"file": file, "valid": not problems, "problems": problems} for file, problems in found.items()
            ]
            print_json({"exit_code": USAGE if wrong else 0, "files": files_data})
        elif wrong:
            typer.echo(errors(wrong), err=True)
        return USAGE if wrong else 0

    guarded(work, as_json=as_json, debug=debug)
