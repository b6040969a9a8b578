"""Was everything delivered that is owed, and nothing else: no_loss, no_phantom, no_ghost, no_stray, intact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from squall.chaos.check.case import FOREVER, SETTLED, Case, Interval
from squall.chaos.check.counters import fits, pending_counts
from squall.chaos.check.masks import Totals, owed_for_sure
from squall.chaos.check.redelivery import REDRIVES
from squall.chaos.check.verdict import Finding, FindingState, Violation, counted, was
from squall.core.units import format_count

RULE_OF_THREE = 3.0
"""With n trials and no failure, the rate is below 3/n at 95 %."""


def find_unfinished(case: Case) -> None:
    """Table `unfinished`: each owed pair of event and subscription without an end, how far it came, whether it was
    cancelled because the subscription ended, and whether it was forgotten: acknowledged for `memory`, by a process that
    then ended."""
    case.db.execute(
        f"""CREATE TEMP TABLE unfinished AS
        WITH pairs AS (SELECT event, subscription FROM suspect WHERE lost),
        ops AS (
            SELECT event, any_value(key) AS key, any_value(priority) AS priority,
                min(seq) FILTER (outcome = 'ok') AS seq, min(invoked) AS invoked,
                min(ended) FILTER (outcome = 'ok') AS acked
            FROM publish SEMI JOIN pairs USING (event) GROUP BY event),
        tries AS (
            SELECT event, subscription, coalesce(bool_or({SETTLED} AND settlement = 'term'), false) AS termed,
                coalesce(bool_or({SETTLED} AND settlement = 'ack'), false) AS settled
            FROM attempt a SEMI JOIN pairs USING (event, subscription) GROUP BY event, subscription)
        SELECT event, subscription, key, priority, seq, invoked, acked,
            CASE WHEN tries.event IS NULL THEN 'undelivered' WHEN termed THEN 'dead letter missing'
                WHEN settled THEN 'settled early' ELSE 'unfinished' END AS form,
            false AS cancelled, {_forgotten(case)} AND form <> 'settled early' AS forgotten
        FROM pairs JOIN ops USING (event) LEFT JOIN tries USING (event, subscription)"""
    )
    leaving = [i for i in case.intervals if i.ends]
    if leaving:
        _cancel(case, {i.subscription for i in leaving})


def _forgotten(case: Case) -> str:
    """SQL: the event of `ops` was acknowledged before the process that kept it ended. What was on its way then may be
    noted a little later; but nothing is acknowledged until the process is there again."""
    if case.claims.durability != "memory" or case.claims.kept_by is None:
        return "false"
    lives = case.rows(
        f"SELECT coalesce(lead(started) OVER (ORDER BY started), {FOREVER}), exited FROM process WHERE name = $name",
        name=case.claims.kept_by,
    )
    until = [back for back, exited in lives if exited is not None]
    return f"coalesce(acked < {max(until)}, false)" if until else "false"


def _cancel(case: Case, subscriptions: set[int]) -> None:
    owing = " UNION ALL ".join(
        _owing(case, interval) for interval in case.intervals if interval.subscription in subscriptions
    )
    case.db.execute(
        f"""UPDATE unfinished SET cancelled = true FROM (
            WITH owing(event, subscription, stays, left_at) AS ({owing}),
            gone AS (
                SELECT event, subscription, max(left_at) AS left_at FROM owing
                GROUP BY event, subscription HAVING NOT bool_or(stays)),
            waiting AS (SELECT u.*, left_at FROM unfinished u JOIN gone USING (event, subscription)),
            groups AS (SELECT DISTINCT subscription, key, priority, left_at FROM waiting WHERE key IS NOT NULL),
            passed AS (
                SELECT g.*, max(b.seq) AS top FROM groups g JOIN attempt b USING (subscription, key, priority)
                WHERE b.begun < g.left_at GROUP BY ALL)
            SELECT w.event, w.subscription FROM waiting w
            LEFT JOIN passed p USING (subscription, key, priority, left_at)
            WHERE w.form = 'unfinished' OR (w.form = 'undelivered' AND NOT coalesce(p.top > w.seq, false))
        ) c WHERE unfinished.event = c.event AND unfinished.subscription = c.subscription"""
    )


def _owing(case: Case, interval: Interval) -> str:
    """SQL: the unfinished pairs that this interval owes."""
    stays = "false" if interval.ends else "true"
    left_at = FOREVER if interval.leave_invoked is None else interval.leave_invoked
    return (
        f"SELECT p.event, {interval.subscription}, {stays}, {left_at} FROM publish p "
        f"SEMI JOIN (FROM unfinished WHERE subscription = {interval.subscription}) u ON u.event = p.event "
        f"WHERE p.outcome = 'ok' AND {owed_for_sure(interval)} AND {fits(case, interval)}"
    )


def no_loss(case: Case, totals: Totals, *, expected: bool) -> Finding:
    """At-most-once subscribers are condemned only where the scenario expects no_loss."""
    lost_sql = _lost(case, pending_counts(case), expected=expected)
    count, violations = case.violations("no_loss", lost_sql)
    figures = _loss_figures(case, totals, count)
    acked = f"{format_count(figures['acked'])} acked · {format_count(figures['dead_lettered'])} dead-lettered"
    summary = f"{format_count(figures['owed'])} owed · {acked}"
    for end in ("expired", "cancelled"):
        summary += f" · {format_count(figures[end])} {end}" if figures[end] else ""
    allowed = int(figures["lost_at_most_once"] + figures["forgotten"])
    unsure = case.number("SELECT count(*) FROM unfinished WHERE NOT cancelled") - count - allowed
    state: FindingState = "invalid" if count else "valid"
    why = ""
    if count:
        summary = _lost_where(case)
    elif figures["lost_at_most_once"]:
        summary += f" · {format_count(figures['lost_at_most_once'])} lost at most once, as promised"
    if figures["forgotten"] and not count:
        summary += f" · {format_count(figures['forgotten'])} lost with {case.claims.kept_by}, which claims no more"
    if case.publish_gap is not None or case.attempt_gap is not None:
        state, why = "unknown", "records are missing from the history: what seems lost may not be"
    elif state == "valid" and unsure > 0:
        owed = counted(unsure, "owed delivery", "owed deliveries")
        state, why = "unknown", f"{owed} {was(unsure)} still pending when the run ended"
    elif state == "valid" and totals.undecidable:
        state, why = "unknown", f"filters of {', '.join(totals.undecidable)} ask for what the history does not hold"
    elif state == "valid" and not figures["owed"]:
        state = "unknown" if expected else "not judged"
        why = summary = "nothing was owed to anybody: there was nothing to lose"
    elif state == "valid" and not expected and all(s.at_most_once for s in case.subscribers.values()):
        state = "not judged"
    return Finding("no_loss", state, summary, figures, count, violations, why_unknown=why)


def _lost_where(case: Case) -> str:
    """`41 acknowledged events never reached billing`; where a handler had them: `were lost at billing`."""
    rows = case.rows(
        "SELECT s.name, count(*), bool_and(form = 'undelivered') FROM violation_no_loss v "
        "JOIN subscriber s ON s.id = v.subscription GROUP BY s.name ORDER BY 2 DESC, 1"
    )
    events = case.number("SELECT count(DISTINCT event) FROM violation_no_loss")
    never = all(undelivered for _, _, undelivered in rows)
    lost = counted(events, "acknowledged event") + (" never reached" if never else f" {was(events)} lost at")
    if len(rows) == 1:
        return f"{lost} {rows[0][0]}"
    told = [f"{name} ({format_count(count)})" for name, count, _ in rows[:3]]
    return f"{lost} {', '.join(told)}" + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")


def _lost(case: Case, pending: Mapping[int, int], *, expected: bool) -> str:
    """SQL of the lost pairs. A subscriber's pending counter may stand for as many of them as it says, the latest ones:
    they are not lost yet. What was settled already cannot be pending."""
    known = ", ".join(f"({number}, {count})" for number, count in pending.items())
    known = (
        f"SELECT * FROM (VALUES {known}) AS t(subscription, pending)"
        if known
        else ("SELECT NULL::INTEGER AS subscription, NULL::BIGINT AS pending WHERE false")
    )
    judged = "true" if expected else "NOT s.at_most_once AND NOT u.forgotten"
    return f"""
        WITH pending AS ({known}),
        open AS (
            SELECT u.*, u.form IN ('settled early', 'dead letter missing') AS sure,
                row_number() OVER (PARTITION BY u.subscription, sure ORDER BY u.acked DESC, u.event DESC) AS place
            FROM unfinished u JOIN subscriber s ON s.id = u.subscription WHERE NOT u.cancelled AND {judged}),
        reach AS (
            SELECT a.subscription, min(p.invoked) AS first, max(p.invoked) AS last
            FROM attempt a JOIN publish p USING (event)
            WHERE a.subscription IN (SELECT subscription FROM open) AND a.result = 'ok' GROUP BY a.subscription)
        SELECT form, event, subscription, key, NULL, acked,
            CASE WHEN invoked > last THEN 'postfix' WHEN invoked >= first THEN 'middle' ELSE 'prefix' END
        FROM open LEFT JOIN reach USING (subscription) LEFT JOIN pending USING (subscription)
        WHERE sure OR place > coalesce(pending, 0)"""


def _loss_figures(case: Case, totals: Totals, lost: int) -> dict[str, float]:
    ends = dict(
        case.rows(
            "SELECT state, count(*) FROM (SELECT DISTINCT event, subscription, state FROM terminal) GROUP BY state"
        )
    )
    owed = sum(totals.owed.values())
    classes = dict(case.rows("SELECT loss, count(*) FROM violation_no_loss GROUP BY loss"))
    unjudged = "NOT cancelled AND (event, subscription) NOT IN (SELECT (event, subscription) FROM violation_no_loss)"
    figures: dict[str, float] = {
        "owed": owed,
        "acked": sum(totals.acked.values()),
        "dead_lettered": ends.get("dead_lettered", 0),
        "expired": ends.get("expired", 0),
        "cancelled": ends.get("cancelled", 0) + case.number("SELECT count(*) FROM unfinished WHERE cancelled"),
        "lost": lost,
        "events_lost": case.number("SELECT count(DISTINCT event) FROM violation_no_loss"),
        "lost_at_most_once": case.number(
            "SELECT count(*) FROM unfinished u JOIN subscriber s ON s.id = u.subscription "
            f"WHERE s.at_most_once AND {unjudged}"
        ),
        "forgotten": case.number(
            "SELECT count(*) FROM unfinished u JOIN subscriber s ON s.id = u.subscription "
            f"WHERE NOT s.at_most_once AND forgotten AND {unjudged}"
        ),
        **{f"lost_{name}": classes.get(name, 0) for name in ("prefix", "middle", "postfix")},
    }
    if owed and not lost:
        figures["loss_rate_below"] = min(1.0, RULE_OF_THREE / owed)
    return figures


def no_phantom(case: Case, totals: Totals) -> Finding:
    """Delivered, but never published; or delivered before it was. Foreign events are counted only."""
    base = f"""
        SELECT CASE WHEN p.event IS NULL THEN 'never published' ELSE 'before its publish' END, a.event, a.subscription,
            any_value(a.key), NULL, min(a.begun), NULL
        FROM attempt a SEMI JOIN (FROM odd WHERE phantom) o ON o.event = a.event
        LEFT JOIN (SELECT event, min(invoked) AS invoked FROM publish SEMI JOIN (FROM odd WHERE phantom) USING (event)
            GROUP BY event) p ON p.event = a.event
        WHERE (p.event IS NULL OR a.begun < p.invoked - {case.facts.clock_error_ns}) AND {before_gap(case)}
        GROUP BY a.event, a.subscription, p.event"""
    count, violations = case.violations("no_phantom", base)
    figures = {"phantoms": count, "foreign": totals.foreign, "attempts": totals.attempts}
    summary = "nothing delivered that was not published"
    if count:
        summary = f"{counted(count, 'delivery', 'deliveries')} of events that were not published before"
    if totals.foreign:
        summary += f" · {counted(totals.foreign, 'foreign event')} seen"
    return _with_publish_gap(case, Finding("no_phantom", "valid", summary, figures, count, violations))


def no_ghost(case: Case) -> Finding:
    """Delivered, though every publish of it failed."""
    base = f"""
        SELECT 'refused, yet delivered', a.event, a.subscription, any_value(a.key), NULL, min(a.begun), NULL
        FROM attempt a SEMI JOIN (FROM odd WHERE ghost) o ON o.event = a.event
        WHERE {before_gap(case)} GROUP BY a.event, a.subscription"""
    count, violations = case.violations("no_ghost", base)
    failed, recovered = case.rows(
        """WITH bad AS (
            SELECT event, bool_or(outcome = 'info') AS unknown FROM publish WHERE outcome <> 'ok' GROUP BY event),
        never AS (FROM bad ANTI JOIN (FROM publish WHERE outcome = 'ok') o USING (event)),
        began AS (SELECT DISTINCT event FROM attempt SEMI JOIN never USING (event))
        SELECT count(*) FILTER (NOT unknown), count(*) FILTER (unknown AND began.event IS NOT NULL)
        FROM never LEFT JOIN began USING (event)"""
    )[0]
    figures = {"failed": failed, "recovered": recovered, "ghosts": count}
    summary = f"{counted(failed, 'refused event')}, none delivered"
    if count:
        summary = f"{counted(count, 'delivery', 'deliveries')} of events whose every publish was refused"
    if recovered:
        summary += f" · {format_count(recovered)} of unknown outcome recovered"
    return _with_publish_gap(case, Finding("no_ghost", "valid", summary, figures, count, violations))


def no_stray(case: Case) -> Finding:
    """Delivered to a subscriber whose pattern and filters do not match it; or that was not there when it was published.
    Who asks for a redrive or a replay gets older events on purpose."""
    asked = REDRIVES.format(x="a", when="c.begun <= a.begun")
    base = f"""
        SELECT CASE WHEN bool_or(o.stray) THEN 'does not match' ELSE 'not owed' END, a.event, a.subscription,
            any_value(a.key), NULL, min(a.begun), NULL
        FROM attempt a JOIN (FROM suspect WHERE stray OR uninvited) o
            ON o.event = a.event AND o.subscription = a.subscription
        WHERE o.stray OR {asked} = 0 GROUP BY a.event, a.subscription"""
    count, violations = case.violations("no_stray", base)
    summary = "every delivery was owed to its subscriber"
    if count:
        summary = f"{counted(count, 'delivery', 'deliveries')} to subscribers that {_not_owed(violations)}"
    return Finding("no_stray", "invalid" if count else "valid", summary, {"strays": count}, count, violations)


def intact(case: Case, totals: Totals) -> Finding:
    """Delivered with another payload, type, priority or key than was published, and no fault touched it. So altered
    that it is no event of this run any more: it came with the seq that only this event has in the store."""
    foreign = """
        SELECT 'payload unrecognisable', p.event, a.subscription, any_value(p.key), NULL, min(a.begun), NULL
        FROM attempt a JOIN publish p ON p.seq = a.seq AND p.outcome = 'ok' AND NOT p.duplicate
        ANTI JOIN fault_hit h ON h.event = p.event
        WHERE a.event IS NULL GROUP BY p.event, a.subscription"""
    base = """
        SELECT 'payload altered', a.event, a.subscription, any_value(a.key), NULL, min(a.begun), NULL
        FROM attempt a SEMI JOIN (FROM odd WHERE altered) o ON o.event = a.event
        SEMI JOIN (FROM publish WHERE hash IS NOT NULL) p ON p.event = a.event
        ANTI JOIN publish same ON same.event = a.event AND same.hash = a.hash
        ANTI JOIN fault_hit h ON h.event = a.event
        WHERE a.hash IS NOT NULL GROUP BY a.event, a.subscription"""
    told = """
        SELECT t.what || ' altered', t.event, t.subscription, any_value(p.key), NULL, min(t.begun), NULL
        FROM (
            SELECT 'type' AS what, * FROM told WHERE type IS NOT NULL
            UNION ALL SELECT 'priority', * FROM told WHERE priority IS NOT NULL
            UNION ALL SELECT 'key', * FROM told WHERE key IS NOT NULL) t
        JOIN publish p ON p.event = t.event
        ANTI JOIN fault_hit h ON h.event = t.event
        GROUP BY t.what, t.event, t.subscription"""
    base += f" UNION ALL {told}"
    if totals.foreign and case.claims.seq_scope == "store":
        base += f" UNION ALL {foreign}"
    count, violations = case.violations("intact", base)
    summary = "every event arrived as published"
    if count:
        rows = case.rows("SELECT DISTINCT split_part(form, ' ', 1) FROM violation_intact ORDER BY ALL")
        others = " or ".join(what for (what,) in rows)
        summary = f"{counted(count, 'delivery', 'deliveries')} with another {others} than was published"
    return Finding("intact", "invalid" if count else "valid", summary, {"altered": count}, count, violations)


def _not_owed(violations: Sequence[Violation]) -> str:
    forms = {violation.form for violation in violations}
    words = ["do not want the event"] if "does not match" in forms else []
    words += ["were not there when the event was published"] if "not owed" in forms else []
    return " or ".join(words)


def before_gap(case: Case) -> str:
    """SQL: no publish that is missing from the history can explain the attempt."""
    return "true" if case.publish_gap is None else f"a.begun < {case.publish_gap}"


def _with_publish_gap(case: Case, finding: Finding) -> Finding:
    state: FindingState = "invalid" if finding.count else "valid"
    why = ""
    if state == "valid" and case.publish_gap is not None:
        state, why = "unknown", "publishes are missing from the history: what seems unpublished may not be"
    return Finding(
        finding.name, state, finding.summary, finding.figures, finding.count, finding.violations, why_unknown=why
    )
