"""squall.yaml: which plugins are enabled with which options, what scenarios may be run against and what they may do."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, WithJsonSchema

from squall.core.errors import ConfigError, Problem
from squall.core.options import Loc, M, Options, did_you_mean, show
from squall.core.subscription import OverflowPolicy
from squall.core.units import Seconds
from squall.core.yaml_source import Document, Json, limited, load_document

PluginList = Annotated[
    tuple[Any, ...],
    WithJsonSchema(
        {
            "type": "array",
            "items": {
                "anyOf": [
                    {"type": "string"},
                    {
                        "type": "object",
                        "minProperties": 1,
                        "maxProperties": 1,
                        "additionalProperties": {"type": ["object", "null"]},
                    },
                ]
            },
            "description": "enabled plugins: a name, or a name with options; the order counts within a stage",
        }
    ),
]
"""A `plugins:` list as it stands in a file; `plugin_sections` takes it apart."""


class Backlog(Options):
    """How much may wait, in what order, and what a publish gets when there is no room. strict_critical: how many
    CRITICAL events in a row may go before others that wait; None shares by weight."""

    noun: ClassVar[str] = "the backlog"

    max_events: Annotated[int, Field(ge=1)] = 100_000
    overflow: OverflowPolicy = "block"
    timeout: Seconds = 5.0
    strict_critical: Annotated[int, Field(ge=1)] | None = None


class Limits(Options):
    """The most that a scenario may ask for; None is no limit. Rate in events per second."""

    noun: ClassVar[str] = "the limits"

    rate: Annotated[float, Field(gt=0)] | None = None
    duration: Annotated[Seconds, Field(gt=0)] | None = None


class Bench(Options):
    """What the operator lets scenarios do. allow_faults None: every fault inside the bench's own processes.
    allow_servers: plugins that may write to a server which is not the run's own."""

    noun: ClassVar[str] = "the bench"

    runs: Annotated[str, Field(min_length=1)] = "runs"
    allow_faults: tuple[Literal["network", "process", "clock", "storage", "handler", "loop"], ...] | None = None
    allow_servers: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    limits: Limits = Limits()


class ClaimsSection(Options):
    """What the operator says a target promises; None leaves the target's own word."""

    noun: ClassVar[str] = "claims"

    delivery: Literal["at-least-once", "at-most-once"] | None = None
    order: Literal["none", "key"] | None = None
    durability: Literal["memory", "process", "disk"] | None = None
    lease: Seconds | None = None
    longest_delay: Seconds | None = None
    max_attempts: Annotated[int, Field(ge=1)] | None = None


class TargetSection(Options):
    """One entry under `targets:`; further keys are options of its kind."""

    model_config = ConfigDict(extra="allow")
    noun: ClassVar[str] = "a target"

    kind: Annotated[str, Field(min_length=1)]
    claims: ClaimsSection = ClaimsSection()


class _File(Options):
    noun: ClassVar[str] = "squall.yaml"

    version: Literal[1]
    plugins: PluginList | None = None
    backlog: Backlog = Backlog()
    handlers: dict[str, str] = Field(default_factory=dict)
    targets: dict[str, TargetSection] = Field(default_factory=dict)
    bench: Bench = Bench()


@dataclass(frozen=True)
class PluginSection:
    """A plugin that a file enables: its name, and where in which document its options stand."""

    name: str
    document: Document
    loc: Loc
    data: Mapping[str, Json]

    def options(self, model: type[M]) -> M:
        """The options as the plugin's own model. Raises ConfigError with every problem, placed in the file."""
        return self.document.fit(dict(self.data), model, self.loc, self.name)

    def problem(self, message: str, hint: str = "") -> Problem:
        """A Problem at this entry, such as a name that is not installed."""
        return self.document.problem(self.loc, message, hint)


@dataclass(frozen=True)
class Config:
    """A validated squall.yaml, or the defaults. plugins None: the file does not say, so the default ones.

    handlers maps names to `module:attr`, targets names to their sections. folder is the file's own: where relative
    paths begin.
    """

    document: Document | None = None
    plugins: tuple[PluginSection, ...] | None = None
    backlog: Backlog = field(default_factory=Backlog)
    handlers: Mapping[str, str] = field(default_factory=dict)
    targets: Mapping[str, TargetSection] = field(default_factory=dict)
    bench: Bench = field(default_factory=Bench)
    folder: Path = Path()

    def handler(self, name: str) -> Callable[..., object]:
        """The code that `handlers:` calls `name`, imported. Raises ConfigError where there is none."""
        if name not in self.handlers:
            hint = did_you_mean(name, self.handlers, "handlers")
            raise ConfigError([Problem("handlers", f"there is no handler '{name}'", hint=hint)])
        try:
            code = import_handler(self.handlers[name])
            _check_takes_payload(code, self.handlers[name])
        except ValueError as error:
            reason = str(error)
            if self.document is not None:
                raise ConfigError([self.document.problem(("handlers", name), reason)]) from error
            raise ConfigError([Problem(f"handlers.{name}", reason)]) from error
        return code


