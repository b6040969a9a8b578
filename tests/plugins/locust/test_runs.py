"""Whole runs: real Locust publishes to a real `squall serve`, and is recorded, judged, lost and ended."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.test_scenarios import Ran, run
from tests.plugins.locust.left import all_gone, processes

from squall.chaos.catalogue import load_catalogue
from squall.chaos.check.output import load_verdict
from squall.chaos.history import open_history
from squall.chaos.live_file import read_live
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import load_scenario
from squall.chaos.watch import Progress
from squall.core.config import Config

pytestmark = pytest.mark.slow
ALONE = pytest.mark.alone  # a rate is to be kept, or a server to be back in time

LONG_S = 300
BEGUN_S = 120.0


def sections(driver: dict[str, object], stage: dict[str, object], **others: object) -> dict[str, object]:
    return {
        "version": 1,
        "name": "users",
        "target": "squall",
        "subscribers": {"billing": {"pattern": "order.>", "concurrency": 8}},
        "load": {
            "driver": {"locust": driver},
            "stages": [stage],
            "events": [{"type": "order.created", "key": {"count": 5}}, {"type": "order.paid", "priority": "HIGH"}],
        },
        "expect": ["no_loss", "no_ghost", {"order": {"by": "key"}}, {"duplicates": {"max_ratio": 0}}],
    } | others


async def judged(
    folder: Path,
    scenario: dict[str, object],
    on_progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
) -> RunResult:
    catalogue, config, path = load_catalogue(), Config(folder=folder), folder / "users.yaml"
    path.write_text(json.dumps(scenario), encoding="utf-8")
    read = load_scenario(path, config=config, known=catalogue.known(config))
    return await run_scenario(read, config, catalogue, on_progress=on_progress, stop=stop)


def facts(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "facts.json").read_text("utf-8"))
    return found


def rows(folder: Path, sql: str) -> list[tuple[Any, ...]]:
    with open_history(folder / "history") as db:
        return db.execute(sql).fetchall()


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """The scenario that squall ships, run once by the command line."""
    return run("locust-users", tmp_path_factory.mktemp("runs"))


@ALONE
def test_the_shipped_scenario_is_valid(shipped: Ran) -> None:
    assert shipped.exit_code == 0, (shipped.verdict["headline"], shipped.states(), shipped.verdict["reasons"])
    assert {shipped.states()[kind] for kind in ("no_loss", "duplicates", "order (key)", "error budget")} == {"valid"}


@ALONE
def test_each_publish_is_recorded_as_the_benchs_own_are(shipped: Ran) -> None:
    """When it was due, begun and answered, in this order, evenly by the rate; with the seq of its receipt."""
    (counted,) = rows(
        shipped.folder,
        "SELECT count(*), count(*) FILTER (outcome = 'ok' AND seq > 0 AND hash IS NOT NULL), "
        "count(*) FILTER (intended <= invoked AND invoked < ended), count(DISTINCT event), count(DISTINCT type) "
        "FROM publish",
    )
    assert counted == (300, 300, 300, 300, 2)
    assert rows(
        shipped.folder,
        "SELECT max(gap), min(gap) FROM "
        "(SELECT intended - lag(intended) OVER (ORDER BY event) AS gap FROM publish) WHERE gap IS NOT NULL",
    ) == [(10_000_000, 10_000_000)]
    told = rows(shipped.folder, "SELECT count(*) FROM told")  # types, keys and priorities arrived as published
    assert told == [(0,)]


@ALONE
def test_its_statistics_are_in_the_folder_the_verdict_and_the_report(shipped: Ran) -> None:
    """Locust counted what the bench recorded."""
    said = facts(shipped.folder)["generated"]
    assert (said["requests"], said["failures"], said["users"], said["processes"]) == (300, 0, 20, 1)
    assert said["rate"] > 10
    assert 0 < said["p50_s"] <= said["p95_s"] <= said["p99_s"] < 30
    kinds = {one[0]: one[1:] for one in said["kinds"]}
    assert kinds.keys() == {"order.created", "order.paid"}
    assert sum(requests for requests, *_ in kinds.values()) == 300
    assert all(0 < p50 <= p95 <= p99 for *_, p50, p95, p99 in kinds.values())
    notes = shipped.verdict["notes"]
    assert isinstance(notes, list)
    (note,) = [one["text"] for one in notes if one["code"] == "generated"]
    assert "published: 20 users in 1 process" in note
    assert "by its own count 300 requests, 0 failed" in note
    report = (shipped.folder / "report.html").read_text("utf-8")
    assert "published: 20 users in 1 process" in report
    assert "What the generator counted itself" in report
    kept = shipped.folder / "driver"
    assert "order.created" in (kept / "locust_stats.csv").read_text("utf-8")
    assert len((kept / "locust_stats_history.csv").read_text("utf-8").splitlines()) > 1
    assert "<html" in (kept / "locust.html").read_text("utf-8")


@ALONE
def test_no_process_outlives_it(shipped: Ran) -> None:
    assert processes(shipped.folder.parent.parent) == {}


@ALONE
async def test_workers_share_the_users_and_people_may_watch(tmp_path: Path) -> None:
    """Both publish, under Locust's master, whose own page answers on loopback meanwhile."""
    seen: dict[str, Any] = {}

    def on_progress(progress: Progress) -> None:
        _, _, page = progress.target.partition("http://127.0.0.1:")
        if page and "status" not in seen and progress.acknowledged:
            with urllib.request.urlopen(f"http://127.0.0.1:{page}", timeout=30) as answer:
                seen["status"], seen["body"] = answer.status, answer.read().decode()
            seen["journals"] = len(processes(tmp_path, '"role":"worker"'))

    result = await judged(
        tmp_path, sections({"users": 6, "workers": 2, "web": True}, {"for": "3s", "rate": 60}), on_progress
    )
    assert result.verdict.state == "valid", result.verdict
    assert (seen["status"], seen["journals"]) == (200, 2)
    assert "Locust" in seen["body"]
    said = facts(result.folder)["generated"]
    assert (said["requests"], said["failures"], said["processes"]) == (180, 0, 2)
    assert "gevent" not in sys.modules
    assert all_gone(tmp_path)


