"""Causes of what is missing: what was acknowledged, and has no end."""

from __future__ import annotations

from squall.chaos.check.diagnosis import ALTERED, LET_THROUGH, Diagnosis, named
from squall.chaos.check.evidence import HOW, Evidence, Exit, Try
from squall.chaos.check.verdict import Violation
from squall.core.units import format_count

BEFORE = {
    "prefix": "before anything was delivered there",
    "middle": "while events before and after it were",
    "postfix": "and nothing published after it was",
}


def lost(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Why an acknowledged event has no end at a subscription."""
    subscription = evidence.number(violation.subscription)
    tries = evidence.of(violation.event or 0, subscription)
    name = violation.subscription or "?"
    if violation.form == "undelivered" or not tries:
        return _undelivered(evidence, violation, name)
    if violation.form == "dead letter missing":
        return _missing_dead_letter(evidence, tries, name)
    if violation.form == "settled early":
        return _settled_early(evidence, violation, tries, name)
    return _left_over(evidence, tries, name)


def _undelivered(evidence: Evidence, violation: Violation, name: str) -> Diagnosis:
    ops = [op for op in evidence.ops.get(violation.event or 0, []) if op.outcome == "ok" and op.ended is not None]
    instead = evidence.instead.get((violation.event or 0, evidence.number(name) or 0))
    if instead is not None:
        sentence = f"acknowledged, but what came to {name} with its seq was not it: its payload was altered on the way"
        detail = f"{sentence}; seq {format_count(instead.seq or 0)} came at {evidence.at(instead.begun)}"
        return Diagnosis(sentence, detail, ALTERED)
    sentence = f"acknowledged but never delivered to {name}"
    traits = [BEFORE[violation.loss]] if violation.loss in BEFORE else []
    others = sorted({evidence.name(t.subscription) for t in evidence.of(violation.event or 0, None)})
    if others:
        traits.append(f"though {', '.join(others)} got it")
    advice = f"Look at how an event gets from the acknowledgement to {name}: nothing in the history excuses it."
    detail = ""
    if ops:
        op = ops[0]
        ended = op.ended or op.invoked
        faults = evidence.passed(op.invoked, ended)
        exited = evidence.restart(ended, None)
        keeper = evidence.keeper_ended(ended)
        if keeper is not None:
            sentence, advice = _gone_with(evidence, keeper, name)
            traits = []
        elif faults:
            sentence += f" (acknowledged under {', '.join(named(evidence, window) for window in faults)})"
            advice = "Acknowledge only what is stored: what was acknowledged during this fault did not survive it."
        elif exited is not None and violation.loss == "postfix":
            sentence += f" (a process began or exited at {evidence.at(exited)}, before it was delivered)"
            advice = "What is acknowledged must survive the process: use a store with durability process or disk."
        detail = f"{sentence}; acknowledged at {evidence.at(ended)}"
    return Diagnosis(sentence, detail, advice, tuple(traits))


def _gone_with(evidence: Evidence, keeper: Exit, name: str) -> tuple[str, str]:
    """The process that kept it ended before it was delivered: whether that may be, its claim says."""
    exited = keeper.exited or keeper.started
    faults = [one for one in evidence.windows.values() if one.seam == f"process:{keeper.name}"]
    fault = next((one for one in faults if one.active(exited, exited)), None)
    by = f" ({named(evidence, fault)})" if fault else ""
    sentence = (
        f"acknowledged with durability {evidence.durability}, then {keeper.name} ended{by} before {name} had it, and "
        "what it kept was gone"
    )
    if evidence.durability == "memory":
        return sentence, (
            "An acknowledgement that is worth memory does not survive the process: have it kept on disk (for Redis, "
            "appendonly yes with appendfsync always), or do not expect no_loss."
        )
    return sentence, f"Whoever says {evidence.durability} must keep what it acknowledged when the process ends."


def _missing_dead_letter(evidence: Evidence, tries: list[Try], name: str) -> Diagnosis:
    last = next(t for t in reversed(tries) if t.settled and t.settlement == "term")
    fault = evidence.hit_during(last)
    after = f" (fault {fault.name})" if fault else ""
    sentence = (
        f"{name}'s handler {HOW[last.result]}{after}; dead-lettered by the target, but missing from its dead letters"
    )
    detail = f"{sentence}; given up after attempt {last.attempt} at {evidence.at(last.settle_invoked or last.begun)}"
    return Diagnosis(sentence, detail, "Write the dead letter in the transaction that settles the event.")


def _settled_early(evidence: Evidence, violation: Violation, tries: list[Try], name: str) -> Diagnosis:
    last = next(t for t in reversed(tries) if t.settled)
    invoked = last.settle_invoked or last.begun
    fault = evidence.hit_during(last)
    exited = evidence.restart(last.begun, last.ended) if last.ended is None else None
    how = f"then the handler {HOW[last.result]}"
    if fault is not None:
        how += f" ({named(evidence, fault)})"
    elif exited is not None:
        how += f" (a process began or exited at {evidence.at(exited)})"
    if last.ended is not None and invoked >= last.ended:
        sentence = f"settled although {name}'s handler {HOW[last.result]}"
        sentence += f" ({named(evidence, fault)})" if fault else ""
    elif invoked <= last.begun:
        sentence = f"settled before the handler ran, {how}"
    else:
        sentence = f"settled while the handler still ran, {how}"
    number = evidence.number(violation.subscription)
    specification = None if number is None else evidence.subscriptions[number]
    if specification is not None and specification.delivery == "at-most-once":
        advice = f"{name} takes each event at most once: it acknowledges first. Use delivery: at-least-once."
    else:
        advice = "Settle after the handler has ended well, not before."
    return Diagnosis(sentence, f"{sentence}; settled at {evidence.at(invoked)}", advice)


def _left_over(evidence: Evidence, tries: list[Try], name: str) -> Diagnosis:
    last = tries[-1]
    fault = evidence.hit_during(last)
    by = f" ({named(evidence, fault)})" if fault else ""
    when = evidence.at(last.ended if last.ended is not None else last.begun)
    if last.result == "ok" and last.settle_answer == "refused":
        sentence = f"handled by {name}, but its settlement was refused, and it was never delivered again"
        advice = "Deliver again what could not be settled."
    elif last.result == "ok" and last.settle_invoked is None:
        sentence = f"handled by {name}, but never settled"
        advice = "Settle what was handled; what is not settled is owed for ever."
    elif last.result is None:
        sentence = f"{name}'s handler never ended{by}, and nothing cut it off"
        advice = "Give the subscriber a timeout, and deliver again when it has passed."
    else:
        exited = evidence.restart(last.begun, None)
        sentence = f"{name}'s handler {HOW[last.result]}{by}, and it was never delivered again"
        if exited is not None and not fault:
            sentence += f" (a process began or exited at {evidence.at(exited)})"
        retried = "A failed delivery must be retried, or end as a dead letter."
        advice = LET_THROUGH if last.result == "abandoned" else retried
    return Diagnosis(sentence, f"{sentence}; attempt {last.attempt}, {when}", advice)
