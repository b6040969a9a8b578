"""Causes of what came too late or not at all: stalls, slow recoveries, starved priorities."""

from __future__ import annotations

from squall.chaos.check.diagnosis import LET_THROUGH, Diagnosis, cut_off, named, shorten
from squall.chaos.check.evidence import HOW, Evidence, Try
from squall.chaos.check.matching import PRIORITIES
from squall.chaos.check.verdict import Violation, counted
from squall.chaos.check.waits import waits

SLOTS_AGAIN = 2
"""An abandoned handler's slot is filled again, until as many are abandoned again as there are slots: then no more."""
RETRIES = "A failed delivery must be tried again, or end as a dead letter: look at what keeps the retries."


def behind(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Why nothing moves any more, or why it took so long."""
    return _stalled(evidence, violation) if violation.form == "stalled" else _late(evidence, violation)


def _stalled(evidence: Evidence, violation: Violation) -> Diagnosis:
    """As far as the oldest event that waits shows it."""
    name = violation.subscription or "?"
    sentence = f"{name} stood still, though everything was healed and the target was up"
    healed = max((window.ended for window in evidence.windows.values() if window.ended is not None), default=None)
    if healed is not None:
        sentence += f" since {evidence.at(healed)}"
    number = evidence.number(violation.subscription)
    abandoned = evidence.running_on.get(number, 0) if number is not None else 0
    if number is not None and abandoned >= SLOTS_AGAIN * evidence.subscriptions[number].concurrency:
        handlers = f"{counted(abandoned, 'abandoned handler')}, which ignore their cancellation"
        return Diagnosis(f"{sentence}: all its slots are held by {handlers}", advice=LET_THROUGH)
    holds = "Look at what holds the subscription: a breaker that stays open, a worker that never returns."
    if violation.event is None:
        sentence += "; what it counts as pending is of unknown outcome, or a further copy of what has ended"
        return Diagnosis(sentence, advice=holds)
    tries = evidence.of(violation.event, number)
    held = next((one for one in evidence.gates if one.subscription == number and one.open_to_the_end), None)
    if held is not None:
        told = f"{sentence}: its {held.gate} was open since {evidence.at(held.begun)}"
        return Diagnosis(told, advice=shorten(held, "let the drain wait for it"))
    last = tries[-1] if tries else None
    if last is None:
        return Diagnosis(f"{sentence}; the oldest event that waits was never delivered", advice=holds)
    if last.result is None:
        return Diagnosis(
            f"{sentence}; the oldest event that waits is in a handler that never ended",
            advice="Cut handlers off at their timeout, and give their slot to the next event.",
        )
    sentence += f"; the oldest event that waits is one whose handler {HOW[last.result]}, never delivered again"
    return Diagnosis(sentence, advice=LET_THROUGH if last.result == "abandoned" else RETRIES)


def _late(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Of the event that was the last to be finished too late: what it waited for."""
    name, until = violation.subscription, violation.time_ns or 0
    tries = [t for t in evidence.of(violation.event or 0, evidence.number(name)) if t.begun <= until]
    failed = [t for t in tries if t.result not in ("ok", None)]
    acked = min((op.ended for op in evidence.ops.get(violation.event or 0, []) if op.ended is not None), default=None)
    waited = "" if acked is None else f", {(until - acked) / 1e9:.1f} s after it was acknowledged"
    sentence = f"{name} was the last to recover: its oldest event was still unfinished at {evidence.at(until)}{waited}"
    held = [one for one in waits(evidence, violation.event or 0, evidence.number(name), until) if one.gate is not None]
    if acked is not None and held and 2 * sum(one.lasted for one in held) > until - acked:
        how = f"its {held[0].gate.gate if held[0].gate else 'gate'} was open from {evidence.at(held[0].begun)} "
        how += f"to {evidence.at(held[-1].ended)}, and held it back"
        advice = shorten(held[0].gate, "let the limit allow for it")
    elif not tries:
        how, advice = (
            "not delivered by then",
            "Look at what holds the subscription, or how fast it works off a backlog.",
        )
    elif failed:
        how, advice = _failures(evidence, failed), "Let the backoff grow less, or the limit allow for it."
        if (timed_out := cut_off(evidence, violation.event or 0, evidence.number(name))) is not None:
            advice = timed_out.advice
    elif acked is not None and 2 * (tries[0].begun - acked) > until - acked:
        how = f"not begun before {evidence.at(tries[0].begun)}"
        advice = "Look at what holds the subscription, or how fast it works off a backlog."
    else:
        how = f"in its handler since {evidence.at(tries[-1].begun)}"
        advice = "Look at what slows the handler, or the settlement after it."
    return Diagnosis(f"{sentence}; {how}", advice=advice)


def _failures(evidence: Evidence, failed: list[Try]) -> str:
    faults = {w.fault: named(evidence, w) for t in failed if (w := evidence.hit_during(t)) is not None}
    because = f" ({', '.join(faults.values())})" if faults else ""
    return f"its handler had failed {counted(len(failed), 'time')}{because}"


def starved(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Passed over."""
    ops = evidence.ops.get(violation.event or 0, [])
    level = PRIORITIES[ops[0].priority] if ops and 0 <= ops[0].priority < len(PRIORITIES) else "?"
    sentence = f"events of priority {level} waited at {violation.subscription} while more of others began than allowed"
    return Diagnosis(sentence, advice="Schedule levels by weight, so that each gets its share under backlog.")
