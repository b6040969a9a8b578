"""The JSON Schema says to editors what the validation says to everyone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from squall.chaos.scenario import Known
from squall.chaos.scenario_faults import by_seam
from squall.chaos.scenario_schema import json_schema
from squall.core.fault import Fault, Handler, Storage
from squall.core.yaml_source import load_document

EXAMPLE = Path(__file__).parent / "scenario_files" / "handler-outage.yaml"
Data = dict[str, Any]


class ExceptionFault(Fault):
    kind = Handler
    name = "exception"


class WriteError(Fault):
    kind = Storage
    name = "write-error"


KNOWN = Known(faults=by_seam([ExceptionFault, WriteError]))


@pytest.fixture
def validator() -> Draft202012Validator:
    schema = json_schema(KNOWN)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


@pytest.fixture
def example() -> Data:
    data = load_document(EXAMPLE).data
    assert isinstance(data, dict)
    return data


def test_the_documented_scenario_fits_the_schema(validator: Draft202012Validator, example: Data) -> None:
    """As it stands, variables not yet filled in."""
    assert example["load"]["stages"][0]["to"] == "${rate}"
    validator.validate(example)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["subscribers"]["billing"].update(patern="x"),
        lambda d: d["load"]["stages"][0].update(rate="x"),
        lambda d: d["load"]["events"][0].update(priority="high"),
        lambda d: d["expect"].append("no_los"),
        lambda d: d["expect"].append({"order": {"by": "x"}}),
        lambda d: d["expect"].append({"order": {}, "no_loss": None}),
        lambda d: d["faults"].append({"id": "x"}),
        lambda d: d["faults"][0].update(do="excepton"),
        lambda d: d["steady"].update({"for": "soon"}),
        lambda d: d.update(version=2),
        lambda d: d.update(sed=1),
        lambda d: d.pop("load"),
    ],
)
def test_mistakes_do_not_fit_the_schema(
    validator: Draft202012Validator, example: Data, change: Callable[[Data], object]
) -> None:
    """One change each."""
    wrong = copy.deepcopy(example)
    change(wrong)
    assert not validator.is_valid(wrong)


def test_every_expectation_and_fault_is_listed_for_completion() -> None:
    """An editor offers the names."""
    definitions = json_schema(KNOWN)["$defs"]
    assert "no_loss" in definitions["Expectation"]["anyOf"][0]["enum"]
    assert definitions["FaultSection"]["properties"]["do"]["anyOf"][0]["enum"] == ["exception", "write-error"]
