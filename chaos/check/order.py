"""Did each key keep its order: order, overlap, unique_seq, seq_order.

Whole histories are screened with `lag` first: where no neighbours are out of order, nothing is. The exact definition is
applied to the keys (for seq: to the history) that the screen flags.
"""

from __future__ import annotations

from squall.chaos.check.case import FOREVER, Case
from squall.chaos.check.delivery import before_gap
from squall.chaos.check.redelivery import REDRIVES, RESTARTED
from squall.chaos.check.verdict import Finding, counted
from squall.core.units import format_count


def order(case: Case) -> Finding:
    """Among first begins of a subscription, key and priority: none after a greater seq. Where seqs are not known: none
    after an event that was published when this one was acknowledged already. With `block_key`, also: a retry directly
    follows its own event. One violation for each event that others were overtaken by."""
    _find_firsts(case)
    late = f"""
        SELECT * FROM ({_late_by_seq(case)}) UNION ALL SELECT * FROM ({_late_by_time(case)})"""
    case.db.execute(f"CREATE OR REPLACE TEMP TABLE late AS {late}")
    base = f"""
        SELECT form, arg_min(event, (begun, event)), subscription, key, witness, min(begun), NULL FROM late
        GROUP BY form, subscription, key, priority, witness
        UNION ALL {_not_directly_after(case)}"""
    count, violations = case.violations("order", base)
    late_events = case.number("SELECT count(DISTINCT (event, subscription)) FROM late")
    case.db.execute("DROP VIEW firsts; DROP TABLE late; DROP TABLE flagged")
    total = case.number("SELECT count(DISTINCT key) FROM publish")
    figures = {"keys": total, "violations": count, "late": late_events}
    summary = counted(total, "key")
    if count:
        keys = case.number("SELECT count(DISTINCT key) FROM violation_order")
        summary = f"{counted(count, 'time')} out of order"
        summary += f", in {format_count(keys)} of {counted(total, 'key')}" if keys else ""
    return Finding("order", "invalid" if count else "valid", summary, figures, count, violations, title="order (key)")


def _find_firsts(case: Case) -> None:
    """View `firsts`: the first begin of each pair, where order counts; table `flagged`: groups to look at."""
    scope = case.claims.seq_scope
    seq = {None: "NULL::BIGINT", "store": "a.seq"}.get(scope, "CASE WHEN a.key IS NOT NULL THEN a.seq END")
    keyless = "s.concurrency = 1" if scope in (None, "store") else "false"
    first = "true" if case.attempt_gap is None else "a.attempt <= 1"
    case.db.execute(
        f"""CREATE OR REPLACE TEMP VIEW firsts AS
        SELECT a.event, a.subscription, a.key, a.priority, a.begun, a.rid, {seq} AS seq,
            {case.lane} AS lane
        FROM attempt a JOIN subscriber s ON s.id = a.subscription
        ANTI JOIN (FROM again WHERE n > 1) later ON later.rid = a.rid
        WHERE a.event IS NOT NULL AND {first} AND (a.key IS NOT NULL OR {keyless})"""
    )
    case.db.execute(
        f"""CREATE OR REPLACE TEMP TABLE flagged AS
        SELECT lane, bool_or(seq IS NULL) AS untold FROM (
            SELECT lane, seq, lag(seq) OVER (PARTITION BY lane ORDER BY {case.sequence}) > seq AS down FROM firsts)
        WHERE seq IS NULL OR down GROUP BY lane"""
    )


def _late_by_seq(case: Case) -> str:
    strictly = 1 + case.facts.clock_error_ns
    return f"""
        WITH chosen AS (FROM firsts SEMI JOIN flagged USING (lane) WHERE seq IS NOT NULL),
        compared AS (
            SELECT *, max(seq) OVER (PARTITION BY lane ORDER BY begun
                RANGE BETWEEN UNBOUNDED PRECEDING AND {strictly} PRECEDING) AS top
            FROM chosen),
        late AS (FROM compared WHERE top > seq)
        SELECT 'after a later one' AS form, l.event, l.subscription, l.key, l.priority, l.begun, min(w.event) AS witness
        FROM late l JOIN chosen w ON w.lane = l.lane AND w.seq = l.top
            AND w.begun < l.begun - {case.facts.clock_error_ns}
        GROUP BY ALL"""


