"""Causes of what came in the wrong order, at once, or with a wrong seq: two events belong to each."""

from __future__ import annotations

from squall.chaos.check.diagnosis import Diagnosis
from squall.chaos.check.evidence import Evidence, Op
from squall.chaos.check.verdict import Violation
from squall.core.units import format_count


def _seq(evidence: Evidence, event: int | None, subscription: int | None) -> int | None:
    seqs = [t.seq for t in evidence.of(event or 0, subscription) if t.seq is not None]
    seqs += [op.seq for op in evidence.ops.get(event or 0, []) if op.seq is not None]
    return seqs[0] if seqs else None


def _acked(evidence: Evidence, event: int | None) -> Op | None:
    return next((op for op in evidence.ops.get(event or 0, []) if op.outcome == "ok"), None)


def disordered(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Began after a later one of its key."""
    number = evidence.number(violation.subscription)
    mine, other = _seq(evidence, violation.event, number), _seq(evidence, violation.witness, number)
    where = f"of key {violation.key}" if violation.key else "without a key"
    if violation.form == "passed while it was retried":
        sentence = f"another event of its key began at {violation.subscription} while it was being retried"
        detail = f"{sentence}: event {violation.witness} {where} began before the retry of event {violation.event}"
        return Diagnosis(sentence, detail, "Hold the key until the retry is done: on_retry: block_key promises it.")
    advice = "Look at what may reorder between the store and the handler: several queues, or a retry that overtakes."
    if violation.form == "after one published later":
        other_one = "an event of its key" if violation.key else "another event without a key"
        sentence = f"began at {violation.subscription} after {other_one} that was published later"
        acked = _acked(evidence, violation.event)
        at = evidence.at(acked.ended) if acked and acked.ended is not None else "?"
        detail = f"acknowledged at {at}, it began at {violation.subscription} after event {violation.witness} {where}, "
        return Diagnosis(sentence, f"{detail}which was published later", advice)
    sentence = (
        f"began at {violation.subscription} after a later event {'of its key' if violation.key else 'without a key'}"
    )
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
    own = next((t for t in evidence.of(violation.event or 0, number) if t.begun == violation.time_ns), None)
    before = [t for t in evidence.of(violation.witness or 0, number) if t is not own and own and t.begun <= own.begun]
    other = before[-1] if before else None
    if violation.event == violation.witness:
        sentence = f"{violation.subscription} handled the same event twice at once"
    else:
        sentence = f"{violation.subscription} handled two events of a key at once"
    detail = sentence
    if own and other:
        key = f"key {violation.key}" if violation.key else "its key"
        detail = f"began at {evidence.at(own.begun)} while event {violation.witness} of {key} still ran"
        detail += f", begun at {evidence.at(other.begun)}"
    return Diagnosis(sentence, detail, "Keep one event of a key in flight, whichever worker takes it.")


def shared_seq(evidence: Evidence, violation: Violation) -> Diagnosis:
    """One seq for two events, or two for one."""
    if violation.form == "another seq at its delivery":
        return _renumbered(evidence, violation)
    seq = _seq(evidence, violation.event, None)
    acked = all(_acked(evidence, event) for event in (violation.event, violation.witness))
    sentence = "two events were acknowledged with one seq" if acked else "one seq was given to two events"
    detail = f"seq {_number(seq)} was given to event {violation.event} and to event {violation.witness}"
    return Diagnosis(sentence, detail, "Give out seqs in one place, under the store's own lock.")


def _renumbered(evidence: Evidence, violation: Violation) -> Diagnosis:
    """The receipt says another seq than the delivery."""
    tries = evidence.of(violation.event or 0, evidence.number(violation.subscription))
    came = next((t.seq for t in tries if t.begun == violation.time_ns), None)
    acked = _acked(evidence, violation.event)
    sentence = f"acknowledged with one seq, delivered to {violation.subscription} with another"
    detail = (
        f"acknowledged with seq {_number(acked.seq if acked else None)}, "
        f"delivered to {violation.subscription} with seq {_number(came)}"
    )
    return Diagnosis(sentence, detail, "Acknowledge with the seq under which the event was stored, and deliver that.")


def falling_seq(evidence: Evidence, violation: Violation) -> Diagnosis:
    """A later publish, a lower seq."""
    mine, other = _seq(evidence, violation.event, None), _seq(evidence, violation.witness, None)
    sentence = "published after another event was acknowledged, yet given a lower seq"
    detail = (
        f"published after event {violation.witness} was acknowledged with seq {_number(other)}, "
        f"yet given seq {_number(mine)}"
    )
    return Diagnosis(sentence, detail, "Give out seqs in the order of commits.")
