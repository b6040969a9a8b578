"""Scenarios as texts, read with faults of the tests' own, and the mistakes in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from squall.chaos.catalogue import load_classes
from squall.chaos.scenario import Known, Scenario, make_scenario
from squall.chaos.scenario_faults import by_seam
from squall.core.config import Config, make_config
from squall.core.errors import ConfigError
from squall.core.fault import Fault, Handler, Storage
from squall.core.units import Seconds
from squall.core.yaml_source import parse_document

EXAMPLE = Path(__file__).parent / "scenario_files" / "handler-outage.yaml"


class ExceptionFault(Fault):
    kind = Handler
    name = "exception"
    message: str = "injected"


class SlowFault(Fault):
    kind = Handler
    name = "slow"
    delay: Annotated[Seconds, Field(gt=0)] = 1.0


class WriteError(Fault):
    kind = Storage
    name = "write-error"


KNOWN = Known(
    faults=by_seam([ExceptionFault, SlowFault, WriteError]),
    seams={"storage": ["events"]},
    plugins=load_classes(),
)
MINIMAL = """\
version: 1
name: small
subscribers: {all: {pattern: ">"}}
load: {stages: [{for: 10s, rate: 5}], events: [{type: a.b}]}
"""


def scenario(text: str, *sets: str, config: Config | None = None, seed: int | None = None) -> Scenario:
    document = parse_document(text, "s.yaml")
    return make_scenario(document, sets=sets, seed=seed, config=config, known=KNOWN)


def complaints(text: str, *sets: str, config: Config | None = None) -> list[str]:
    """The problems' first lines, each with its hint."""
    with pytest.raises(ConfigError) as caught:
        scenario(text, *sets, config=config)
    problems = caught.value.problems
    return [re.sub(r"\n.*", "", str(p)) + (f" | {p.hint}" if p.hint and p.excerpt else "") for p in problems]


def complaint(text: str, *sets: str, config: Config | None = None) -> str:
    (only,) = complaints(text, *sets, config=config)
    return only


def changed(old: str, new: str) -> str:
    text = EXAMPLE.read_text()
    assert text.count(old) == 1, old
    return text.replace(old, new)


def operator(text: str) -> Config:
    return make_config(parse_document(f"version: 1\n{text}", "squall.yaml"), Path())