def _late_by_time(case: Case) -> str:
    """Pairs of which one seq at least is not known: acknowledged before the other was published, yet begun after it."""
    strictly = 1 + case.facts.clock_error_ns
    frame = f"ORDER BY begun RANGE BETWEEN UNBOUNDED PRECEDING AND {strictly} PRECEDING"
    return f"""
        WITH untold AS (FROM flagged WHERE untold),
        chosen AS (
            SELECT f.*, p.acked, p.invoked, CASE WHEN f.seq IS NULL THEN p.invoked END AS untold_invoked
            FROM firsts f SEMI JOIN untold g ON g.lane = f.lane
            JOIN (SELECT event, min(ended) FILTER (outcome = 'ok') AS acked,
                    min(invoked) FILTER (outcome <> 'fail') AS invoked
                FROM publish GROUP BY event) p ON p.event = f.event),
        compared AS (
            SELECT *, CASE WHEN seq IS NULL THEN max(invoked) OVER (PARTITION BY lane {frame})
                ELSE max(untold_invoked) OVER (PARTITION BY lane {frame}) END AS top
            FROM chosen),
        late AS (FROM compared WHERE acked < top - {case.facts.clock_error_ns})
        SELECT 'after one published later' AS form, l.event, l.subscription, l.key, l.priority, l.begun,
            min(w.event) AS witness
        FROM late l JOIN chosen w ON w.lane = l.lane AND w.invoked = l.top
            AND (l.seq IS NULL OR w.seq IS NULL) AND w.begun < l.begun - {case.facts.clock_error_ns}
        GROUP BY ALL"""


def _not_directly_after(case: Case) -> str:
    """Re-begins under `block_key` with another event of the key between. Further copies, restarts, redrives and lost
    settlements of well-handled events excuse it."""
    redriven = REDRIVES.format(x="x", when="c.begun > x.before AND c.begun <= x.begun")
    return f"""
        SELECT 'passed while it was retried', x.event, x.subscription, x.key, before_event, x.begun, NULL FROM (
            SELECT a.rid, lag(a.event) OVER (
                PARTITION BY a.subscription, a.key, a.priority ORDER BY a.begun, a.rid) AS before_event
            FROM attempt a JOIN subscriber s ON s.id = a.subscription AND s.block_key
            SEMI JOIN (FROM again WHERE n > 1) r ON r.subscription = a.subscription AND r.key = a.key
                AND r.priority = a.priority
            WHERE a.event IS NOT NULL) b
        JOIN again x ON x.rid = b.rid LEFT JOIN copies USING (event)
        WHERE x.n > greatest(1, coalesce(copies, 0)) AND before_event <> x.event AND NOT {RESTARTED} AND {redriven} = 0
            AND NOT (coalesce(x.result_before, '') = 'ok' AND x.settle_ok_before IS NULL)"""


def overlap(case: Case) -> Finding:
    """In a subscription and key, one begins while an earlier one still runs: until it ended, its process exited, or its
    timeout passed. One violation for each event that others overlapped with."""
    error = case.facts.clock_error_ns
    case.db.execute(
        f"""CREATE OR REPLACE TEMP VIEW running AS
        SELECT a.event, a.subscription, a.key, a.begun, a.rid, {case.lane} // 4 AS lane, least(
            CASE WHEN a.ended IS NOT NULL THEN a.ended WHEN a.result = 'died' THEN a.begun
                ELSE coalesce(p.exited, {FOREVER}) END,
            coalesce(a.begun + s.timeout, {FOREVER})) AS until
        FROM attempt a JOIN subscriber s ON s.id = a.subscription
        LEFT JOIN (SELECT process, max(exited) AS exited FROM process GROUP BY process) p ON p.process = a.process
        WHERE a.event IS NOT NULL AND a.key IS NOT NULL"""
    )
    case.db.execute(
        f"""CREATE OR REPLACE TEMP TABLE crowded AS
        SELECT DISTINCT lane FROM (
            SELECT lane, begun, lag(until) OVER (PARTITION BY lane ORDER BY {case.sequence}) AS before FROM running)
        WHERE before > begun + {error}"""
    )
    base = f"""
        WITH chosen AS (FROM running SEMI JOIN crowded USING (lane)),
        compared AS (
            SELECT *, max(until) OVER before AS latest,
                arg_max(event, (until, -rid)) OVER before AS witness
            FROM chosen WINDOW before AS (PARTITION BY lane ORDER BY begun, rid
                ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING))
        SELECT 'while another ran', arg_min(event, (begun, rid)), subscription, key, witness, min(begun), NULL
        FROM compared WHERE latest > begun + {error} GROUP BY subscription, key, witness"""
    count, violations = case.violations("overlap", base)
    case.db.execute("DROP VIEW running; DROP TABLE crowded")
    summary = f"{counted(count, 'time')} two of a key at once" if count else "one at a time in each key"
    return Finding("overlap", "invalid" if count else "valid", summary, {"violations": count}, count, violations)


