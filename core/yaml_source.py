"""YAML files as data with positions: read strictly, and every complaint about them placed at line and column.

What is accepted is the part of YAML 1.2 that means one thing to everyone: mappings with unique text keys, lists and
scalars of its core schema (`no` and `12:30` are text, `010` is ten, there are no dates). Anchors, aliases, tags and
merge keys are refused. The events of the parser are looked at before anything is built from them, since the C
parser overruns its stack on deep nesting and aliases can expand without bound.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn, Protocol, TypeAlias

import yaml
from pydantic import ValidationError

from squall.core.errors import ConfigError, Problem
from squall.core.options import Loc, M, dotted, explain, show
from squall.core.secret import without_passwords

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 32
MAX_PROBLEMS = 50
MAX_EXCERPT = 160
MAX_INT = 2**63 - 1

_LINE_BREAK = re.compile("\r\n|[\n\r\x85\u2028\u2029]")
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")

# The core schema, YAML 1.2.2 section 10.3.2.
_INT = re.compile(r"[-+]?[0-9]+")
_BASED_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class _Mark(Protocol):
    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class _Loader(yaml.CSafeLoader):
    """libyaml, resolving nothing by itself: what a scalar means is decided by `_scalar`."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own form


@dataclass(frozen=True)
class Span:
    """Where something stands: line and column from 1, width in characters on that line."""

    line: int
    column: int
    width: int = 1


@dataclass(frozen=True)
class Document:
    """A file's data and the position of each key and value in it.

    path: the name shown to people. values and keys map a Loc to the value there, and to the key that leads to it.
    """

    path: str
    data: Json
    lines: Sequence[str]
    values: Mapping[Loc, Span]
    keys: Mapping[Loc, Span]

    def at(self, loc: Loc) -> Json:
        """The data at loc; None where the file says nothing."""
        found = self.data
        for part in loc:
            if isinstance(found, dict) and isinstance(part, str):
                found = found.get(part)
            elif isinstance(found, list) and isinstance(part, int) and part < len(found):
                found = found[part]
            else:
                return None
        return found

    def with_data(self, data: Json) -> Document:
        """The same file and positions with other data, such as after variables were put in."""
        return replace(self, data=data)

    def problem(
        self, loc: Loc, message: str, hint: str = "", *, key: str | None = None, secret: bool = False
    ) -> Problem:
        """A Problem at loc, or at the key `key` inside it; where the file has no such place, at the nearest outside. A
        line that holds a secret is not shown."""
        span = self.span(loc, key)
        place = dotted(loc)
        line = self.line(span.line)
        # A caret far to the right would point at nothing that one can see.
        shown = span.column < MAX_EXCERPT and not secret and without_passwords(line) == line
        excerpt = line.replace("\t", " ")[:MAX_EXCERPT] if shown else ""
        width = min(span.width, max(1, len(excerpt) - span.column + 1))
        text = f"{place}: {message}" if place else message
        return Problem(self.path, text, span.line, span.column, excerpt, hint, width)

    def validate(self, model: type[M], loc: Loc = (), *, noun: str = "", without: Collection[str] = ()) -> M:
        """The section at loc as a model. Raises ConfigError with every problem in it.

        noun is what messages call the section, `without` keys that are somebody else's. An absent section is empty.
        """
        data = self.at(loc)
        if data is None and loc:
            data = {}
        if isinstance(data, dict) and without:
            data = {key: value for key, value in data.items() if key not in without}
        return self.fit(data, model, loc, noun)

    def fit(self, data: Json, model: type[M], loc: Loc, noun: str = "") -> M:
        """Data that stands, or would stand, at loc as a model. Raises ConfigError with every problem in it."""
        try:
            # As JSON: there lists may become tuples, text paths and enumerations, and nothing else converts.
            return model.model_validate_json(json.dumps(data), context=Path(self.path).parent)
        except ValidationError as error:
            findings = explain(error, model, data, noun)
        problems = [
            self.problem(loc + found.loc, found.message, found.hint, key=found.key, secret=found.secret)
            for found in findings
        ]
        raise ConfigError(limited(problems))

    def line(self, number: int) -> str:
        """A line of the file, counted from 1. The parser places what is missing at the end one line further."""
        return self.lines[number - 1] if number <= len(self.lines) else ""

    def span(self, loc: Loc, key: str | None = None) -> Span:
        """Where loc, or the key in it, stands; a mapping or list is pointed at by the key that leads to it."""
        if key is not None and (*loc, key) in self.keys:
            return self.keys[(*loc, key)]
        while loc not in self.values and loc:
            loc = loc[:-1]
        collection = isinstance(self.at(loc), dict | list)
        return self.keys[loc] if collection and loc in self.keys else self.values.get(loc, Span(1, 1))


