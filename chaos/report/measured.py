"""What a run's history says over time: counts and latencies by bucket, of publishes and of each subscriber."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb

from squall.chaos.check.evidence import Gated, gate_states
from squall.chaos.check.facts import RunFacts, Span
from squall.chaos.report.axis import Axis, axis_of
from squall.chaos.report.held import Held, held

Counts = tuple[int, ...]
Seconds = tuple[float | None, ...]


@dataclass(frozen=True)
class Publishes:
    """Calls of publish in each bucket: `asked` by when they were due, the others by when they ended."""

    asked: Counts
    ok: Counts
    fail: Counts
    info: Counts


@dataclass(frozen=True)
class Quantiles:
    """Seconds from when an event was to be sent (or its subscription began, if later) until a handler had first ended
    well; of what was handled."""

    p50_s: float
    p99_s: float
    max_s: float


@dataclass(frozen=True)
class Attempts:
    """Calls of a subscriber's handler by how they ended; `redelivered`: how many were not the first of their event."""

    ok: int = 0
    error: int = 0
    timeout: int = 0
    died: int = 0
    unended: int = 0
    redelivered: int = 0

    @property
    def total(self) -> int:
        return self.ok + self.error + self.timeout + self.died + self.unended


@dataclass(frozen=True)
class Terms:
    """What a subscription asked for."""

    number: int
    name: str
    pattern: str
    delivery: str
    durable: bool
    concurrency: int


@dataclass(frozen=True)
class Subscriber:
    """What one subscription came to: in sum, and by bucket what was handled, what failed, and the latencies of what was
    to be sent then. `latency` None: it handled nothing; it is of the load, where there was one.
    """

    terms: Terms
    attempts: Attempts
    dead_lettered: int
    latency: Quantiles | None
    handled: Counts
    failed: Counts
    p50_s: Seconds
    p99_s: Seconds


@dataclass(frozen=True)
class Fault:
    """One fault, and what shows that it bit. `healed` None: nobody tried; `ended_ns` None: it stood to the end."""

    name: str
    kind: str
    seam: str
    begun_ns: int
    ended_ns: int | None
    passes: int
    hits: int
    healed: bool | None
    error: str | None


@dataclass(frozen=True)
class Measured:
    """All of a history that a report shows."""

    axis: Axis
    publishes: Publishes
    subscribers: tuple[Subscriber, ...]
    faults: tuple[Fault, ...]
    gates: tuple[Gated, ...]
    held: tuple[Held, ...]


def measure(db: duckdb.DuckDBPyConnection, facts: RunFacts) -> Measured | None:
    """Read a history; None where nothing was recorded."""
    axis = axis_of(db, facts)
    if axis is None:
        return None
    subscribers, gates = _subscribers(db, axis, facts.load), tuple(gate_states(db))
    return Measured(axis, _publishes(db, axis), subscribers, _faults(db), gates, held(db, axis))


def _publishes(db: duckdb.DuckDBPyConnection, axis: Axis) -> Publishes:
    found = {name: [0] * axis.count for name in ("asked", "ok", "fail", "info")}
    for name, bucket, count in db.execute(
        f"""SELECT 'asked', {axis.bucket("intended")} AS bucket, count(*) FROM publish GROUP BY bucket
        UNION ALL
        SELECT outcome, {axis.bucket("coalesce(ended, invoked)")} AS bucket, count(*) FROM publish
        GROUP BY outcome, bucket"""
    ).fetchall():
        found[name][bucket] = count
    return Publishes(**{name: tuple(counts) for name, counts in found.items()})


