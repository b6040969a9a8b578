"""What blame says of one violation."""

from __future__ import annotations

from dataclasses import dataclass

from squall.chaos.check.evidence import Evidence, Gated, Window
from squall.chaos.check.verdict import counted
from squall.chaos.figures import latency
from squall.core.units import format_count

PAUSED = "dead_letters"
"""The gate that a subscription which sent nearly everything to its dead letters shows while it is paused."""

LET_THROUGH = (
    "Let CancelledError through: in a handler, no `except BaseException`, `except asyncio.CancelledError` or bare "
    "`except` around an await that does not raise it again."
)

ALTERED = "Look for what shares or rewrites events between publish and handler."


@dataclass(frozen=True)
class Diagnosis:
    """`sentence` names the cause without what is particular to the event, so that equal causes read alike; `detail`
    says it with the particulars; `advice` what to do. `traits` go after the sentence where all events of a cause share
    them: that they differ in these is no other cause."""

    sentence: str
    detail: str = ""
    advice: str = ""
    traits: tuple[str, ...] = ()


def named(evidence: Evidence, window: Window) -> str:
    """`fault crash, 30.000 s`: when it began."""
    return f"fault {window.name}, {evidence.at(window.begun)}"


def shorten(gate: Gated | None, otherwise: str) -> str:
    """What to do about a gate that held a subscription back; `otherwise`: or else let something be so."""
    if gate is not None and gate.gate == PAUSED:
        return (
            "It was paused, until somebody resumes it, since nearly all that it was given ended as dead letters: look "
            "at why they were given up, and mend its handler."
        )
    return f"Let it be open for a shorter time, or {otherwise}."


def cut_off(evidence: Evidence, event: int, subscription: int | None) -> Diagnosis | None:
    """Of an event whose every attempt there ran into its timeout: that it did, and what to do. None: another story."""
    tries = evidence.of(event, subscription)
    results = {one.result for one in tries}
    if subscription is None or not tries or not results <= {"timeout", "abandoned"}:
        return None
    timeout_ns, slowest_ns = evidence.subscriptions[subscription].timeout, evidence.slowest_ns.get(subscription)
    limit = "" if timeout_ns is None else f" of {latency(timeout_ns / 1e9)}"
    hit = [evidence.hit_during(one) for one in tries]
    faults = ", ".join(dict.fromkeys(window.name for window in hit if window is not None))
    by = f" (fault {faults})" if faults else ""
    sentence = f"{evidence.name(subscription)}'s handler was cut off at its timeout{limit} in every attempt{by}"
    if "abandoned" in results:
        ignored = sum(one.result == "abandoned" for one in tries)
        sentence = f"{evidence.name(subscription)}'s handler ran into its timeout{limit} in every attempt{by}"
        sentence += ", and ignored its cancellation"
        detail = f"{sentence} in {format_count(ignored)} of {counted(len(tries), 'attempt')}"
        return Diagnosis(sentence, detail, LET_THROUGH)
    advice = "Try it again for longer than the fault lasts, or let it be a dead letter."
    if None in hit:
        took = (
            "none ended well" if slowest_ns is None else f"the slowest that ended well took {latency(slowest_ns / 1e9)}"
        )
        advice = f"Raise the timeout{limit}, or make the handler faster: {took}."
    return Diagnosis(sentence, f"{sentence}: {counted(len(tries), 'attempt')}", advice)
