"""Writes docs/hooks.md anew from core/hookspecs.py and from what hooks are given and give: `make hooks`."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from squall.core import hookspecs

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "hooks.md"
TESTS = ROOT / "tests" / "hooks"
BUILT_IN = ("plugins", "chaos", "dashboards")
TYPES = {
    "squall.core.plugin": ("Plugin", "Context"),
    "squall.core.store": ("EventStore", "Capabilities", "Progress", "Settlement"),
    "squall.core.subscription": ("Subscription",),
    "squall.core.middleware": ("guard", "around"),
    "squall.core.delivery": (
        "Gate",
        "Permits",
        "WaitUntil",
        "SettlePolicy",
        "FailedDelivery",
        "Ack",
        "Nak",
        "Term",
        "Observer",
        "Attempt",
    ),
    "squall.core.target": ("Target", "Batches", "Endpoint"),
    "squall.core.load_driver": ("LoadDriverKind", "LoadDriver", "LoadContext", "Publish", "Generated"),
    "squall.core.fault": ("Fault", "FaultContext", "Evidence", "Seam", "Network", "Proxies"),
    "squall.core.invariant": ("Invariant",),
    "squall.core.dashboard": ("DashboardPage", "Look"),
}
"""What a hook is given, or gives, in the order of the hooks that need it."""

HEAD = """\
# Hooks

A plugin is a subclass of `squall.Plugin` whose methods, marked with `squall.hookimpl`, are hooks. Every hook is called
when a router, a subscription or a run is wired, or when somebody asks (the command line, a server), never per event:
what it returns is composed once. A raise while wiring stops it with a `WiringError` that names the plugin and the hook;
a `ServerError`, of a server that it needs, passes as it is.
A hook that has nothing to give returns `None`, and a hook that is not needed is not written. Take only the arguments
that you use.

*This page is made from `core/hookspecs.py` by `make hooks`; a test holds that it is current, and that each hook has a
test and a plugin of squall's own that uses it.*
"""


class Plain(str):
    """An annotation that is shown without quotes."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class Use(NamedTuple):
    """A class that implements a hook, and the file that it stands in, relative to the root."""

    plugin: str
    file: str


def hooks() -> dict[str, inspect.Signature]:
    """Every hook in the order of the way of an event."""
    found = {name: value for name, value in vars(hookspecs).items() if name.startswith("squall_")}
    return {name: inspect.signature(value) for name, value in found.items()}


@cache
def implementations(folder: Path, root: Path) -> tuple[tuple[str, Use], ...]:
    """Each method in this folder that is marked as a hook."""
    return tuple(
        (method.name, Use(node.name, path.relative_to(root).as_posix()))
        for path in sorted(folder.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
        for method in node.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
        and "hookimpl" in map(ast.unparse, method.decorator_list)
    )


def uses(hook: str, *folders: str, root: Path = ROOT) -> list[Use]:
    """The classes in these folders that implement the hook."""
    found = [one for folder in folders for one in implementations(root / folder, root)]
    return [use for name, use in found if name == hook]


def render() -> str:
    """The whole page."""
    parts = [HEAD, "| hook | called |\n|---|---|\n" + "\n".join(map(_row, hooks())) + "\n"]
    parts += [_hook(name, signature) for name, signature in hooks().items()]
    parts.append("## What hooks are given, and give\n")
    parts += [_type(module, name) for module, names in TYPES.items() for name in names]
    return "\n".join(parts)


def _row(name: str) -> str:
    called = _doc(getattr(hookspecs, name)).split(". ")[0].removeprefix("Called ").rstrip(".")
    return f"| [`{name}`](#{name}) | {called} |"


def _hook(name: str, signature: inspect.Signature) -> str:
    by = ", ".join(f"`{use.plugin}` in [{use.file}](../{use.file})" for use in uses(name, *BUILT_IN))
    return f"## {name}\n\n`{_shown(name, signature)}`\n\n{_doc(getattr(hookspecs, name))}\n\nUsed by {by}.\n"


def _shown(name: str, signature: inspect.Signature) -> str:
    """As one writes a call of it, with types, without self."""
    parameters = [
        one.replace(annotation=Plain(one.annotation)) for one in signature.parameters.values() if one.name != "self"
    ]
    return f"{name}{signature.replace(parameters=parameters, return_annotation=Plain(signature.return_annotation))}"


def _doc(thing: object) -> str:
    """A docstring, its paragraphs on one line each."""
    paragraphs = inspect.cleandoc(getattr(thing, "__doc__", "") or "").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _type(module: str, name: str) -> str:
    thing = getattr(importlib.import_module(module), name)
    if inspect.isfunction(thing):
        return f"### {name}\n\n`{_shown(name, inspect.signature(thing))}`\n\n{_doc(thing)}\n"
    lines = [f"### {name}\n", f"{_doc(thing)}\n"]
    members = [*_fields(thing), *_methods(thing)]
    return "\n".join([*lines, *members, ""] if members else lines)


def _fields(thing: type) -> Iterator[str]:
    for field, kind in inspect.get_annotations(thing).items():
        if not field.startswith("_"):
            yield f"- `{field}: {getattr(kind, '__forward_arg__', kind)}`"


def _methods(thing: type) -> Iterator[str]:
    for name, member in vars(thing).items():
        if name.startswith("_"):
            continue
        if isinstance(member, property) and member.fget is not None:
            yield _item(f"{name}: {inspect.signature(member.fget).return_annotation}", member)
        elif inspect.isfunction(member):
            word = "async " if inspect.iscoroutinefunction(member) else ""
            yield _item(word + _shown(name, inspect.signature(member)), member)


def _item(shown: str, member: object) -> str:
    doc = " ".join(_doc(member).split())
    return f"- `{shown}`" + (f": {doc}" if doc else "")


if __name__ == "__main__":
    PAGE.write_text(render(), encoding="utf-8")
