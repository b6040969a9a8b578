"""Spans completed from a history in which two events were given one seq."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.chaos.check.model import write
from tests.chaos.check.runs import DURABLE, MS, clean
from tests.plugins.tracing.traced import Row, of, rows

from squall.chaos.spans import complete_spans
from squall.plugins.tracing.columns import SCHEMA

SEQ = 5


def kept(number: int, begun_ms: int, seq: int = SEQ) -> dict[str, object]:
    """A failed attempt that is all that was kept of an event."""
    trace = f"{number:032x}"
    return {
        "trace": trace,
        "span": f"{number:016x}",
        "operation": "process",
        "topic": "order.created",
        "subscription": "billing",
        "event": f"event-{number}",
        "key": "k-1",
        "seq": seq,
        "attempt": 1,
        "begun": begun_ms * MS,
        "ended": (begun_ms + 3) * MS,
        "wall": begun_ms * MS,
        "error": "ValueError",
        "why": "failed",
        "partial": True,
        "links": [{"trace": trace, "span": "b" * 16, "what": "publish"}],
    }


def completed(folder: Path, *, mangled: bool = False, unknown: bool = False) -> list[Row]:
    """Events 5 and 8 have one seq, as a store in memory gives it that was restarted, and both are kept. `mangled`: what
    audit had of event 5 was not to be known again. `unknown`: somebody else published event 9, and it is kept too."""
    history = clean(10, DURABLE, replace(DURABLE, subscription=1, name="audit"))
    history.publishes[7].seq = SEQ
    for attempt in history.attempts:
        if attempt.event == 8:
            attempt.seq = SEQ
        elif (mangled and (attempt.event, attempt.subscription) == (5, 1)) or (unknown and attempt.event == 9):
            attempt.event = None
    if unknown:
        del history.publishes[8]
    write(history, folder / "history")
    (folder / "spans").mkdir()
    spans = pa.Table.from_pylist([kept(5, 52), kept(8, 82), *([kept(9, 92, 9)] if unknown else [])], schema=SCHEMA)
    pq.write_table(spans, folder / "spans" / "spans-000000.parquet")
    complete_spans(folder)
    return rows(folder / "spans")


def begins(spans: list[Row], event: str) -> list[tuple[str, str | None, int]]:
    """What an event's trace holds: operation, subscription, begin in milliseconds."""
    return sorted((one.operation, one.subscription, one.begun // MS) for one in spans if one.event == event)


def test_each_of_two_events_with_one_seq_has_its_own_publish_and_attempts(tmp_path: Path) -> None:
    """And not the other's, of which nothing is twice there."""
    spans = completed(tmp_path)
    for number in (5, 8):
        at = number * 10
        assert begins(spans, f"event-{number}") == [
            ("ack", "audit", at + 5),
            ("process", "audit", at + 2),
            ("process", "billing", at + 2),
            ("publish", None, at),
        ]
    assert len(of(spans, "process")) == len({(one.trace, one.span) for one in of(spans, "process")}) == 4


def test_what_was_made_of_an_event_on_its_way_is_in_its_trace(tmp_path: Path) -> None:
    """Nobody else was given it: its seq tells whose it was."""
    spans = completed(tmp_path, mangled=True)
    assert ("process", "audit", 52) in begins(spans, "event-5")


def test_what_nobody_in_the_run_published_has_its_attempts(tmp_path: Path) -> None:
    """A handler or a rule did: the history has no such publish, and its seq tells whose they were."""
    spans = completed(tmp_path, unknown=True)
    assert begins(spans, "event-9") == [("ack", "audit", 95), ("process", "audit", 92), ("process", "billing", 92)]
