"""One history on the bench's table: the connection, who subscribed to what, and what every invariant asks of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import duckdb

from squall.chaos.check.facts import RunFacts
from squall.chaos.check.verdict import CAP, Violation
from squall.core.target import Claims

FOREVER = (1 << 63) - 1

HANDLED = """(
    a.settlement IN ('ack', 'term') AND a.settle_invoked IS NOT NULL
    AND a.settle_answer IS DISTINCT FROM 'refused' AND (a.by_handler OR a.result IS NOT DISTINCT FROM 'ok'))"""
"""An attempt `a` that ends its event for the subscriber: settled, and its handler ended well or settled itself.
Settled before a handler that then died is no end. An event that was settled first and handled well afterwards is."""

SETTLED = """(
    a.settlement IN ('ack', 'term') AND a.settle_invoked IS NOT NULL
    AND a.settle_answer IS DISTINCT FROM 'refused')"""
"""An attempt `a` after which the target takes its event for done, whatever became of the handler."""

CONFIRMED = """(
    a.settlement IN ('ack', 'term') AND a.settle_ok IS NOT NULL AND a.settle_answer IS DISTINCT FROM 'refused')"""
"""An attempt `a` whose settlement the target has confirmed."""

ABANDONED = """(
    a.settlement IN ('nak', 'term') AND NOT a.by_handler AND (a.ended IS NULL OR a.ended > a.settle_invoked)
    AND a.settle_invoked - a.begun >= (
        SELECT min(s.timeout) FROM subscription s WHERE s.subscription = a.subscription))"""
"""An attempt `a` that the target gave up when its time was over, while its handler ran on: it ignores its
cancellation."""


@dataclass(frozen=True)
class Interval:
    """One row of `subscription`: from joining to leaving under one specification. Times in ns."""

    subscription: int
    name: str
    pattern: str
    filters: str | None
    priority_min: int | None
    durable: bool
    delivery: str
    start: str
    on_retry: str
    concurrency: int
    timeout: int | None
    lease: int | None
    max_attempts: int | None
    join_invoked: int
    join_ok: int | None
    leave_invoked: int | None
    leave_ok: int | None
    from_seq: int | None
    to_seq: int | None

    @property
    def ends(self) -> bool:
        """Whoever leaves is owed nothing more: what waits is cancelled. A durable one ends where its end has a seq, and
        may have ended where nobody was told; else it is only unattended."""
        return self.leave_invoked is not None and (
            not self.durable or self.to_seq is not None or self.leave_is_unanswered
        )

    @property
    def leave_is_unanswered(self) -> bool:
        """It asked to leave, and got no answer until the run was over: it may have ended at any time since."""
        return self.leave_invoked is not None and self.leave_ok is None and self.to_seq is None

    @property
    def begins_at_seq(self) -> bool:
        """It asked for events from a seq on."""
        return self.from_seq is not None and (self.durable or self.start not in ("new", "earliest"))


@dataclass(frozen=True)
class Subscriber:
    """What all intervals of one subscription have in common. Where they differ, whatever excuses the target most."""

    id: int
    name: str
    at_most_once: bool
    timeout: int | None
    lease: int | None
    max_attempts: int | None
    concurrency: int
    block_key: bool


@dataclass(frozen=True)
class Case:
    """A history that is being judged.

    `publish_gap` and `attempt_gap` are when the first gap of each table began. `sequence` orders attempts by begin: a
    finished history is sorted, so the row's number does it at half the price. `lane` is an integer expression that is
    another for each subscription, key and priority of an attempt `a`, and NULL for no key like any other key.
    """

    db: duckdb.DuckDBPyConnection
    claims: Claims
    facts: RunFacts
    intervals: Sequence[Interval]
    subscribers: Mapping[int, Subscriber]
    publish_gap: int | None
    attempt_gap: int | None
    sequence: str
    lane: str

    def rows(self, sql: str, **parameters: object) -> list[tuple[Any, ...]]:
        """All rows of a query; values may be given by name ($name)."""
        return self.db.execute(sql, parameters or None).fetchall()

    def number(self, sql: str, **parameters: object) -> int:
        """The one number that a query returns; 0 for NULL."""
        (row,) = self.rows(sql, **parameters)
        return int(row[0] or 0)

    def violations(self, invariant: str, sql: str) -> tuple[int, tuple[Violation, ...]]:
        """How many rows `sql` has, and the first CAP of them as violations.

        `sql` returns form, event, subscription, key, witness, time, loss in this order; they become the temporary table
        `violation_<invariant>`.
        """
        table = f"violation_{invariant}"
        self.db.execute(
            f"CREATE OR REPLACE TEMP TABLE {table} AS "
            f"SELECT * FROM ({sql}) AS v(form, event, subscription, key, witness, time, loss)"
        )
        count = self.number(f"SELECT count(*) FROM {table}")
        if not count:
            return 0, ()
        found = self.rows(
            f"SELECT form, v.event, s.name, k.name, witness, time, loss FROM {table} v "
            "LEFT JOIN subscriber s ON s.id = v.subscription LEFT JOIN key k ON k.key = v.key "
            f"ORDER BY time, v.event, v.subscription, form LIMIT {CAP}"
        )
        return count, tuple(Violation(invariant, *row) for row in found)


def open_case(db: duckdb.DuckDBPyConnection, claims: Claims, facts: RunFacts, *, complete: bool = True) -> Case:
    """Read who subscribed, and make the temporary table `subscriber` that queries join."""
    columns = ", ".join(Interval.__dataclass_fields__)
    intervals = [
        _effective(Interval(*row), facts) for row in db.execute(f"SELECT {columns} FROM subscription").fetchall()
    ]
    subscribers = _subscribers(intervals, claims)
    db.execute(
        "CREATE TEMP TABLE subscriber (id INTEGER, name VARCHAR, at_most_once BOOLEAN, timeout BIGINT, lease BIGINT, "
        "max_attempts INTEGER, concurrency INTEGER, block_key BOOLEAN)"
    )
    if subscribers:
        db.executemany(
            "INSERT INTO subscriber VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [list(vars(one).values()) for one in subscribers.values()],
        )
    gaps = dict(db.execute("SELECT source, min(begun) FROM gap GROUP BY source").fetchall())
    if facts.recorder_failures or not complete:  # whatever is missing, nobody knows since when
        gaps = dict.fromkeys(("publish", "attempt"), -FOREVER) | gaps
    return Case(
        db,
        claims,
        facts,
        intervals,
        subscribers,
        publish_gap=gaps.get("publish"),
        attempt_gap=gaps.get("attempt"),
        sequence="rid" if complete else "begun, rid",
        lane=_lane(db),
    )


def _lane(db: duckdb.DuckDBPyConnection) -> str:
    (row,) = db.execute("SELECT max(subscription), max(key) FROM attempt").fetchall()
    subscriptions, keys = (2 + (value or 0) for value in row)
    kind = "INTEGER" if subscriptions * keys * 4 < 1 << 31 else "BIGINT"
    return f"((a.subscription::{kind} * {keys} + coalesce(a.key + 1, 0)) * 4 + a.priority)"


def _effective(interval: Interval, facts: RunFacts) -> Interval:
    """What the interval is for the checker: who leaves after the drain has not left, it is only the end of the run; and
    what lies within the clocks' error of joining or leaving may be owed or not."""
    error = facts.clock_error_ns
    left = interval.leave_invoked
    if left is not None and facts.drain is not None and left >= facts.drain.ended:
        interval = replace(interval, leave_invoked=None, leave_ok=None)
    return replace(
        interval,
        join_invoked=interval.join_invoked - error,
        join_ok=None if interval.join_ok is None else interval.join_ok + error,
        leave_invoked=None if interval.leave_invoked is None else interval.leave_invoked - error,
        leave_ok=None if interval.leave_ok is None else interval.leave_ok + error,
    )


def _subscribers(intervals: Sequence[Interval], claims: Claims) -> dict[int, Subscriber]:
    by_id: dict[int, list[Interval]] = {}
    for interval in intervals:
        by_id.setdefault(interval.subscription, []).append(interval)
    lease = None if claims.lease_s is None else round(claims.lease_s * 1e9)
    return {
        number: Subscriber(
            id=number,
            name=group[-1].name,
            at_most_once=claims.delivery == "at-most-once" or any(i.delivery == "at-most-once" for i in group),
            timeout=min((i.timeout for i in group if i.timeout is not None), default=None),
            lease=min((i.lease for i in group if i.lease is not None), default=lease),
            max_attempts=max(
                (i.max_attempts for i in group if i.max_attempts is not None), default=claims.max_attempts
            ),
            concurrency=max(i.concurrency for i in group),
            block_key=all(i.on_retry == "block_key" for i in group),
        )
        for number, group in sorted(by_id.items())
    }
