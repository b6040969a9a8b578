"""Spans as the pages show them: which files are read, which traces are chosen, how a trace is drawn."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.dashboards.made_spans import MS, NOW_NS, TRACE, span, write

from squall.core.errors import StoreFileError
from squall.dashboards import span_reading
from squall.dashboards.span_data import lines, tree, waterfall
from squall.dashboards.span_reading import (
    Clock,
    Files,
    Traced,
    Wanted,
    choose,
    has_spans,
    newest_files,
    open_spans,
    read,
    values,
)
from squall.dashboards.trace_data import Waterfall
from squall.plugins.tracing.spans import Note, Span


def spans_of(folder: Path, *traces: str, clock: Clock = "wall") -> list[Traced]:
    """The spans of these traces in the folder."""
    with open_spans(folder, clock) as (db, _):
        return read(db, traces)


def chosen(folder: Path, wanted: Wanted) -> list[str]:
    """The traces that are wanted."""
    with open_spans(folder, "wall") as (db, _):
        return choose(db, wanted)


def drawn(spans: list[Traced], *traces: str) -> Waterfall:
    """Those traces, counted from the first span."""
    return waterfall(spans, traces, spans[0].at_ns, lambda time_ns: "then")


def test_a_trace_is_a_tree_over_events(service: Path) -> None:
    """What a handler published stands under its attempt, with all that became of that."""
    spans = spans_of(service, TRACE)
    found = drawn(spans, TRACE)
    labels = [row.label for row in found.rows]
    assert labels[:2] == ["order.created then", "publish order.created"]
    assert found.rows[0].event == TRACE
    bill = labels.index("    publish bill.made")
    assert labels[bill - 1] == "  billing · attempt 1"
    under = [label for label in labels[bill + 1 :] if label.startswith("      ")]
    assert sorted(under) == [
        "      audit · attempt 1",
        "      ledger · attempt 1",
        "      ledger · attempt 1",
        "      ledger · attempt 2",
        "      ledger · redrive",
    ]
    assert "  audit · attempt 1" in labels
    assert sum(one.operation in ("store", "ack", "nak", "dead_letter") for one in spans) + len(labels) - 1 == len(spans)


def test_links_are_drawn(service: Path) -> None:
    """From the publish to who had it, from attempt to attempt, from the redrive on; from a handler to its publish."""
    spans = spans_of(service, TRACE)
    found = drawn(spans, TRACE)
    labels = [row.label.strip() for row in found.rows]
    pairs = sorted((labels[a], labels[b]) for a, _, b, _ in found.links)
    assert pairs == [
        ("billing · attempt 1", "publish bill.made"),
        ("ledger · attempt 1", "ledger · attempt 2"),
        ("ledger · redrive", "ledger · attempt 1"),
        ("publish bill.made", "audit · attempt 1"),
        ("publish bill.made", "ledger · attempt 1"),
        ("publish bill.made", "ledger · redrive"),
        ("publish order.created", "audit · attempt 1"),
        ("publish order.created", "billing · attempt 1"),
    ]
    assert all(at >= 0 for bar in found.spans for at in (bar.begun, bar.ended))
    assert all(bar.begun <= bar.ended for bar in found.spans)


def test_a_replay_is_linked_to_what_it_read(service: Path) -> None:
    """Over traces."""
    with open_spans(service, "wall") as (db, _):
        (replay,) = choose(db, Wanted(topic=">"))
        found = drawn(read(db, [TRACE, replay]), TRACE, replay)
    labels = [row.label.strip() for row in found.rows]
    read_by = {labels[a] for a, _, b, _ in found.links if labels[b] == "replay >"}
    assert read_by == {"publish order.created", "publish bill.made"}


def test_the_tries_of_the_store_and_what_became_of_it_are_told(service: Path) -> None:
    """On the row of their publish or attempt, and one by one."""
    spans = spans_of(service, TRACE)
    told = [(line.depth, line.name, line.says) for line in lines(spans, lambda time_ns: "")]
    stores = [says for depth, name, says in told if name == "store order.created" and depth == 1]
    assert len(stores) == 2
    assert "StoreError: the disk is busy" in stores[0]
    assert stores[1].startswith("stored in ")
    failed = next(says for _, name, says in told if name == "ledger · attempt 1")
    assert "ValueError: no ledger <script>" in failed
    assert any(name == "ledger · dead letter" and "delivery_limit" in says for _, name, says in told)
    assert any(name == "ledger · redrive" and "origin ops" in says for _, name, says in told)
    assert any(says.startswith("handled") and "redriven" in says for _, _, says in told)
    found = drawn(spans, TRACE)
    row = next(at for at, one in enumerate(found.rows) if one.label == "publish order.created")
    assert sorted(bar.tone for bar in found.spans if bar.row == row) == ["bad", "publish", "settle"]


def test_faults_and_refusals_are_marked_where_they_acted(tmp_path: Path) -> None:
    """By wall time, though notes have the times of the process."""
    fault = Note(5 * MS + 400_000, "fault", {"squall.fault": "errors", "squall.seam": "handler:billing"})
    raised = Note(6 * MS, "exception", {"exception.type": "RuntimeError"})
    notes = [fault, raised]
    write(tmp_path, 0, span("t", "a", operation="process", at_ms=5, attempt=1, error="RuntimeError", notes=notes))
    spans = spans_of(tmp_path, "t")
    found = waterfall(spans, ["t"], NOW_NS, str)
    assert [(bar.begun, bar.ended, bar.tone) for bar in found.spans] == [(5, 6, "bad"), (5.4, 5.4, "odd")]
    assert found.spans[1].says == "fault errors, seam handler:billing"
    assert found.spans[0].says == "failed in 1 ms · RuntimeError · fault errors, seam handler:billing"


def test_a_partial_trace_says_so_and_has_no_publish(tmp_path: Path) -> None:
    """Its wait is told from what the attempt itself knows."""
    write(
        tmp_path,
        0,
        span("t", "a", operation="process", at_ms=5, attempt=1, waited_ns=2 * MS, why="slowest", partial=True),
        span("t", "b", "a", "ack", at_ms=6, why="slowest", partial=True),
    )
    found = drawn(spans_of(tmp_path, "t"), "t")
    bars = [(bar.begun, bar.ended, bar.tone) for bar in found.spans]
    assert bars == [(0, 1, "ok"), (1, 2, "settle"), (-2, 0, "wait")]
    assert found.begun == -2
    assert "kept because slowest · what came before was not noted" in found.spans[0].says


def test_what_is_noted_of_a_span_is_told_in_words(tmp_path: Path) -> None:
    """Times with their units; what is so, and what is not."""
    noted = {"squall.delay_s": 0.0531, "squall.redriven": True, "squall.counted": False, "squall.share": 1 / 3, "n": 7}
    write(tmp_path, 0, span("t", "a", operation="nak", more=noted))
    (told,) = lines(spans_of(tmp_path, "t"), str)
    assert told.says == "given back in 1 ms · delay 53.1 ms · redriven · not counted · share 0.333 · n 7"


def test_no_shape_of_spans_is_too_much(tmp_path: Path) -> None:
    """Circles, spans of one name, orphans, and a chain of a thousand handlers: each span stands once."""
    chain: list[Span] = []
    for number in range(1000):
        chain.append(span("deep", f"p{number}", f"h{number - 1}" if number else None, at_ms=2 * number))
        chain.append(span("deep", f"h{number}", f"p{number}", "process", at_ms=2 * number + 1, attempt=1))
    odd = [
        span("odd", "a", "b"),
        span("odd", "b", "a", "process"),
        span("odd", "c", "c"),
        span("odd", "d"),
        span("odd", "d", at_ms=3),
        span("odd", "e", "d", "store"),
        span("odd", "f", "gone", "ack"),
    ]
    write(tmp_path, 0, *chain, *odd)
    spans = spans_of(tmp_path, "deep", "odd")
    nodes = tree([one for one in spans if one.trace == "odd"])
    assert sum(1 + len(node.parts) for node in nodes) == len(odd)
    found = waterfall(spans, ["deep", "odd"], NOW_NS, str)
    assert len(found.rows) == 2 + len(chain) + len(odd) - 1
    assert max(len(row.label) - len(row.label.lstrip()) for row in found.rows) == 16


def test_traces_are_chosen(tmp_path: Path) -> None:
    """In each order, and by what one of their spans is."""
    write(
        tmp_path,
        0,
        span("quick", "1", at_ms=0),
        span("slow", "2", at_ms=10),
        span("slow", "3", "2", "process", at_ms=90, error="ValueError", why="failed"),
        span("late", "4", topic="bill.made", at_ms=50),
        span("late", "5", "4", "process", topic="bill.made", at_ms=51),
        span("late", "6", "5", "ack", topic="bill.made", at_ms=52, why="slowest"),
    )
    assert chosen(tmp_path, Wanted("newest")) == ["slow", "late", "quick"]
    assert chosen(tmp_path, Wanted("newest", limit=1)) == ["slow"]
    assert chosen(tmp_path, Wanted("slowest"))[0] == "slow"
    assert chosen(tmp_path, Wanted("most failures"))[0] == "slow"
    assert chosen(tmp_path, Wanted("most spans"))[0] == "late"
    assert chosen(tmp_path, Wanted(topic="bill.made")) == ["late"]
    assert chosen(tmp_path, Wanted(why="slowest")) == ["late"]
    assert chosen(tmp_path, Wanted(error="ValueError")) == ["slow"]
    assert chosen(tmp_path, Wanted(topic="bill.made", error="ValueError")) == []
    with open_spans(tmp_path, "wall") as (db, _):
        assert values(db, "topic") == ["bill.made", "order.created"]
        assert values(db, "error") == ["ValueError"]


def aged(folder: Path, number: int, written_s: int) -> Path:
    """A file of one trace, called as its number, which was written then."""
    path = write(folder, number, span(f"t{number}", "a", at_ms=number))
    os.utime(path, (written_s, written_s))
    return path


def test_only_the_newest_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By when they were written, not by their names; older ones by a time before that."""
    files = [aged(tmp_path, number, 1000 - number) for number in range(6)]
    monkeypatch.setattr(span_reading, "MAX_FILES", 2)
    assert newest_files(tmp_path) == Files((files[0], files[1]), 1000, older=4)
    assert newest_files(tmp_path, until_s=996) == Files((files[4], files[5]), 996, older=0)
    assert newest_files(tmp_path, until_s=1) == Files()
    monkeypatch.setattr(span_reading, "MAX_BYTES", files[0].stat().st_size)
    assert newest_files(tmp_path).paths == (files[0],)
    monkeypatch.setattr(span_reading, "MAX_BYTES", 1)
    assert chosen(tmp_path, Wanted()) == ["t0"]


