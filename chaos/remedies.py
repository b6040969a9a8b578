"""What to do about a verdict that is unknown."""

from __future__ import annotations

from collections.abc import Mapping

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