def unique_seq(case: Case) -> Finding:
    """Distinct events that share a seq in one scope; acknowledgements marked as duplicates are left out. Where a
    publish did not say its seq, its deliveries do. And an event that is delivered with a seq that no acknowledgement
    of it said, though all that may have stored it did."""
    base = f"""
        WITH given AS (
            SELECT event, seq_scope, seq, ended AS time FROM publish
            WHERE outcome = 'ok' AND seq IS NOT NULL AND NOT duplicate {_told_at_delivery(case)})
        SELECT 'one seq, two events', min(event), NULL, NULL, max(event), min(time), NULL
        FROM given GROUP BY seq_scope, seq HAVING min(event) <> max(event)"""
    if case.claims.seq_scope is not None:
        base += f" UNION ALL {_renumbered(case)}"
    count, violations = case.violations("unique_seq", base)
    shared = case.number("SELECT count(*) FROM violation_unique_seq WHERE form = 'one seq, two events'")
    told = [f"{counted(shared, 'seq')} given to several events"] if shared else []
    if count > shared:
        told.append(f"{counted(count - shared, 'delivery', 'deliveries')} with another seq than acknowledged")
    summary = "; ".join(told) or "every seq given once"
    return Finding("unique_seq", "invalid" if count else "valid", summary, {"violations": count}, count, violations)


AS_PUBLISHED = "SEMI JOIN publish same ON same.event = a.event AND coalesce(same.hash = a.hash, true)"
"""SQL: only attempts `a` whose payload says truly which event they are of."""


def _told_at_delivery(case: Case) -> str:
    """SQL: seqs of events of which a publish may have stored what it gave no seq for."""
    if case.claims.seq_scope != "store":
        return ""
    return f"""
            UNION SELECT a.event, unsaid.seq_scope, a.seq, a.begun FROM attempt a
            JOIN (FROM publish WHERE outcome <> 'fail' AND seq IS NULL) unsaid ON unsaid.event = a.event
            {AS_PUBLISHED} WHERE a.seq IS NOT NULL"""


def _renumbered(case: Case) -> str:
    return f"""
        SELECT 'another seq at its delivery', a.event, a.subscription, any_value(a.key), NULL, min(a.begun), NULL
        FROM attempt a SEMI JOIN (
            SELECT p.event FROM publish p SEMI JOIN (FROM odd WHERE renumbered) o ON o.event = p.event
            WHERE outcome <> 'fail' GROUP BY p.event HAVING bool_and(outcome = 'ok' AND seq IS NOT NULL)) known
            ON known.event = a.event
        {AS_PUBLISHED}
        ANTI JOIN publish own ON own.event = a.event AND own.outcome = 'ok' AND own.seq = a.seq
        WHERE a.seq IS NOT NULL AND {before_gap(case)} GROUP BY a.event, a.subscription"""


def seq_order(case: Case) -> Finding:
    """Published after another was acknowledged, yet given a lower seq. One violation for each overtaken event."""
    error = case.facts.clock_error_ns
    # Among acknowledgements that came before this publish the greatest seq; peers in seq are left out by GROUPS.
    base = f"""
        WITH ops AS (FROM publish WHERE outcome = 'ok' AND seq IS NOT NULL AND NOT duplicate),
        compared AS (
            SELECT event, seq, seq_scope, invoked, ended, min(ended) OVER higher AS earliest
            FROM ops WINDOW higher AS (PARTITION BY seq_scope ORDER BY seq DESC
                GROUPS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)),
        late AS (FROM compared WHERE earliest < invoked - {error}),
        witnessed AS (
            SELECT l.event, l.seq_scope, l.invoked, min(o.event) AS witness
            FROM late l JOIN ops o ON o.seq_scope = l.seq_scope AND o.ended = l.earliest AND o.seq > l.seq GROUP BY ALL)
        SELECT 'a lower seq than an earlier one', arg_min(event, (invoked, event)), NULL, NULL, witness,
            min(invoked), NULL
        FROM witnessed GROUP BY seq_scope, witness"""
    count, violations = case.violations("seq_order", base)
    summary = f"{counted(count, 'time')} a lower seq after a higher one" if count else "seqs rise with time"
    return Finding("seq_order", "invalid" if count else "valid", summary, {"violations": count}, count, violations)
