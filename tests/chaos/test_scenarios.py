"""The scenarios that squall ships: each runs to the verdict that its comment promises, and its report tells it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from squall.chaos.history import open_history

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / "scenarios"
AT_ONCE = 5

# Fewer events, so that several run at once, and no long load after the last fault; else the timing is the scenario's
# own. The longest first.
SHORTER: dict[str, list[str]] = {
    "first-storm": ["rate=1500"],
    "store-outage": ["rate=200", "seconds=17s"],
    "slow-and-hung": ["rate=200", "seconds=15s"],
    "failing-handlers": ["rate=200", "seconds=15s"],
    "comings-and-goings": ["rate=200"],
    "burst-100k": ["burst=3000", "rate=100", "after=5s"],
    "rush-hour": ["burst=1000"],
    "sustained-10k": ["rate=1000", "seconds=3s", "kept=900"],
    "loss-on-purpose": [],
    "calm": ["rate=200", "seconds=2s"],
    "capacity": [],
}

# Those that start servers of their own, the longest first: several run at once.
WITH_SERVERS: dict[str, list[str]] = {
    "redis-cut": ["rate=100", "seconds=16s"],
    "serve-killed": ["rate=100", "seconds=13s", "later=10s"],
    "redis-latency": ["rate=100", "seconds=15s"],
    "remote-partitioned": ["rate=100", "seconds=15s"],
    "redis-killed": ["rate=60", "seconds=9s", "gone=1s"],
    "slow-network-half": ["rate=50", "seconds=8s", "slow=4s"],
    "redis-killed-no-aof": ["seconds=8s", "gone=1s"],
    "neo4j-gone": ["rate=100", "seconds=8s", "gone=2s"],
}

FEW_PLACES = "rush-hour, with few places"

# Those whose load comes from elsewhere: tests/plugins/locust/test_runs.py
WITH_DRIVER: dict[str, list[str]] = {"locust-users": ["rate=100", "seconds=3s"]}


@dataclass(frozen=True)
class Ran:
    """A run of the command: its exit code, what it printed for programs, and its folder."""

    exit_code: int
    verdict: dict[str, object]
    folder: Path

    def states(self) -> dict[str, str]:
        findings = self.verdict["findings"]
        assert isinstance(findings, list)
        return {one["title"] or one["name"]: one["state"] for one in findings}


def run(name: str, runs: Path, *more: str) -> Ran:
    sets = [argument for value in (SHORTER | WITH_SERVERS | WITH_DRIVER)[name] for argument in ("--set", value)]
    command = [sys.executable, "-m", "squall", "run", str(SCENARIOS / f"{name}.yaml"), *sets, *more]
    command += ["--runs", str(runs), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=runs)
    assert done.stdout, done.stderr
    (told,) = json.loads(done.stdout)["runs"]
    return Ran(done.returncode, told["verdict"], Path(told["folder"]))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """Every scenario, run once by the command line; one of them with another configuration too."""
    runs = tmp_path_factory.mktemp("runs")
    small = runs / "small.yaml"
    small.write_text("version: 1\nbacklog: {max_events: 300}\n", encoding="utf-8")
    with ThreadPoolExecutor(AT_ONCE) as pool:
        few = pool.submit(run, "rush-hour", runs, "--config", str(small))
        each = pool.map(lambda name: run(name, runs), SHORTER)
        yield dict(zip(SHORTER, each, strict=True)) | {FEW_PLACES: few.result()}


def test_every_scenario_is_run_here() -> None:
    """Or, where it needs servers or a driver, in a file of its own. A new one has to say how it is shortened."""
    assert {path.stem for path in SCENARIOS.glob("*.yaml")} == SHORTER.keys() | WITH_SERVERS.keys() | WITH_DRIVER.keys()


@pytest.mark.parametrize("name", [*SHORTER, *WITH_SERVERS, *WITH_DRIVER])
def test_every_scenario_is_commented(name: str) -> None:
    """It begins with what it is about, and its lines can be read beside each other."""
    lines = (SCENARIOS / f"{name}.yaml").read_text("utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert max(len(line) for line in lines) <= 120


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.parametrize("name", [name for name in SHORTER if name != "loss-on-purpose"])
def test_it_is_valid(ran: dict[str, Ran], name: str) -> None:
    """With a report in its folder."""
    one = ran[name]
    assert one.exit_code == 0, (one.verdict["headline"], one.states(), one.verdict["reasons"])
    assert one.verdict["state"] == "valid"
    assert "Valid" in (one.folder / "report.html").read_text("utf-8")
    assert (one.folder / "junit.xml").exists()


@pytest.mark.slow
@pytest.mark.alone
def test_the_healthy_are_judged_beside_the_slow(ran: dict[str, Ran]) -> None:
    """The expectation of the healthy subscriber is there, and it is not of everybody."""
    assert ran["slow-and-hung"].states()["latency p99 of healthy"] == "valid"
    assert ran["failing-handlers"].states()["latency p99 of audit"] == "valid"


@pytest.mark.slow
@pytest.mark.alone
def test_who_joins_late_gets_what_was_before_if_it_asks_for_it(ran: dict[str, Ran]) -> None:
    """Reports, from the beginning; ticker only what was published while it was there, and audit until it left."""
    one = ran["comings-and-goings"]
    assert {"order (key)", "latency p99 of ticker"} <= set(one.states())
    with open_history(one.folder / "history") as db:
        rows = db.execute(
            "SELECT s.name, count(DISTINCT event) FROM attempt a JOIN subscription s USING (subscription) GROUP BY ALL"
        ).fetchall()
        (published,) = db.execute("SELECT count(*) FROM publish").fetchall()[0]
    got = dict(rows)
    assert got["reports"] == got["billing"] == published
    assert 0.4 < got["ticker"] / published < 0.6
    assert got["audit"] < 0.5 * published


@pytest.mark.slow
@pytest.mark.alone
def test_full_queues_refuse_and_drop_as_they_say(ran: dict[str, Ran]) -> None:
    """With few places whole batches are refused, and drops are told: valid too."""
    assert {"atomic", "starvation"} <= set(ran["rush-hour"].states())
    one = ran[FEW_PLACES]
    assert one.exit_code == 0, (one.verdict["headline"], one.states())
    findings = one.verdict["findings"]
    assert isinstance(findings, list)
    figures = {finding["name"]: finding["figures"] for finding in findings}
    assert figures["no_ghost"]["failed"] >= 200
    assert figures["no_ghost"]["failed"] % 5 == 0
    assert figures["no_loss"]["cancelled"] > 0


@pytest.mark.slow
@pytest.mark.alone
def test_loss_on_purpose_is_a_loss_with_its_true_cause(ran: dict[str, Ran]) -> None:
    """Invalid under no_loss alone; every lost event was hit by the crash, and blame says so in words."""
    one = ran["loss-on-purpose"]
    assert one.exit_code == 1
    assert [name for name, state in one.states().items() if state == "invalid"] == ["no_loss"]
    causes = one.verdict["causes"]
    assert isinstance(causes, list)
    (cause,) = causes
    assert cause["sentence"].startswith("settled before the handler ran, then the handler crashed (fault crash")
    assert "at-least-once" in cause["advice"]
    report = (one.folder / "report.html").read_text("utf-8")
    assert cause["sentence"] in report
    assert f"acted on {cause['count']} of" in report
