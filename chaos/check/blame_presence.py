"""Causes of what should not have happened: deliveries too many, too early, out of order, or of what never was."""

from __future__ import annotations

from squall.chaos.check.diagnosis import Diagnosis, named
from squall.chaos.check.evidence import Evidence, Op, Try
from squall.chaos.check.verdict import Violation
from squall.core.units import format_count


def _tries(evidence: Evidence, violation: Violation) -> list[Try]:
    return evidence.of(violation.event or 0, evidence.number(violation.subscription))


def _seq(evidence: Evidence, event: int | None, subscription: int | None) -> int | None:
    seqs = [t.seq for t in evidence.of(event or 0, subscription) if t.seq is not None]
    seqs += [op.seq for op in evidence.ops.get(event or 0, []) if op.seq is not None]
    return seqs[0] if seqs else None


def _acked(evidence: Evidence, event: int | None) -> Op | None:
    return next((op for op in evidence.ops.get(event or 0, []) if op.outcome == "ok"), None)


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
    faults = {w.name: w for op in ops for w in evidence.elsewhere(op.invoked, op.ended)}
    during = f" (refused under {', '.join(named(evidence, window) for window in faults.values())})" if faults else ""
    sentence = f"every publish of it was refused{during}, yet it was delivered to {violation.subscription}"
    return Diagnosis(
        sentence,
        f"{sentence}; refused {len(ops)} times",
        "Deliver only what the store has taken; a publish that may have been stored is unknown, not refused.",
    )


