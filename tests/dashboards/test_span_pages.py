"""What the pages of spans say, without a browser: of a run, of a service, and where there is nothing or a mistake."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest
from tests.dashboards import made_runs
from tests.dashboards.made_spans import TRACE, span, write
from tests.dashboards.test_pages import opened, said

from squall.chaos.history import open_history
from squall.dashboards import span_reading

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
