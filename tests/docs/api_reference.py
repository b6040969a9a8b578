"""What docs/api.md says of the public names, from their own code: signatures with their docstrings, and tables.

A block behind `<!-- signature: EventRouter.start, EventRouter.stop -->` is what the code declares: `make docs` writes
it anew. Named is a class (all of it that is public), members of a class, a function, or a module (its docstring).
"""

from __future__ import annotations

import ast
import enum
import importlib
import inspect
import re
import textwrap
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from tests.docs.hook_reference import TYPES

import squall
from squall.core import subscription_checks

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "api.md"
MARK = re.compile(r"<!-- signature: (.+?) -->\n```(python|text)\n(.*?)```\n", re.DOTALL)
WORDS: Mapping[Any, str] = {
    str: "text",
    bool: "`True` or `False`",
    int: "whole number",
    float: "number",
    bytes: "bytes",
    Any: "anything",
}
UNITS = {"_s": "seconds", "_ns": "nanoseconds", "_bytes": "bytes"}
"""How numbers whose names end so are counted."""

PLACE = re.compile(
    r"^#+ (?P<heading>.+)$|^<!-- (?:signature:|table: (?:arguments|fields) of) (?P<names>[^>]+?) -->$", re.MULTILINE
)

Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def render(text: str) -> str:
    """The text of a page with all its signatures written anew. Raises KeyError for a name that is not there."""
    return MARK.sub(lambda found: f"<!-- signature: {found[1]} -->\n```{found[2]}\n{signature(found[1])}```\n", text)


# Signatures


def signature(names: str) -> str:
    """What the code declares of these names, as it is written there, without what it does."""
    parts = []
    for owner, group in groupby(re.split(r",\s+", names), key=lambda name: name.rpartition(".")[0]):
        members = [name.rpartition(".")[2] for name in group]
        if owner.startswith("squall."):
            module = importlib.import_module(f"{owner}.{members[0]}")
            parts.append(f"{inspect.cleandoc(module.__doc__ or '')}\n")
        elif owner:
            node, lines = _declared(owner)
            found = {one.name: _stub(one, lines) for one in node.body if isinstance(one, Named)}
            parts.append(f"class {owner}:\n" + "\n".join(found[member] for member in members))
        else:
            parts += [_stub(*_declared(member)) for member in members]
    return "\n\n".join(parts)


@cache
def _declared(name: str) -> tuple[Named, Sequence[str]]:
    path = inspect.getsourcefile(getattr(squall, name))
    assert path is not None
    text = Path(path).read_text(encoding="utf-8")
    found = [node for node in ast.parse(text).body if isinstance(node, Named) and node.name == name]
    return found[0], text.splitlines()


def _stub(node: Named, lines: Sequence[str]) -> str:
    """Its lines up to the end of its docstring; of a class its fields and public methods too."""
    first = node.body[0]
    documented = ast.get_docstring(node) is not None
    begin = min([node.lineno, *(one.lineno for one in node.decorator_list)])
    end = first.end_lineno if documented else max(node.lineno, first.lineno - 1)
    assert end is not None
    shown = [*lines[begin - 1 : end]]
    if isinstance(node, ast.ClassDef):
        parts = ["\n".join(shown) + "\n", *_members(node, lines)]
        return "\n".join(part for part in parts if part)
    if not documented and not shown[-1].rstrip().endswith("..."):
        shown[-1] += " ..."
    return "\n".join(shown) + "\n"


def _members(node: ast.ClassDef, lines: Sequence[str]) -> Iterator[str]:
    fields = [
        f"    {one.target.id}: {ast.unparse(one.annotation)}{_default(one.value)}\n".replace("'", '"')
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name) and not one.target.id.startswith("_")
    ]
    fields += [
        f"    {ast.unparse(one)}\n"
        for one in node.body
        if isinstance(one, ast.Assign) and isinstance(one.value, ast.Constant)
    ]
    yield "".join(fields)
    for one in node.body:
        if isinstance(one, Named) and (not one.name.startswith("_") or one.name == "__init__"):
            yield _stub(one, lines)


def _default(value: ast.expr | None) -> str:
    """` = 5`, also where a dataclass says more of the field than that."""
    if isinstance(value, ast.Call) and ast.unparse(value.func) == "field":
        value = {one.arg: one.value for one in value.keywords}.get("default")
    return "" if value is None else f" = {ast.unparse(value)}"