def test_more_spans_than_can_be_drawn_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ones stay, so that what is there hangs together; and it is told."""
    write(tmp_path, 0, *(span("t", str(number), "0" if number else None, at_ms=number) for number in range(10)))
    for module in ("span_reading", "span_data"):
        monkeypatch.setattr(f"squall.dashboards.{module}.MAX_SPANS", 4)
    found = drawn(spans_of(tmp_path, "t"), "t")
    assert found.cut
    assert len(found.rows) == 1 + 4


def test_files_that_are_no_spans_are_left_out_and_told(tmp_path: Path) -> None:
    """Half a file, another one's table, a file that is still being written: the others are read."""
    good = write(tmp_path, 0, span("t", "a"))
    write(tmp_path, 1, span("u", "a")).write_bytes(good.read_bytes()[:-20])
    pq.write_table(pa.table({"trace": ["x"], "begun": ["soon"]}), tmp_path / "spans-foreign.parquet")
    (tmp_path / "spans-000002.tmp-0").write_bytes(b"half")
    (tmp_path / "tracing.json").write_text("{}", encoding="utf-8")
    with open_spans(tmp_path, "wall") as (db, files):
        assert choose(db, Wanted()) == ["t"]
    assert files.paths == (good,)
    damaged, foreign = sorted(files.unreadable)
    assert damaged.startswith("spans-000001.parquet: cannot be read as Parquet")
    assert foreign.startswith("spans-foreign.parquet: is not what the tracing plugin wrote: it has no column span")