def _subscribers(db: duckdb.DuckDBPyConnection, axis: Axis, load: Span | None) -> tuple[Subscriber, ...]:
    rows = db.execute(
        """SELECT subscription, arg_max(name, join_invoked), arg_max(pattern, join_invoked),
            arg_max(delivery, join_invoked), bool_or(durable), max(concurrency)
        FROM subscription GROUP BY subscription ORDER BY min(join_invoked), subscription"""
    ).fetchall()
    dead: dict[int, int] = dict(
        db.execute(
            "SELECT subscription, count(*) FROM terminal WHERE state = 'dead_lettered' GROUP BY subscription"
        ).fetchall()
    )
    attempts = _attempts(db)
    handled, failed = _handled(db, axis)
    db.execute(
        """CREATE OR REPLACE TEMP TABLE handled AS
        SELECT subscription, intended,
            ((done - greatest(intended, least(done, coalesce(joined, intended)))) / 1e9)::DOUBLE AS seconds
        FROM (SELECT event, subscription, min(ended) AS done FROM attempt
                WHERE result = 'ok' AND event IS NOT NULL GROUP BY event, subscription)
            JOIN (SELECT event, min(intended) AS intended FROM publish GROUP BY event) USING (event)
            LEFT JOIN (SELECT subscription, min(join_invoked) AS joined FROM subscription GROUP BY 1)
                USING (subscription)"""
    )
    totals, p50, p99 = _latencies(db, axis, load)
    db.execute("DROP TABLE handled")
    return tuple(
        Subscriber(
            terms,
            attempts.get(terms.number, Attempts()),
            dead.get(terms.number, 0),
            totals.get(terms.number),
            tuple(handled.get(terms.number, [0] * axis.count)),
            tuple(failed.get(terms.number, [0] * axis.count)),
            tuple(p50.get(terms.number, [None] * axis.count)),
            tuple(p99.get(terms.number, [None] * axis.count)),
        )
        for terms in (Terms(*row) for row in rows)
    )


def _attempts(db: duckdb.DuckDBPyConnection) -> dict[int, Attempts]:
    rows = db.execute(
        """SELECT subscription, count(*) FILTER (result = 'ok'), count(*) FILTER (result = 'error'),
            count(*) FILTER (result = 'timeout'), count(*) FILTER (result = 'died'), count(*) FILTER (result IS NULL),
            count(event) - count(DISTINCT event)
        FROM attempt GROUP BY subscription"""
    ).fetchall()
    return {row[0]: Attempts(*row[1:]) for row in rows}


def _handled(db: duckdb.DuckDBPyConnection, axis: Axis) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    handled: dict[int, list[int]] = {}
    failed: dict[int, list[int]] = {}
    for subscription, bucket, ok, bad in db.execute(
        f"""SELECT subscription, {axis.bucket("coalesce(ended, begun)")} AS bucket,
            count(*) FILTER (result = 'ok'), count(*) FILTER (result IN ('error', 'timeout', 'died'))
        FROM attempt GROUP BY subscription, bucket"""
    ).fetchall():
        handled.setdefault(subscription, [0] * axis.count)[bucket] = ok
        failed.setdefault(subscription, [0] * axis.count)[bucket] = bad
    return handled, failed


_Buckets = dict[int, list[float | None]]


def _latencies(
    db: duckdb.DuckDBPyConnection, axis: Axis, load: Span | None
) -> tuple[dict[int, Quantiles], _Buckets, _Buckets]:
    """From the temporary table `handled`: of the whole load, and p50 and p99 by bucket, for each subscription."""
    inside = f"WHERE intended >= {load.begun} AND intended < {load.ended}" if load else ""
    totals = {
        subscription: Quantiles(*quantiles)
        for subscription, quantiles in db.execute(
            f"SELECT subscription, quantile_disc(seconds, [0.5, 0.99, 1.0]) FROM handled {inside} GROUP BY subscription"
        ).fetchall()
    }
    p50: _Buckets = {}
    p99: _Buckets = {}
    for subscription, bucket, quantiles in db.execute(
        f"""SELECT subscription, {axis.bucket("intended")} AS bucket, quantile_disc(seconds, [0.5, 0.99])
        FROM handled GROUP BY subscription, bucket"""
    ).fetchall():
        for found, value in zip((p50, p99), quantiles, strict=True):
            found.setdefault(subscription, [None] * axis.count)[bucket] = value
    return totals, p50, p99


def _faults(db: duckdb.DuckDBPyConnection) -> tuple[Fault, ...]:
    """In the order in which they began; hits as counted, or as recorded where that is more."""
    rows = db.execute(
        """SELECT name, kind, seam, begun, ended, passes,
            greatest(hits, (SELECT count(*) FROM fault_hit h WHERE h.fault = f.fault)), healed, error
        FROM fault f ORDER BY begun, fault"""
    ).fetchall()
    return tuple(Fault(*row) for row in rows)
