"""Which event of a run's history a span is of."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
from tests.chaos.check.model import write
from tests.chaos.check.runs import MS, clean

from squall.chaos.event_names import event_number


def named(number: int) -> str:
    """The id that the router gave the event."""
    return str(UUID(int=number, version=4))


def spans_of(*events: tuple[int, int, str], key: int = 1) -> pa.Table:
    """A span of each: number, when the router began it (ms), its type. All of seq 5, as two stores may count."""
    rows = [
        {"event": named(number), "trace": "ab" * 16, "seq": 5, "topic": topic, "key": f"k-{key}", "begun": begun * MS}
        for number, begun, topic in events
    ]
    return pa.Table.from_pylist(rows)


def run_with(folder: Path, spans: pa.Table, **of_the_second: object) -> Path:
    """Event n is published at 10n ms; both event 5 and event 8 were given seq 5."""
    history = clean()
    history.publishes[7].seq = 5
    for name, value in of_the_second.items():
        setattr(history.publishes[7], name, value)
    write(history, folder / "history")
    (folder / "spans").mkdir()
    pq.write_table(spans, folder / "spans" / "spans.parquet")
    return folder


def test_of_two_events_with_one_seq_the_span_is_of_the_one_published_before_it(tmp_path: Path) -> None:
    """A store in memory was restarted, and counts from one again."""
    folder = run_with(tmp_path, spans_of((5, 50, "order.created"), (8, 80, "order.created")))
    assert [event_number(folder, named(number)) for number in (5, 8)] == [5, 8]


def test_of_two_events_that_were_published_together_the_type_tells(tmp_path: Path) -> None:
    """By two routers; each was traced only after both had been published."""
    spans = spans_of((5, 90, "order.created"), (8, 91, "order.paid"))
    folder = run_with(tmp_path, spans, topic="order.paid")
    assert [event_number(folder, named(number)) for number in (5, 8)] == [5, 8]


def test_of_two_events_that_were_published_together_the_key_tells(tmp_path: Path) -> None:
    """Where they are of one type."""
    folder = run_with(tmp_path, spans_of((5, 90, "order.created")), key=2)
    assert event_number(folder, named(5)) == 5