def load_config(path: str | Path) -> Config:
    """Read a squall.yaml. Raises ConfigError with every problem in it.

    Whether the plugins are installed, and their options, are judged by who knows the plugins, through `plugins`.
    """
    document = load_document(path)
    return make_config(document, Path(path).parent)


def make_config(document: Document, folder: Path) -> Config:
    """The configuration that a document holds. Raises ConfigError with every problem in it."""
    problems: list[Problem] = []
    file: _File | None = None
    try:
        file = document.validate(_File)
    except ConfigError as error:
        problems.extend(error.problems)
    sections, found = plugin_sections(document, ("plugins",))
    problems.extend(found)
    handlers = document.at(("handlers",))
    if isinstance(handlers, dict):
        for name, text in handlers.items():
            if isinstance(text, str) and not _is_reference(text):
                message = f"expected 'package.module:function', got {show(text)}"
                problems.append(document.problem(("handlers", name), message))
    if problems or file is None:
        raise ConfigError(limited(problems))
    return Config(
        document=document,
        plugins=None if file.plugins is None else tuple(sections),
        backlog=file.backlog,
        handlers=file.handlers,
        targets=file.targets,
        bench=file.bench,
        folder=folder,
    )


def plugin_sections(document: Document, loc: Loc) -> tuple[list[PluginSection], list[Problem]]:
    """The entries of the plugin list at loc, each `name` or `{name: {options}}`, and what is wrong with the list."""
    entries = document.at(loc)
    sections: list[PluginSection] = []
    problems: list[Problem] = []
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        here = (*loc, index)
        if isinstance(entry, str) and entry:
            section = PluginSection(entry, document, here, {})
        elif isinstance(entry, dict) and len(entry) == 1 and isinstance(next(iter(entry.values())), dict | None):
            ((name, options),) = entry.items()
            section = PluginSection(name, document, (*here, name), options if isinstance(options, dict) else {})
        else:
            got = "several plugins" if isinstance(entry, dict) and len(entry) > 1 else show(entry)
            problems.append(document.problem(here, f"expected a plugin's name, or '- name: {{options}}', got {got}"))
            continue
        if any(section.name == other.name for other in sections):
            problems.append(section.problem(f"the plugin '{section.name}' is listed twice"))
        sections.append(section)
    return sections, problems


def import_handler(reference: str) -> Callable[..., object]:
    """The callable that `module:attr` names.

    Raises ValueError saying what is missing: the form, the module, something that the module imports, or the attribute.
    """
    if not _is_reference(reference):
        raise ValueError(f"expected 'package.module:function', got {show(reference)}")
    module_name, _, path = reference.partition(":")
    try:
        found: object = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        missing = isinstance(error, ModuleNotFoundError) and f"{module_name}.".startswith(f"{error.name}.")
        reason = "there is no such module" if missing else f"{type(error).__name__}: {error}"
        raise ValueError(f"cannot import {module_name}: {reason}") from error
    for name in path.split("."):
        if not hasattr(found, name):
            hint = did_you_mean(name, (known for known in dir(found) if not known.startswith("_")))
            raise ValueError(f"{module_name} has no {path}" + (f", {hint}" if hint else ""))
        found = getattr(found, name)
    if not callable(found):
        raise ValueError(f"{reference} is {type(found).__name__}, not a function")
    if inspect.isgeneratorfunction(found) or inspect.isasyncgenfunction(found):
        raise ValueError(f"{reference} yields: nothing of it would run when it is called")
    return found


def _check_takes_payload(code: Callable[..., object], reference: str) -> None:
    """Raises ValueError where it surely cannot be called with one argument."""
    try:
        signature = inspect.signature(code)
    except (ValueError, TypeError):
        return  # something built in, which does not tell
    try:
        signature.bind(b"")
    except TypeError as error:
        raise ValueError(f"{reference} cannot be called with a payload: {error}") from error


def _is_reference(text: str) -> bool:
    module, colon, path = text.partition(":")
    return bool(colon) and _are_names(module.split(".")) and _are_names(path.split("."))


def _are_names(parts: Sequence[str]) -> bool:
    return all(part.isidentifier() for part in parts)
