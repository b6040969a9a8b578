"""Verbs that plugins bring, by the hook squall_cli_commands: found by entry point, imported when they are called."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import typer
from typer.core import TyperCommand, TyperGroup

from squall.chaos.cli.guard import DebugOption, guarded

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "squall.commands"


class Group(TyperGroup):
    """Verbs, of which the nearest is told where there is none of that name."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None:
            from squall.core.options import did_you_mean

            hint = did_you_mean(args[0], self.list_commands(ctx)) or f"{ctx.command_path} --help lists them"
            ctx.fail(f"there is no verb '{args[0]:.80}' ({hint})")
        return super().resolve_command(ctx, args)


class Verbs(Group):
    """The verbs of the command line: squall's own, and those of plugins, whose names are those of entry points."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return own + sorted(_points().keys() - set(own))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = _points().get(cmd_name)
        return None if point is None else _Plugged(cmd_name, point)

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            _tell_in_own_words(error)
            raise


def _tell_in_own_words(error: typer.BadParameter) -> None:
    """End with what is wrong with an option in squall's words, as in files, where pydantic has checked its value."""
    from pydantic import BaseModel, ValidationError

    from squall.core.options import explain

    cause, param = error.__cause__, error.param
    if error.ctx is not None and param is not None and isinstance(cause, ValidationError):
        name = param.get_error_hint().replace("'", "")
        error.ctx.fail(f"{name}: {'; '.join(finding.text() for finding in explain(cause, BaseModel, None))}")


class _Plugged(TyperCommand):
    """Stands for a plugin's verb until it is called: the list of verbs must not wait for what plugins import."""

    def __init__(self, name: str, point: EntryPoint) -> None:
        super().__init__(name, short_help=_first_line(point.module), rich_markup_mode=None)
        self._point = point

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        command = _command(str(self.name), self._point)
        return command.make_context(info_name, args, parent, **extra)


def _points() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points

    return {point.name: point for point in entry_points(group=GROUP)}


def _first_line(module: str) -> str:
    """The first line of a module's docstring, read and not run."""
    try:
        first, *others = module.split(".")
        spec, name = importlib.util.find_spec(first), first
        for part in others:  # without the packages that it lies in, which importlib would run to find it
            name = f"{name}.{part}"
            spec = PathFinder.find_spec(name, spec.submodule_search_locations) if spec else None
        if spec is None:
            raise ModuleNotFoundError(f"no module named {name}")
        source = Path(spec.origin).read_text(encoding="utf-8") if spec.origin else ""
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
    except (ImportError, OSError, SyntaxError, ValueError) as error:
        return f"({module} cannot be read: {error})"


def _command(name: str, point: EntryPoint) -> Any:
    """The verb itself; where its plugin cannot be had, one that says so."""

    def fail() -> int:
        return _asked(name, point)()

    def work(debug: DebugOption = False) -> None:
        guarded(fail, debug=debug)

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    try:
        found = _guarded(_asked(name, point))
    except Exception:  # noqa: BLE001  told when the verb runs, as every error is
        found, settings = work, {"ignore_unknown_options": True, "allow_extra_args": True}
        app.command(name, context_settings=settings)(found)
    else:
        app.command(name)(found)
    return typer.main.get_command(app)


def _asked(name: str, point: EntryPoint) -> Callable[..., int]:
    """What the plugin says is the verb. Raises ConfigError or WiringError."""
    from squall.core.errors import WiringError
    from squall.core.wiring import Registry, load_class

    for commands in Registry([load_class(point)()]).ask("squall_cli_commands"):
        if callable(command := commands.get(name)):
            found: Callable[..., int] = command
            return found
    raise WiringError(f"plugin {point.value}: squall_cli_commands does not offer the command '{name}'")


def _guarded(function: Callable[..., int]) -> Callable[..., None]:
    """The function as a verb: with --debug, and with one message and an exit code for what goes wrong."""

    @functools.wraps(function)
    def verb(*, debug: bool, **arguments: object) -> None:
        guarded(lambda: function(**arguments), debug=debug)

    signature = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    own = [one.replace(annotation=hints[one.name]) for one in signature.parameters.values()]
    last = inspect.Parameter("debug", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=DebugOption)
    verb.__signature__ = signature.replace(parameters=[*own, last], return_annotation=None)  # type: ignore[attr-defined]
    verb.__annotations__ = {one.name: one.annotation for one in (*own, last)}
    del verb.__wrapped__
    return verb
