"""The time axis that all charts of a report share: equal buckets from the first record to the last."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import duckdb

from squall.chaos.check.facts import RunFacts, Span

MAX_BUCKETS = 200
LEAST_BUCKET_NS = 50_000_000


@dataclass(frozen=True)
class Axis:
    """`count` buckets of `bucket_ns` from `begun_ns` on. `origin_ns` is the zero of the times that people read."""

    origin_ns: int
    begun_ns: int
    bucket_ns: int
    count: int

    @property
    def ended_ns(self) -> int:
        return self.begun_ns + self.count * self.bucket_ns

    def share(self, time_ns: int) -> float:
        """How far along the axis a time is: 0 at its begin, 1 at its end; what lies outside is at its edge."""
        return min(1.0, max(0.0, (time_ns - self.begun_ns) / (self.count * self.bucket_ns)))

    def bucket(self, column: str) -> str:
        """SQL: the number of the bucket that a time lies in."""
        return f"(({column} - {self.begun_ns}) // {self.bucket_ns})::INTEGER"

    def seconds(self, time_ns: int) -> float:
        """From the origin."""
        return (time_ns - self.origin_ns) / 1e9

    def times_s(self) -> list[float]:
        """When each bucket begins, from the origin."""
        return [self.seconds(self.begun_ns + number * self.bucket_ns) for number in range(self.count)]


def nice(least: float) -> float:
    """The smallest of 1, 2, 2.5, 5, 10, 20 … that is not below `least`."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(step * power for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * power >= least * (1 - 1e-9))


def phases(facts: RunFacts) -> Iterator[tuple[str, Span]]:
    """Those that the run reached, by name."""
    for name, span in (("steady", facts.steady), ("load", facts.load), ("drain", facts.drain)):
        if span is not None:
            yield name, span


def axis_of(db: duckdb.DuckDBPyConnection, facts: RunFacts) -> Axis | None:
    """The axis over all that was recorded; None where nothing was. Zero is the begin of the load, as in blame."""
    (row,) = db.execute(
        """SELECT min(first), max(last), min(invoked) FROM (
            SELECT min(least(intended, invoked, ended)) AS first,
                max(greatest(intended, invoked, coalesce(ended, invoked))) AS last, min(invoked) AS invoked FROM publish
            UNION ALL SELECT min(least(begun, ended)), max(greatest(begun, coalesce(ended, begun))), NULL FROM attempt
            UNION ALL SELECT min(begun), max(coalesce(ended, begun)), NULL FROM fault)"""
    ).fetchall()
    first, last, invoked = row
    if first is None:
        return None
    spans = [span for _, span in phases(facts)]
    first, last = min([first, *(s.begun for s in spans)]), max([last, *(s.ended for s in spans)])
    origin = facts.load.begun if facts.load else invoked if invoked is not None else first
    bucket = max(LEAST_BUCKET_NS, round(nice(max(1, last - first) / MAX_BUCKETS)))
    begun = origin + (first - origin) // bucket * bucket
    return Axis(origin, begun, bucket, (last - begun) // bucket + 1)
