"""Run folders made by hand: a history, its verdict, and all else that a run leaves behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tests.chaos.check.model import FaultWindow, History, write
from tests.chaos.check.runs import CLAIMS, DURABLE, FACTS, MS, clean, failed, handled, without

from squall.chaos.check.engine import check
from squall.chaos.check.expectations import Expectation, Latency, NoLoss
from squall.chaos.check.facts import RunFacts, save_facts
from squall.chaos.check.output import save_verdict
from squall.core.target import Claims

SCENARIO = "version: 1\nname: by-hand\nabout: A run by hand.\n"


def bare_folder(root: Path, scenario: str = SCENARIO) -> Path:
    """A run that has begun and recorded nothing yet."""
    folder = root / "by-hand" / "20260101-000000-abc123"
    folder.mkdir(parents=True)
    environment = {
        "seed": 7,
        "started": "2026-01-01T00:00:00+00:00",
        "python": "CPython 3.11.7",
        "system": "Linux x86_64",
        "cores": 2,
        "optimized": False,
        "versions": {"squall": "0.1.0", "duckdb": "2.0.0"},
    }
    (folder / "environment.json").write_text(json.dumps(environment), encoding="utf-8")
    (folder / "scenario.yaml").write_text(scenario, encoding="utf-8")
    return folder


def judged_folder(
    root: Path,
    history: History,
    *,
    expected: Sequence[Expectation] = (),
    facts: RunFacts = FACTS,
    claims: Claims = CLAIMS,
    scenario: str = SCENARIO,
) -> Path:
    """A run that is over."""
    folder = bare_folder(root, scenario)
    write(history, folder / "history")
    facts = replace(facts, scenario="by-hand", seed=7)
    save_facts(facts, folder)
    save_verdict(check(folder / "history", claims, expected, facts), folder / "verdict.json")
    return folder


def valid_folder(root: Path) -> Path:
    """Two subscribers, a fault that bit, retries: nothing lost."""
    audit = replace(DURABLE, subscription=1, name="audit", pattern="*.created", durable=False, from_seq=None)
    history = clean(60, DURABLE, audit)
    history.attempts[30] = failed(history.attempts[30].event or 0)
    history.attempts.append(handled(history.attempts[30].event or 0, begun_ms=700, attempt=2))
    history.faults.append(FaultWindow(0, "errors", 200 * MS, 500 * MS, hits=1, passes=30))
    return judged_folder(root, history, expected=[NoLoss(), Latency(p99=1.0, window="outside-faults")])


def invalid_folder(root: Path) -> Path:
    """Two acknowledged events never arrive."""
    history = without(without(clean(40), 11), 17)
    history.faults.append(FaultWindow(0, "errors", 50 * MS, 250 * MS, hits=3, passes=30))
    return judged_folder(root, history, expected=[NoLoss()])


def unknown_folder(root: Path) -> Path:
    """A fault never bit, and another was never healed."""
    history = clean(40)
    history.faults.append(FaultWindow(0, "idle", 50 * MS, 250 * MS, hits=0, passes=0))
    history.faults.append(FaultWindow(1, "stuck", 60 * MS, None, hits=2, passes=2, healed=False, error="OSError: gone"))
    facts = replace(FACTS, reasons=("interrupted after 1.2 of 5s of load",))
    return judged_folder(root, history, expected=[NoLoss()], facts=facts)


def unfinished_folder(root: Path) -> Path:
    """A run that was killed: a history without an end, no facts, no verdict."""
    folder = bare_folder(root)
    write(clean(40), folder / "history")
    manifest = folder / "history" / "history.json"
    manifest.write_text(manifest.read_text("utf-8").replace("true", "false"), encoding="utf-8")
    for file in (folder / "history").glob("*.parquet"):
        file.rename(file.with_name(f"{file.stem}-000000.parquet"))
    return folder


def empty_folder(root: Path) -> Path:
    """A run in which nothing was published."""
    return judged_folder(root, History(), expected=[NoLoss()], facts=RunFacts())


def hostile_folder(root: Path, text: str) -> Path:
    """A run in which every name, error and text is `text`; an event is lost."""
    history = without(clean(20, replace(DURABLE, name=text)), 5)
    for publish in history.publishes:
        publish.topic = text
    history.intervals[0].pattern = ">"
    fault = FaultWindow(0, text, 50 * MS, 90 * MS, kind=text, seam=text, healed=False, error=text)
    history.faults.append(fault)
    quoted = text.replace("'", "''")
    scenario = f"version: 1\nname: by-hand\nabout: '{quoted}'\n# {text}\n"
    return judged_folder(root, history, expected=[NoLoss()], facts=replace(FACTS, reasons=(text,)), scenario=scenario)