async def test_a_locust_that_is_lost_makes_the_verdict_unknown(tmp_path: Path) -> None:
    """Which one, and that it was the generator; what it had sent by then is judged all the same, and nobody blamed."""
    killed: list[int] = []

    def on_progress(progress: Progress) -> None:
        if progress.phase == "load" and progress.acknowledged > 20 and not killed:
            (pid,) = processes(tmp_path, "process.py")
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    result = await judged(tmp_path, sections({"users": 5}, {"for": f"{LONG_S}s", "rate": 50}), on_progress)
    verdict = result.verdict
    assert verdict.state == "unknown", verdict
    lost = f"the generator was lost: locust (pid {killed[0]}) ended; see servers/locust.log"
    assert lost in [reason.text for reason in verdict.reasons]
    assert result.duration_s < LONG_S / 2
    states = {finding.name: finding.state for finding in verdict.findings}
    assert "invalid" not in states.values(), states
    assert rows(result.folder, "SELECT count(*) > 20 FROM publish WHERE outcome = 'ok'") == [(True,)]
    assert all_gone(tmp_path)


async def test_what_a_killed_locust_had_begun_is_known(tmp_path: Path) -> None:
    """Its outcome is not; so that nobody is blamed for an event that arrives although its publish was never answered:
    the server stands still, every user waits for it, Locust is killed, and the server goes on."""
    fault = {"id": "still", "at": "1s", "do": "stop", "on": "process:serve"}
    killed: list[int] = []

    def on_progress(progress: Progress) -> None:
        standing = any(one.state == "active" for one in progress.faults)
        if progress.phase == "load" and standing and progress.in_flight > 20 and not killed:
            killed.extend(processes(tmp_path, "process.py"))
            os.kill(killed[0], signal.SIGKILL)

    asked = sections({"users": 5}, {"for": f"{LONG_S}s", "rate": 50}, faults=[fault])
    result = await judged(tmp_path, asked, on_progress)
    assert len(killed) == 1
    assert result.verdict.state == "unknown"
    ((begun, unanswered),) = rows(
        result.folder, "SELECT count(*), count(*) FILTER (ended IS NULL AND outcome = 'info') FROM publish"
    )
    assert 1 <= unanswered <= 5
    states = {finding.name: finding.state for finding in result.verdict.findings}
    assert states["no_phantom"] == "valid", result.verdict
    assert "invalid" not in states.values(), states
    assert begun > unanswered


