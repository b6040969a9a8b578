"""When acknowledgements stood still, when nothing happened at all, and whose handler it was that held everything up.

A silence is a time in which nothing whatever was recorded although a publish was due: the event loop of the bench, and
of a target in its process, stood still. Where the last thing before it is a handler's begin and the first after it that
handler's end, the handler held the loop; it counts only where such handlers make up most of all silence, since any
stretch of it may lie between the two by chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from squall.chaos.check.case import FOREVER, Case
from squall.chaos.check.facts import Span

STALL_NS = 75_000_000
BREAK_NS = 200_000_000
"""Between publishes of one standstill: without any due for longer, there is nothing that stands still."""
MANY = 10
"""So many that were refused one after the other are a standstill, though each was refused at once."""
SILENCE_NS = 10_000_000
DUE_NS = 5_000_000
BUCKET_NS = 1_000_000
AFTER_NS = 1_000_000_000
"""How long after the load what was due in it may come."""
MAX_STALLS = 200


@dataclass(frozen=True)
class Silence:
    """Nothing was recorded in it. `handler`: the subscription whose handler was the only thing that went on."""

    span: Span
    handler: int | None


@dataclass(frozen=True)
class Stall:
    """No publish was acknowledged in it, though one was due throughout, or one after the other was refused. `refused`:
    most were; `loop`: one silence is most of it (many short ones are the gaps between the publishes of a slow load);
    `handler`: since the handler of this subscription held the loop, and nothing was refused."""

    span: Span
    refused: bool
    loop: bool
    handler: int | None


@dataclass(frozen=True)
class Holding:
    """A handler that held the event loop: how often for long, for how long in sum and at most, ns."""

    subscription: int
    count: int
    sum_ns: int
    longest_ns: int


def silences(case: Case) -> Sequence[Silence]:
    """Those of the load, in order. All moments are put into buckets first: that costs no sort of the whole history."""
    load = case.facts.load
    if load is None:
        return ()
    within = f"t >= {load.begun} AND t < {load.ended + AFTER_NS}"
    return [
        Silence(Span(begun, ended), handler)
        for begun, ended, handler in case.rows(
            f"""
            WITH moments AS (
                SELECT invoked AS t FROM publish UNION ALL SELECT ended FROM publish
                UNION ALL SELECT begun FROM attempt UNION ALL SELECT ended FROM attempt),
            buckets AS (
                SELECT t // {BUCKET_NS} AS bucket, min(t) AS low, max(t) AS high FROM moments
                WHERE {within} GROUP BY 1),
            quiet AS (
                FROM (SELECT lag(high) OVER (ORDER BY bucket) AS begun, low AS ended FROM buckets)
                WHERE ended - begun >= {SILENCE_NS}),
            due AS (
                SELECT q.begun, q.ended FROM quiet q ASOF JOIN publish p ON q.ended <= p.invoked
                WHERE p.intended < q.ended - {DUE_NS})
            SELECT d.begun, d.ended, any_value(a.subscription) FROM due d
            LEFT JOIN attempt a ON a.begun = d.begun AND a.ended = d.ended GROUP BY ALL ORDER BY 1"""
        )
    ]


def holding(found: Sequence[Silence]) -> Holding | None:
    """The handler that held the loop for most of all silence."""
    by: dict[int | None, list[int]] = {}
    for one in found:
        by.setdefault(one.handler, []).append(one.span.ended - one.span.begun)
    subscription, lasted = max(by.items(), key=lambda item: sum(item[1]), default=(None, []))
    if subscription is None or 2 * sum(lasted) < sum(sum(other) for other in by.values()):
        return None
    return Holding(subscription, len(lasted), sum(lasted), max(lasted))


def acknowledgement_stalls(case: Case, found: Sequence[Silence]) -> Sequence[Stall]:
    """The first MAX_STALLS of the load: from when a publish was due that was not acknowledged then, to the next
    acknowledgement; or to the last refusal, where what is due later is none of it."""
    load, holds = case.facts.load, holding(found)
    if load is None:
        return ()
    rows = case.rows(
        f"""
        WITH marks AS (
            SELECT min(ended) AS low, max(ended) AS high FROM publish
            WHERE outcome = 'ok' AND ended >= {load.begun} AND ended < {load.ended} GROUP BY ended // {BUCKET_NS}
            UNION ALL VALUES ({load.begun}, {load.begun}), ({load.ended}, {load.ended})),
        gaps AS (
            FROM (SELECT lag(high) OVER (ORDER BY low, high) AS begun, low AS ended FROM marks)
            WHERE ended - begun >= {STALL_NS}),
        due AS (
            SELECT g.begun AS gap, greatest(p.intended, g.begun) AS begun, p.outcome <> 'ok' AS refused,
                least(coalesce(p.ended, g.ended), g.ended) AS ended
            FROM gaps g JOIN publish p ON p.intended < g.ended AND coalesce(p.ended, {FOREVER}) > g.begun
            WHERE p.intended >= {load.begun}),
        breaks AS (
            SELECT *, begun - max(ended) OVER (
                PARTITION BY gap ORDER BY begun, ended ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS broken
            FROM due),
        runs AS (
            SELECT *, count(*) FILTER (broken >= {BREAK_NS}) OVER (
                PARTITION BY gap ORDER BY begun, ended ROWS UNBOUNDED PRECEDING) AS run
            FROM breaks)
        SELECT min(begun), max(ended), 2 * count(*) FILTER (refused) > count(*) FROM runs GROUP BY gap, run
        HAVING max(ended) - min(begun) >= {STALL_NS} AND (max(ended - begun) >= {STALL_NS} OR count(*) >= {MANY})
        ORDER BY 1 LIMIT {MAX_STALLS}"""
    )
    return [_stall(Span(begun, ended), refused, found, holds) for begun, ended, refused in rows]


def _stall(span: Span, refused: bool, found: Sequence[Silence], holds: Holding | None) -> Stall:
    inside = [(max(0, min(span.ended, one.span.ended) - max(span.begun, one.span.begun)), one.handler) for one in found]
    lasted = span.ended - span.begun
    held = holds is not None and any(took and handler == holds.subscription for took, handler in inside)
    mostly_silent = 2 * sum(took for took, _ in inside) >= lasted
    return Stall(
        span,
        refused,
        loop=2 * max((took for took, _ in inside), default=0) >= lasted,
        handler=holds.subscription if mostly_silent and held and holds is not None and not refused else None,
    )