# Tables


def arguments(name: str) -> list[tuple[str, str, str]]:
    """Each argument of a method, or of what makes a class: its name, value and default, as people read them."""
    thing = found(name)
    hints = hints_of(thing)
    return [
        (f"`{one.name}`", value_of(one.name, hints[one.name]), _shown(one.default))
        for one in inspect.signature(thing).parameters.values()
        if one.name != "self"
    ]


def fields(name: str) -> list[tuple[str, str]]:
    """Each field of a record: its name and value."""
    return [(f"`{field}`", value_of(field, hint)) for field, hint in hints_of(found(name)).items()]


def found(name: str) -> Any:
    """The public thing of this name."""
    thing: Any = squall
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def hints_of(thing: Any) -> dict[str, Any]:
    """The types of its arguments or fields."""
    module = importlib.import_module(thing.__module__)
    return typing.get_type_hints(thing, vars(module) | {"EventRouter": squall.EventRouter})


def value_of(name: str, hint: Any) -> str:
    """What may be given, in words: `seconds, 0.001 to 86,400`, `new or earliest`, `a Priority`."""
    if get_origin(hint) in (typing.Union, types.UnionType):
        return _either([value_of(name, one) for one in get_args(hint) if one is not type(None)])
    low, high = vars(subscription_checks)["_RANGES"].get(name, (None, None))
    return _plain(name, hint) + (f", {low:,} to {high:,}" if high else "")


def _plain(name: str, hint: Any) -> str:
    unit = next((word for ending, word in UNITS.items() if name.endswith(ending)), None)
    if hint in WORDS:
        return unit if unit is not None and hint in (int, float) else WORDS[hint]
    origin, parts = get_origin(hint), get_args(hint)
    if origin is Literal:
        return _either([f'`"{one}"`' for one in parts])
    if origin is Callable:
        return "function" if get_origin(parts[1]) is None else "async function"
    if origin in (dict, Mapping):
        return f"mapping of {_plain('', parts[0])} to {_plain('', parts[1])}"
    return f"`{hint.__name__}`" if origin is None else f"list of {value_of('', parts[0])}"


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _shown(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "required"
    if isinstance(default, enum.Enum):
        return f"`{type(default).__name__}.{default.name}`"
    return "none" if default in (None, ()) else f"`{default!r}`".replace("'", '"')


# Where each public name is told of


def names() -> list[tuple[str, str | None, str | None]]:
    """Every public name, what it is in its own words, and where the page or docs/hooks.md tells of it; None where the
    code does not know."""
    told = places(PAGE.read_text(encoding="utf-8"))
    told |= {name: f"[Hooks](hooks.md#{name.lower()})" for group in TYPES.values() for name in group}
    return [(f"`{name}`", _summary(getattr(squall, name)), told.get(name)) for name in squall.__all__]


def places(text: str) -> dict[str, str]:
    """The section of a page in which each name's signature or table stands, as a link."""
    places: dict[str, str] = {}
    heading = ""
    for found in PLACE.finditer(text):
        if found["heading"]:
            heading = found["heading"]
            continue
        names = found["names"]
        listed = re.findall(r"\w+", signature(names)) if names.startswith("squall.") else ()
        anchor = re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-")
        for name in (*re.split(r",\s+", names), *listed):
            places.setdefault(name.split(".")[0], f"[{heading}](#{anchor})")
    return places


def _summary(thing: Any) -> str | None:
    """Its first sentence, where it has one of its own."""
    if not (inspect.isclass(thing) or inspect.isfunction(thing)):
        return None
    text = " ".join(textwrap.dedent(thing.__doc__ or "").split())
    return re.split(r"(?<=[a-z`)0-9])[.;] ", text)[0].rstrip(".").replace("|", r"\|") + "."


def shown(text: str) -> set[str]:
    """Every name and member that a page shows the signature of."""
    return {name for mark in MARK.findall(text) for name in re.split(r",\s+", mark[0])}


def public_members(kind: type) -> set[str]:
    """What a class declares for people to call."""
    node, _ = _declared(kind.__name__)
    return {one.name for one in node.body if isinstance(one, Named) and not one.name.startswith("_")}
