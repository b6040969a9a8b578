"""The pages of spans: of a run that was traced, and of a service, whose tracing plugin writes a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import streamlit as st

from squall.chaos.check.facts import RunFacts
from squall.chaos.run_folder import run_name
from squall.chaos.spans import SPANS
from squall.core.dashboard import Look
from squall.core.errors import ConfigError, Problem
from squall.dashboards.choices import any_of, at_most, choice
from squall.dashboards.drawing import LOAD, draw
from squall.dashboards.markup import plain, show_markup
from squall.dashboards.reading import has_history, history
from squall.dashboards.span_data import lines, waterfall
from squall.dashboards.span_reading import (
    ORDERS,
    Clock,
    Files,
    Traced,
    Wanted,
    choose,
    of_seqs,
    open_spans,
    read,
    values,
)
from squall.dashboards.trace_data import Shade

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

SERVICE = "service_traces"
NEWEST = "now, or e.g. 2026-11-28 12:30"
LINES = 500
"""So many spans of a trace are told one by one; the waterfall has them all."""


@dataclass(frozen=True)
class Source:
    """Whose spans are shown, and how they are looked at: `page` with `query` is where they are in the dashboard.
    origin_ns: what times are counted from, where that is not the first span that is shown."""

    folder: Path
    page: str
    clock: Clock
    query: Mapping[str, str] = field(default_factory=dict)
    origin_ns: int | None = None
    shades: Sequence[Shade] = ()

    def moment(self, time_ns: int) -> str:
        """`1.027 s`, from the load's begin; of a service `12:03:04.123`, UTC."""
        if self.clock == "wall":
            return f"{datetime.fromtimestamp(time_ns / 1e9, UTC):%H:%M:%S.%f}"[:-3]
        return f"{(time_ns - (self.origin_ns or 0)) / 1e9:.3f} s"


def show_spans(folder: Path) -> None:
    """The traces of a service."""
    source = Source(folder, SERVICE, "wall")
    trace = st.query_params.get("trace")
    st.html("<h1>Service traces</h1>")
    if trace is not None:
        with open_spans(folder, source.clock, _time(st.query_params.get("written", ""))) as (db, files):
            _traces(source, db, files, [trace])
        return
    when, which = st.columns([1, 2], vertical_alignment="bottom")  # first: they say what there is to choose from below
    with when:
        until = st.text_input("Written until (UTC)", key="until", bind="query-params", placeholder=NEWEST)
    with open_spans(folder, source.clock, _time(until)) as (db, files):
        with which:
            _looked_at(files)
        _chosen(source, db, files, [*st.columns(3), *st.columns(3)])


def show_run_spans(look: Look, facts: RunFacts) -> None:
    """The traces of a run, over the times at which faults were active."""
    query = {"run": run_name(look.run), "source": SPANS}
    origin_ns, shades = facts.load.begun if facts.load else None, list[Shade]()
    events, seqs = st.query_params.get("event"), list[int]()
    if has_history(look.run):
        with history(look.run) as db:
            first = db.execute("SELECT min(invoked) FROM publish").fetchall()[0][0]
            origin_ns = origin_ns if origin_ns is not None else first
            shades = _shades(db, origin_ns or 0)
            seqs = _seqs(db, events) if events else []
    source = Source(look.run / SPANS, "traces", "begun", query, origin_ns, shades)
    st.html("<h1>Traces</h1>")
    show_markup("told_by.html.j2", run=query["run"], recorder=False)
    trace = st.query_params.get("trace")
    with open_spans(source.folder, source.clock) as (db, files):
        if trace is not None:
            _traces(source, db, files, [trace])
        elif events:
            _traces(source, db, files, of_seqs(db, seqs) if files.paths else [])
        else:
            _looked_at(files)
            _chosen(source, db, files, [*st.columns(3), *st.columns(3)])


def _shades(db: duckdb.DuckDBPyConnection, origin_ns: int) -> list[Shade]:
    rows = db.execute(
        "SELECT begun, coalesce(ended, (SELECT max(coalesce(ended, begun)) FROM attempt), begun), name FROM fault "
        "ORDER BY begun"
    ).fetchall()
    return [Shade((begun - origin_ns) / 1e6, (ended - origin_ns) / 1e6, plain(name, 40)) for begun, ended, name in rows]


