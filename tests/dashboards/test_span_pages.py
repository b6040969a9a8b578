"""What the pages of spans say, without a browser: of a run, of a service, and where there is nothing or a mistake."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from tests.dashboards import made_runs
from tests.dashboards.made_spans import NOW_NS, TRACE, span, write
from tests.dashboards.test_pages import opened, said

from squall.chaos.history import open_history
from squall.chaos.report.page import read_run
from squall.dashboards import span_pages, span_reading
from squall.dashboards.drawing import draw
from squall.dashboards.trace_data import Waterfall

pytestmark = pytest.mark.slow  # each page is Streamlit's whole script


def script(folder: str) -> None:
    """What Streamlit runs: the page of a service."""
    from pathlib import Path

    from squall.dashboards.app import show_traced

    show_traced("Service traces", Path(folder))


def service_page(folder: Path, **query: str) -> AppTest:
    """The page as somebody sees it who follows such a link."""
    test = AppTest.from_function(script, args=(str(folder),), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Waterfall]:
    """What the pages draw, as they draw it."""
    found: list[Waterfall] = []

    def record(waterfall: Waterfall, count: int, noun: str, *words: str) -> str | None:
        found.append(waterfall)
        return draw(waterfall, count, noun, *words)

    monkeypatch.setattr(span_pages, "draw", record)
    return found


@pytest.fixture
def far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's own time is nine hours ahead of UTC."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs, of which one was traced."""
    root = tmp_path_factory.mktemp("traced")
    made_runs.traced_run(root)
    made_runs.by_hand(root / "runs", "dead", made_runs.dead_letter_folder)
    return root / "runs"


def test_a_service_is_shown_without_any_run(service: Path) -> None:
    """The newest traces first, by what there is to choose from."""
    page = service_page(service)
    assert "2 traces, " in said(page)
    choices = {one.label: one.options for one in page.selectbox}
    assert choices["Type"] == ["any", ">", "bill.made", "order.created"]
    assert choices["Error"] == ["any", "StoreError", "ValueError", "delivery_limit"]
    assert "1 trace, " in said(service_page(service, error="ValueError"))
    assert "No trace is like that" in said(service_page(service, topic=">", error="ValueError"))


def test_a_trace_is_told_span_by_span(service: Path) -> None:
    """With what its handlers published."""
    told = said(service_page(service, trace=TRACE))
    assert f"trace {TRACE}" in told
    for text in ("publish bill.made", "StoreError: the disk is busy", "ledger · redrive", "ValueError: no ledger"):
        assert text in told, text
    assert "as written until 20" in told


def test_traces_are_drawn_in_the_order_that_is_asked_for(tmp_path: Path, drawn: list[Waterfall]) -> None:
    """And by the reason for which they were kept; the newest first unless somebody asks."""
    quick, slow, late = "1" * 32, "2" * 32, "3" * 32
    write(
        tmp_path,
        0,
        span(quick, "a", at_ms=0),
        span(quick, "b", "a", "process", error="ValueError", why="failed"),
        span(slow, "a", at_ms=10),
        span(slow, "b", "a", "process", at_ms=90),
        span(late, "a", at_ms=99),
        *(span(late, name, "a", "process", at_ms=100) for name in "bcd"),
    )
    for query, traces in (
        ({}, [late, slow, quick]),
        ({"by": "slowest"}, [slow, late, quick]),
        ({"by": "most failures"}, [quick, late, slow]),
        ({"by": "most spans"}, [late, slow, quick]),
        ({"why": "failed"}, [quick]),
    ):
        service_page(tmp_path, **query)
        assert [row.event for row in drawn.pop().rows if row.head] == traces, query
    write(tmp_path, 1, *(span(f"{number:032x}", "a", at_ms=200 + number) for number in range(20)))
    assert "20 traces, " in said(service_page(tmp_path))
    assert "23 traces, " in said(service_page(tmp_path, limit="100"))


def test_times_of_a_service_are_utc(tmp_path: Path, far_east: None) -> None:
    """Wherever the dashboard is: what is told, and what is asked for."""
    os.utime(write(tmp_path, 0, span(TRACE, "a", at_ms=250)), (3600, 3600))
    told = said(service_page(tmp_path, trace=TRACE))
    assert "as written until 1970-01-01 01:00:00 UTC" in told
    assert f"{datetime.fromtimestamp(NOW_NS / 1e9, UTC):%H:%M:%S}.250 publish order.created" in told
    assert "1 trace, " in said(service_page(tmp_path, until="1970-01-01 01:00"))
    early = said(service_page(tmp_path, until="1970-01-01 00:59"))
    assert "No spans by then" in early
    assert "until 1970-01-01 00:59 UTC. Look at the newest ." in early