def test_a_file_that_goes_while_it_is_opened_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when a run ends, and its files become one."""
    files = [aged(tmp_path, number, 100) for number in range(2)]
    listed = span_reading.newest_files(tmp_path)
    answers = [listed]

    def once(folder: Path, until_s: float | None = None) -> Files:
        if answers:
            files[0].unlink()
            return answers.pop()
        return newest_files(folder, until_s)

    monkeypatch.setattr(span_reading, "newest_files", once)
    assert chosen(tmp_path, Wanted()) == ["t1"]


def test_a_file_that_goes_while_it_is_read_is_told(tmp_path: Path) -> None:
    """With what to do."""
    path = write(tmp_path, 0, span("t", "a"))

    def look() -> None:
        with open_spans(tmp_path, "wall") as (db, _):
            path.unlink()
            choose(db, Wanted())

    with pytest.raises(StoreFileError, match="load the page anew"):
        look()


def test_a_run_that_is_over_has_one_file(tmp_path: Path) -> None:
    """Those that it was made of may be there a moment longer, and are not read twice."""
    part = write(tmp_path, 0, span("t", "a"))
    part.with_name("spans.parquet").write_bytes(part.read_bytes())
    assert len(spans_of(tmp_path, "t")) == 1
    assert newest_files(tmp_path).paths == (tmp_path / "spans.parquet",)


def test_where_nothing_is_there_is_nothing(tmp_path: Path) -> None:
    """A folder that is empty, and one that is not there."""
    for folder in (tmp_path, tmp_path / "gone"):
        assert not has_spans(folder)
        with open_spans(folder, "wall") as (_, files):
            assert files == Files()
