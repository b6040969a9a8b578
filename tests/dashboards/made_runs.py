"""A folder of runs to look at: real ones, and some made by hand, each with something to see."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.chaos import short_run
from tests.chaos.check.model import FaultHit, FaultWindow, History, Process, Terminal
from tests.chaos.check.runs import DURABLE, FACTS, MS, clean, failed, without
from tests.chaos.report import folders
from tests.chaos.report.test_report import HOSTILE as MARKUP
from tests.chaos.sweep.by_hand import sweep, sweep_folder

from squall.chaos.catalogue import load_catalogue
from squall.chaos.check.expectations import NoLoss
from squall.chaos.composition import composed
from squall.chaos.run import run_scenario
from squall.chaos.scenario import load_scenario
from squall.core.config import Config
from squall.core.target import Claims

HOSTILE = f"{MARKUP}🎉\u202eevil\x1b[31m[link](javascript:hostile=1) :red[x] $$y$$ " + "x" * 1_000_000
"""Markup, an emoji, a turn of direction, an escape, Streamlit's own markdown, and a megabyte."""
HOSTILE_SWEEP = "20260101-000000-hostile"


def real_run(root: Path, *, profile: bool = False, **others: object) -> Path:
    """A run of a router in this process; a fault in its handlers, and too few attempts, so that there are dead
    letters."""
    plugins = short_run.retry(2)
    faults = [{**short_run.ERRORS, "probability": 0.5}]
    path = root / "short.yaml"
    sections = short_run.scenario(**{"plugins": plugins, "faults": faults, **others})
    path.write_text(json.dumps(sections), encoding="utf-8")
    config, catalogue = replace(Config(), folder=root), load_catalogue()
    scenario = load_scenario(path, known=catalogue.known(config))
    made = composed(scenario, config, catalogue)
    return asyncio.run(run_scenario(scenario, config, catalogue, composed=made, profile=profile)).folder


def traced_run(root: Path) -> Path:
    """Another, of which a part was traced."""
    faults = [{**short_run.ERRORS, "probability": 0.5}, short_run.REFUSE]
    plugins = [*short_run.retry(2), {"tracing": {"sample": 0.2}}]
    return real_run(root, name="traced", plugins=plugins, faults=faults)


def by_hand(runs: Path, scenario: str, make: Callable[[Path], Path]) -> Path:
    """A run made by hand, placed beside the others as one of that scenario."""
    made = make(runs.parent / f"{runs.name}-{scenario}")
    folder = runs / scenario / made.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(made, folder)
    return folder


def dead_letter_history() -> History:
    """Sixty events. Event 7 is tried three times and dead-lettered (fault errors acted on it), event 9 is handled at
    the second attempt, event 11 never comes; the dead letters are listed at the end."""
    history = clean(60, DURABLE)
    history.attempts = [one for one in history.attempts if one.event not in (7, 9, 11)]
    history.attempts += [failed(7, begun_ms=72 + 20 * number, attempt=number + 1) for number in range(3)]
    history.attempts[-1].settlement = "term"
    history.attempts += [failed(9), failed(9, begun_ms=120, attempt=2)]
    history.attempts[-1].result, history.attempts[-1].settlement = "ok", "ack"
    history.terminals.append(Terminal(7, time=1900 * MS))
    history.faults.append(FaultWindow(0, "errors", 65 * MS, 125 * MS, hits=4, passes=12))
    history.hits += [FaultHit(0, (74 + 20 * number) * MS, event=7, subscription=0) for number in range(3)]
    history.hits.append(FaultHit(0, 94 * MS, event=9, subscription=0))
    return history


def dead_letter_folder(root: Path) -> Path:
    """That history, judged."""
    return folders.judged_folder(root, dead_letter_history())


def forgotten_folder(root: Path) -> Path:
    """Redis, which keeps nothing on disk, is killed at 250 ms: audit never has event 17, which was acknowledged at
    171 ms; billing has it."""
    history = without(clean(40, DURABLE, replace(DURABLE, subscription=1, name="audit")), 17, 1)
    history.faults.append(FaultWindow(0, "killed", 249 * MS, 260 * MS, kind="kill", seam="process:redis", hits=1))
    history.processes += [Process(1, -100, 250 * MS, "redis"), Process(2, 260 * MS, None, "redis")]
    claims = Claims(durability="memory", kept_by="redis")
    facts = replace(FACTS, durability="memory", kept_by="redis")
    return folders.judged_folder(root, history, claims=claims, facts=facts, expected=[NoLoss()])


def many_folder(root: Path) -> Path:
    """Five thousand events, each published, waiting, handled and settled: more than 20,000 spans."""
    return folders.judged_folder(root, clean(5000, DURABLE))


def hostile_folder(root: Path) -> Path:
    """Names, types, errors and reasons that would do something if they were more than text."""
    folder = folders.hostile_folder(root, HOSTILE)
    quoted = MARKUP.replace("'", "''")
    (folder / "scenario.yaml").write_text(f"version: 1\nabout: '{quoted}'\n# {MARKUP}\n", encoding="utf-8")
    return folder


def all_runs(root: Path) -> Path:
    """All of them; returns the folder that they are in."""
    traced_run(root)
    real_run(root)
    real_run(root, seed=6)
    runs = root / "runs"
    by_hand(runs, "lossy", folders.invalid_folder)
    by_hand(runs, "dead", dead_letter_folder)
    by_hand(runs, "forgotten-by-redis", forgotten_folder)
    by_hand(runs, "unfinished", folders.unfinished_folder)
    by_hand(runs, "idle", folders.empty_folder)
    by_hand(runs, "damaged", folders.valid_folder).joinpath("verdict.json").write_text("{", encoding="utf-8")
    by_hand(runs, "hostile", hostile_folder)
    by_hand(runs, "many", many_folder)
    swept = by_hand(runs, "swept", folders.valid_folder)
    sweep_folder(runs, sweep((f"swept/{swept.name}", "gone/20260101-000000-abc123")))
    sweep_folder(runs, sweep((HOSTILE,), HOSTILE, HOSTILE, (HOSTILE,)), HOSTILE_SWEEP)
    return runs