def stray(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Delivered to somebody who did not ask for it."""
    number = evidence.number(violation.subscription)
    ops = evidence.ops.get(violation.event or 0, [])
    pattern = evidence.subscriptions[number].pattern if number is not None else "?"
    topic = ops[0].topic if ops else "?"
    sentence = f"{topic} was delivered to {violation.subscription}, whose pattern {pattern} and filters do not match it"
    return Diagnosis(sentence, advice="Look at the routing: it matched what it must not.")


def altered(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Another payload."""
    others = {evidence.name(t.subscription) for t in evidence.of(violation.event or 0, None)} - {violation.subscription}
    shared = f"; {', '.join(sorted(others))} got it too" if others else ""
    sentence = f"its payload at {violation.subscription} is not the published one, and no fault touched it"
    return Diagnosis(
        sentence, sentence + shared, "Look for what shares or rewrites payloads between publish and handler."
    )


def duplicate(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Delivered again for no reason."""
    tries = _tries(evidence, violation)
    again = next((t for t in tries if t.begun == violation.time_ns and t is not tries[0]), tries[-1])
    before = tries[max(0, tries.index(again) - 1)]
    detail = f"attempt {before.attempt} began at {evidence.at(before.begun)}, the next at {evidence.at(again.begun)}"
    name = violation.subscription
    if violation.form == "at most once, yet again":
        how = {"ok": "it was handled well", None: "its handler had begun"}.get(before.result, "its handler failed")
        sentence = f"delivered to {name} again after {how}, though at most once was promised"
        return Diagnosis(sentence, f"{sentence}; {detail}", "Settle before handling, and never give back.")
    if before.ended is None or before.ended > again.begun:
        sentence = f"delivered to {name} again while it was still being handled, with nothing to excuse it"
    elif before.settle_ok is not None and before.settle_ok > again.begun:
        sentence = f"delivered to {name} again while its settlement was under way, with nothing to excuse it"
    else:
        sentence = f"delivered to {name} twice with nothing between to excuse it: handled and settled, yet begun again"
    return Diagnosis(sentence, f"{sentence}; {detail}", "Look for what queues a settled event again.")


def disordered(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Began after a later one of its key."""
    number = evidence.number(violation.subscription)
    mine, other = _seq(evidence, violation.event, number), _seq(evidence, violation.witness, number)
    where = f"of key {violation.key}" if violation.key else "without a key"
    if violation.form == "passed while it was retried":
        sentence = f"another event of its key began at {violation.subscription} while it was being retried"
        detail = f"event {violation.witness} {where} began before the retry of event {violation.event}"
        return Diagnosis(sentence, detail, "Hold the key until the retry is done: on_retry: block_key promises it.")
    advice = "Look at what may reorder between the store and the handler: several queues, or a retry that overtakes."
    if violation.form == "after one published later":
        sentence = f"began at {violation.subscription} after an event of its key that was published later"
        acked = _acked(evidence, violation.event)
        at = evidence.at(acked.ended) if acked and acked.ended is not None else "?"
        detail = f"acknowledged at {at}, it began at {violation.subscription} after event {violation.witness} {where}, "
        return Diagnosis(sentence, f"{detail}which was published later", advice)
    sentence = f"began at {violation.subscription} after a later event of its key"
    restart = None
    own, theirs = evidence.of(violation.event or 0, number), evidence.of(violation.witness or 0, number)
    if own and theirs:
        restart = evidence.restart(theirs[0].begun, own[0].begun)
    if restart is not None:
        sentence += f", with a process that began or exited between (at {evidence.at(restart)})"
    detail = f"its seq {_number(mine)} began at {violation.subscription} after seq {_number(other)} of the same key"
    detail = detail if violation.key else detail.replace("of the same key", "without a key")
    return Diagnosis(sentence, f"{detail} (event {violation.witness})", advice)


def _number(seq: int | None) -> str:
    return "?" if seq is None else format_count(seq)


def overlapping(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Two of a key at once."""
    number = evidence.number(violation.subscription)
    own = next((t for t in _tries(evidence, violation) if t.begun == violation.time_ns), None)
    other = next(iter(evidence.of(violation.witness or 0, number)), None)
    if violation.event == violation.witness:
        sentence = f"{violation.subscription} handled the same event twice at once"
    else:
        sentence = f"{violation.subscription} handled two events of a key at once"
    detail = sentence
    if own and other:
        place = "the same worker" if own.worker == other.worker else "another worker"
        detail = f"began at {evidence.at(own.begun)} while event {violation.witness} of its key still ran on {place}"
    return Diagnosis(sentence, detail, "Keep one event of a key in flight, whichever worker takes it.")


def shared_seq(evidence: Evidence, violation: Violation) -> Diagnosis:
    """One seq for two events."""
    seq = _seq(evidence, violation.event, None)
    sentence = "two events were acknowledged with one seq"
    detail = f"seq {_number(seq)} was given to event {violation.event} and to event {violation.witness}"
    return Diagnosis(sentence, detail, "Give out seqs in one place, under the store's own lock.")


def falling_seq(evidence: Evidence, violation: Violation) -> Diagnosis:
    """A later publish, a lower seq."""
    mine, other = _seq(evidence, violation.event, None), _seq(evidence, violation.witness, None)
    sentence = "published after another event was acknowledged, yet given a lower seq"
    detail = (
        f"published after event {violation.witness} was acknowledged with seq {_number(other)}, "
        f"yet given seq {_number(mine)}"
    )
    return Diagnosis(sentence, detail, "Give out seqs in the order of commits.")


def ended_twice(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Two ends."""
    number = evidence.number(violation.subscription)
    words = {"ack": "acked", "term": "given up"}
    ends = [
        words[t.settlement]
        for t in _tries(evidence, violation)
        if t.settlement in words and t.settle_ok is not None and t.settle_answer != "refused"
    ]
    ends += [e.state.replace("_", "-") for e in evidence.ends.get(violation.event or 0, []) if e.subscription == number]
    sentence = f"ended more than once at {violation.subscription}: {' and '.join(sorted(ends))}"
    return Diagnosis(sentence, advice="Settling must be refused for what has ended already.")


def tried_too_often(evidence: Evidence, violation: Violation) -> Diagnosis:
    """More attempts than allowed."""
    number = evidence.number(violation.subscription)
    allowed = evidence.subscriptions[number].max_attempts if number is not None else None
    tries = _tries(evidence, violation)
    failed = sum(t.result in ("error", "timeout") or t.settlement == "nak" for t in tries)
    limit = "the target allows" if allowed is None else f"{violation.subscription} allows {allowed} attempts"
    sentence = f"tried more often at {violation.subscription} than allowed"
    detail = f"tried {len(tries)} times at {violation.subscription}, {failed} of them failed for sure; {limit}"
    return Diagnosis(sentence, detail, "Count attempts where they survive, and give up at the limit.")


def starved(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Passed over."""
    ops = evidence.ops.get(violation.event or 0, [])
    level = ops[0].priority if ops else -1
    level_name = ("CRITICAL", "HIGH", "NORMAL", "LOW")[level] if 0 <= level <= 3 else "?"
    sentence = (
        f"events of priority {level_name} waited at {violation.subscription} while more of others began than allowed"
    )
    return Diagnosis(sentence, advice="Schedule levels by weight, so that each gets its share under backlog.")
