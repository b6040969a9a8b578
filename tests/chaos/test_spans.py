"""The spans of a run: completed from its history, with its faults on them, one file at the end; and its profile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.chaos.short_run import AUDIT, BILLING, ERRORS, REFUSE, Section, retry, run, scenario
from tests.plugins.tracing.traced import Row, of, rows

from squall.chaos import profile
from squall.chaos.history import open_history
from squall.chaos.present import result_lines
from squall.chaos.run_folder import PROFILE
from squall.chaos.spans import complete_spans
from squall.core.errors import ConfigError, StoreFileError

pytestmark = pytest.mark.slow  # whole runs


def traced(**options: object) -> Section:
    """A short run in which a tenth of billing's handlers fail and the store refuses for a while, traced so."""
    return scenario(
        plugins=[*retry(8), {"tracing": {"slowest": 1, **options}}],
        subscribers={"billing": BILLING, "audit": AUDIT},
        faults=[{**ERRORS, "probability": 0.1}, REFUSE],
    )


def orphans(spans: list[Row]) -> list[Row]:
    """Spans that are in one that is not there."""
    there = {(one.trace, one.span) for one in spans}
    return [one for one in spans if one.parent is not None and (one.trace, one.parent) not in there]


async def test_what_failed_is_whole_though_it_was_not_sampled(tmp_path: Path) -> None:
    """The publish and the other subscriber's delivery come from the history; nothing is partial, or twice there."""
    result = await run(tmp_path, traced(sample=0.0, keep=["failed", "retried"]))
    folder = result.folder / "spans"
    assert [file.name for file in folder.glob("*.parquet")] == ["spans.parquet"]
    spans = rows(folder)
    failed = of(spans, "process", error="RuntimeError")
    assert failed
    assert not any(one.partial for one in spans)
    assert orphans(spans) == []
    assert len({(one.trace, one.span) for one in spans}) == len(spans)
    for one in failed:
        (publish,) = of(spans, "publish", seq=one.seq)
        assert (publish.trace, publish.span) == (one.trace, one.parent)
        assert publish.attributes["squall.rebuilt"] is True
        assert 0 < one.begun - publish.begun < 2_000_000_000
        if one.topic == "order.created":
            (other,) = of(spans, "process", seq=one.seq, subscription="audit")
            assert (other.parent, other.error) == (publish.span, None)


async def test_faults_are_events_on_the_attempts_that_they_hit(tmp_path: Path) -> None:
    """As many as the history has hits in handlers; each by the scenario's name for it."""
    result = await run(tmp_path, traced(sample=1.0))
    spans = rows(result.folder / "spans")
    with open_history(result.folder / "history") as db:
        hits = db.execute(
            "SELECT count(*) FROM fault_hit JOIN fault USING (fault) WHERE seam = 'handler:billing'"
        ).fetchall()
    notes = [
        (one.subscription, json.loads(note["attributes"]))
        for one in of(spans, "process")
        for note in one.events
        if note["name"] == "fault"
    ]
    assert notes == [("billing", {"squall.fault": "errors", "squall.seam": "handler:billing"})] * hits[0][0]
    assert notes


async def test_a_publish_that_failed_says_so(tmp_path: Path) -> None:
    """Sampled or not: as many as the history has, and the fault on those that were traced."""
    for share, hit in ((1.0, True), (0.0, False)):
        result = await run(tmp_path, traced(sample=share))
        spans = rows(result.folder / "spans")
        with open_history(result.folder / "history") as db:
            (count,) = db.execute("SELECT count(*) FROM publish WHERE outcome = 'fail'").fetchall()[0]
        failed = of(spans, "publish", error="fail")
        assert len(failed) == count > 0
        assert all(bool(one.events) is hit for one in failed)


async def test_every_event_is_traced_whole(tmp_path: Path) -> None:
    """At 100 % each acknowledged event has its publish, its store, and a delivery for each subscriber."""
    result = await run(tmp_path, traced(sample=1.0))
    spans = rows(result.folder / "spans")
    with open_history(result.folder / "history") as db:
        (published, attempts) = db.execute(
            "SELECT (SELECT count(*) FROM publish WHERE outcome = 'ok'), (SELECT count(*) FROM attempt)"
        ).fetchall()[0]
    assert len(of(spans, "publish", error=None)) == len(of(spans, "store", error=None)) == published
    assert len(of(spans, "process")) == attempts
    assert orphans(spans) == []
    counts = json.loads((result.folder / "spans" / "tracing.json").read_text(encoding="utf-8"))
    assert (counts["records_dropped"], counts["dropped"]) == (0, 0)


async def test_a_run_without_traces_has_none(tmp_path: Path) -> None:
    """No plugin, no folder."""
    result = await run(tmp_path, scenario())
    assert not (result.folder / "spans").exists()
    complete_spans(result.folder)


async def test_spans_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    """And stay as they were."""
    result = await run(tmp_path, traced(sample=1.0))
    damaged = result.folder / "spans" / "spans-000000.parquet"
    damaged.write_bytes(b"none")
    with pytest.raises(StoreFileError, match="the spans cannot be completed"):
        complete_spans(result.folder)
    assert damaged.read_bytes() == b"none"


async def test_a_profile_says_where_the_time_went(tmp_path: Path) -> None:
    """Stacks, the loop's lag, and waits beside handlers' times, by subscriber."""
    result = await run(tmp_path, scenario(), profile=True)
    figures = json.loads((result.folder / profile.FIGURES).read_text(encoding="utf-8"))
    assert figures["loop_lag"].keys() == {"p50_s", "p99_s", "max_s"}
    assert figures["subscribers"].keys() == {"audit", "billing"}
    assert all(one["handled"]["p99_s"] > 0 for one in figures["subscribers"].values())
    assert "run_scenario" in (result.folder / profile.TEXT).read_text(encoding="utf-8")
    assert "<html" in (result.folder / PROFILE).read_text(encoding="utf-8")
    told = [line.plain for line in result_lines(result, 100)]
    assert [line.split()[0] for line in told[-3:]] == ["report", "profile", "look"]
    assert told[-2].endswith(f"{result.folder.name}/profile.html")


async def test_without_the_profiler_nothing_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what to install is said."""
    monkeypatch.setattr(profile, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'squall\[profile\]'"):
        await run(tmp_path, scenario(), profile=True)
    assert not (tmp_path / "runs").exists()
