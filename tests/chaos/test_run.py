"""Whole runs against a router in this process in which nothing is broken: valid, whatever seed and settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.chaos.short_run import AUDIT, BILLING, ERRORS, REFUSE, Section, retry, run, scenario

from squall.chaos.networks import Networks
from squall.chaos.processes import Processes
from squall.chaos.targets.in_process import InProcessTarget
from squall.core.errors import ConfigError

pytestmark = pytest.mark.slow  # whole runs


class OneByOne(InProcessTarget):
    publish_batch = None  # type: ignore[assignment]


SETTINGS: list[Section] = [
    {},
    {"subscribers": {"billing": {**BILLING, "concurrency": 1}, "audit": AUDIT}},
    {"subscribers": {"billing": {**BILLING, "on_retry": "block_key"}, "audit": AUDIT}},
    {"plugins": retry(1)},
    {
        "load": {
            "stages": [{"for": "400ms", "rate": 1000, "batch": 8}],
            "events": [{"type": "order.created", "key": {"count": 5}}],
        }
    },
]


@pytest.mark.own_core
@pytest.mark.parametrize("seed", range(2))  # of seeds and settings there are a hundred in test_clean_runs.py
@pytest.mark.parametrize("settings", SETTINGS)
async def test_a_clean_run_is_valid(tmp_path: Path, seed: int, settings: Section) -> None:
    """No false alarm; dead letters are an end, not a loss."""
    result = await run(tmp_path, scenario(seed=seed, **settings))
    assert result.verdict.state == "valid", [
        (one.name, one.summary, one.why_unknown) for one in result.verdict.findings
    ] + [(reason.code, reason.text) for reason in result.verdict.reasons]
    assert json.loads((result.folder / "verdict.json").read_text("utf-8"))["verdict"]["state"] == "valid"


async def test_batches_are_published_whole_and_judged(tmp_path: Path) -> None:
    """Each event of a batch is one that was acknowledged; a fault refuses whole batches."""
    stages = [{"for": "400ms", "rate": 1000, "batch": 30}]
    load: Section = {"stages": stages, "events": [{"type": "order.created", "key": {"count": 5}}]}
    result = await run(tmp_path, scenario(load=load, faults=[{**REFUSE, "probability": 0.5}]))
    assert result.verdict.state == "valid", result.verdict
    findings = {finding.name: finding for finding in result.verdict.findings}
    assert findings["atomic"].summary == "14 batches, none in part"
    assert findings["no_ghost"].figures["failed"] % 30 in (0, 10)
    assert findings["no_ghost"].figures["failed"] > 0
    assert findings["no_loss"].figures["owed"] == 2 * (400 - findings["no_ghost"].figures["failed"])


async def test_a_target_without_batches_is_not_asked_for_them(tmp_path: Path) -> None:
    """The mistake is placed in the file, before anything starts."""
    stages: list[Section] = [{"for": "400ms", "rate": 1000, "batch": 30}]
    load: Section = {"stages": stages, "events": [{"type": "order.created"}]}
    with pytest.raises(ConfigError, match=r"load\.stages\[0\]\.batch.*publishes no batches"):
        await run(tmp_path, scenario(load=load), target=OneByOne)


async def test_at_most_once_may_lose_what_nobody_said_must_not_be_lost(tmp_path: Path) -> None:
    """Without `expect` what is claimed is judged, and at most once claims no more than that."""
    at_most_once: Section = {"billing": {**BILLING, "delivery": "at-most-once"}, "audit": AUDIT}
    sections = scenario(subscribers=at_most_once, faults=[{**ERRORS, "probability": 0.5}])
    del sections["expect"]
    result = await run(tmp_path, sections)
    assert result.verdict.state == "valid"
    assert "lost as at most once allows" in result.verdict.headline


async def test_dead_letters_that_the_store_refused_at_the_end_are_waited_for(tmp_path: Path) -> None:
    """The run has drained before they are stored: that is no loss."""
    faults: list[Section] = [
        {**ERRORS, "at": "100ms", "for": "290ms", "probability": 0.5},
        {**REFUSE, "at": "250ms", "for": "150ms"},
    ]
    result = await run(tmp_path, scenario(plugins=retry(1), faults=faults))
    assert result.verdict.state == "valid", result.verdict.causes
    (loss,) = [finding for finding in result.verdict.findings if finding.name == "no_loss"]
    assert loss.figures["dead_lettered"] > 0


async def test_why_nothing_was_delivered_is_told(tmp_path: Path) -> None:
    """No subscriber wants what is published: nothing was lost, and nothing proven."""
    load: Section = {"stages": [{"for": "100ms", "rate": 100}], "events": [{"type": "order.created"}]}
    urgent = {"billing": {**BILLING, "priority_min": "CRITICAL"}}
    result = await run(tmp_path, scenario(load=load, subscribers=urgent, faults=[]))
    assert result.verdict.state == "unknown"
    assert result.verdict.headline.endswith("no subscriber was owed any of the events")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("counters", "the run was cut short: ZeroDivisionError('division by zero')"),
        ("terminals", "the target's own word is missing: ZeroDivisionError('division by zero')"),
        ("stop", "the target did not stop: ZeroDivisionError('division by zero')"),
    ],
)
async def test_a_target_that_raises_is_a_reason_of_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, said: str
) -> None:
    """Whatever it raises, and whenever: what was recorded is judged, and the folder is whole."""

    class Raises(InProcessTarget):
        pass

    asked = getattr(InProcessTarget, call)

    async def raises(target: InProcessTarget) -> None:
        await asked(target)
        _ = 1 / 0

    monkeypatch.setattr(Raises, call, raises)
    result = await run(tmp_path, scenario(plugins=retry(1)), target=Raises)
    assert (result.verdict.state, said in [one.text for one in result.verdict.reasons]) == ("unknown", True)
    assert {"verdict.json", "report.html", "junit.xml", "facts.json"} <= {path.name for path in result.folder.iterdir()}
    lost = next(one for one in result.verdict.findings if one.name == "no_loss")
    assert lost.state == ("valid" if call == "stop" else "unknown"), "a dead letter that is not known is no loss"


async def test_proxies_are_taken_away_also_where_a_process_cannot_be_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be ended is logged; the verdict stands."""
    closed = []

    async def refuse(processes: Processes) -> None:
        raise PermissionError

    async def close(networks: Networks) -> None:
        closed.append(networks)

    monkeypatch.setattr(Processes, "close", refuse)
    monkeypatch.setattr(Networks, "close", close)
    result = await run(tmp_path, scenario(faults=[]))
    assert (result.verdict.state, result.warnings, len(closed)) == ("valid", 1, 1)
    assert "a process could not be ended" in (result.folder / "log.txt").read_text("utf-8")
