"""What violations of one cause have in common, and what only seems to be their cause.

Both are told only where chance does not explain them: two lost events are of one priority as often as not, and a fault
that stood for a while saw its share of whatever is always lost.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import duckdb

from squall.chaos.check.evidence import Evidence
from squall.chaos.check.matching import PRIORITIES
from squall.chaos.check.verdict import Violation

AT_LEAST = 3
UNLIKELY = 0.01
COMPARED_ROWS = 100_000


def shared(db: duckdb.DuckDBPyConnection, evidence: Evidence, violations: Sequence[Violation]) -> str:
    """`all of key k-3`: the key, type or priority of all of these events, where others at this subscriber differ."""
    number = evidence.number(violations[0].subscription)
    ops = [evidence.ops[v.event][0] for v in violations if v.event is not None and v.event in evidence.ops]
    if number is None or len(ops) < max(AT_LEAST, len(violations)):
        return ""
    keys, topics, levels = {op.key for op in ops}, {op.topic for op in ops}, {op.priority for op in ops}
    found = db.execute(
        f"""SELECT count(*), count(*) FILTER (k.name IS NOT DISTINCT FROM $key), count(*) FILTER (t.name = $topic),
            count(*) FILTER (p.priority = $level)
        FROM (FROM attempt WHERE subscription = {number} LIMIT {COMPARED_ROWS}) a JOIN publish p USING (event)
        LEFT JOIN topic t ON t.topic = p.type LEFT JOIN key k ON k.key = p.key""",
        {"key": ops[0].key, "topic": ops[0].topic, "level": ops[0].priority},
    ).fetchone()
    total, *alike = found or (0, 0, 0, 0)

    def telling(values: Collection[object], count: int) -> bool:
        share = (count + len(ops)) / (total + len(ops))
        return len(values) == 1 and share ** len(ops) < UNLIKELY

    words = [f"key {ops[0].key}" if ops[0].key is not None else "no key"] if telling(keys, alike[0]) else []
    words += [f"type {ops[0].topic}"] if telling(topics, alike[1]) else []
    words += [f"priority {PRIORITIES[ops[0].priority]}"] if telling(levels, alike[2]) else []
    return f"all of {' and '.join(words)}" if words else ""


def coincidences(db: duckdb.DuckDBPyConnection, evidence: Evidence, violations: Sequence[Violation]) -> set[int]:
    """Faults on the way of a publish under which events were lost no more often than without them."""
    lost = {v.event for v in violations if v.form == "undelivered" and v.event is not None}
    windows = evidence.on_publish_path
    if not lost or not windows:
        return set()
    chosen = f"event IN ({', '.join(map(str, sorted(lost)))})"
    found: set[int] = set()
    for window in windows:
        ended = "true" if window.ended is None else f"invoked < {window.ended}"
        inside = f"ended >= {window.begun} AND {ended}"
        row = db.execute(
            f"SELECT count(*), count(*) FILTER ({inside}), count(*) FILTER ({chosen}), "
            f"count(*) FILTER ({chosen} AND {inside}) FROM publish WHERE outcome = 'ok'"
        ).fetchone()
        total, within, gone, gone_within = row or (0, 0, 0, 0)
        outside, gone_outside = total - within, gone - gone_within
        if within and outside and gone_within / within <= 2 * gone_outside / outside:
            found.add(window.fault)
    return found
