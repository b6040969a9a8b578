"""Queries as SQL: which way to the rows, and how far to look in one go."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
import msgspec

from squall.core.event import Priority
from squall.core.store import Query
from squall.plugins.sqlite.codec import BYTES, COLUMNS, Row, TypeNumbers, pack_id
from squall.plugins.sqlite.schema import IndexName

MAX_SEARCHED = 50_000
"""Events that one read looks through: some milliseconds, so that no snapshot is held for long."""
SPAN_BITS = 12
"""Of so many events (2 to the power of it) the earliest and the latest time are kept together."""
MIN_NS, MAX_NS = -(2**63), 2**63 - 1


def select_events(
    db: apsw.Connection, query: Query, low: int, high: int, types: TypeNumbers, indexes: frozenset[IndexName]
) -> tuple[list[Row], int, int]:
    """Rows of COLUMNS or BYTES that answer the query, and the first and the last seq that were searched for them."""
    if query.since_ns is not None or query.until_ns is not None:
        low, high = _pass_over(db, query, low, high)
    conditions, values = _conditions(query, types)
    via = _index(query, conditions, indexes)
    if query.seqs is None and via != "event_correlation" and len(conditions) > (via is not None):
        if query.newest_first:
            low = max(low, high - MAX_SEARCHED + 1)
        else:
            high = min(high, low + MAX_SEARCHED - 1)
    where = " AND ".join(["seq BETWEEN ? AND ?", *conditions])
    sql = (
        f"SELECT {COLUMNS} FROM event {f'INDEXED BY {via}' if via else 'NOT INDEXED'} WHERE {where} "
        f"ORDER BY seq {'DESC' if query.newest_first else 'ASC'} LIMIT ?"
    )
    bindings = (low, high, *values, query.limit)
    try:
        rows = db.execute(sql, bindings).fetchall()
    except UnicodeDecodeError:
        rows = db.execute(sql.replace(COLUMNS, BYTES, 1), bindings).fetchall()
    return rows, low, high


def count_events(db: apsw.Connection, low: int, high: int) -> int:
    """How many events there are from low to high."""
    return int(db.execute("SELECT count(*) FROM event WHERE seq BETWEEN ? AND ?", (low, high)).get)


def note_spans(db: apsw.Connection, head: int) -> None:
    """Note the times of every span of events that is complete now that seqs up to head are given."""
    first = db.execute("SELECT coalesce(max(number) + 1, 0) FROM span").get
    db.execute(
        f"INSERT INTO span SELECT seq >> {SPAN_BITS}, min(time), max(time) FROM event "
        "WHERE seq >= ? AND seq < ? GROUP BY 1",
        (first << SPAN_BITS, head + 1 >> SPAN_BITS << SPAN_BITS),
    )


def _pass_over(db: apsw.Connection, query: Query, low: int, high: int) -> tuple[int, int]:
    """The bounds without the events at their near end that are too early or too late. The clock may have jumped, so
    nothing is concluded from one span about another."""
    span, since_ns = low >> SPAN_BITS, MIN_NS if query.since_ns is None else query.since_ns
    times = (since_ns, MAX_NS if query.until_ns is None else query.until_ns)
    noted = db.execute("SELECT coalesce(max(number), -1) FROM span").get
    if not query.newest_first:
        sql = "SELECT min(number) FROM span WHERE number >= ? AND greatest >= ? AND least < ?"
        found = db.execute(sql, (span, *times)).get
        first = max(span, noted + 1) if found is None else found
        return min(max(low, first << SPAN_BITS), high + 1), high
    if high >> SPAN_BITS > noted:
        return low, high
    sql = "SELECT max(number) FROM span WHERE number <= ? AND greatest >= ? AND least < ?"
    found = db.execute(sql, (high >> SPAN_BITS, *times)).get
    return low, low - 1 if found is None else max(low - 1, min(high, (found + 1 << SPAN_BITS) - 1))


def _conditions(query: Query, types: TypeNumbers) -> tuple[list[str], list[Any]]:
    """What the query asks for beyond the bounds of seq, as SQL and the values for it."""
    asked: list[tuple[str, Any]] = []
    if query.seqs is not None:
        asked.append(("seq IN (SELECT value FROM json_each(?))", _json(query.seqs)))
    if query.correlation_id is not None:
        asked.append(("ifnull(correlation, id) = ?", pack_id(query.correlation_id)))
    if query.priority is not None:
        # SQLite takes the partial index only when its condition stands here too.
        partial = "" if query.priority == Priority.NORMAL else " AND priority <> 2"
        asked.append((f"priority = ?{partial}", int(query.priority)))
    numbers = None if query.pattern is None else types.matching(query.pattern)
    if numbers is not None:
        one = len(numbers) == 1
        asked.append(("type = ?", numbers[0]) if one else ("type IN (SELECT value FROM json_each(?))", _json(numbers)))
    if query.source is not None:
        asked.append(("source = ?", query.source))
    if query.since_ns is not None:
        asked.append(("time >= ?", query.since_ns))
    if query.until_ns is not None:
        asked.append(("time < ?", query.until_ns))
    if query.own_id:
        asked.append(("extra LIKE ?", '%"own_id":true%'))
    return [condition for condition, _ in asked], [value for _, value in asked]


def _index(query: Query, conditions: Sequence[str], indexes: frozenset[IndexName]) -> str | None:
    """The index that leads to the fewest rows."""
    if query.seqs is not None:
        return None
    if query.correlation_id is not None and "correlation" in indexes:
        return "event_correlation"
    if query.priority is not None and query.priority != Priority.NORMAL:
        return "event_priority"
    return "event_type" if "type" in indexes and "type = ?" in conditions else None


def _json(numbers: Sequence[int]) -> str:
    return msgspec.json.encode(numbers).decode()