@ALONE
async def test_a_load_that_is_not_kept_says_who_was_the_limit(tmp_path: Path) -> None:
    """One user waits for each answer: it cannot send ten thousand a second, whoever is slow."""
    result = await judged(tmp_path, sections({"users": 1}, {"for": "1s", "rate": 10_000}))
    assert result.verdict.state == "unknown"
    (reason,) = [one for one in result.verdict.reasons if one.code == "rate_not_kept"]
    assert "was the limit" in reason.text
    assert reason.advice
    states = {finding.name: finding.state for finding in result.verdict.findings}
    assert states["no_loss"] == "valid"


@ALONE
async def test_a_server_that_is_gone_is_recorded_as_what_locust_saw(tmp_path: Path) -> None:
    """Nobody listened: surely not stored. Locust goes on, and what was acknowledged is there again afterwards."""
    fault = {"id": "killed", "at": "1s", "for": "1s", "do": "kill", "on": "process:serve"}
    subscriber = {"billing": {"pattern": "order.>", "durable": True, "concurrency": 8, "timeout": "2s"}}
    asked = sections({"users": 10}, {"for": "8s", "rate": 50}, faults=[fault], plugins=["sqlite", "retry"])
    result = await judged(tmp_path, asked | {"subscribers": subscriber})
    states = {finding.name: finding.state for finding in result.verdict.findings}
    assert (states["no_loss"], states["no_ghost"], states["no_phantom"]) == ("valid", "valid", "valid"), result.verdict
    outcomes = dict(rows(result.folder, "SELECT outcome, count(*) FROM publish GROUP BY outcome"))
    assert outcomes["fail"] > 0
    assert outcomes["ok"] > outcomes["fail"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    """By Ctrl-C, with a verdict that says so; and by kill -9. The master and its workers are gone, and the server."""
    path = tmp_path / "users.yaml"
    path.write_text(
        json.dumps(sections({"users": 4, "workers": 2}, {"for": f"{LONG_S}s", "rate": 20})), encoding="utf-8"
    )
    command = [sys.executable, "-m", "squall", "run", str(path), "--runs", str(tmp_path / "runs")]
    with (
        (tmp_path / "said").open("wb") as said,
        subprocess.Popen(command, stdout=said, stderr=said, cwd=tmp_path, start_new_session=True) as process,
    ):
        try:
            _await_publishes(tmp_path, process)
            assert len(processes(tmp_path, '"role":"')) == 3
            process.send_signal(number)
            code = process.wait(120)
        finally:
            process.kill()
    assert code == (130 if number == signal.SIGINT else -signal.SIGKILL), (tmp_path / "said").read_text("utf-8")
    assert all_gone(tmp_path), processes(tmp_path)
    if number == signal.SIGINT:
        (written,) = tmp_path.glob("runs/users/2*/verdict.json")
        assert load_verdict(written).state == "unknown"


def _await_publishes(folder: Path, process: subprocess.Popen[bytes]) -> None:
    """Until the run's own account says that something was acknowledged."""
    deadline = time.monotonic() + BEGUN_S
    while time.monotonic() < deadline and process.poll() is None:
        for path in folder.glob("runs/users/2*/live.jsonl"):
            if any(moment.progress.acknowledged for moment in read_live(path.parent)):
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing was published: {(folder / 'said').read_text('utf-8')}")
