"""Liveness after faults, and fairness: recovery, stalls, starvation."""

from __future__ import annotations

from dataclasses import dataclass

from squall.chaos.check.case import FOREVER, SETTLED, Case
from squall.chaos.check.counters import last_counters, pending_counts, possibly_pending
from squall.chaos.check.expectations import Recovery, Starvation
from squall.chaos.check.verdict import Finding, Violation, counted
from squall.core.units import format_count, format_seconds


@dataclass(frozen=True)
class Standstill:
    """How the drain ended: what was pending, and for how long nothing had moved. `stalled`: though all was healed, the
    target was up, and no legal wait explains it."""

    pending: int
    quiet_s: float
    stalled: bool


def standstill(case: Case) -> Standstill | None:
    """None where the run did not get as far as draining."""
    drain = case.facts.drain
    if drain is None:
        return None
    pending = sum(_waiting(case).values())
    last = case.number("SELECT greatest(max(begun), max(ended), max(settle_ok)) FROM attempt")
    last = max(last, case.number(f"SELECT max(time) FROM terminal WHERE time < {drain.ended}"))
    quiet_ns = drain.ended - max(min(last, drain.ended), case.facts.healed_ns or 0)
    legal_ns = round(max(case.facts.stall_s, case.claims.longest_delay_s) * 1e9)
    running = case.number(
        "SELECT count(*) FROM attempt a JOIN subscriber s ON s.id = a.subscription "
        f"WHERE a.ended IS NULL AND a.result IS NULL AND a.begun + s.timeout > {drain.ended}"
    )
    stalled = case.facts.target_up and pending > 0 and quiet_ns >= legal_ns and not running
    return Standstill(pending, quiet_ns / 1e9, stalled)


def _waiting(case: Case) -> dict[int, int]:
    """What each subscription still had to do at the end, paused ones left out: by the target's counter, as far as the
    history has what may be pending, else by the history, where the run did not drain."""
    paused = {row[0] for row in case.rows("SELECT subscription FROM control WHERE kind = 'pause' AND ended IS NULL")}
    waiting = {
        number: min(sums["pending"], possibly_pending(case, number)) if sums["pending"] else 0
        for number, sums in last_counters(case).items()
        if "pending" in sums
    }
    if case.facts.drained is False:
        open_pairs = case.rows(
            "SELECT subscription, count(*) FROM unfinished "
            "WHERE NOT cancelled AND NOT forgotten AND form IN ('undelivered', 'unfinished') GROUP BY 1"
        )
        waiting = dict(open_pairs) | waiting
    return {number: count for number, count in waiting.items() if count > 0 and number not in paused}


def progress(case: Case) -> Finding:
    """A target that is up and healed must not stand still while something is pending."""
    end = standstill(case)
    if end is None:
        return Finding("recovery", "not judged", "the run did not drain")
    figures = {"pending": end.pending, "quiet_s": end.quiet_s}
    if not end.stalled:
        text = "drained" if not end.pending else f"{format_count(end.pending)} pending, still at work"
        return Finding("recovery", "valid", text, figures)
    firsts = dict(
        case.rows("SELECT subscription, arg_min(event, (acked, event)) FROM unfinished WHERE NOT cancelled GROUP BY 1")
    )
    violations = tuple(
        Violation("recovery", "stalled", event=firsts.get(number), subscription=case.subscribers[number].name)
        for number in _waiting(case)
    )
    summary = f"no progress for {format_seconds(round(end.quiet_s, 1))} with {format_count(end.pending)} pending"
    return Finding("recovery", "invalid", summary, figures, len(violations), violations)


def recovery(case: Case, wanted: Recovery) -> Finding:
    """When, after a fault had healed, nothing owed and unfinished was older than `age` any more, and stayed so
    until the next fault began."""
    title = f"recovery of {wanted.fault}" if wanted.fault else "recovery"
    healed = _healed_ns(case, wanted.fault)
    if healed is None:
        began = case.number("SELECT count(*) FROM fault WHERE name = $name", name=wanted.fault) if wanted.fault else 0
        missed = "never healed" if began else "never began"
        why = f"fault {wanted.fault} {missed}" if wanted.fault else "no fault healed"
        return Finding("recovery", "unknown", why, why_unknown=why, title=title)
    horizon, next_fault = _horizon(case, healed)
    stale = case.rows(_last_stale(case, healed, horizon, round(wanted.age * 1e9)))
    last_stale, event, waits_at = stale[0] if stale else (None, None, None)
    took_s = max(0, (last_stale or healed) - healed) / 1e9
    never = last_stale is not None and last_stale >= horizon
    figures = {"recovered_s": float("inf") if never else took_s, "observed_s": (horizon - healed) / 1e9}
    name = wanted.fault or "the last fault"
    limit = f"(limit {format_seconds(wanted.within)})"
    if never and took_s < wanted.within:
        ended = "the next fault began" if next_fault else "the run ended"
        why = f"{ended} {format_seconds(round(took_s, 1))} after {name} healed, before it had recovered {limit}"
        return Finding("recovery", "unknown", why, figures, why_unknown=why, title=title)
    if never or took_s > wanted.within:
        text = f"not recovered {took_s:.1f} s" if never else f"{took_s:.1f} s"
        subscriber = case.subscribers[waits_at].name
        violation = Violation("recovery", "late", event=event, subscription=subscriber, time_ns=last_stale)
        return Finding(
            "recovery", "invalid", f"{text} after {name} healed {limit}", figures, 1, (violation,), title=title
        )
    return Finding("recovery", "valid", f"{took_s:.1f} s after {name} healed {limit}", figures, title=title)


