"""What happened when, beyond what a report shows: how latencies were spread, and how much was waiting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import duckdb
import streamlit as st

from squall.chaos.report.axis import Axis
from squall.dashboards.reading import history, stamp

PER_DECADE = 4
COLUMNS = 100


@dataclass(frozen=True)
class Heat:
    """How many deliveries took how long, by when they were to be sent. A cell is (column, row, count); `columns` of
    equal width span the axis, row r holds latencies from 10 ** (r / PER_DECADE) seconds on; `low` to `high` are the
    rows that there are."""

    columns: int
    low: int
    high: int
    cells: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Depth:
    """How many deliveries of a subscriber were waiting or in hand at the end of each bucket of the axis: published, and
    not yet handled or given up. Of those that reached its handler at least once; what was neither in the end, and so is
    lost or left over, is not waiting any more once its last attempt has ended."""

    subscription: int
    waiting: tuple[int, ...]


@dataclass(frozen=True)
class Spread:
    """Both, over the axis of the run."""

    heat: Heat | None
    depths: tuple[Depth, ...]


def spread(folder: Path, axis: Axis) -> Spread:
    """Read it, or remember it. Raises StoreFileError."""
    return _spread(str(folder), stamp(folder), axis)


@st.cache_resource(max_entries=12, show_spinner="Reading the run", hash_funcs={Axis: repr})
def _spread(folder: str, changed: int, axis: Axis) -> Spread:
    with history(Path(folder)) as db:
        db.execute(
            """CREATE TEMP TABLE pair AS
            SELECT subscription, event, intended, published,
                greatest(intended, coalesce(joined, intended)) AS since, done, tried
            FROM (SELECT subscription, event, min(ended) FILTER (result = 'ok') AS done,
                CASE WHEN count(ended) = count(*) THEN max(ended) END AS tried FROM attempt
                WHERE event IS NOT NULL GROUP BY subscription, event)
            JOIN (SELECT event, min(intended) AS intended, min(coalesce(ended, invoked)) AS published FROM publish
                GROUP BY event) USING (event)
            LEFT JOIN (SELECT subscription, min(join_invoked) AS joined FROM subscription GROUP BY 1)
                USING (subscription)"""
        )
        return Spread(_heat(db, axis), _depths(db, axis))


def _heat(db: duckdb.DuckDBPyConnection, axis: Axis) -> Heat | None:
    columns = min(COLUMNS, axis.count)
    width_ns = (axis.ended_ns - axis.begun_ns) / columns
    cells = db.execute(
        f"""SELECT least({columns - 1}, floor((intended - {axis.begun_ns}) / {width_ns}))::INTEGER AS x,
            floor(log10(greatest(done - since, 1000) / 1e9) * {PER_DECADE})::INTEGER AS y, count(*)
        FROM pair WHERE done IS NOT NULL GROUP BY x, y ORDER BY x, y"""
    ).fetchall()
    if not cells:
        return None
    rows = [row for _, row, _ in cells]
    return Heat(columns, min(rows), max(rows), tuple(cells))


def _depths(db: duckdb.DuckDBPyConnection, axis: Axis) -> tuple[Depth, ...]:
    rows = db.execute(
        f"""SELECT subscription, bucket, sum(change) FROM (
            SELECT subscription, {axis.bucket("greatest(published, since)")} AS bucket, 1 AS change FROM pair
            UNION ALL
            SELECT subscription, {axis.bucket("greatest(coalesce(done, time, tried), published, since)")}, -1
            FROM pair LEFT JOIN (SELECT subscription, event, min(time) AS time FROM terminal GROUP BY ALL)
                USING (subscription, event) WHERE coalesce(done, time, tried) IS NOT NULL)
        GROUP BY ALL"""
    ).fetchall()
    found: dict[int, list[int]] = {}
    for subscription, bucket, change in rows:
        found.setdefault(subscription, [0] * axis.count)[min(max(bucket, 0), axis.count - 1)] += change
    for counts in found.values():
        for place in range(1, len(counts)):
            counts[place] += counts[place - 1]
    return tuple(Depth(subscription, tuple(counts)) for subscription, counts in sorted(found.items()))
