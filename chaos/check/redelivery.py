"""Was anything done more than once: duplicates, one_terminal, max_attempts."""

from __future__ import annotations

from squall.chaos.check.case import CONFIRMED, SETTLED, Case
from squall.chaos.check.masks import Totals
from squall.chaos.check.verdict import Finding, FindingState, counted
from squall.core.units import format_count

REDRIVES = """(
    SELECT count(*) FROM control c
    WHERE c.kind IN ('redrive', 'replay') AND (c.subscription IS NULL OR c.subscription = {x}.subscription)
    AND (c.event IS NULL OR c.event = {x}.event) AND {when})"""

RESTARTED = """EXISTS (
    FROM process WHERE (started > x.before AND started <= x.begun) OR (exited > x.before AND exited <= x.begun))"""


def find_again(case: Case) -> None:
    """Tables about pairs of event and subscription that began more than once. `again`: each of their attempts, numbered
    `n` by begin, with what became of the one before. `copies`: how often each such event may be stored."""
    case.db.execute(
        f"""CREATE TEMP TABLE again AS
        SELECT rid, event, subscription, key, priority, begun, ended, result, n, settled_at,
            lag(begun) OVER pair AS before, lag(clean) OVER pair AS clean_before,
            lag(result) OVER pair AS result_before, lag(settle_ok) OVER pair AS settle_ok_before
        FROM (
            SELECT *, row_number() OVER pair AS n,
                CASE WHEN {SETTLED} THEN coalesce(settle_ok, settle_invoked) END AS settled_at,
                coalesce(result, 'ok') = 'ok' AND settlement IS DISTINCT FROM 'nak' AND settle_ok IS NOT NULL
                    AND settle_answer IS DISTINCT FROM 'refused' AS clean
            FROM attempt a SEMI JOIN (FROM odd WHERE again) o ON o.event = a.event
            WINDOW pair AS (PARTITION BY subscription, event ORDER BY begun, rid))
        WINDOW pair AS (PARTITION BY subscription, event ORDER BY begun, rid)"""
    )
    case.db.execute(
        """CREATE TEMP TABLE copies AS
        SELECT event, count(*) FILTER ((outcome = 'ok' AND NOT duplicate) OR outcome = 'info') AS copies
        FROM (SELECT event FROM odd WHERE again UNION SELECT event FROM terminal) LEFT JOIN publish USING (event)
        GROUP BY event"""
    )


def duplicates(case: Case, totals: Totals, max_ratio: float | None) -> Finding:
    """Begins that nothing explains. `max_ratio` None: counted, and fatal only to at-most-once subscribers."""
    redriven = REDRIVES.format(x="x", when="c.begun > x.before AND c.begun <= x.begun")
    base = f"""
        SELECT CASE WHEN s.at_most_once THEN 'at most once, yet again' ELSE 'unexplained' END, x.event, x.subscription,
            x.key, NULL, x.begun, NULL
        FROM again x JOIN subscriber s ON s.id = x.subscription LEFT JOIN copies USING (event)
        WHERE x.n > greatest(1, coalesce(copies, 0)) AND {redriven} = 0
            AND (s.at_most_once OR (x.clean_before AND NOT {RESTARTED}
                AND (s.lease IS NULL OR x.begun - x.before < s.lease)))"""
    unexplained, violations = case.violations("duplicates", base)
    fatal = case.number("SELECT count(*) FROM violation_duplicates WHERE form = 'at most once, yet again'")
    begins = totals.first_begins
    redelivered = case.number("SELECT count(*) FROM again WHERE n > 1")
    ratio = unexplained / begins if begins else 0.0
    figures = {"first_begins": begins, "redelivered": redelivered, "unexplained": unexplained, "ratio": ratio}
    condemned = bool(fatal) if max_ratio is None else ratio > max_ratio
    state: FindingState = "invalid" if condemned else "valid"
    summary = f"{format_count(unexplained)} unexplained" if unexplained else "none unexplained"
    if redelivered > unexplained:
        summary += f" · {100 * (redelivered - unexplained) / begins:.1f} % redelivered"
    return Finding("duplicates", state, summary, figures, unexplained, violations)


def one_terminal(case: Case) -> Finding:
    """More than one confirmed end per redrive generation; each stored copy of an event may end once. A dead letter and
    the settlement that caused it are one end, and so are attempts settled at one moment: that is one settlement."""
    generation = REDRIVES.format(x="e", when="c.begun <= e.time")
    base = f"""
        WITH ends AS (
            SELECT a.event, a.subscription, a.settlement AS kind, a.settle_ok AS time,
                coalesce(a.settle_invoked, a.settle_ok) AS moment
            FROM attempt a SEMI JOIN copies USING (event) WHERE {CONFIRMED}
            UNION ALL SELECT event, subscription, state, time, NULL FROM terminal),
        numbered AS (SELECT e.*, {generation} AS generation FROM ends e),
        sums AS (
            SELECT event, subscription, generation, max(time) AS time,
                greatest(count(DISTINCT moment) FILTER (kind = 'ack'), count(*) FILTER (kind = 'acked'))
                + greatest(count(DISTINCT moment) FILTER (kind = 'term'), count(*) FILTER (kind = 'dead_lettered'))
                + count(*) FILTER (kind IN ('expired', 'cancelled')) AS ends
            FROM numbered GROUP BY ALL)
        SELECT 'ended more than once', event, subscription, NULL, NULL, max(time), NULL
        FROM sums LEFT JOIN copies USING (event) WHERE ends > greatest(1, coalesce(copies, 0))
        GROUP BY event, subscription"""
    count, violations = case.violations("one_terminal", base)
    summary = f"{counted(count, 'event')} ended more than once" if count else "every event ended once at most"
    return Finding("one_terminal", "invalid" if count else "valid", summary, {"violations": count}, count, violations)


def max_attempts(case: Case) -> Finding:
    """Begun once more after as many definite failures as the subscriber allows attempts, in one redrive generation."""
    generation = REDRIVES.format(x="a", when="c.begun <= a.begun")
    base = f"""
        WITH tries AS (
            SELECT a.event, a.subscription, a.key, a.begun, a.rid, {generation} AS generation,
                (a.result IN ('error', 'timeout') OR coalesce(a.settlement = 'nak', false))
                AND NOT (a.settle_invoked IS NOT NULL AND a.settle_ok IS NULL)
                AND a.settle_answer IS DISTINCT FROM 'refused' AS failed
            FROM attempt a SEMI JOIN (FROM odd WHERE again) o ON o.event = a.event),
        counted AS (
            SELECT *, count(*) FILTER (failed) OVER (
                PARTITION BY subscription, event, generation ORDER BY begun, rid
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS failures
            FROM tries)
        SELECT 'tried too often', event, subscription, any_value(t.key), NULL, min(begun), NULL
        FROM counted t JOIN subscriber s ON s.id = t.subscription LEFT JOIN copies USING (event)
        WHERE failures >= s.max_attempts * greatest(1, coalesce(copies, 0)) GROUP BY event, subscription"""
    count, violations = case.violations("max_attempts", base)
    most = case.number("SELECT max(n) FROM again") or (1 if case.number("SELECT count(*) FROM attempt") else 0)
    summary = f"at most {counted(most, 'attempt')} an event"
    if count:
        summary = f"{counted(count, 'event')} tried more often than allowed"
    if all(s.max_attempts is None for s in case.subscribers.values()):
        return Finding("max_attempts", "not judged", "no subscriber limits its attempts")
    figures = {"most_attempts": most, "violations": count}
    return Finding("max_attempts", "invalid" if count else "valid", summary, figures, count, violations)
