"""Options models, and what to say when data does not fit one.

An options model *is* a section of a file: its fields are the keys. pydantic validates; `explain` turns its errors into
sentences that speak of the file instead of the model.
"""

from __future__ import annotations

import difflib
import types
from collections.abc import Collection, Iterable, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Self, TypeVar, Union, get_args, get_origin

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, ValidationInfo
from pydantic_core import ErrorDetails

from squall.core.errors import ConfigError, Problem

Loc = tuple[str | int, ...]
"""A place in a document: keys and list positions from the top."""

MAX_SHOWN = 60


def _beside(path: str, info: ValidationInfo) -> str:
    return path if info.context is None else str(Path(info.context) / path)


GivenPath = Annotated[str, Field(min_length=1), AfterValidator(_beside)]
"""A RelativePath of an option that may also be none: `GivenPath | None`."""

RelativePath = Annotated[GivenPath, Field(validate_default=True)]
"""A path that counts from the folder of the file it stands in; from the working directory where options are given in
Python."""

_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "path_type": "a path",
    "none_required": "nothing",
    "literal_error": "{expected}",
    "enum": "{expected}",
    "expected": "{what}",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "string_too_short": "at least {min_length} characters",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "text that matches {pattern}",
    "too_short": "a length of at least {min_length}",
    "too_long": "a length of at most {max_length}",
}
"""pydantic's error types, each as the end of `expected …`."""


if TYPE_CHECKING:  # who makes one in Python has its arguments checked as pydantic's own
    from pydantic._internal._model_construction import ModelMetaclass as _MadeInPython
else:

    class _MadeInPython(type(BaseModel)):
        """Of classes whose instances, made in Python, raise ConfigError where pydantic raises its ValidationError; what
        is validated as a part of a file is explained with its place in there."""

        def __call__(cls, *args: object, **values: object) -> object:
            try:
                return super().__call__(*args, **values)
            except ValidationError as error:
                findings = explain(error, cls, values)
            raise ConfigError([Problem(cls.__name__, found.text(), hint=found.hint) for found in findings])


class Options(BaseModel, metaclass=_MadeInPython):
    """Base of every options model: frozen, no unknown keys, no silent conversion (`"5"` is not 5, 1 is not true).

    Made in Python, one raises ConfigError with every problem.

    `noun` is what messages call a section of this kind: "'patern' is not an option of a subscriber".
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=True)

    noun: ClassVar[str] = "this section"

    @classmethod
    def of(cls, where: str, values: Mapping[str, object]) -> Self:
        """The options made of Python values. Raises ConfigError with every problem; `where` names what they are of."""
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            findings = explain(error, cls, values, where)
        raise ConfigError([Problem(where, found.text(), hint=found.hint) for found in findings])


M = TypeVar("M", bound=BaseModel)


@dataclass(frozen=True)
class Finding:
    """One thing that does not fit: the section, what is wrong there, and the key to point at, if it is a key; `secret`
    where the line that it stands in must not be shown."""

    loc: Loc
    message: str
    hint: str = ""
    key: str | None = None
    secret: bool = False

    def text(self, before: Loc = ()) -> str:
        """`faults[1].on: expected …`, where `before` leads to what was validated."""
        place = dotted(before + self.loc)
        return f"{place}: {self.message}" if place else self.message


def did_you_mean(name: str, names: Iterable[str], otherwise: str = "") -> str:
    """`did you mean 'pattern'?` for the nearest of names; where none is near, all of them after `otherwise`."""
    known = sorted(names)
    near = difflib.get_close_matches(name, known, n=1) or [n for n in known if n.lower() == name.lower()]
    if near:
        return f"did you mean '{near[0]}'?"
    return f"{otherwise}: {', '.join(known)}" if otherwise and known else ""


def show(value: object) -> str:
    """A value as a message quotes it: `'abc'`, `5`, `true`, `nothing`, `a list`, `a mapping`; long text is cut."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return "a list"
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}…"


def dotted(loc: Loc) -> str:
    """`faults[1].on`; a key that is not a plain word stands in brackets."""
    text = ""
    for part in loc:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.replace("-", "").replace("_", "").isalnum():
            text += f".{part}" if text else part
        else:
            text += f"[{part!r}]"
    return text