def _seqs(db: duckdb.DuckDBPyConnection, events: str) -> list[int]:
    """What the store calls these events."""
    numbers = [int(part) for part in events.split(",") if part.isascii() and part.isdigit() and len(part) < 19]
    rows = db.execute(
        "SELECT DISTINCT seq FROM publish WHERE event IN (SELECT unnest($events::BIGINT[])) AND seq IS NOT NULL",
        {"events": numbers},
    ).fetchall()
    return [seq for (seq,) in rows]


def _time(text: str) -> float | None:
    """Seconds since 1970; None: not asked for. Raises ConfigError."""
    if not text.strip():
        return None
    try:
        found = datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        told = f"expected a time in UTC such as 2026-11-28 12:30, got {text!r:.80}"
        raise ConfigError([Problem("until", told)]) from error


def _looked_at(files: Files) -> None:
    """Which files, where these are not all."""
    if files.paths and (files.older or files.unreadable):
        show_markup("span_files.html.j2", files=files, until=_written(files))


def _chosen(source: Source, db: duckdb.DuckDBPyConnection, files: Files, columns: Sequence[DeltaGenerator]) -> None:
    """Filters, and those traces that fit."""
    if not files.paths:
        show_markup(
            "no_spans.html.j2",
            folder=str(source.folder),
            files=files,
            service=source.page == SERVICE,
            until=st.query_params.get("until"),
        )
        return
    with columns[0]:
        order = choice("Which", list(ORDERS), "by")
    with columns[1]:
        topic = any_of("Type", values(db, "topic"), "topic")
    with columns[2]:
        why = any_of("Kept because", values(db, "why"), "why")
    with columns[3]:
        error = any_of("Error", values(db, "error"), "error")
    with columns[4]:
        limit = at_most()
    traces = choose(db, Wanted(order, limit, topic, why, error))
    if traces:
        _draw(source, files, read(db, traces), traces)
    else:
        show_markup("no_such_spans.html.j2", page=source.page, query=source.query)


def _traces(source: Source, db: duckdb.DuckDBPyConnection, files: Files, traces: Sequence[str]) -> None:
    """Those that the URL names, in a waterfall; of one, each span in words too."""
    spans = read(db, traces) if files.paths else []
    if not spans:
        show_markup("no_trace.html.j2", source=source, files=files, until=_written(files))
        return
    show_markup("span_head.html.j2", source=source, traces=traces, until=_written(files), live=source.page == SERVICE)
    _draw(source, files, spans, traces)
    if len(traces) == 1:
        told = list(islice(lines(spans, source.moment), LINES))
        show_markup("span_lines.html.j2", lines=told, total=len(spans))


def _draw(source: Source, files: Files, spans: Sequence[Traced], traces: Sequence[str]) -> None:
    first_ns = min(one.at_ns for one in spans)
    origin_ns = first_ns if source.origin_ns is None else source.origin_ns
    found = waterfall(spans, traces, origin_ns, source.moment)
    found.shades = [one for one in source.shades if one.begun <= found.ended and one.ended >= found.begun]
    since = f"since {datetime.fromtimestamp(first_ns / 1e9, UTC):%-d %b %H:%M:%S}"
    words = (f"{since} UTC", since) if source.clock == "wall" else (LOAD, "since load")
    clicked = draw(found, len(traces), "trace", *words)
    if clicked is not None:
        # A service goes on: what had been written by now is found again by whoever follows the address later.
        written = {"written": _written(files)} if source.page == SERVICE else {}
        st.query_params.from_dict({**source.query, "trace": clicked, **written})
        st.rerun()


def _written(files: Files) -> str:
    """Until when files are looked at, UTC; in whole seconds, so that the newest of them is among them."""
    return f"{datetime.fromtimestamp(ceil(files.newest_s), UTC):%Y-%m-%dT%H:%M:%S}"