def load_document(path: str | Path) -> Document:
    """Read a file. Raises ConfigError if it cannot be read, or is not the accepted part of YAML."""
    return parse_document(_read(Path(path)), str(path))


def parse_document(text: str, path: str) -> Document:
    """Read text, naming it `path` in problems. Raises ConfigError if it is not the accepted part of YAML."""
    text = text.removeprefix("\ufeff")
    lines = _LINE_BREAK.split(text)
    blank = Document(path, None, lines, {}, {})
    bad = _UNPRINTABLE.search(text)
    if bad:
        _refuse(blank, _position(text, bad.start()), f"character U+{ord(bad[0]):04X} is not allowed: not a text file?")
    try:
        _scan(blank, text)
        node = yaml.compose(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        _refuse_syntax(blank, error)
    except yaml.YAMLError as error:
        _refuse(blank, Span(1, 1), f"not valid YAML: {error}")
    if node is None:
        _refuse(blank, Span(1, 1), "the file is empty")
    builder = _Builder(blank)
    data = builder.build(node, ())
    if builder.problems:
        raise ConfigError(limited(builder.problems))
    return Document(path, data, lines, builder.values, builder.keys)


def parse_scalar(text: str, where: str) -> Json:
    """One scalar, as it would mean in a file: `5`, `true`, `'5'`. Raises ConfigError naming `where` if it is not."""
    value = parse_document(text, where).data if text.strip() else None
    if isinstance(value, dict | list):
        raise ConfigError([Problem(where, f"expected one value, got {show(value)}")])
    return value


@dataclass(frozen=True)
class Further(Problem):
    """Stands for `count` problems that are not shown."""

    count: int = 0


def limited(problems: Sequence[Problem]) -> list[Problem]:
    """The problems in the file's order; at most MAX_PROBLEMS of them, and how many more there are.

    Lists that are limited already may be put together and limited again.
    """
    told = [problem for problem in problems if not isinstance(problem, Further)]
    shown = sorted(told, key=lambda problem: (problem.line, problem.column))[:MAX_PROBLEMS]
    count = number_of(problems) - len(shown)
    if count:
        message = f"and {count:,} further problem{'s' if count > 1 else ''}"
        shown.append(Further(problems[0].where, message, count=count))
    return shown


def number_of(problems: Sequence[Problem]) -> int:
    """How many problems there are, those included that are not shown."""
    return sum(problem.count if isinstance(problem, Further) else 1 for problem in problems)


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise ConfigError([Problem(str(path), "is not a file")])
        with path.open("rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError([Problem(str(path), f"cannot be read: {reason}")]) from error
    if len(raw) > MAX_FILE_BYTES:
        limit = MAX_FILE_BYTES // 1024
        raise ConfigError([Problem(str(path), f"the file is too large: at most {limit} KiB are read")])
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            raise ConfigError([Problem(str(path), "is UTF-16 text; save it as UTF-8")]) from error
        before = raw[: error.start].decode("utf-8")
        span = _position(before, len(before))
        message = f"byte 0x{raw[error.start]:02x} is not UTF-8: not a text file?"
        raise ConfigError([Problem(str(path), message, span.line, span.column)]) from error


def _position(text: str, index: int) -> Span:
    before = _LINE_BREAK.split(text[:index])
    return Span(len(before), len(before[-1]) + 1)


def _span(start: _Mark | None, end: _Mark | None = None) -> Span:
    if start is None:
        return Span(1, 1)
    width = end.column - start.column if end is not None and end.line == start.line else 1
    return Span(start.line + 1, start.column + 1, max(1, width))


def _refuse(document: Document, span: Span, message: str, hint: str = "") -> NoReturn:
    placed = replace(document, values={(): span})
    raise ConfigError([placed.problem((), message, hint)])


def _refuse_syntax(document: Document, error: yaml.MarkedYAMLError) -> NoReturn:
    span = _span(error.problem_mark or error.context_mark)
    context = f" {error.context}" if error.context else ""
    hint = ""
    if "alias" in context:
        hint = "a value that begins with * must be quoted: '*.created'"
    elif "\t" in document.line(span.line)[: span.column]:
        hint = "indent with spaces, not tabs"
    elif "block mapping" in context or "block collection" in context or "block sequence" in context:
        hint = "look at the indentation: what belongs together begins in one column"
    elif "flow mapping" in context and "{" in document.line(span.line)[: span.column][-2:]:
        hint = "a value that holds { or } must be quoted here"
    elif "cannot start any token" in (error.problem or ""):
        hint = "quote the value"
    _refuse(document, span, f"not valid YAML: {error.problem or error}{context}", hint)


def _scan(document: Document, text: str) -> None:
    """Refuse what must not reach the composer, which recurses for depth and expands aliases."""
    depth = documents = 0
    for event in yaml.parse(text, Loader=_Loader):
        span = _span(event.start_mark, event.end_mark)
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                _refuse(document, span, f"nested too deeply: at most {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        elif isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                _refuse(document, span, "a second document begins here; one file holds one document")
        if isinstance(event, yaml.AliasEvent):
            hint = "to begin a value with *, quote it"
            _refuse(document, span, f"aliases are not used here: *{event.anchor}", hint)
        if isinstance(event, yaml.NodeEvent) and event.anchor:
            _refuse(document, span, f"anchors are not used here: &{event.anchor}", "to begin a value with &, quote it")
        if isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent) and event.tag:
            _refuse(document, span, f"tags are not used here: {event.tag}", "to begin a value with !, quote it")


def _scalar(text: str) -> Json:
    """What an unquoted scalar means. Raises ValueError for an integer beyond MAX_INT."""
    if text in _WORDS:
        return _WORDS[text]
    if _INT.fullmatch(text):
        return _bounded(text, 10)
    if _BASED_INT.fullmatch(text):
        return _bounded(text, 0)
    if _NOT_FINITE.fullmatch(text):
        return float(text.replace(".", ""))
    return float(text) if _FLOAT.fullmatch(text) else text


def _bounded(text: str, base: int) -> int:
    # The length first: Python itself refuses to convert thousands of digits.
    number = int(text, base) if len(text) < len(str(MAX_INT)) * 2 else MAX_INT + 1
    if abs(number) > MAX_INT:
        raise ValueError(f"whole numbers go up to {MAX_INT:,}")
    return number


class _Builder:
    """Data and positions from a tree of nodes, whose depth is bounded by then."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.values: dict[Loc, Span] = {}
        self.keys: dict[Loc, Span] = {}

    def build(self, node: yaml.Node, loc: Loc) -> Json:
        self.values[loc] = _span(node.start_mark, node.end_mark)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, loc)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(item, (*loc, index)) for index, item in enumerate(node.value)]
        try:
            return node.value if node.style else _scalar(node.value)  # type: ignore[attr-defined]  # a scalar has one
        except ValueError as error:
            self._complain(loc, self.values[loc], str(error))
            return None

    def _mapping(self, node: yaml.MappingNode, loc: Loc) -> Json:
        data: dict[str, Json] = {}
        for key_node, value_node in node.value:
            key, span = key_node.value, _span(key_node.start_mark, key_node.end_mark)
            plain = isinstance(key_node, yaml.ScalarNode) and not key_node.style
            if not isinstance(key_node, yaml.ScalarNode) or (plain and not key):
                self._complain(loc, span, "a key must be text")
            elif plain and key == "<<":
                self._complain(loc, span, "merge keys (<<) are not used here")
            elif key in data:
                first = self.keys[(*loc, key)].line
                self._complain(loc, span, f"'{key}' is given twice; first in line {first}")
            else:
                self.keys[(*loc, key)] = span
                data[key] = self.build(value_node, (*loc, key))
        return data

    def _complain(self, loc: Loc, span: Span, message: str) -> None:
        placed = replace(self.document, values={loc: span})
        self.problems.append(placed.problem(loc, message))
