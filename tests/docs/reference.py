"""Writes the tables and signatures of reference in docs/ anew from what they speak of: `make docs`.

A table stands behind a comment that names it, `<!-- table: keys of Stage -->`. What the code knows is written anew:
keys, values, defaults, and meanings where a model has words of its own. What it does not know, examples and the other
meanings, stays as it is written in the page; what is new there is left empty, and a test fails until it is told.
"""

from __future__ import annotations

import ast
import re
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

import typer
from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from tests.docs import api_reference, backend_reference, store_reference

from squall.chaos import scenario_models
from squall.chaos.check import engine, expectations, verdict
from squall.chaos.cli import app
from squall.chaos.remedies import NEXT
from squall.chaos.report.meanings import MEANINGS
from squall.core import config, filters, units
from squall.core.options import Options
from squall.plugins.faults import FaultsPlugin
from squall.plugins.locust import options as locust
from squall.plugins.network import NetworkPlugin
from squall.plugins.processes import ProcessesPlugin
from squall.plugins.redis_streams import target as redis_streams

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
MARK = re.compile(r"<!-- table: (.+?) -->\n\n((?:\|.*\n)*)\n?")

Written = Mapping[str, Mapping[str, str]]
"""What stands in the page: cells by their column, by the first cell of the row."""


class Table(NamedTuple):
    """Headings and rows. A cell None is the page's own: it is kept."""

    headings: Sequence[str]
    rows: Sequence[Sequence[str | None]]


def pages() -> list[Path]:
    """The pages that hold such tables."""
    texts = {page: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
    return [page for page, text in texts.items() if MARK.search(text) or api_reference.MARK.search(text)]


def render(text: str) -> str:
    """The text of a page with all its tables and signatures written anew. Raises KeyError for what is not known."""
    text = MARK.sub(lambda found: _rendered(found[1], cells(found[2])), text).rstrip("\n") + "\n"
    return api_reference.render(text)


def cells(table: str) -> Written:
    """The cells of a table as it is written."""
    lines = [
        [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().removeprefix("|").removesuffix("|"))]
        for line in table.splitlines()
    ]
    if not lines:
        return {}
    headings = lines[0]
    return {row[0]: dict(zip(headings, row, strict=True)) for row in lines[2:]}


def tables(text: str) -> Iterator[tuple[str, Table, Written]]:
    """Each table of a page: its name, what the code says it is, and what is written."""
    for name, written in MARK.findall(text):
        yield name, known(name), cells(written)


def known(name: str) -> Table:
    """The table of this name, as the code has it."""
    for begin, make in KINDS.items():
        if name.startswith(begin):
            return make(name.removeprefix(begin))
    raise KeyError(f"there is no table {name!r}; known: {', '.join(KINDS)}")


def _rendered(name: str, written: Written) -> str:
    table = known(name)
    lines = [table.headings, ["---"] * len(table.headings)]
    for row in table.rows:
        kept = written.get(row[0] or "", {})
        lines.append(
            [kept.get(head, "") if cell is None else cell for head, cell in zip(table.headings, row, strict=True)]
        )
    text = "".join("|" + "|".join(line) + "|\n" if line[0] == "---" else f"| {' | '.join(line)} |\n" for line in lines)
    return f"<!-- table: {name} -->\n\n{text}\n"


# Options models


def model(name: str) -> type[Options]:
    """The options model of this name, of scenarios or of squall.yaml."""
    for module in (scenario_models, config, filters, expectations, redis_streams, locust):
        found = vars(module).get(name)
        if isinstance(found, type) and issubclass(found, Options):
            return found
    raise KeyError(f"there is no options model {name!r}")


