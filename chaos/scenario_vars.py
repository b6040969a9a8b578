"""`${name}` in a scenario: values from its `vars`, or from `--set name=value`, and from nowhere else. A dotted name is
that of a key: `--set subscribers.billing.concurrency=4`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy

from squall.core.errors import ConfigError, Problem
from squall.core.options import Loc, did_you_mean, show
from squall.core.yaml_source import Document, Json, parse_scalar

_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_NESTED = "the value of a variable names no other"
_NESTED_HINT = "write the value itself"


def fill(document: Document, sets: Sequence[str]) -> tuple[Document, list[Problem]]:
    """The document with every `${name}` replaced, and what is wrong with the names.

    A string that is one `${name}` becomes the variable's value, number or not; inside a longer string the value is
    text. `sets` are `name=value`, the value a YAML scalar; each overrides a variable that the file has, or, dotted, the
    key of that name, written in the file or not.
    """
    if not isinstance(document.data, dict):
        return document, []
    given = document.data.get("vars")
    variables = dict(given) if isinstance(given, dict) else {}
    problems = [
        document.problem(("vars", name), _NESTED, _NESTED_HINT)
        for name, value in variables.items()
        if isinstance(value, str) and _VARIABLE.search(value)
    ]
    problems += _override(variables, [item for item in sets if not _is_key(item)])
    data: dict[str, Json] = {
        key: value if key == "vars" else _filled(document, (key,), value, variables, problems)
        for key, value in document.data.items()
    }
    if "vars" in data and isinstance(given, dict):
        data["vars"] = variables
    for item in filter(_is_key, sets):
        name, _, text = item.partition("=")
        data = deepcopy(data)  # what is not filled is the file's own
        try:
            _put(data, name, parse_scalar(text, f"--set {name}"))
        except ConfigError as error:
            problems.extend(error.problems)
    return document.with_data(data), problems


def set_keys(sets: Sequence[str]) -> dict[str, bool | int | float | str]:
    """The values of the dotted names among sets that are right."""
    return {
        name: value
        for name, _, text in (item.partition("=") for item in filter(_is_key, sets))
        if isinstance(value := parse_scalar(text, f"--set {name}"), bool | int | float | str)
    }


def _is_key(item: str) -> bool:
    name, equals, _ = item.partition("=")
    return bool(equals) and "." in name


def _put(data: dict[str, Json], name: str, value: Json) -> None:
    """Put a value where a dotted name says: through mappings by key, through lists by number from 0 or by `id`. Only
    the last part may be new. Raises ConfigError."""
    place: Json = data
    *way, last = name.split(".")
    for number, part in enumerate((*way, last)):
        at = _index(place, part) if isinstance(place, list) else part
        inside = place[at] if isinstance(place, list) and isinstance(at, int) else None
        if isinstance(place, dict):
            inside = place.get(part)
            if number == len(way):
                place[part] = value
                return
        elif isinstance(place, list) and isinstance(at, int) and number == len(way):
            place[at] = value
            return
        if inside is None:
            there = list(place) if isinstance(place, dict) else []
            before = ".".join(way[:number]) or "the scenario"
            hint = did_you_mean(part, there, "keys") or "lists are entered by number from 0, faults by their id too"
            raise ConfigError([Problem(f"--set {name}", f"there is no '{part}' in {before}", hint=hint)])
        place = inside


def found_at(place: Json, name: str) -> Json:
    """What stands where a dotted name says; None where nothing does."""
    for part in name.split("."):
        at = _index(place, part) if isinstance(place, list) else part
        if isinstance(place, list) and isinstance(at, int):
            place = place[at]
        else:
            place = place.get(part) if isinstance(place, dict) else None
    return place


def _index(place: list[Json], part: str) -> int | None:
    named = (at for at, one in enumerate(place) if isinstance(one, dict) and one.get("id") == part)
    number = int(part) if part.isdecimal() and len(part) < 6 and int(part) < len(place) else None
    return next(named, number)


def variable(value: Json) -> str:
    """The name of the variable that a value is, as it is written; empty where it is none, or more than one."""
    found = _VARIABLE.fullmatch(value) if isinstance(value, str) else None
    return found[1] if found else ""


def _override(variables: dict[str, Json], sets: Sequence[str]) -> list[Problem]:
    problems: list[Problem] = []
    for item in sets:
        name, equals, text = item.partition("=")
        where = f"--set {name}"
        if not equals:
            problems.append(Problem(where, "expected name=value"))
        elif name not in variables:
            hint = did_you_mean(name, variables, "variables") or "the scenario has no vars"
            problems.append(Problem(where, f"there is no variable '{name}'", hint=hint))
        else:
            try:
                variables[name] = parse_scalar(text, where)
            except ConfigError as error:
                problems.extend(error.problems)
            if _VARIABLE.search(text):
                problems.append(Problem(where, _NESTED, hint=_NESTED_HINT))
    return problems


def _filled(document: Document, loc: Loc, value: Json, variables: Mapping[str, Json], problems: list[Problem]) -> Json:
    if isinstance(value, dict):
        return {key: _filled(document, (*loc, key), inner, variables, problems) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(document, (*loc, at), inner, variables, problems) for at, inner in enumerate(value)]
    if not isinstance(value, str) or "${" not in value:
        return value
    for name in _VARIABLE.findall(value):
        if name not in variables:
            hint = did_you_mean(name, variables, "variables") or "the scenario has no vars"
            problems.append(document.problem(loc, f"there is no variable '{name}'", hint))
            return value
    whole = _VARIABLE.fullmatch(value)
    if whole:
        return variables[whole[1]]
    return _VARIABLE.sub(lambda match: _text(variables[match[1]]), value)


def _text(value: Json) -> str:
    return value if isinstance(value, str) else show(value)
