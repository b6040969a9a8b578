"""What to do about a verdict that is unknown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from squall.chaos.check.verdict import Reason, ReasonCode

NEXT: Mapping[ReasonCode, str] = {
    "no_publish": "Check the load's rate and the target: no publish was ever acknowledged.",
    "no_delivery": "Check the subscribers' patterns against the load's event types.",
    "not_steady": "Lower the rate or widen steady.expect: what fails without faults proves nothing under them.",
    "fault_never_bit": "Raise its probability, let it last longer, or send more of what passes there.",
    "rate_not_kept": "Lower the rate, or give the generator more processor: what was asked for was not tested.",
    "loop_held": "Let the handler await, or run what blocks in a thread (asyncio.to_thread): it held up all else.",
    "heal_failed": "Mend what its error names, then take it back by hand: squall heal.",
    "drain_limit": "Raise drain.limit: it still made progress.",
    "soaked_too_little": "Soak longer (--soak), or at a higher rate; what fills on purpose must be full before.",
    "no_keys": "Give the load's events a key (key: {count: 100}), or expect nothing of keys.",
}
"""What to do about a reason, by its code."""


def what_to_do(reason: Reason) -> str:
    """Its own advice, or else its code's; nothing where there is none."""
    return reason.advice or NEXT.get(reason.code, "")


def advised(reasons: Sequence[Reason]) -> list[tuple[str, str]]:
    """Each reason's text with what to do, which is told once for each kind: at the last that has it. Where reasons of a
    kind have advice of their own, it stands for all of them."""
    own = {reason.code: reason.advice for reason in reasons if reason.advice}
    found = [reason.advice or own.get(reason.code) or what_to_do(reason) for reason in reasons]
    return [
        (reason.text, "" if advice in found[number:] else advice)
        for number, (reason, advice) in enumerate(zip(reasons, found, strict=True), start=1)
    ]
