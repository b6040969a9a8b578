"""The JSON Schema of scenario files, for editors: generated from the models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from squall.chaos.scenario import Known
from squall.chaos.scenario_models import FaultSection, RandomChoice, RandomEntry, ScenarioFile

Schema = dict[str, Any]

_REFERENCE: Schema = {"$ref": "#/$defs/Variable"}
_VARIABLE: Schema = {"type": "string", "pattern": r"^\$\{[A-Za-z_][A-Za-z0-9_]*\}$", "description": "a variable"}


def json_schema(known: Known | None = None) -> Schema:
    """The schema of a scenario file; with what is installed, the names of faults and expectations are listed in it.

    Wherever a number, a duration or one of several words stands, a variable `${name}` may stand too.
    """
    known = known or Known()
    models: list[type[BaseModel]] = [ScenarioFile, FaultSection, RandomEntry, RandomChoice]
    models += dict.fromkeys(known.expectations.values())
    references, shared = models_json_schema([(model, "validation") for model in models])
    definitions = cast("dict[str, Schema]", shared["$defs"])

    def reference(model: type[BaseModel]) -> Schema:
        return references[model, "validation"]

    definitions["Expectation"] = _expectation({name: reference(model) for name, model in known.expectations.items()})
    root = definitions.pop("ScenarioFile")
    entry: Schema = {"$ref": "#/$defs/Expectation"}
    root["properties"]["expect"] = {"type": "array", "items": entry}
    definitions["SteadySection"]["properties"]["expect"] = {"type": "array", "items": entry}
    faults: Schema = {"anyOf": [reference(FaultSection), reference(RandomEntry)]}
    root["properties"]["faults"] = {"type": "array", "items": faults}
    names = sorted({name for named in known.faults.values() for name in named})
    if names:
        for model in (FaultSection, RandomChoice):
            definitions[model.__name__]["properties"]["do"] = {"enum": names}
    variables = root["properties"].pop("vars")
    with_variables = cast("Schema", _with_variables({**root, "$defs": definitions}))
    with_variables["properties"]["vars"] = variables
    with_variables["$defs"]["Variable"] = _VARIABLE
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **with_variables, "title": "A squall scenario"}


def _expectation(options: Mapping[str, Schema]) -> Schema:
    properties = {name: {"anyOf": [schema, {"type": "null"}]} for name, schema in options.items()}
    one: Schema = {"type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": False}
    return {"anyOf": [{"enum": list(options)}, {**one, "properties": properties}]}


def _with_variables(schema: object) -> object:
    """The schema with a variable as an alternative to each value that is not free text anyway."""
    if isinstance(schema, list):
        return [_with_variables(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    choices = schema.get("anyOf")
    if choices and any(_is_narrow(choice) for choice in choices):
        rest = [choice if _is_narrow(choice) else _with_variables(choice) for choice in choices]
        return {**schema, "anyOf": [*rest, _REFERENCE]}
    if _is_narrow(schema):
        kept = {key: schema[key] for key in ("title", "description", "default") if key in schema}
        return {**kept, "anyOf": [{key: value for key, value in schema.items() if key not in kept}, _REFERENCE]}
    literal = ("default", "enum", "const")
    return {key: value if key in literal else _with_variables(value) for key, value in schema.items()}


def _is_narrow(schema: object) -> bool:
    if not isinstance(schema, dict):
        return False
    words = "enum" in schema or "const" in schema or (schema.get("type") == "string" and "pattern" in schema)
    return words or schema.get("type") in ("number", "integer", "boolean")
