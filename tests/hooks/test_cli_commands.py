"""squall_cli_commands: verbs of the command line that plugins bring."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.metadata import EntryPoint
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner, Result

from squall import ConfigError, Plugin, hookimpl
from squall.chaos.cli import app, plugged


def greet(
    who: Annotated[str, typer.Argument(help="whom to greet")],
    loud: Annotated[bool, typer.Option("--loud", help="so that all hear it")] = False,
) -> int:
    """Greet somebody.

    At length.
    """
    if who == "nobody":
        raise ConfigError("who: expected somebody, got nobody")
    typer.echo(f"Hello, {who}{'!' if loud else '.'}")
    return 3


class Greets(Plugin):
    """Brings a verb along."""

    @hookimpl
    def squall_cli_commands(self) -> Mapping[str, Callable[..., int]]:
        return {"greet": greet}


class Silent(Plugin):
    """Is named by an entry point, and offers nothing."""


def call(monkeypatch: pytest.MonkeyPatch, *arguments: str, module: str = __name__, kind: str = "Greets") -> Result:
    """`squall` with these arguments, where this plugin is installed for the verb greet."""
    point = EntryPoint("greet", f"{module}:{kind}", plugged.GROUP)
    monkeypatch.setattr(plugged, "_points", lambda: {"greet": point})
    return CliRunner().invoke(app, list(arguments))


def test_a_plugins_verb_is_a_verb(monkeypatch: pytest.MonkeyPatch) -> None:
    """With its own arguments and options; what it returns is the exit code."""
    result = call(monkeypatch, "greet", "Ada", "--loud")
    assert (result.exit_code, result.output) == (3, "Hello, Ada!\n")


def test_its_help_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """And has --debug, as all verbs have."""
    output = call(monkeypatch, "greet", "--help").output
    for part in ("Greet somebody.", "whom to greet", "--loud", "so that all hear it", "--debug"):
        assert part in output


def test_the_list_of_verbs_shows_the_first_line_of_its_module_unimported(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the module would need does not have to be there."""
    monkeypatch.setattr(plugged, "_command", lambda name, point: pytest.fail("it is imported"))
    output = call(monkeypatch, "--help").output
    assert "greet     squall_cli_commands: verbs of the command line" in output
    assert "cannot be read" in call(monkeypatch, "--help", module="no.such").output


def test_an_error_is_one_message_and_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake in a configuration is 2."""
    result = call(monkeypatch, "greet", "nobody")
    assert result.exit_code == 2
    assert "expected somebody, got nobody" in result.output
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    ("module", "kind", "message"),
    [
        ("no.such.module", "Any", "cannot be imported"),
        (__name__, "Silent", "does not offer the command 'greet'"),
        (__name__, "greet", "expected a subclass of squall.Plugin"),
    ],
)
def test_a_verb_that_cannot_be_had_says_why(
    monkeypatch: pytest.MonkeyPatch, module: str, kind: str, message: str
) -> None:
    """When it is called, whatever its arguments are."""
    result = call(monkeypatch, "greet", "Ada", "--loud", module=module, kind=kind)
    assert result.exit_code == 2
    assert message in result.output


def test_squalls_own_verbs_are_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plugin cannot take `run` over."""
    monkeypatch.setattr(plugged, "_points", lambda: {"run": EntryPoint("run", f"{__name__}:Greets", plugged.GROUP)})
    assert "Run scenarios" in CliRunner().invoke(app, ["run", "--help"]).output