def _healed_ns(case: Case, of: str | None) -> int | None:
    if of is None:
        last = case.rows("SELECT max(ended) FROM fault")[0][0]
        return int(last) if last is not None else case.facts.healed_ns
    row = case.rows("SELECT max(ended), bool_or(ended IS NULL) FROM fault WHERE name = $name", name=of)[0]
    return None if row[0] is None or row[1] else int(row[0])


def _horizon(case: Case, healed: int) -> tuple[int, bool]:
    """Until when recovery can be watched, and whether another fault ends the watch."""
    following = case.rows(f"SELECT min(begun) FROM fault WHERE begun > {healed}")[0][0]
    if following is not None:
        return int(following), True
    if case.facts.drain is not None:
        return max(healed, case.facts.drain.ended), False
    last = case.number("SELECT greatest(max(begun), max(ended), max(settle_ok)) FROM attempt")
    return max(healed, last, case.number("SELECT max(ended) FROM publish")), False


def _last_stale(case: Case, healed: int, horizon: int, age_ns: int) -> str:
    """SQL: the last moment between healed and horizon at which an owed, unfinished event was older than the threshold,
    and that event, the oldest of them, and its subscription; no row where there was none.

    What is unfinished where the target has nothing pending is lost, not late: no_loss speaks of it.
    """
    waiting = ", ".join(str(number) for number, count in pending_counts(case).items() if count > 0)
    still = f"u.subscription IN ({waiting})" if waiting else "false"
    return f"""
        WITH done AS (
            SELECT s.acked, coalesce(a.settle_ok, a.settle_invoked) AS done, event, subscription
            FROM attempt a JOIN sent s USING (event)
            ANTI JOIN (FROM (
                SELECT rid, row_number() OVER (PARTITION BY subscription, event ORDER BY settled_at, rid) AS place
                FROM again WHERE settled_at IS NOT NULL) WHERE place > 1) later ON later.rid = a.rid
            WHERE {SETTLED}
            UNION ALL
            SELECT s.acked, {FOREVER}, event, subscription FROM unfinished u JOIN sent s USING (event)
            WHERE NOT u.cancelled AND u.form IN ('undelivered', 'unfinished') AND {still})
        SELECT least(done, {horizon}) AS until, event, subscription FROM done
        WHERE done > {healed} AND acked + {age_ns} < least(done, {horizon})
        ORDER BY until DESC, acked, event, subscription LIMIT 1"""


def starvation(case: Case, wanted: Starvation) -> Finding:
    """While an event of a priority waits at the head of its level, at most bound + concurrency - 1 first attempts of
    other levels begin. It waits from when it was acknowledged and queued, its key free, nothing paused."""
    if case.number("SELECT count(DISTINCT process) FROM attempt") > 1:
        why = "several processes dispatch: their common order is not in the history"
        return Finding("starvation", "unknown", why, why_unknown=why)
    pipeline_ns = round(wanted.pipeline * 1e9)
    bounds = "[" + ", ".join(str(bound) for bound in wanted.bounds) + "]"
    base = f"""
        WITH firsts AS (
            SELECT a.event, a.subscription, a.key, a.priority, a.begun,
                row_number() OVER (PARTITION BY a.subscription ORDER BY a.begun, a.rid) AS place
            FROM attempt a ANTI JOIN (FROM again WHERE n > 1) later ON later.rid = a.rid WHERE a.event IS NOT NULL),
        leveled AS (
            SELECT *, lag(place) OVER level AS place_before, lag(begun) OVER level AS begun_before FROM firsts
            WINDOW level AS (PARTITION BY subscription, priority ORDER BY place)),
        suspects AS (
            SELECT l.*, {bounds}[l.priority + 1] + s.concurrency - 1 AS bound, p.acked + {pipeline_ns} AS ready
            FROM leveled l JOIN subscriber s ON s.id = l.subscription JOIN sent p USING (event)
            WHERE place - coalesce(place_before, 0) - 1 > {bounds}[l.priority + 1] + s.concurrency - 1
                AND l.begun > p.acked + {pipeline_ns}),
        waits AS (
            SELECT w.*, greatest(ready, coalesce(begun_before, ready), coalesce(
                (SELECT max(coalesce(b.ended, w.begun)) FROM attempt b
                    WHERE b.subscription = w.subscription AND b.key = w.key AND b.begun < w.begun), ready), coalesce(
                (SELECT max(coalesce(c.ended, w.begun)) FROM control c
                    WHERE c.kind = 'pause' AND c.subscription = w.subscription AND c.begun < w.begun), ready), coalesce(
                (SELECT max(join_ok) FROM subscription j WHERE j.subscription = w.subscription), ready)) AS since
            FROM suspects w)
        SELECT 'passed over too often', w.event, w.subscription, w.key, NULL, w.begun, NULL
        FROM waits w ASOF LEFT JOIN firsts f ON f.subscription = w.subscription AND w.since >= f.begun
        WHERE w.place - 1 - coalesce(f.place, 0) > w.bound"""
    count, violations = case.violations("starvation", base)
    summary = f"{counted(count, 'event')} passed over too often" if count else "no level waited past its bound"
    return Finding("starvation", "invalid" if count else "valid", summary, {"violations": count}, count, violations)
