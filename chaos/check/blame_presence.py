"""Causes of what should not have happened: deliveries too many, too early, altered, or of what never was."""

from __future__ import annotations

from collections import Counter

from squall.chaos.check.diagnosis import ALTERED, Diagnosis, named
from squall.chaos.check.evidence import HOW, Evidence, Specification, Try
from squall.chaos.check.matching import PRIORITIES, matches_pattern
from squall.chaos.check.verdict import Violation, counted
from squall.core.units import format_count

OF_ANOTHER = ("no_phantom", "no_stray", "intact", "duplicates", "order", "overlap", "one_terminal", "max_attempts")
"""What an event seems to break when another is delivered under its number."""


def _tries(evidence: Evidence, violation: Violation) -> list[Try]:
    return evidence.of(violation.event or 0, evidence.number(violation.subscription))


def impostor(evidence: Evidence, violation: Violation) -> Diagnosis | None:
    """It was not this event that was delivered: what came under its number bore the seq of another."""
    if violation.invariant not in OF_ANOTHER:
        return None
    for attempt in _tries(evidence, violation):
        if (owner := evidence.owner(attempt)) is not None:
            name = violation.subscription
            return Diagnosis(
                f"what came to {name} under its number was another event: it bore that one's seq",
                f"what came to {name} as event {violation.event} bore seq {format_count(attempt.seq or 0)}, "
                f"which is event {owner}'s",
                f"{ALTERED} The number stands in the payload.",
            )
    return None