def explain(error: ValidationError, model: type[BaseModel], data: object, noun: str = "") -> list[Finding]:
    """Every error of a validation as a Finding, in order.

    Alternatives of a union that failed at the same place become one sentence. `noun` is what the outermost section is
    called, by default the model's own noun.
    """
    wanted: dict[tuple[Loc, str | None], tuple[list[str], object]] = {}
    findings: list[Finding | tuple[Loc, str | None]] = []
    for details in error.errors(include_url=False):
        loc, key = _place(details["loc"], data), None
        if details["loc"][-1:] == ("[key]",):
            loc, key = loc[:-1], str(loc[-1])
        what, got = _EXPECTED.get(details["type"]), details["input"]
        if details["type"] in ("too_short", "too_long") and isinstance(got, Sized):
            got = len(got)
            if got >= details["ctx"].get("min_length", got + 1):
                continue  # pydantic counts only entries that are right; the wrong ones are told themselves
        if details["type"] == "string_too_short" and not got:
            what = "text that is not empty"
        if what is None:
            findings.append(_finding(details, loc, model, noun))
            continue
        if (loc, key) not in wanted:
            wanted[loc, key] = ([], got)
            findings.append((loc, key))
        words = what.format_map({name: _plain(value) for name, value in details.get("ctx", {}).items()})
        if words not in wanted[loc, key][0]:
            wanted[loc, key][0].append(words)
    return [found if isinstance(found, Finding) else _unexpected(*found, *wanted[found]) for found in findings]


def _plain(value: object) -> object:
    return f"{value:.12g}" if isinstance(value, float) else value


def _unexpected(loc: Loc, key: str | None, wanted: Sequence[str], got: object) -> Finding:
    quoted = [name for what in wanted for name in what.split("'")[1::2]]
    hint = did_you_mean(got, quoted) if isinstance(got, str) else ""
    kind = "the text " if isinstance(got, str) and set(wanted) & {"a whole number", "a number"} else ""
    return Finding(loc, f"expected {' or '.join(wanted)}, got {kind}{show(got)}", hint, key)


def _finding(details: ErrorDetails, loc: Loc, model: type[BaseModel], noun: str) -> Finding:
    kind, error_loc, context = details["type"], details["loc"], details.get("ctx", {})
    if kind == "missing" and isinstance(error_loc[-1], int):
        return Finding(loc, f"expected more entries: number {error_loc[-1] + 1} is missing")
    if kind in ("extra_forbidden", "unexpected_keyword_argument", "missing"):
        owner = _owner(model, error_loc[:-1])
        called = noun if owner is model and noun else getattr(owner, "noun", Options.noun)
        name = str(error_loc[-1])
        if kind == "missing":
            return Finding(loc, f"'{name}' is required in {called}")
        hint = did_you_mean(name, _keys(owner), "options") if owner else ""
        return Finding(loc[:-1], f"'{name}' is not an option of {called}", hint, key=name)
    if kind.startswith("union_tag_"):
        return _of_no_form(loc, context, _owner(model, error_loc))
    if kind in ("value_error", "assertion_error"):
        return Finding(loc, str(context.get("error", details["msg"])))
    message = details["msg"]
    if message.startswith("Input should be "):
        message = f"expected {message.removeprefix('Input should be ')}, got {show(details['input'])}"
    return Finding(loc, message[:1].lower() + message[1:], secret=kind == "secret")


def _of_no_form(loc: Loc, context: Mapping[str, str], owner: type[BaseModel] | None) -> Finding:
    """A section whose form depends on what it says at one key, which says nothing of use."""
    key = context["discriminator"].strip("'")
    if "tag" not in context:
        return Finding(loc, f"'{key}' is required in {getattr(owner, 'noun', Options.noun)}")
    return _unexpected((*loc, key), None, [context["expected_tags"].replace(", ", " or ")], context["tag"])


def _keys(model: type[BaseModel]) -> Collection[str]:
    return [field.serialization_alias or name for name, field in model.model_fields.items()]


def _place(loc: Loc, data: object) -> Loc:
    """The parts of an error's location that exist in the data: pydantic mixes names of union members among them."""
    place: list[str | int] = []
    for part in loc:
        keyed = isinstance(data, Mapping) and part in data
        indexed = isinstance(data, list | tuple) and isinstance(part, int) and part < len(data)
        if keyed or indexed:
            data = data[part]  # type: ignore[index]
            place.append(part)
    return tuple(place)


def _owner(kind: object, loc: Loc) -> type[BaseModel] | None:
    """The model that describes the section at loc, found by walking the annotations."""
    for part in loc:
        kind = next((inner for member in _members(kind) if (inner := _inside(member, part)) is not None), None)
    models = [m for m in _members(kind) if isinstance(m, type) and issubclass(m, BaseModel)]
    return models[0] if models else None


def _members(kind: object) -> tuple[object, ...]:
    if get_origin(kind) is Annotated:
        return _members(get_args(kind)[0])
    if get_origin(kind) in (Union, types.UnionType):
        return tuple(inner for member in get_args(kind) for inner in _members(member))
    return (kind,)


def _inside(kind: object, part: str | int) -> object | None:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        fields = kind.model_fields
        named = (field.annotation for name, field in fields.items() if part in (field.serialization_alias, name))
        return next(named, kind if part == kind.__name__ else None)
    arguments = get_args(kind)
    origin = get_origin(kind)
    if not (arguments and isinstance(origin, type)):
        return None
    if issubclass(origin, Mapping):
        return arguments[1]  # type: ignore[no-any-return]
    return arguments[0] if isinstance(part, int) else None
