"""Causes of what took too long: of the slowest events, what most of their time passed with."""

from __future__ import annotations

from collections.abc import Mapping

from squall.chaos.check.diagnosis import Diagnosis, cut_off, shorten
from squall.chaos.check.evidence import Evidence
from squall.chaos.check.fates import fates
from squall.chaos.check.verdict import Violation
from squall.chaos.check.waits import For, Wait, longest, waits
from squall.chaos.figures import latency

ADVICE: Mapping[For, str] = {
    "publisher": "Look at what holds up the event loop, or lower the rate: the load itself came late.",
    "publish": "Look at the store, and at full queues that publishes wait for.",
    "queue": "Raise its concurrency or quicken its handler: it takes less than what is published.",
    "handler": "Look at what slows the handler, or let the limit allow for it.",
    "retry": "Let the backoff grow less, or let the limit allow for it.",
}


def slow(evidence: Evidence, violation: Violation) -> Diagnosis:
    """Why it took so long until a handler ended well; or that none did."""
    event, name = violation.event or 0, violation.subscription or "?"
    if violation.time_ns is None:
        fate = next((text for text in fates(evidence, event) if name in text), "")
        if (timed_out := cut_off(evidence, event, evidence.number(name))) is not None:
            return timed_out
        sentence = f"{name} never handled it well"
        return Diagnosis(sentence, f"{sentence}: {fate}" if fate else "", "Look at why it ended otherwise.")
    found = waits(evidence, event, evidence.number(name), violation.time_ns)
    if not found:
        return Diagnosis(f"{name} was late")
    wait, sum_ns = longest(found)
    sentence = _sentence(evidence, wait, name)
    whole_ns = found[-1].ended - found[0].begun
    detail = f"{sentence}: {latency(sum_ns / 1e9)} of {latency(whole_ns / 1e9)}, from {evidence.at(wait.begun)} on"
    faults = dict.fromkeys(w.name for w in evidence.windows.values() if w.active(found[0].begun, found[-1].ended))
    traits = (f"under {', '.join(faults)}",) if faults else ()
    if evidence.held_loop and wait.what in ("publisher", "publish"):  # neither the load's fault nor the store's
        advice = "Let the handler await, or run what blocks in a thread (asyncio.to_thread)."
        return Diagnosis(f"{sentence}: {evidence.held_loop}", f"{detail}: {evidence.held_loop}", advice, traits)
    advice = shorten(wait.gate, "let the limit allow for it") if wait.what == "gate" else ADVICE[wait.what]
    return Diagnosis(sentence, detail, advice, traits)


def _sentence(evidence: Evidence, wait: Wait, name: str) -> str:
    fault = None if wait.attempt is None else evidence.hit_during(wait.attempt)
    by = f" (fault {fault.name})" if fault else ""
    match wait.what:
        case "publisher":
            return f"on its way to {name} most of the time passed before it was published"
        case "publish":
            return f"on its way to {name} most of the time passed in its publish, until that was answered"
        case "gate":
            return f"{name}'s {wait.gate.gate if wait.gate else 'gate'} was open, and held it back for most of the time"
        case "queue":
            return f"it waited in {name}'s queue for most of the time"
        case "handler":
            return f"it was in {name}'s handler for most of the time{by}"
        case "retry":
            return f"{name}'s handler failed{by}, and it waited to be tried again for most of the time"
