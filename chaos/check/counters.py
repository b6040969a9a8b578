"""The target's own sums against the history: conservation, and what was pending at the end."""

from __future__ import annotations

from collections.abc import Mapping

from squall.chaos.check.case import CONFIRMED, FOREVER, Case, Interval
from squall.chaos.check.masks import owed_for_sure, owed_perhaps
from squall.chaos.check.matching import matches
from squall.chaos.check.verdict import Finding, FindingState, Violation, counted
from squall.core.units import format_count

SUMS = ("owed", "acked", "dead_lettered", "expired", "cancelled", "pending")


def last_counters(case: Case) -> dict[int, dict[str, int]]:
    """The last value of each counter, by subscription and name."""
    found: dict[int, dict[str, int]] = {}
    rows = case.rows(
        "SELECT subscription, name, arg_max(value, time) FROM counter WHERE subscription IS NOT NULL GROUP BY ALL"
    )
    for subscription, name, value in rows:
        found.setdefault(subscription, {})[name] = value
    return found


def pending_counts(case: Case) -> Mapping[int, int]:
    """How many owed events each subscription still had at the end, by the target's own counter. Without one: none when
    the run drained, any number when it did not."""
    counters = last_counters(case)
    otherwise = FOREVER if case.facts.drained is False else 0
    return {number: counters.get(number, {}).get("pending", otherwise) for number in case.subscribers}


def conservation(case: Case, owed: Mapping[int, int]) -> Finding:
    """owed = acked + dead-lettered + expired + cancelled + pending, for each subscriber that the target counts.

    What the history shows unfinished must be what the target calls pending. Publishes of unknown outcome, unconfirmed
    settlements and further copies of an event may be pending too, so that is a range. Of what it acked the history
    knows the least: who handled may be settled together, or not be called at all.
    """
    violations: list[Violation] = []
    counters = last_counters(case)
    judged = [number for number in case.subscribers if "pending" in counters.get(number, {})]
    for number in judged:
        violations += _judge(case, number, counters[number])
    figures = {
        "owed": sum(owed.get(number, 0) for number in judged),
        "pending": sum(counters[number]["pending"] for number in judged),
        "subscribers": len(judged),
    }
    summary = f"{format_count(figures['owed'])} owed, all accounted for · {format_count(figures['pending'])} pending"
    state: FindingState = "valid"
    why = ""
    if violations:
        state, summary = "invalid", "; ".join(sorted({f"{v.subscription}: {v.form}" for v in violations}))
    if not judged:
        state, summary = "not judged", "the target keeps no pending counter"
    elif case.publish_gap is not None or case.attempt_gap is not None:
        state, why = "unknown", "records are missing from the history: its sums are not whole"
    return Finding("conservation", state, summary, figures, len(violations), tuple(violations), why_unknown=why)


def _judge(case: Case, subscription: int, counters: Mapping[str, int]) -> list[Violation]:
    forms = []
    pending = counters["pending"]
    least = _unfinished(case, subscription)
    if pending < least:
        have = "event has" if least == 1 else "events have"
        forms.append(f"{format_count(least)} {have} no end, the target counts {format_count(pending)} pending")
    elif pending > least and pending > (most := possibly_pending(case, subscription)):
        forms.append(f"the target counts {format_count(pending)} pending, at most {format_count(most)} can be")
    if "acked" in counters and counters["acked"] < (acked := _acked(case, subscription)):
        forms.append(f"the target counts {format_count(counters['acked'])} acked, it confirmed {format_count(acked)}")
    if all(name in counters for name in SUMS):
        ended = sum(counters[name] for name in SUMS[1:])
        if counters["owed"] != ended:
            owed, ends = format_count(counters["owed"]), format_count(ended)
            forms.append(f"the target's own sums differ: {owed} owed, {ends} ended or pending")
    listed = case.number(
        f"SELECT count(*) FROM terminal WHERE subscription = {subscription} AND state = 'dead_lettered'"
    )
    redriven = case.number("SELECT count(*) FROM control WHERE kind = 'redrive'")
    if not redriven and counters.get("dead_lettered", listed) != listed:
        letters = counted(counters["dead_lettered"], "dead letter")
        forms.append(f"the target counts {letters} and lists {format_count(listed)}")
    name = case.subscribers[subscription].name
    return [Violation("conservation", form, subscription=name) for form in forms]


def _unfinished(case: Case, subscription: int) -> int:
    """How many of its events have no end for sure, and may be known to the target: what it forgot it cannot count."""
    return case.number(
        f"SELECT count(*) FROM unfinished WHERE subscription = {subscription} AND NOT cancelled AND NOT forgotten "
        "AND form <> 'settled early'"
    )


def possibly_pending(case: Case, subscription: int) -> int:
    """How many of its events may be pending at most. It looks through all of them: asked only where it matters."""
    return _unfinished(case, subscription) + _perhaps(case, subscription)


def _acked(case: Case, subscription: int) -> int:
    """How many settlements as acked the target had confirmed by when it counted last."""
    return case.number(
        f"""SELECT count(DISTINCT (event, settle_invoked)) FROM attempt a
        WHERE subscription = {subscription} AND settlement = 'ack' AND {CONFIRMED} AND settle_ok <= (
            SELECT max(time) FROM counter WHERE subscription = {subscription} AND name = 'acked')"""
    )


def _perhaps(case: Case, subscription: int) -> int:
    """How many more of the subscription's events the target may count as pending than the history shows unfinished.
    What it confirmed only after it had counted was pending then: a run that ends at its limit is still at work. What it
    might forget with its process it may have kept."""
    counted_at = case.number(
        f"SELECT coalesce(max(time), {FOREVER}) FROM counter WHERE subscription = {subscription} AND name = 'pending'"
    )
    intervals = [i for i in case.intervals if i.subscription == subscription]
    possible = " OR ".join(
        f"({fits(case, i)} AND (({owed_for_sure(i)}) IS NOT DISTINCT FROM true OR {owed_perhaps(i)}))"
        for i in intervals
    )
    return case.number(
        f"""
        WITH possible AS (
            SELECT p.event, count(*) FILTER (NOT p.duplicate) AS copies FROM publish p
            WHERE p.outcome <> 'fail' AND ({possible}) GROUP BY p.event),
        settled AS (
            SELECT event, bool_or({CONFIRMED} AND settle_ok <= {counted_at}) AS confirmed FROM attempt a
            WHERE a.subscription = {subscription} GROUP BY event),
        ended AS (SELECT DISTINCT event FROM terminal WHERE subscription = {subscription}),
        open AS (
            SELECT event FROM unfinished WHERE subscription = {subscription} AND NOT cancelled AND NOT forgotten
            AND form <> 'settled early')
        SELECT sum(greatest(copies - 1, 0)
            + (NOT coalesce(confirmed, false) AND ended.event IS NULL AND open.event IS NULL)::INTEGER)
        FROM possible LEFT JOIN settled USING (event) LEFT JOIN ended USING (event) LEFT JOIN open USING (event)"""
    )


def fits(case: Case, interval: Interval) -> str:
    """SQL: publish `p` matches the interval's pattern and filters for sure."""
    pairs = case.rows(
        "SELECT p.type, p.priority, coalesce(t.name, '') FROM (SELECT DISTINCT type, priority FROM publish) p "
        "LEFT JOIN topic t ON t.topic = p.type"
    )
    wanted = [
        f"({topic}, {priority})"
        for topic, priority, name in pairs
        if matches(interval.pattern, interval.filters, interval.priority_min, name, priority)
    ]
    return f"(p.type, p.priority) IN ({', '.join(wanted)})" if wanted else "false"
