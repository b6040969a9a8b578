"""Traces: what became of events, from the recorder's rows, as rows, spans and links on one axis of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import duckdb

from squall.chaos.check.evidence import HOW, OPEN, End, Evidence, Hit, Op, Try, gather
from squall.chaos.check.facts import RunFacts
from squall.chaos.check.path import SETTLED, outcome
from squall.chaos.check.verdict import Violation
from squall.chaos.figures import latency
from squall.chaos.report.axis import axis_of
from squall.dashboards.markup import plain

ORDERS: Mapping[str, str] = {
    "slowest": "acknowledged AND took IS NULL AND letters = 0 DESC, took DESC NULLS LAST, event",
    "most tried": "tries DESC, took DESC NULLS LAST, event",
    "dead letters": "letters DESC, took DESC NULLS LAST, event",
    "first": "intended, event",
}
"""By what events are chosen, and the SQL that says so. What was acknowledged and never ended took longest of all."""
LOST = "lost"
"""The tone of what was owed and never came to an end."""
WAITS = ("wait", "held")
"""The tones of the time in which nothing was done with it."""
MAX_ROWS = 60_000


@dataclass(frozen=True)
class Span:
    """A bar on a row, ms from the origin. `tone`: wait, held, publish, ok, bad, odd, settle, end,
    lost (its end is open). `says` is read on hover."""

    row: int
    begun: float
    ended: float
    tone: str
    says: str


@dataclass(frozen=True)
class Row:
    """A row: its label, its event (of spans the name of their trace), whether it is the head of that, and whose attempt
    or end it is."""

    label: str
    event: int | str
    head: bool = False
    subscriber: str | None = None


@dataclass(frozen=True)
class Shade:
    """When a fault was active, ms from the origin."""

    begun: float
    ended: float
    name: str


@dataclass(frozen=True)
class Mark:
    """A moment that concerns all rows, ms from the origin."""

    at: float
    says: str


@dataclass
class Waterfall:
    """Rows under each other, from `begun` to `ended` ms. A link is (row, time, row, time)."""

    begun: float = 0.0
    ended: float = 0.0
    rows: list[Row] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    links: list[tuple[int, float, int, float]] = field(default_factory=list)
    shades: list[Shade] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    cut: bool = False


@dataclass(frozen=True)
class Wanted:
    """Which events: of a type, at a subscriber, with a key, in an order; None: any."""

    order: str = "slowest"
    limit: int = 20
    type: str | None = None
    subscriber: str | None = None
    key: str | None = None


def choose(db: duckdb.DuckDBPyConnection, wanted: Wanted) -> list[int]:
    """The numbers of the events that are wanted, in their order."""
    rows = db.execute(
        f"""WITH chosen AS (
            SELECT event, min(intended) AS intended, bool_or(outcome = 'ok') AS acknowledged FROM publish p
            LEFT JOIN topic t ON t.topic = p.type LEFT JOIN key k ON k.key = p.key
            WHERE ($type IS NULL OR t.name = $type) AND ($key IS NULL OR k.name = $key) GROUP BY event
        ), tried AS (
            SELECT event, sum(tries) AS tries, CASE WHEN bool_and(done IS NOT NULL) THEN max(done) END AS done FROM (
                SELECT event, count(*) AS tries, min(ended) FILTER (result = 'ok') AS done FROM attempt
                WHERE $subscriber IS NULL OR subscription IN
                    (SELECT subscription FROM subscription WHERE name = $subscriber)
                GROUP BY event, subscription
            ) GROUP BY event
        ), dead AS (SELECT event, count(*) AS dead FROM terminal WHERE state = 'dead_lettered' GROUP BY event)
        SELECT event, coalesce(tries, 0) AS tries, coalesce(dead, 0) AS letters, done - intended AS took, intended,
            acknowledged
        FROM chosen LEFT JOIN tried USING (event) LEFT JOIN dead USING (event)
        WHERE ($subscriber IS NULL OR tries IS NOT NULL) AND ($order <> 'dead letters' OR dead > 0)
        ORDER BY {ORDERS[wanted.order]} LIMIT $limit""",
        {
            "type": wanted.type,
            "key": wanted.key,
            "subscriber": wanted.subscriber,
            "order": wanted.order,
            "limit": wanted.limit,
        },
    ).fetchall()
    return [event for event, *_ in rows]


def waterfall(
    db: duckdb.DuckDBPyConnection, facts: RunFacts, events: Sequence[int], lost: Sequence[Violation] = ()
) -> Waterfall:
    """All that the history knows of the events, in their order. `lost`: the deliveries that were owed and never came to
    an end, as the checker found; they stay open until the recording ends."""
    evidence = gather(db, facts, events)
    evidence.gates = [gate for gate in evidence.gates if gate.state == OPEN]
    hits: dict[int | None, list[Hit]] = {}
    for hit in evidence.hits:
        hits.setdefault(hit.event, []).append(hit)
    # Evidence looks through all hits for each attempt: it gets those of its event, and of every fault one, which shows
    # that this fault's are recorded.
    samples = list({hit.fault: hit for hit in evidence.hits if hit.event is not None}.values())
    missed: dict[int | None, list[Violation]] = {}
    for one in lost:
        missed.setdefault(one.event, []).append(one)
    axis = axis_of(db, facts)
    until = _ms(evidence, axis.ended_ns) if axis is not None else 0.0
    found = Waterfall()
    for event in events:
        if len(found.rows) >= MAX_ROWS:
            found.cut = True
            break
        first = len(found.spans)
        _add_event(found, replace(evidence, hits=[*hits.get(event, []), *samples]), event)
        _add_lost(found, missed.get(event, []), found.spans[first:], until)
    times = [time for span in found.spans for time in (span.begun, span.ended)]
    if times:
        found.begun, found.ended = min(times), max(*times, min(times) + 0.001)
    for window in evidence.windows.values():
        begun = _ms(evidence, window.begun)
        ended = found.ended if window.ended is None else _ms(evidence, window.ended)
        if begun <= found.ended and ended >= found.begun:
            found.shades.append(Shade(begun, ended, plain(window.name, 40)))
    if any(span.tone == LOST for span in found.spans):
        found.marks = list(_process_ends(evidence, found))
    return found


def _process_ends(evidence: Evidence, found: Waterfall) -> Iterator[Mark]:
    """What may have taken along what was lost."""
    for process in evidence.processes:
        at = None if process.exited is None else _ms(evidence, process.exited)
        if at is not None and found.begun < at < found.ended:
            yield Mark(at, f"{plain(process.name, 40)} ended")


def _ms(evidence: Evidence, time_ns: int) -> float:
    return round((time_ns - evidence.origin_ns) / 1e6, 6)


def _add_event(found: Waterfall, evidence: Evidence, event: int) -> None:
    ops, tries = evidence.ops.get(event, []), evidence.tries.get(event, [])
    key = f" · key {plain(ops[0].key, 40)}" if ops and ops[0].key else ""
    name = plain(ops[0].topic, 60) if ops else "never published"
    found.rows.append(Row(f"{name} {event}{key}", event, head=True))
    published: tuple[int, float] | None = None
    for op in ops:
        published = _add_publish(found, evidence, op)
    by_subscription: dict[int, list[Try]] = {}
    for one in tries:
        by_subscription.setdefault(one.subscription, []).append(one)
    for subscription, attempts in by_subscription.items():
        _add_attempts(found, evidence, subscription, attempts, published)
    for end in evidence.ends.get(event, []):
        name = plain(evidence.name(end.subscription), 40)
        label = f"{name} · {end.state.replace('_', ' ')}"
        found.rows.append(Row(label, event, subscriber=name))
        at = _ended(evidence, end, by_subscription.get(end.subscription, []))
        tone = "ok" if end.state == "acked" else "end"
        found.spans.append(Span(len(found.rows) - 1, at, at, tone, f"{label}, told by {plain(end.source, 60)}"))


def _add_lost(found: Waterfall, lost: Sequence[Violation], known: Sequence[Span], until: float) -> None:
    """A row for each subscriber to whom the event is owed, below all others of that event; `known`: their spans."""
    published = [span for span in known if found.rows[span.row].subscriber is None]
    for one in lost:
        name = plain(one.subscription or "?", 40)
        own = [span for span in known if found.rows[span.row].subscriber == name]
        before = max(own or published, key=lambda span: span.ended)
        found.rows.append(Row(f"{name} · owed", found.rows[before.row].event, subscriber=name))
        row, begun, ended = len(found.rows) - 1, before.ended, max(before.ended, until)
        what = "never delivered" if one.form == "undelivered" else one.form
        says = f"owed to {name}, {what}: still owed {_took(begun, ended)} later, at the end of the recording"
        found.spans.append(Span(row, begun, ended, LOST, says))
        found.links.append((before.row, begun, row, begun))


def _ended(evidence: Evidence, end: End, attempts: Sequence[Try]) -> float:
    """When it ended: a target lists its dead letters long after it gave the last attempt up."""
    last = max((time for one in attempts for time in (one.settle_invoked, one.ended) if time is not None), default=None)
    return _ms(evidence, end.time if last is None else min(last, end.time))


def _add_publish(found: Waterfall, evidence: Evidence, op: Op) -> tuple[int, float]:
    """Its row; where and when its deliveries come from."""
    found.rows.append(Row("publish and store", op.event))
    row, due, invoked = len(found.rows) - 1, _ms(evidence, op.intended), _ms(evidence, op.invoked)
    if invoked > due:
        found.spans.append(Span(row, due, invoked, "wait", f"due, and not yet published: {_took(due, invoked)}"))
    if op.ended is None:
        found.spans.append(Span(row, invoked, invoked, "odd", "published; the call never returned"))
        return row, invoked
    ended = _ms(evidence, op.ended)
    tone = {"ok": "publish", "fail": "bad"}.get(op.outcome, "odd")
    found.spans.append(Span(row, invoked, ended, tone, f"published, {outcome(op)}: {_took(invoked, ended)}"))
    return row, ended


def _add_attempts(
    found: Waterfall,
    evidence: Evidence,
    subscription: int,
    attempts: Sequence[Try],
    published: tuple[int, float] | None,
) -> None:
    name, before = plain(evidence.name(subscription), 40), published
    for number, one in enumerate(attempts):
        found.rows.append(Row(f"{name} · attempt {one.attempt}", one.event, subscriber=name))
        row, begun = len(found.rows) - 1, _ms(evidence, one.begun)
        if before is not None:
            waited = "waited to be delivered" if number == 0 else "waited for the next attempt"
            if begun > before[1]:
                found.spans.append(Span(row, before[1], begun, "wait", f"{waited}: {_took(before[1], begun)}"))
                found.spans.extend(_held(evidence, row, subscription, before[1], one.begun))
            found.links.append((before[0], before[1], row, begun))
        before = row, _handled(found, evidence, row, one)
        found.spans.extend(_settled(evidence, row, one))


def _held(evidence: Evidence, row: int, subscription: int, since: float, begun_ns: int) -> Iterator[Span]:
    """When gates held the subscriber back while it waited."""
    since_ns = round(since * 1e6) + evidence.origin_ns
    for gate in evidence.held(subscription, since_ns, begun_ns):
        until_ns = begun_ns if gate.ended is None else min(gate.ended, begun_ns)
        begun, ended = max(since, _ms(evidence, gate.begun)), _ms(evidence, until_ns)
        yield Span(row, begun, ended, "held", f"held by {plain(gate.gate, 40)}: {_took(begun, ended)}")


def _handled(found: Waterfall, evidence: Evidence, row: int, one: Try) -> float:
    """The bar of the handler; when it ended."""
    begun = _ms(evidence, one.begun)
    ended = begun if one.ended is None else _ms(evidence, one.ended)
    fault = evidence.hit_during(one) if one.result != "ok" else None
    by = f" (fault {plain(fault.name, 40)}: {fault.kind})" if fault else ""
    took = "" if one.ended is None else f": {_took(begun, ended)}"
    says = f"attempt {one.attempt} {HOW[one.result]}{by}{took}"
    tone = "ok" if one.result == "ok" else "odd" if one.result is None else "bad"
    found.spans.append(Span(row, begun, ended, tone, says))
    return ended


def _settled(evidence: Evidence, row: int, one: Try) -> Iterator[Span]:
    if one.settle_invoked is None or one.settlement is None:
        return
    begun = _ms(evidence, one.settle_invoked)
    ended = begun if one.settle_ok is None else _ms(evidence, one.settle_ok)
    said = SETTLED[one.settlement] + (" by the handler itself" if one.by_handler else "")
    answer = ", never confirmed" if one.settle_ok is None else ", refused" if one.settle_answer == "refused" else ""
    yield Span(row, begun, ended, "settle", f"{said}{answer}: {_took(begun, ended)}")


def _took(begun_ms: float, ended_ms: float) -> str:
    return latency(max(0.0, ended_ms - begun_ms) / 1e3)
