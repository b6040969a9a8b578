"""What became of an event that nothing is wrong with."""

from __future__ import annotations

from squall.chaos.check.evidence import Evidence
from squall.chaos.check.matching import matches
from squall.chaos.check.verdict import counted


def fates(evidence: Evidence, event: int) -> list[str]:
    """What became of an event that breaks nothing: a sentence for each subscription that it reached."""
    ops = evidence.ops.get(event, [])
    ends = {end.subscription: end for end in evidence.ends.get(event, [])}
    reached = {t.subscription for t in evidence.of(event, None)} | set(ends)
    if not reached:
        outcomes = {op.outcome for op in ops}
        word = "acknowledged" if "ok" in outcomes else "of unknown outcome" if "info" in outcomes else "refused"
        wanted = any(
            matches(one.pattern, one.filters, one.priority_min, op.topic, op.priority) is not False
            for op in ops
            for one in evidence.subscriptions.values()
        )
        nobody = "it was delivered to nobody" + ("" if wanted else ": no subscriber's pattern and filters match it")
        return [f"its publish was {word}; {nobody}"]
    return [
        _fate(evidence, event, number, ends[number].state if number in ends else None) for number in sorted(reached)
    ]


def _fate(evidence: Evidence, event: int, subscription: int, state: str | None) -> str:
    name, tries = evidence.name(subscription), evidence.of(event, subscription)
    failed = [t for t in tries if t.result not in ("ok", None)]
    faults = sorted({w.name for t in failed if (w := evidence.hit_during(t)) is not None})
    because = f" (fault {', '.join(faults)})" if faults else ""
    after = f" after {counted(len(failed), 'failed attempt')}{because}" if failed else ""
    if state is not None:
        return f"{state.replace('_', '-')} for {name}{after}"
    if any(t.settled and (t.result == "ok" or t.by_handler) for t in tries):
        return f"handled by {name}{after}"
    if tries[-1].result is None:
        return f"delivered to {name}, whose handler had not ended{after}"
    return f"delivered to {name}, and not finished there{after}"