def test_a_long_trace_is_told_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first spans; and it is said how many there are. What failed is marked."""
    monkeypatch.setattr(span_pages, "LINES", 2)
    attempts = [span(TRACE, name, "a", "process", at_ms=2, error="ValueError") for name in "bc"]
    write(tmp_path, 0, span(TRACE, "a"), *attempts)
    page = service_page(tmp_path, trace=TRACE)
    assert "The first 2 of 3 spans are told; the waterfall has them all." in said(page)
    bodies = " ".join(one.proto.body for one in page.get("html"))
    told = re.findall(r'<td( class="bad")?>(published|failed)', bodies)
    assert told == [("", "published"), (' class="bad"', "failed")]


def test_an_empty_folder_says_how_to_fill_it(tmp_path: Path) -> None:
    """Whether it is there or not."""
    for folder in (tmp_path, tmp_path / "gone"):
        told = said(service_page(folder))
        assert f"There are none in {folder}" in told
        assert f"tracing: {{sample: 0.01, folder: {folder}}}" in told


def test_mistakes_are_told(service: Path, tmp_path: Path) -> None:
    """A time that is none, a trace that is not there, files that hold nothing."""
    assert "expected a time in UTC such as 2026-11-28 12:30, got 'noon'" in said(service_page(service, until="noon"))
    assert "No such trace" in said(service_page(service, trace="gone"))
    (tmp_path / "spans-000000.parquet").write_bytes(b"none")
    assert "spans-000000.parquet: cannot be read as Parquet" in said(service_page(tmp_path))
    write(tmp_path, 1, span("a" * 32, "b"))
    told = said(service_page(tmp_path))
    assert "Left out: spans-000000.parquet: cannot be read as Parquet" in told
    assert "1 trace, " in told


def test_a_big_folder_is_read_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not looked at is told, and reached by an earlier time."""
    monkeypatch.setattr(span_reading, "MAX_FILES", 2)
    for number in range(5):
        path = write(tmp_path, number, span(f"{number}" * 32, "a", topic=f"type.t{number}"))
        os.utime(path, (60 * number, 60 * number))
    told = said(service_page(tmp_path))
    assert "Of the newest 2 files, written until 1970-01-01 00:04:00 UTC; 3 older ones can be reached" in told
    page = service_page(tmp_path, until="1970-01-01 00:01")
    assert {one.label: one.options for one in page.selectbox}["Type"] == ["any", "type.t0", "type.t1"]


def test_which_files_are_looked_at_is_said_before_what_to_choose_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time, beside it how much there is before that, then the rest: nobody looks for it below."""
    monkeypatch.setattr(span_reading, "MAX_FILES", 1)
    for number in range(2):
        write(tmp_path, number, span(f"{number}" * 32, "a"))
    shown = list(service_page(tmp_path).main)
    labels = [getattr(one, "label", "") or getattr(one.proto, "body", "") for one in shown if hasattr(one, "proto")]
    (when,) = [place for place, text in enumerate(labels) if text == "Written until (UTC)"]
    (older,) = [place for place, text in enumerate(labels) if "1 older one can be reached" in text]
    assert when < older < labels.index("Which")


def test_a_run_that_was_traced_shows_both(traced: Path) -> None:
    """What the recorder saw, and what the tracer did; one that was not shows the first alone."""
    recorder = said(opened(traced, "traces", run="traced"))
    assert "told by the recorder told by the tracer : what handlers published in turn" in recorder
    tracer = said(opened(traced, "traces", run="traced", source="spans"))
    assert "told by the tracer told by the recorder" in tracer
    assert "20 traces, " in tracer
    assert "told by" not in said(opened(traced, "traces", run="dead"))
    assert "told by" not in said(opened(traced, "traces", run="dead", source="spans"))


def test_an_event_of_a_run_leads_to_its_trace(traced: Path) -> None:
    """By its number in the run; what was not traced says that."""
    folder = next(traced.glob("traced/2*"))
    with open_history(folder / "history") as db:
        (failed,) = db.execute("SELECT event FROM attempt WHERE result = 'error' ORDER BY begun LIMIT 1").fetchall()[0]
    told = said(opened(traced, "traces", run="traced", source="spans", event=str(failed)))
    assert "billing · attempt 1" in told
    assert "fault errors, seam handler:billing" in told
    assert "No such trace" in said(opened(traced, "traces", run="traced", source="spans", event="4711"))


def test_faults_and_publishes_are_drawn_when_they_were(traced: Path, drawn: list[Waterfall]) -> None:
    """By the time since the load began: each mark of a fault is in the time of that fault, and the publish of an event
    in what the recorder saw of it."""
    folder = next(traced.glob("traced/2*"))
    load = read_run(folder).facts.load
    assert load is not None
    with open_history(folder / "history") as db:
        failed, invoked_ns, ended_ns = db.execute(
            "SELECT event, invoked, publish.ended FROM publish JOIN attempt USING (event) WHERE result = 'error' "
            "ORDER BY attempt.begun LIMIT 1"
        ).fetchall()[0]
    opened(traced, "traces", run="traced", source="spans", event=str(failed))
    (found,) = drawn
    errors = [shade for shade in found.shades if shade.name == "errors"]
    marks = [bar for bar in found.spans if bar.says.startswith("fault errors")]
    assert marks
    assert all(any(shade.begun <= bar.begun <= shade.ended for shade in errors) for bar in marks)
    (published,) = (bar for bar in found.spans if bar.says.startswith("published"))
    assert (invoked_ns - load.begun) / 1e6 - 0.001 <= published.begun
    assert published.ended <= (ended_ns - load.begun) / 1e6 + 0.001
