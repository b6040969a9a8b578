"""`${name}` in a scenario: values from its `vars`, or from `--set name=value`, and from nowhere else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from squall.core.errors import ConfigError, Problem
from squall.core.options import Loc, did_you_mean, show
from squall.core.yaml_source import Document, Json, parse_scalar

_VARIABLE = re.compile(r"\$\{([^}]*)\}")


def fill(document: Document, sets: Sequence[str]) -> tuple[Document, list[Problem]]:
    """The document with every `${name}` replaced, and what is wrong with the names.

    A string that is one `${name}` becomes the variable's value, number or not; inside a longer string the value is
    text. `sets` are `name=value`, the value a YAML scalar; each overrides a variable that the file has.
    """
    if not isinstance(document.data, dict):
        return document, []
    given = document.data.get("vars")
    variables = dict(given) if isinstance(given, dict) else {}
    problems = _override(variables, sets)
    data = {
        key: value if key == "vars" else _filled(document, (key,), value, variables, problems)
        for key, value in document.data.items()
    }
    if "vars" in data and isinstance(given, dict):
        data["vars"] = variables
    return document.with_data(data), problems


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