def keys(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """Fields by the keys that stand in files."""
    return {field.serialization_alias or name: field for name, field in kind.model_fields.items()}


def _keys_of(name: str) -> Table:
    rows = [
        (f"`{key}`", value_of(field.annotation, field.metadata), default_of(field), None, field.description)
        for key, field in keys(model(name)).items()
    ]
    return Table(("key", "value", "default", "example", "meaning"), rows)


def default_of(field: FieldInfo) -> str:
    """A default as one writes it in a file."""
    if field.is_required():
        return "required"
    value = field.default_factory() if field.default_factory else field.default  # type: ignore[call-arg]
    if value is None or value in ((), [], {}, ""):
        return "none"
    if isinstance(value, BaseModel):
        return "its keys' own"
    return _shown(value, [getattr(one, "func", None) for one in field.metadata])


def _shown(value: Any, readers: Sequence[Any]) -> str:
    if units.parse_seconds in readers:
        return units.format_seconds(value)
    if units.parse_bytes in readers:
        return units.format_bytes(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    if isinstance(value, bool | float):
        return f"{value:g}" if isinstance(value, float) else str(value).lower()
    return str(getattr(value, "name", value))


def value_of(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """What may stand there, in words: `duration, at most 1d`, `whole number, 1 to 1,000`, `list of …`."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return value_of(inner, [*more, *metadata])
    special = _special(metadata)
    if special is not None:
        return special + _bounds(metadata, units.format_seconds if special == "duration" else units.format_bytes)
    if get_origin(annotation) in (Union, types.UnionType):
        members = [one for one in get_args(annotation) if one is not type(None)]
        words = [value_of(one, metadata if len(members) == 1 else ()) for one in members]
        return _either([word for word in words if not (word == "whole number" and "number" in words)])
    return _plain(annotation, metadata)


def _special(metadata: Sequence[Any]) -> str | None:
    """What the validators of a value make of it."""
    functions = {getattr(one, "func", None) for one in metadata}
    readers: Mapping[Any, str] = {
        units.parse_seconds: "duration",
        units.parse_bytes: "size",
        vars(filters)["_priority"]: "`CRITICAL`, `HIGH`, `NORMAL` or `LOW`",
        vars(scenario_models)["_pattern"]: "pattern",
        vars(scenario_models)["_event_type"]: "event type",
        vars(scenario_models)["_compiles"]: "[filter](#filters)",
    }
    for alias in ("Id", "Name", "VariableName"):
        (validator,) = get_args(vars(scenario_models)[alias])[1:]
        readers = {**readers, validator.func: "name"}
    return next((words for reader, words in readers.items() if reader in functions), None)


def _plain(annotation: Any, metadata: Sequence[Any]) -> str:
    arguments = get_args(annotation)
    if get_origin(annotation) is Literal:
        return _either([f"`{one}`" for one in arguments])
    if get_origin(annotation) is tuple:
        many = "" if arguments[-1] is Ellipsis else f" of {len(arguments)}"
        return (
            f"list{many}" if arguments[0] is Any else f"list{many or ' of'}{':' * bool(many)} {value_of(arguments[0])}"
        )
    if get_origin(annotation) is dict:
        return "mapping" if arguments[1] is Any else f"mapping of name to {value_of(arguments[1])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return f"[{_noun(annotation)}](#{ANCHORS.get(annotation.__name__, _noun(annotation))})"
    names: Mapping[Any, str] = {
        int: "whole number",
        float: "number",
        bool: "`true` or `false`",
        str: "text",
        Any: "name, or `name: {options}`",
    }
    return names[annotation] + _bounds(metadata, lambda value: f"{value:,g}" if value % 1 else f"{round(value):,}")


def _either(words: Sequence[str]) -> str:
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _noun(kind: type[BaseModel]) -> str:
    """`subscriber`: what messages call a section, without its article."""
    noun = getattr(kind, "noun", Options.noun)
    return (
        "filter" if noun == Options.noun else noun.split(" ", 1)[1] if noun.split()[0] in ("a", "an", "the") else noun
    )


ANCHORS = {
    "Filter": "filters",
    "Stage": "stages",
    "EventSection": "events",
    "Subscriber": "subscribers",
    "SteadySection": "steady",
    "RandomSection": "random",
    "RandomChoice": "random",
    "TargetSection": "targets",
    "ServersSection": "servers",
}
"""Where the section of the page is not called like the model."""


def _bounds(metadata: Sequence[Any], shown: Callable[[Any], str]) -> str:
    limits: dict[str, Any] = {}
    for one in _flat(metadata):
        for kind, name in ((Ge, "ge"), (Gt, "gt"), (Le, "le"), (Lt, "lt")):
            if isinstance(one, kind):
                limits[name] = getattr(one, name)
    if "ge" in limits and "le" in limits:
        return f", {shown(limits['ge'])} to {shown(limits['le'])}"
    words = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    told = [f"{words[name]} {shown(limit)}" for name, limit in limits.items() if not (name == "ge" and limit == 0)]
    return f", {' and '.join(told)}" if told else ""


def _flat(metadata: Sequence[Any]) -> Iterator[Any]:
    for one in metadata:
        yield from _flat(one.metadata) if isinstance(one, FieldInfo) else (one,)


# Faults, expectations, verdicts


def _faults(_: str) -> Table:
    rows = []
    offering = (FaultsPlugin(), NetworkPlugin(), ProcessesPlugin())
    for kind in (kind for plugin in offering for kind in plugin.squall_faults()):
        options = [
            f"`{key}` ({value_of(field.annotation, field.metadata)}; {default_of(field)}): {field.description}"
            for key, field in keys(kind).items()
        ]
        seam = kind.kind.prefix
        rows.append((f"`{seam}`: `{kind.name}`", (kind.__doc__ or "").strip(), "; ".join(options) or "none"))
    return Table(("where and `do`", "what it does", "options: value; default"), rows)


def _expectations(_: str) -> Table:
    rows = []
    for name, kind in expectations.EXPECTATIONS.items():
        options = " · ".join(f"`{key}`" for key in keys(kind))
        rows.append((f"`{name}`", _words(kind.__doc__), options or "none"))
    return Table(("name", "what must hold", "options"), rows)


def _expectation_options(_: str) -> Table:
    rows = [
        (f"`{name}`: `{key}`", value_of(field.annotation, field.metadata), default_of(field), None, field.description)
        for name, kind in expectations.EXPECTATIONS.items()
        for key, field in keys(kind).items()
        if key not in expectations.Measured.model_fields
    ]
    rows += [
        (f"thresholds: `{key}`", value_of(field.annotation, field.metadata), default_of(field), None, field.description)
        for key, field in keys(expectations.Measured).items()
    ]
    return Table(("option", "value", "default", "example", "meaning"), rows)


def _meanings(_: str) -> Table:
    return Table(("invariant", "in plain words", "exactly"), [(f"`{n}`", text, None) for n, text in MEANINGS.items()])


def codes() -> list[verdict.ReasonCode]:
    """The codes of the reasons why a verdict is unknown."""
    return list(get_args(verdict.ReasonCode))


def used_codes() -> set[verdict.ReasonCode]:
    """Those of them that the checker gives."""
    tree = ast.parse(Path(engine.__file__).read_text(encoding="utf-8"))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {code for code in codes() if code in texts}


def _reasons(_: str) -> Table:
    return Table(("code", "when", "what to do"), [(f"`{code}`", None, NEXT.get(code)) for code in codes()])


# The command line and the modules


def _commands() -> Mapping[str, Any]:
    """Every verb by name, those within another after it: `plugins`, `plugins new`."""
    found: dict[str, Any] = {}
    waiting = [("", typer.main.get_command(app))]
    while waiting:
        prefix, group = waiting.pop(0)
        within = {f"{prefix}{name}": command for name, command in group.commands.items()}  # type: ignore[attr-defined]
        found |= within
        waiting += [(f"{name} ", command) for name, command in within.items() if hasattr(command, "commands")]
    return found


def _verbs(_: str) -> Table:
    rows = []
    for name, command in _commands().items():
        words = [
            one.metavar if one.required else f"[{one.metavar}]"
            for one in command.params
            if one.param_type_name == "argument"
        ]
        summary = _words(command.help).split(". ")[0].rstrip(".")
        rows.append((f"`{' '.join(['squall', name, *words])}`", f"{summary}."))
    return Table(("verb", "what it does"), rows)


def _verb_options(_: str) -> Table:
    found: dict[tuple[str, str], list[str]] = {}
    for verb, command in _commands().items():
        for one in command.params:
            if one.param_type_name == "option" and one.opts != ["--help"]:
                shown = f"{one.opts[0]} {one.metavar}" if one.metavar else one.opts[0]
                found.setdefault((shown, one.help or ""), []).append(verb)
    return Table(
        ("option", "what it does", "of"),
        [(f"`{shown}`", said, " · ".join(verbs)) for (shown, said), verbs in found.items()],
    )


def _modules(folder: str) -> Table:
    rows = []
    for path in sorted((ROOT / folder).glob("*.py")):
        said = _words(ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))))
        if said:
            first = re.split(r"(?<=[a-z`)])\. ", said)[0].rstrip(".")
            rows.append((f"[{path.name}](../{path.relative_to(ROOT).as_posix()})", f"{first}."))
    return Table(("module", "what it is"), rows)


def _words(text: str | None) -> str:
    """The first paragraph on one line."""
    return " ".join((text or "").split("\n\n")[0].split()).replace("|", r"\|")


# The Python API


def _arguments_of(name: str) -> Table:
    rows = [(*row, None, None) for row in api_reference.arguments(name)]
    return Table(("argument", "value", "default", "example", "meaning"), rows)


def _fields_of(name: str) -> Table:
    return Table(("field", "value", "meaning"), [(*row, None) for row in api_reference.fields(name)])


def _names(_: str) -> Table:
    return Table(("name", "what it is", "more"), api_reference.names())


def _stores(_: str) -> Table:
    return Table(store_reference.headings(), store_reference.rows())


def _backends(_: str) -> Table:
    return Table(backend_reference.HEADINGS, backend_reference.rows())


KINDS: Mapping[str, Callable[[str], Table]] = {
    "keys of ": _keys_of,
    "faults": _faults,
    "expectations": _expectations,
    "options of expectations": _expectation_options,
    "invariants": _meanings,
    "reasons": _reasons,
    "verbs": _verbs,
    "options of verbs": _verb_options,
    "modules of ": _modules,
    "arguments of ": _arguments_of,
    "fields of ": _fields_of,
    "public names": _names,
    "promises of stores": _stores,
    "promises of other backends": _backends,
}
"""What tables there are, by how their names begin."""


if __name__ == "__main__":
    for page in pages():
        page.write_text(render(page.read_text(encoding="utf-8")), encoding="utf-8")
