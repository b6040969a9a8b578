"""What the oracle knows of a history, as plain loops over lists: who is owed what, and what became of it."""

from __future__ import annotations

import math
from dataclasses import replace

from tests.chaos.check.model import Attempt, History, Interval, Publish

from squall.chaos.check.facts import RunFacts
from squall.core.target import Claims

Pair = tuple[int, int]
Found = set[tuple[str, int | None, int | None, int | None]]
INFINITY = math.inf


def token_match(pattern: list[str], topic: list[str]) -> bool:
    """`*` one token, a final `>` one or more; a wildcard in the first place leaves `$` topics alone."""
    if topic[0].startswith("$") and pattern[0] in ("*", ">"):
        return False
    for place, token in enumerate(pattern):
        if token == ">":
            return len(topic) > place
        if place >= len(topic) or token not in ("*", topic[place]):
            return False
    return len(pattern) == len(topic)


class Known:
    """A history, and what follows from it."""

    def __init__(self, history: History, claims: Claims, facts: RunFacts) -> None:
        self.h, self.claims, self.facts = history, claims, facts
        self.error = facts.clock_error_ns
        self.intervals = [self.effective(i) for i in history.intervals]
        self.subscriptions = sorted({i.subscription for i in self.intervals})
        ordered = sorted(enumerate(history.attempts), key=lambda pair: (pair[1].begun, pair[0]))
        self.attempts = [a for _, a in ordered]
        self.ops: dict[int, list[Publish]] = {}
        for op in history.publishes:
            self.ops.setdefault(op.event, []).append(op)
        self.tries: dict[Pair, list[Attempt]] = {}
        for a in self.attempts:
            if a.event is not None:
                self.tries.setdefault((a.event, a.subscription), []).append(a)
        self.publish_gap = min((g.begun for g in history.gaps if g.source == "publish"), default=INFINITY)
        self.attempt_gap = any(g.source == "attempt" for g in history.gaps)

    def effective(self, interval: Interval) -> Interval:
        """Without a leave that is only the end of the run, and widened by what the clocks may be wrong."""
        drain, error = self.facts.drain, self.error
        left, leave_ok = interval.leave_invoked, interval.leave_ok
        if drain and left is not None and left >= drain.ended:
            left = leave_ok = None
        return replace(
            interval,
            join_invoked=interval.join_invoked - error,
            join_ok=None if interval.join_ok is None else interval.join_ok + error,
            leave_invoked=None if left is None else left - error,
            leave_ok=None if leave_ok is None else leave_ok + error,
        )

    # Who is owed what

    def fits(self, interval: Interval, op: Publish) -> bool:
        below = interval.priority_min is None or op.priority <= interval.priority_min
        return below and token_match(interval.pattern.split("."), op.topic.split("."))

    def owes(self, interval: Interval, op: Publish) -> bool:
        """This acknowledged publish is owed under this interval, for sure."""
        if op.outcome != "ok" or not self.fits(interval, op):
            return False
        if interval.durable and interval.from_seq is not None and op.seq is not None:
            if self.unanswered(interval) and not self.left_open(interval, op):
                return False
            return interval.from_seq <= op.seq and (interval.to_seq is None or op.seq < interval.to_seq)
        if interval.join_ok is None or op.invoked <= interval.join_ok:
            return False
        if interval.start not in ("new", "earliest") and interval.from_seq is not None and not interval.durable:
            return self.left_open(interval, op) and op.seq is not None and op.seq >= interval.from_seq
        return self.left_open(interval, op)

    @staticmethod
    def unanswered(interval: Interval) -> bool:
        """Whether a durable one ended, and at which seq, nobody was told."""
        return interval.leave_invoked is not None and interval.leave_ok is None and interval.to_seq is None

    @staticmethod
    def left_open(interval: Interval, op: Publish) -> bool:
        """It had not left when the publish was acknowledged."""
        return interval.leave_invoked is None or (op.ended is not None and op.ended < interval.leave_invoked)

    def may_owe(self, interval: Interval, op: Publish) -> bool:
        if op.outcome == "fail" or not self.fits(interval, op):
            return False
        if interval.durable and interval.from_seq is not None and op.seq is not None and not self.unanswered(interval):
            return self.owes(interval, op)
        return self.there(interval, op)

    @staticmethod
    def there(interval: Interval, op: Publish) -> bool:
        """The interval had begun perhaps, and not ended yet, while this publish went on."""
        ended = INFINITY if op.ended is None or op.outcome == "info" else op.ended
        begun = interval.start != "new" or ended >= interval.join_invoked
        left = interval.leave_ok is not None and op.invoked > interval.leave_ok
        return begun and not left

    def owing(self, pair: Pair) -> list[Interval]:
        event, subscription = pair
        return [
            i
            for i in self.intervals
            if i.subscription == subscription and any(self.owes(i, op) for op in self.ops.get(event, []))
        ]

    def owed(self) -> set[Pair]:
        pairs = {(event, subscription) for event in self.ops for subscription in self.subscriptions}
        return {pair for pair in pairs if self.owing(pair)}

    # What became of it

    @staticmethod
    def settled(a: Attempt) -> bool:
        return a.settlement in ("ack", "term") and a.settle_invoked is not None and a.settle_answer != "refused"

    def handled(self, a: Attempt) -> bool:
        return self.settled(a) and (a.by_handler or a.result == "ok")

    @staticmethod
    def confirmed(a: Attempt) -> bool:
        return a.settlement in ("ack", "term") and a.settle_ok is not None and a.settle_answer != "refused"

    def terminals(self, pair: Pair) -> list[str]:
        return [t.state for t in self.h.terminals if (t.event, t.subscription) == pair]

    def unfinished(self) -> dict[Pair, str]:
        """Owed pairs without an end: how far each came."""
        found = {}
        for pair in self.owed():
            tries = self.tries.get(pair, [])
            if self.terminals(pair) or any(self.handled(a) for a in tries):
                continue
            if not tries:
                found[pair] = "undelivered"
            elif any(self.settled(a) and a.settlement == "term" for a in tries):
                found[pair] = "dead letter missing"
            elif any(self.settled(a) for a in tries):
                found[pair] = "settled early"
            else:
                found[pair] = "unfinished"
        return found

    def cancelled(self, pair: Pair, form: str) -> bool:
        """The subscription ended (a durable one: at a seq): unless a later seq of the key had begun by then."""
        owing = self.owing(pair)
        stays = (i.leave_invoked is None or (i.durable and i.to_seq is None and not self.unanswered(i)) for i in owing)
        if any(stays):
            return False
        if form != "undelivered":
            return form == "unfinished"
        left = max(i.leave_invoked or 0 for i in owing)
        ops = self.ops[pair[0]]
        seqs = [op.seq for op in ops if op.outcome == "ok" and op.seq is not None]
        if not seqs or ops[0].key is None:
            return True
        return not any(
            a.subscription == pair[1] and a.key == ops[0].key and a.priority == ops[0].priority
            and a.seq is not None and a.seq > min(seqs) and a.begun < left
            for a in self.attempts
        )  # fmt: skip

    def open_pairs(self) -> dict[Pair, str]:
        return {pair: form for pair, form in self.unfinished().items() if not self.cancelled(pair, form)}

    def forgotten(self, pair: Pair, form: str) -> bool:
        """It was acknowledged for `memory` by a process that ended then, or before another one took its place."""
        if self.claims.durability != "memory" or form == "settled early":
            return False
        lives = sorted((p for p in self.h.processes if p.name == self.claims.kept_by), key=lambda p: p.started)
        back = [*(p.started for p in lives[1:]), INFINITY]
        acked = self.acked_at(pair[0])
        return any(
            p.exited is not None and acked is not None and acked < at for p, at in zip(lives, back, strict=False)
        )

    def at_most_once(self, subscription: int) -> bool:
        own = [i for i in self.intervals if i.subscription == subscription]
        return self.claims.delivery == "at-most-once" or any(i.delivery == "at-most-once" for i in own)

    def pending(self, subscription: int) -> float:
        counters = [c for c in self.h.counters if c.subscription == subscription and c.name == "pending"]
        if counters:
            return max(counters, key=lambda c: c.time).value
        return INFINITY if self.facts.drained is False else 0

    def acked_at(self, event: int) -> int | None:
        return min((op.ended for op in self.ops[event] if op.outcome == "ok" and op.ended is not None), default=None)

    def copies(self, event: int) -> int:
        ops = self.ops.get(event, [])
        return max(1, sum((op.outcome == "ok" and not op.duplicate) or op.outcome == "info" for op in ops))

    def redriven(self, a: Attempt, after: float, until: float) -> bool:
        return any(
            c.kind in ("redrive", "replay")
            and c.subscription in (None, a.subscription)
            and c.event in (None, a.event)
            and after < c.begun <= until
            for c in self.h.controls
        )

    def restarted(self, after: int, until: int) -> bool:
        times = [t for p in self.h.processes for t in (p.started, p.exited) if t is not None]
        return any(after < t <= until for t in times)

    def lease(self, subscription: int) -> float:
        leases = [i.lease for i in self.intervals if i.subscription == subscription and i.lease is not None]
        claimed = INFINITY if self.claims.lease_s is None else self.claims.lease_s * 1e9
        return min(leases, default=claimed)

    def first_invoked(self, event: int) -> int | None:
        return min((op.invoked for op in self.ops[event] if op.outcome != "fail"), default=None)

    def numbered(self) -> list[Publish]:
        return [op for op in self.h.publishes if op.outcome == "ok" and op.seq is not None and not op.duplicate]

    def generation(self, event: int, subscription: int, time: int) -> int:
        return sum(
            c.kind in ("redrive", "replay")
            and c.subscription in (None, subscription)
            and c.event in (None, event)
            and c.begun <= time
            for c in self.h.controls
        )
