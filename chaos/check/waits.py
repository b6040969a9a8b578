"""What an event waited for, from when it was to be sent until it was handled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from squall.chaos.check.evidence import Evidence, Gated, Try

For = Literal["publisher", "publish", "gate", "queue", "handler", "retry"]


@dataclass(frozen=True)
class Wait:
    """A stretch of an event's time, and what it passed with: until it was published, its publish until it was answered,
    an open gate, a place in the queue, a handler, the time until it was tried again. Monotonic ns."""

    what: For
    begun: int
    ended: int
    attempt: Try | None = None
    gate: Gated | None = None

    @property
    def lasted(self) -> int:
        return self.ended - self.begun


def waits(evidence: Evidence, event: int, subscription: int | None, until: int) -> list[Wait]:
    """All of an event's time until then, in order, at one subscription."""
    ops = evidence.ops.get(event, [])
    if not ops:
        return []
    op = next((op for op in ops if op.outcome == "ok"), ops[0])
    answered = until if op.ended is None else op.ended
    tries = [t for t in evidence.of(event, subscription) if t.begun <= until]
    found = [Wait("publisher", op.intended, op.invoked)]
    # A handler may have it before its publisher is told.
    found.append(Wait("publish", op.invoked, min([answered, *(t.begun for t in tries[:1])])))
    last: Try | None = None
    at = found[-1].ended
    for one in tries:
        found += _until_begun(evidence, subscription, at, one.begun, last)
        at = until if one.ended is None else min(until, one.ended)
        found.append(Wait("handler", one.begun, at, one))
        last = one
    if last is None or last.result != "ok":
        found += _until_begun(evidence, subscription, at, until, last)
    return [one for one in found if one.lasted > 0]


def _until_begun(
    evidence: Evidence, subscription: int | None, begun: int, ended: int, failed: Try | None
) -> Sequence[Wait]:
    """Between two handlers, or before the first: behind open gates, and otherwise for its turn."""
    found, at = [], begun
    what: For = "queue" if failed is None else "retry"
    for gate in evidence.held(subscription, begun, ended):
        opened, closed = max(at, gate.begun), ended if gate.ended is None else min(ended, gate.ended)
        if closed > opened:
            found += [Wait(what, at, opened, failed), Wait("gate", opened, closed, failed, gate)]
            at = closed
    return [*found, Wait(what, at, ended, failed)]


def longest(found: Sequence[Wait]) -> tuple[Wait, int]:
    """Of what most of the time passed with: the longest stretch, and how long all of its kind took, ns."""
    sums: dict[For, int] = {}
    for one in found:
        sums[one.what] = sums.get(one.what, 0) + one.lasted
    most = max(sums, key=lambda what: sums[what])
    return max((one for one in found if one.what == most), key=lambda one: one.lasted), sums[most]
