"""Whole runs against a router in this process: clean ones are valid, and each planted fault is found for what it is."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos import planted

from squall import Plugin
from squall.chaos.catalogue import Catalogue, load_catalogue
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import load_scenario
from squall.chaos.targets.in_process import InProcessTarget
from squall.core.config import Config
from squall.core.target import RunContext

SCENARIO = """
version: 1
name: short
seed: 5
plugins:
  - retry: {attempts: ATTEMPTS, base: 10ms, cap: 50ms}
subscribers:
  billing: {pattern: order.>, concurrency: CONCURRENCY, timeout: 500ms, on_retry: ON_RETRY}
  audit: {pattern: "*.created", timeout: 500ms}
load:
  stages: [{for: 1s, rate: 1000}]
  events:
    - {type: order.created, weight: 3, key: {count: 5}}
    - {type: order.paid, priority: HIGH, key: {count: 5}}
faults:
  - {id: errors, at: 200ms, for: 500ms, do: exception, on: "handler:billing", probability: 0.1}
drain: {limit: 20s, stall: 7s}
expect: [no_loss, no_phantom, no_ghost, order: {by: key}, duplicates: {max_ratio: 0}]
"""


async def run(folder: Path, *plugins: type[Plugin], values: Mapping[str, object], seed: int = 5) -> RunResult:
    """One run of the short scenario with these plugins in the router under test."""

    class Target(InProcessTarget):
        def plugins(self, ctx: RunContext) -> list[Plugin]:
            return [*super().plugins(ctx), *(kind() for kind in plugins)]

    text = SCENARIO.replace("order: {by: key}", "{order: {by: key}}").replace(
        "duplicates: {max_ratio: 0}", "{duplicates: {max_ratio: 0}}"
    )
    for name, value in {"ATTEMPTS": 8, "CONCURRENCY": 4, "ON_RETRY": "skip", **values}.items():
        text = text.replace(name, str(value))
    path = folder / "short.yaml"
    path.write_text(text, encoding="utf-8")
    catalogue = load_catalogue()
    catalogue = Catalogue({"in-process": Target}, catalogue.faults)
    scenario = load_scenario(path, seed=seed, known=catalogue.known(Config()))
    return await run_scenario(scenario, replace(Config(), folder=folder), catalogue)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("values", [{}, {"CONCURRENCY": 1}, {"ON_RETRY": "block_key"}, {"ATTEMPTS": 1}])
async def test_a_clean_run_is_valid(tmp_path: Path, seed: int, values: dict[str, object]) -> None:
    """No false alarm, whatever seed and settings; dead letters are an end, not a loss."""
    result = await run(tmp_path, values=values, seed=seed)
    assert result.verdict.state == "valid", [
        (one.name, one.summary, one.why_unknown) for one in result.verdict.findings
    ] + [reason.text for reason in result.verdict.reasons]
    assert json.loads((result.folder / "verdict.json").read_text("utf-8"))["verdict"]["state"] == "valid"


@pytest.mark.parametrize(
    ("kind", "invariant", "values"),
    [
        (planted.DropsAcknowledged, "no_loss", {}),
        (planted.DeliversTwice, "duplicates", {}),
        (planted.SwapsWithinKey, "order", {"CONCURRENCY": 1}),
        (planted.SkipsSubscription, "no_loss", {}),
        (planted.DeliversRefused, "no_ghost", {}),
        (planted.SettlesWhateverHappens, "no_loss", {}),
        (planted.LosesDeadLetters, "no_loss", {"ATTEMPTS": 1}),
        (planted.NeverProgresses, "recovery", {}),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
async def test_a_planted_fault_is_found(
    tmp_path: Path, kind: type[Plugin], invariant: str, values: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    """The verdict is invalid, under the invariant that the fault breaks."""
    caplog.set_level(logging.CRITICAL)
    result = await run(tmp_path, kind, values=values)
    states = {finding.name: finding.state for finding in result.verdict.findings}
    assert result.verdict.state == "invalid"
    assert states[invariant] == "invalid", states
