"""The page of dead letters: what was given up, by whom, after what; each opens on its trace."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import streamlit as st

from squall.chaos.check.evidence import HOW
from squall.chaos.run_folder import run_name
from squall.core.dashboard import Look
from squall.core.event import Priority
from squall.dashboards.choices import any_of, names
from squall.dashboards.live_data import going_on
from squall.dashboards.markup import show_markup
from squall.dashboards.nothing import show_nothing
from squall.dashboards.reading import contents, has_history, history

PER_PAGE = 50


@dataclass(frozen=True)
class Letter:
    """One dead letter: at_s is when its last attempt ended, or else when it was listed, from the load's begin."""

    event: int
    type: str
    key: str | None
    priority: str
    subscriber: str
    attempts: int
    last: str
    faults: str
    at_s: float


@dataclass(frozen=True)
class Filters:
    """What is looked for; None: anything. `text` is a part of a key, or an event's number."""

    subscriber: str | None = None
    type: str | None = None
    text: str | None = None


def show_dead_letters(look: Look) -> None:
    """Filters, and a table."""
    run = run_name(look.run)
    if not has_history(look.run):
        st.html("<h1>Dead letters</h1>")
        show_nothing(look)
        return
    with history(look.run) as db:
        st.html("<h1>Dead letters</h1>")
        first, second, third = st.columns(3)
        with first:
            subscriber = any_of("Subscriber", names(db, "subscription"), "subscriber")
        with second:
            kind = any_of("Type", names(db, "topic"), "type")
        with third:
            text = st.text_input("Key contains, or event number", key="find", bind="query-params").strip() or None
        filters = Filters(subscriber, kind, text)
        total = count(db, filters)
        page, pages = 1, -(-total // PER_PAGE)
        if pages > 1:
            page = int(st.number_input("Page", 1, pages, 1, key="page", bind="query-params", width=120))
        letters = find(db, filters, page, _origin_ns(db, look))
        everything = total if filters == Filters() else count(db, Filters())
    running = going_on(look.run)
    show_markup("dead_letters.html.j2", run=run, letters=letters, total=total, everything=everything, running=running)


def _origin_ns(db: duckdb.DuckDBPyConnection, look: Look) -> int:
    load = contents(look.run).facts.load
    first = db.execute("SELECT min(invoked) FROM publish").fetchone()
    return load.begun if load else int(first[0] or 0) if first else 0


_WHERE = """FROM (SELECT DISTINCT event, subscription, max(time) AS listed FROM terminal WHERE state = 'dead_lettered'
        GROUP BY event, subscription) d
    LEFT JOIN (SELECT subscription, any_value(name) AS subscriber FROM subscription GROUP BY ALL) USING (subscription)
    LEFT JOIN (SELECT event, any_value(type) AS type, any_value(key) AS key, any_value(priority) AS priority
        FROM publish GROUP BY event) p USING (event)
    LEFT JOIN topic t ON t.topic = p.type LEFT JOIN key k ON k.key = p.key
    WHERE ($subscriber IS NULL OR subscriber = $subscriber) AND ($type IS NULL OR t.name = $type)
        AND ($text IS NULL OR contains(k.name, $text) OR event::VARCHAR = $text)"""


def _arguments(filters: Filters) -> dict[str, object]:
    return {"subscriber": filters.subscriber, "type": filters.type, "text": filters.text}


def count(db: duckdb.DuckDBPyConnection, filters: Filters) -> int:
    """How many there are."""
    row = db.execute(f"SELECT count(*) {_WHERE}", _arguments(filters)).fetchone()
    return int(row[0]) if row else 0


def find(db: duckdb.DuckDBPyConnection, filters: Filters, page: int, origin_ns: int) -> list[Letter]:
    """A page of them, in the order in which they were given up."""
    rows = db.execute(
        f"""WITH letter AS (
            SELECT event, subscription, subscriber, t.name AS type, k.name AS key, priority, listed {_WHERE}
        ), tried AS (
            SELECT event, subscription, count(*) AS attempts, arg_max(result, begun) AS last,
                max(coalesce(ended, begun)) AS given_up
            FROM attempt JOIN letter USING (event, subscription) GROUP BY ALL
        ), hit AS (
            SELECT event, string_agg(DISTINCT f.name, ', ' ORDER BY f.name) AS faults
            FROM fault_hit h JOIN fault f USING (fault) WHERE event IN (SELECT event FROM letter) GROUP BY event
        )
        SELECT event, type, key, priority, subscriber, coalesce(attempts, 0), last, faults,
            coalesce(given_up, listed) AS moment
        FROM letter LEFT JOIN tried USING (event, subscription) LEFT JOIN hit USING (event)
        ORDER BY moment, event, subscriber LIMIT {PER_PAGE} OFFSET {PER_PAGE * (page - 1)}""",
        _arguments(filters),
    ).fetchall()
    return [
        Letter(
            event,
            kind or "unknown type",
            key,
            "" if priority is None else Priority(priority).name.lower(),
            subscriber or "unknown subscriber",
            attempts,
            HOW[last] if attempts else "never delivered",
            faults or "",
            (at - origin_ns) / 1e9,
        )
        for event, kind, key, priority, subscriber, attempts, last, faults, at in rows
    ]