def phantom(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Delivered, and never published; or too early."""
    name = violation.subscription
    ops = evidence.ops.get(violation.event or 0, [])
    if not ops:
        return Diagnosis(
            f"delivered to {name}, though nobody published it in this run",
            advice="Look for what invents events, or keeps them from an earlier run under the same identity.",
        )
    early_ms = (min(op.invoked for op in ops) - (violation.time_ns or 0)) / 1e6
    sentence = f"delivered to {name} before it was published"
    return Diagnosis(sentence, f"{sentence}, by {early_ms:.3f} ms", "Look for what reuses or guesses identities.")


def ghost(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Delivered although refused."""
    ops = evidence.ops.get(violation.event or 0, [])
    faults = {w.name: w for op in ops for w in evidence.passed(op.invoked, op.ended)}
    during = f" (refused under {', '.join(named(evidence, window) for window in faults.values())})" if faults else ""
    sentence = f"every publish of it was refused{during}, yet it was delivered to {violation.subscription}"
    return Diagnosis(
        sentence,
        f"{sentence}; refused {counted(len(ops), 'time')}",
        "Deliver only what the store has taken; a publish that may have been stored is unknown, not refused.",
    )


def stray(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Delivered to somebody who did not ask for it."""
    name, ops = violation.subscription, evidence.ops.get(violation.event or 0, [])
    number = evidence.number(name)
    if number is None or not ops:
        return Diagnosis(f"delivered to {name}, which does not want it")
    asked, op = evidence.subscriptions[number], ops[0]
    if violation.form == "not owed":
        return _uninvited(evidence, violation, asked)
    if not matches_pattern(asked.pattern, op.topic):
        sentence = f"{op.topic} was delivered to {name}, whose pattern {asked.pattern} does not match it"
    elif asked.priority_min is not None and op.priority > asked.priority_min:
        least = PRIORITIES[asked.priority_min]
        sentence = f"priority {PRIORITIES[op.priority]} was delivered to {name}, whose priority_min is {least}"
    else:
        sentence = f"{op.topic} of priority {PRIORITIES[op.priority]} was delivered to {name}, whose filters refuse it"
    return Diagnosis(sentence, advice="Look at the routing: it matched what it must not.")


def _uninvited(evidence: Evidence, violation: Violation, asked: Specification) -> Diagnosis:
    name = violation.subscription
    first = min(op.invoked for op in evidence.ops[violation.event or 0])
    if asked.leave_ok is not None and first > asked.leave_ok:
        sentence = f"delivered to {name}, though it had left at {evidence.at(asked.leave_ok)}"
        advice = "Stop delivering before you say that a subscription has ended."
    else:
        sentence = (
            f"delivered to {name}, which joined only at {evidence.at(asked.join_invoked)} and asked for new events"
        )
        advice = "A new subscription counts from when it began, unless it asks for an earlier start."
    return Diagnosis(sentence, f"{sentence}; published at {evidence.at(first)}", advice)


def altered(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Another payload."""
    name = violation.subscription
    if violation.form == "payload unrecognisable":
        sentence = f"what came to {name} with its seq is no event of this run: its payload is altered past recognition"
        return Diagnosis(sentence, advice=ALTERED)
    others = {evidence.name(t.subscription) for t in evidence.of(violation.event or 0, None)} - {violation.subscription}
    shared = f"; {', '.join(sorted(others))} got it too" if others else ""
    if violation.form != "payload altered":
        return _told_otherwise(evidence, violation, shared)
    sentence = f"its payload at {name} is not the published one, and no fault touched it"
    return Diagnosis(sentence, sentence + shared, ALTERED)


def _told_otherwise(evidence: Evidence, violation: Violation, shared: str) -> Diagnosis:
    """Another type, priority or key."""
    name, what = violation.subscription, violation.form.partition(" ")[0]
    ops = evidence.ops.get(violation.event or 0, [])
    came = evidence.told.get((violation.event or 0, evidence.number(name) or 0))
    sentence = f"its {what} at {name} is not the published one, and no fault touched it"
    if not ops or came is None:
        return Diagnosis(sentence + shared, advice=ALTERED)
    levels: dict[int | None, str] = dict(enumerate(PRIORITIES))
    published, told = {
        "type": (ops[0].topic, came.topic),
        "priority": (levels.get(ops[0].priority), levels.get(came.priority, came.priority)),
        "key": (ops[0].key or "none", came.key),
    }[what]
    sentence += f": {told} instead of {published}" if what == "type" else ""
    detail = f"{what} {told} at {name}, published with {published}, and no fault touched it"
    return Diagnosis(sentence, detail + shared, ALTERED)


def in_part(evidence: Evidence, violation: Violation) -> Diagnosis:
    """A batch of which some events are stored, others not."""
    ops = evidence.ops.get(violation.event or 0, [])
    faults = {w.name: w for op in ops for w in evidence.passed(op.invoked, op.ended)}
    during = f", under {', '.join(named(evidence, window) for window in faults.values())}" if faults else ""
    advice = "Store a batch in one transaction, and answer for all of it at once."
    if violation.form == "acknowledged in part":
        sentence = f"refused{during}, though others of its batch were acknowledged"
        return Diagnosis(sentence, f"{sentence}: event {violation.witness} was", advice)
    told = "refused" if all(op.outcome == "fail" for op in ops) else "of unknown outcome"
    sentence = f"published in a batch that was {told}{during}: others of it were delivered, "
    sentence += f"though it never came to {violation.subscription}"
    return Diagnosis(sentence, f"{sentence}; event {violation.witness} did come", advice)


def duplicate(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Delivered again for no reason."""
    tries = _tries(evidence, violation)
    again = next((t for t in tries if t.begun == violation.time_ns and t is not tries[0]), tries[-1])
    before = tries[max(0, tries.index(again) - 1)]
    detail = f"attempt {before.attempt} began at {evidence.at(before.begun)}, the next at {evidence.at(again.begun)}"
    name = violation.subscription
    if violation.form == "at most once, yet again":
        how = "its handler had begun" if before.result is None else f"its handler {HOW[before.result]}"
        sentence = f"delivered to {name} again after {how}, though at most once was promised"
        return Diagnosis(sentence, f"{sentence}; {detail}", "Settle before handling, and never give back.")
    if before.ended is None or before.ended > again.begun:
        sentence = f"delivered to {name} again while it was still being handled, with nothing to excuse it"
    elif before.settle_ok is not None and before.settle_ok > again.begun:
        sentence = f"delivered to {name} again while its settlement was under way, with nothing to excuse it"
    else:
        sentence = f"delivered to {name} twice with nothing between to excuse it: handled and settled, yet begun again"
    return Diagnosis(sentence, f"{sentence}; {detail}", "Look for what queues a settled event again.")


def ended_twice(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Two ends."""
    number = evidence.number(violation.subscription)
    moments: dict[str, set[int]] = {"ack": set(), "term": set()}
    for t in _tries(evidence, violation):
        if t.settlement in moments and t.settle_ok is not None and t.settle_answer != "refused":
            moments[t.settlement].add(t.settle_invoked or t.settle_ok)
    listed = Counter(e.state for e in evidence.ends.get(violation.event or 0, []) if e.subscription == number)
    counts = {
        "acked": max(len(moments["ack"]), listed["acked"]),
        "dead-lettered": max(len(moments["term"]), listed["dead_lettered"]),
        "expired": listed["expired"],
        "cancelled": listed["cancelled"],
    }
    often = {1: "", 2: " twice"}
    ends = [f"{word}{often.get(count, f' {count} times')}" for word, count in counts.items() if count]
    sentence = f"ended more than once at {violation.subscription}: {' and '.join(ends)}"
    return Diagnosis(sentence, advice="Settling must be refused for what has ended already.")


def tried_too_often(evidence: Evidence, violation: Violation) -> Diagnosis:
    """More attempts than allowed."""
    number = evidence.number(violation.subscription)
    allowed = evidence.subscriptions[number].max_attempts if number is not None else None
    tries = _tries(evidence, violation)
    failed = sum(t.result in ("error", "timeout") or t.settlement == "nak" for t in tries)
    limit = "more than the target allows" if allowed is None else f"{violation.subscription} allows {allowed} attempts"
    sentence = f"tried again at {violation.subscription} after as many failures as it allows attempts"
    detail = f"tried {len(tries)} times at {violation.subscription}, {failed} of them failed for sure; {limit}"
    return Diagnosis(sentence, detail, "Count attempts where they survive, and give up at the limit.")
