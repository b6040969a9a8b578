"""Was each batch stored whole or not at all: atomic."""

from __future__ import annotations

from squall.chaos.check.case import Case, Interval
from squall.chaos.check.counters import fits, pending_counts
from squall.chaos.check.masks import owed_for_sure
from squall.chaos.check.verdict import Finding, FindingState, counted


def batches(case: Case) -> int:
    """How many batches were published."""
    return case.number("SELECT count(DISTINCT batch) FROM batch")


def atomic(case: Case) -> Finding:
    """Of one batch some events were acknowledged and others refused; or, where none was acknowledged, some came to
    somebody, and others never to a subscriber who was there all the time, has nothing pending, and is owed them if they
    are stored. What is missing of an acknowledged batch is a loss. One violation a batch; its witness is an event that
    is stored. Events that were published otherwise too prove nothing."""
    case.db.execute(
        """CREATE OR REPLACE TEMP TABLE batched AS
        SELECT b.batch, p.* FROM batch b JOIN publish p USING (op) ANTI JOIN (
            SELECT event FROM publish WHERE event IN (
                SELECT event FROM batch JOIN publish USING (op)) GROUP BY event HAVING count(*) > 1) twice
            ON twice.event = p.event"""
    )
    case.db.execute(
        """CREATE OR REPLACE TEMP TABLE partly AS
        SELECT p.batch, min(p.event) AS witness
        FROM batched p
        SEMI JOIN (SELECT event FROM attempt UNION SELECT event FROM terminal) came ON came.event = p.event
        WHERE p.batch NOT IN (SELECT batch FROM batched WHERE outcome = 'ok') GROUP BY p.batch"""
    )
    base = f"""
        SELECT 'acknowledged in part', min(event) FILTER (outcome = 'fail'), NULL, NULL,
            min(event) FILTER (outcome = 'ok'), max(ended), NULL
        FROM batched GROUP BY batch HAVING bool_or(outcome = 'ok') AND bool_or(outcome = 'fail')
        UNION ALL
        SELECT 'stored in part', min(event), arg_min(subscription, (event, subscription)), arg_min(key, event), witness,
            min(invoked), NULL
        FROM ({_missing(case)}) JOIN partly USING (batch) GROUP BY batch, witness"""
    count, violations = case.violations("atomic", base)
    total = batches(case)
    case.db.execute("DROP TABLE batched; DROP TABLE partly")
    state: FindingState = "invalid" if count else "valid" if total else "not judged"
    summary = f"{counted(total, 'batch', 'batches')}, none in part" if total else "no batch was published"
    if count:
        summary = f"{counted(count, 'batch', 'batches')} of {total} stored or acknowledged in part"
    why = ""
    if case.publish_gap is not None or case.attempt_gap is not None:
        state, why = "unknown", "records are missing from the history: what seems missing of a batch may not be"
    figures = {"batches": total, "violations": count}
    return Finding("atomic", state, summary, figures, count, violations, why_unknown=why)


def _missing(case: Case) -> str:
    """SQL: events of `partly` that a subscription would have got."""
    pending = pending_counts(case)
    sure = [
        interval
        for interval in case.intervals
        if interval.leave_invoked is None
        and not pending[interval.subscription]
        and not case.subscribers[interval.subscription].at_most_once
    ]
    nothing = (
        "SELECT NULL::BIGINT AS batch, NULL::BIGINT AS event, NULL::INTEGER AS subscription, NULL::INTEGER AS key, "
    )
    return " UNION ALL ".join([f"{nothing} NULL::BIGINT AS invoked WHERE false", *(_owed(case, one) for one in sure)])


def _owed(case: Case, interval: Interval) -> str:
    return f"""
        SELECT p.batch, p.event, {interval.subscription}, p.key, p.invoked FROM batched p
        SEMI JOIN partly USING (batch)
        ANTI JOIN (
            SELECT event FROM attempt WHERE subscription = {interval.subscription}
            UNION SELECT event FROM terminal WHERE subscription = {interval.subscription}) came ON came.event = p.event
        WHERE ({owed_for_sure(interval)}) IS NOT DISTINCT FROM true AND {fits(case, interval)}"""
