"""What each invariant means, as plain loops over lists: slow, and obviously right. The checker must agree with it.

A violation is (form, event, subscription, witness); None where there is no such thing.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tests.chaos.check.model import Attempt, FaultWindow, Publish
from tests.chaos.check.oracle_facts import INFINITY, Found, Known


class Oracle(Known):
    """Judges one history."""

    # Invariants

    def no_loss(self, *, expected: bool) -> Found:
        lost: Found = set()
        for subscription in self.subscriptions:
            if self.at_most_once(subscription) and not expected:
                continue
            own = [(pair, form) for pair, form in self.open_pairs().items() if pair[1] == subscription]
            own = [(pair, form) for pair, form in own if expected or not self.forgotten(pair, form)]
            sure = [x for x in own if x[1] in ("settled early", "dead letter missing")]
            unsure = [x for x in own if x not in sure]
            unsure.sort(key=lambda x: (self.acked_at(x[0][0]) or 0, x[0][0]))
            pending = self.pending(subscription)
            kept = unsure[: max(0, len(unsure) - int(pending))] if pending < INFINITY else []
            lost |= {(form, pair[0], pair[1], None) for pair, form in sure + kept}
        return lost

    def no_phantom(self) -> Found:
        found: Found = set()
        for a in self.attempts:
            if a.event is None or a.begun >= self.publish_gap:
                continue
            if a.event not in self.ops:
                found.add(("never published", a.event, a.subscription, None))
            elif a.begun < min(op.invoked for op in self.ops[a.event]) - self.error:
                found.add(("before its publish", a.event, a.subscription, None))
        return found

    def no_ghost(self) -> Found:
        return {
            ("refused, yet delivered", a.event, a.subscription, None)
            for a in self.attempts
            if a.event is not None
            and a.event in self.ops
            and a.begun < self.publish_gap
            and all(op.outcome == "fail" for op in self.ops[a.event])
        }

    def no_stray(self) -> Found:
        found: Found = set()
        for a in self.attempts:
            if a.event is None or a.event not in self.ops:
                continue
            own = [i for i in self.intervals if i.subscription == a.subscription]
            stored = [op for op in self.ops[a.event] if op.outcome != "fail"]
            if own and not any(self.fits(i, op) for i in own for op in self.ops[a.event]):
                found.add(("does not match", a.event, a.subscription, None))
            elif (
                stored
                and not self.redriven(a, -INFINITY, a.begun)
                and not any(self.fits(i, op) and (self.owes(i, op) or self.there(i, op)) for i in own for op in stored)
            ):
                found.add(("not owed", a.event, a.subscription, None))
        return found

    def intact(self) -> Found:
        found: Found = set()
        for a in self.attempts:
            if a.event is None or a.hash is None:
                continue
            published = {op.hash for op in self.ops.get(a.event, []) if op.hash is not None}
            touched = any(hit.event == a.event for hit in self.h.hits)
            if published and a.hash not in published and not touched:
                found.add(("payload altered", a.event, a.subscription, None))
        for t in self.h.told:
            if t.event in self.ops and not any(hit.event == t.event for hit in self.h.hits):
                told = {"type": t.topic, "priority": t.priority, "key": t.key}
                found |= {
                    (f"{what} altered", t.event, t.subscription, None) for what, x in told.items() if x is not None
                }
        if self.claims.seq_scope == "store":
            for a in self.attempts:
                for op in self.numbered() if a.event is None and a.seq is not None else []:
                    if op.seq == a.seq and not any(hit.event == op.event for hit in self.h.hits):
                        found.add(("payload unrecognisable", op.event, a.subscription, None))
        return found

    def atomic(self) -> Found:
        found: Found = set()
        for batch in {op.batch for op in self.h.publishes if op.batch is not None}:
            ops = [op for op in self.h.publishes if op.batch == batch and len(self.ops[op.event]) == 1]
            outcomes = {op.outcome for op in ops}
            oks, fails = ([op.event for op in ops if op.outcome == outcome] for outcome in ("ok", "fail"))
            if oks and fails:
                found.add(("acknowledged in part", min(fails), None, min(oks)))
            came = [op.event for op in ops if any(self.came(op.event, s) for s in self.subscriptions)]
            missing = [(op.event, s) for op in ops for s in self.subscriptions if self.would_have_come(op, s)]
            if "ok" not in outcomes and came and missing:
                found.add(("stored in part", *min(missing), min(came)))
        return found

    def came(self, event: int, subscription: int) -> bool:
        return bool(self.tries.get((event, subscription)) or self.terminals((event, subscription)))

    def would_have_come(self, op: Publish, subscription: int) -> bool:
        """It never came to one who is owed it if it is stored, stayed, and has nothing pending."""
        own = [i for i in self.intervals if i.subscription == subscription and i.leave_invoked is None]
        stored = replace(op, outcome="ok")
        owed = any(self.owes(i, stored) for i in own)
        unsure = self.at_most_once(subscription) or self.pending(subscription) > 0
        return owed and not unsure and not self.came(op.event, subscription)

    def duplicates(self) -> list[Attempt]:
        """Unexplained begins."""
        found = []
        for (event, subscription), tries in self.tries.items():
            for number, (before, a) in enumerate(pairwise(tries), start=2):
                if number <= self.copies(event) or self.redriven(a, before.begun, a.begun):
                    continue
                if self.at_most_once(subscription):
                    found.append(a)
                    continue
                unsettled = before.settle_ok is None or before.settle_answer == "refused"
                failed = before.settlement == "nak" or before.result in ("error", "timeout", "died")
                expired = a.begun - before.begun >= self.lease(subscription)
                if not (unsettled or failed or expired or self.restarted(before.begun, a.begun)):
                    found.append(a)
        return found

    def firsts(self) -> list[Attempt]:
        """First begins where order counts, in order."""
        scope = self.claims.seq_scope
        found = []
        for a in (tries[0] for tries in self.tries.values()):
            serial = all(i.concurrency == 1 for i in self.intervals if i.subscription == a.subscription)
            known = any(i.subscription == a.subscription for i in self.intervals)
            counted = a.key is not None or (serial and scope in (None, "store"))
            if known and counted and not (self.attempt_gap and a.attempt > 1):
                usable = scope == "store" or (scope is not None and a.key is not None)
                found.append(a if usable else replace(a, seq=None))
        return found

    def order(self) -> Found:
        late: set[tuple[str, int, int, int, int, int]] = set()
        firsts = self.firsts()
        for a in firsts:
            group = (a.subscription, a.key, a.priority)
            earlier = [
                b for b in firsts if (b.subscription, b.key, b.priority) == group and b.begun < a.begun - self.error
            ]
            by_seq = [b for b in earlier if a.seq is not None and b.seq is not None]
            if by_seq and (top := max(b.seq or 0 for b in by_seq)) > (a.seq or 0):
                witness = min(b.event or 0 for b in by_seq if b.seq == top)
                late.add(("after a later one", a.subscription, a.priority, witness, a.begun, a.event or 0))
            by_time = [b for b in earlier if (a.seq is None or b.seq is None) and b.event in self.ops]
            acked = self.acked_at(a.event or 0) if a.event in self.ops else None
            invoked = {b.event or 0: self.first_invoked(b.event or 0) for b in by_time}
            known = {event: time for event, time in invoked.items() if time is not None}
            if acked is not None and known and acked < (latest := max(known.values())) - self.error:
                witness = min(event for event, time in known.items() if time == latest)
                late.add(("after one published later", a.subscription, a.priority, witness, a.begun, a.event or 0))
        found: Found = set()
        for form, subscription, priority, witness in {x[:4] for x in late}:
            group_late = [x for x in late if x[:4] == (form, subscription, priority, witness)]
            first = min(group_late, key=lambda x: (x[4], x[5]))
            found.add((form, first[5], subscription, witness))
        return found | self.passed()

    def passed(self) -> Found:
        """Re-begins under block_key that do not directly follow their own event."""
        found: Found = set()
        for (event, subscription), tries in self.tries.items():
            own = [i for i in self.intervals if i.subscription == subscription]
            if tries[0].key is None or not own or any(i.on_retry != "block_key" for i in own):
                continue
            group = [
                a for a in self.attempts
                if a.event is not None and (a.subscription, a.key, a.priority)
                == (subscription, tries[0].key, tries[0].priority)
            ]  # fmt: skip
            for number, (before, a) in enumerate(pairwise(tries), start=2):
                place = next(index for index, other in enumerate(group) if other is a)
                direct = group[place - 1]
                excused = (
                    number <= self.copies(event)
                    or self.restarted(before.begun, a.begun)
                    or self.redriven(a, before.begun, a.begun)
                    or (before.result == "ok" and before.settle_ok is None)
                )
                if direct.event != event and not excused:
                    found.add(("passed while it was retried", event, subscription, direct.event))
        return found

    def until(self, a: Attempt) -> float:
        """Until when an attempt runs for sure."""
        if a.ended is not None:
            end: float = a.ended
        elif a.result == "died":
            end = a.begun
        else:
            end = max((p.exited for p in self.h.processes if p.process == a.process and p.exited), default=INFINITY)
        timeouts = [i.timeout for i in self.intervals if i.subscription == a.subscription and i.timeout is not None]
        return min(end, a.begun + min(timeouts)) if timeouts else end

    def overlap(self) -> Found:
        over: dict[tuple[int, int | None, int | None], list[Attempt]] = {}
        keyed = [a for a in self.attempts if a.event is not None and a.key is not None]
        for place, a in enumerate(keyed):
            earlier = [b for b in keyed[:place] if (b.subscription, b.key) == (a.subscription, a.key)]
            if earlier and (latest := max(self.until(b) for b in earlier)) > a.begun + self.error:
                witness = next(b for b in earlier if self.until(b) == latest)
                over.setdefault((a.subscription, a.key, witness.event), []).append(a)
        return {("while another ran", tries[0].event, key[0], key[2]) for key, tries in over.items()}

    def unique_seq(self) -> Found:
        events: dict[tuple[int, int | None], set[int]] = {}
        for op in self.numbered():
            events.setdefault((op.seq_scope, op.seq), set()).add(op.event)
        found: Found = set()
        for a in self.attempts:
            every = [] if a.event is None else self.ops.get(a.event, [])
            ops = [op for op in every if op.outcome != "fail"]
            its_own = a.hash is None or any(op.hash in (None, a.hash) for op in every)
            if a.event is None or a.seq is None or not ops or not its_own:
                continue
            unsaid = [op for op in ops if op.seq is None]
            if unsaid and self.claims.seq_scope == "store":
                for op in unsaid:
                    events.setdefault((op.seq_scope, a.seq), set()).add(a.event)
            sure = all(op.outcome == "ok" and op.seq is not None for op in ops)
            if sure and self.claims.seq_scope and a.begun < self.publish_gap and a.seq not in {op.seq for op in ops}:
                found.add(("another seq at its delivery", a.event, a.subscription, None))
        return found | {("one seq, two events", min(e), None, max(e)) for e in events.values() if len(e) > 1}

    def seq_order(self) -> Found:
        late: dict[tuple[int, int], list[Publish]] = {}
        for op in self.numbered():
            before = [
                b for b in self.numbered()
                if b.seq_scope == op.seq_scope and (b.seq or 0) > (op.seq or 0)
                and (b.ended or 0) < op.invoked - self.error
            ]  # fmt: skip
            if before:
                earliest = min(b.ended or 0 for b in before)
                witness = min(b.event for b in before if b.ended == earliest)
                late.setdefault((op.seq_scope, witness), []).append(op)
        return {
            ("a lower seq than an earlier one", min(ops, key=lambda op: (op.invoked, op.event)).event, None, witness)
            for (_, witness), ops in late.items()
        }

    def one_terminal(self) -> Found:
        ends: dict[tuple[int, int, int], list[str]] = {}
        seen: set[tuple[int, int, int, str, int | None]] = set()
        for (event, subscription), tries in self.tries.items():
            for a in tries:
                if self.confirmed(a) and a.settle_ok is not None and a.settlement is not None:
                    generation = self.generation(event, subscription, a.settle_ok)
                    one = (event, subscription, generation, a.settlement, a.settle_invoked)
                    if one not in seen:  # attempts settled at one moment were settled together
                        ends.setdefault((event, subscription, generation), []).append(a.settlement)
                    seen.add(one)
        for t in self.h.terminals:
            generation = self.generation(t.event, t.subscription, t.time)
            ends.setdefault((t.event, t.subscription, generation), []).append(t.state)
        found: Found = set()
        for (event, subscription, _), kinds in ends.items():
            total = (
                max(kinds.count("ack"), kinds.count("acked"))
                + max(kinds.count("term"), kinds.count("dead_lettered"))
                + kinds.count("expired")
                + kinds.count("cancelled")
            )
            if total > self.copies(event):
                found.add(("ended more than once", event, subscription, None))
        return found

    def max_attempts(self) -> Found:
        found: Found = set()
        for (event, subscription), tries in self.tries.items():
            own = [i for i in self.intervals if i.subscription == subscription and i.max_attempts is not None]
            limit = max((i.max_attempts or 0 for i in own), default=self.claims.max_attempts)
            if limit is None:
                continue
            failures: dict[int, int] = {}
            for a in tries:
                generation = self.generation(event, subscription, a.begun)
                if failures.get(generation, 0) >= limit * self.copies(event):
                    found.add(("tried too often", event, subscription, None))
                unknown = a.settle_invoked is not None and a.settle_ok is None
                failed = a.result in ("error", "timeout") or a.settlement == "nak"
                if failed and not unknown and a.settle_answer != "refused":
                    failures[generation] = failures.get(generation, 0) + 1
        return found

    def conservation(self) -> Found:
        """Subscriptions whose pending counter cannot be what the history leaves open."""
        found: Found = set()
        for subscription in self.subscriptions:
            if not any(c.name == "pending" and c.subscription == subscription for c in self.h.counters):
                continue
            pending = self.pending(subscription)
            counted = max(c.time for c in self.h.counters if (c.name, c.subscription) == ("pending", subscription))
            own_open = {pair: form for pair, form in self.open_pairs().items() if pair[1] == subscription}
            least = {
                pair for pair, form in own_open.items() if form != "settled early" and not self.forgotten(pair, form)
            }
            most = len(least)
            own = [i for i in self.intervals if i.subscription == subscription]
            for event, ops in self.ops.items():
                possible = [op for op in ops if any(self.may_owe(i, op) for i in own)]
                if not possible:
                    continue
                most += max(0, sum(not op.duplicate for op in possible) - 1)
                pair = (event, subscription)
                confirmed = [a.settle_ok for a in self.tries.get(pair, []) if self.confirmed(a)]
                done = any(at is not None and at <= counted for at in confirmed) or self.terminals(pair)
                most += pair not in least and not done
            if not len(least) <= pending <= most or self.acked_counted_short(subscription):
                found.add(("", None, subscription, None))
        return found

    def acked_counted_short(self, subscription: int) -> bool:
        """The target counts fewer acked than it had confirmed by then."""
        counters = [c for c in self.h.counters if c.subscription == subscription and c.name == "acked"]
        if not counters:
            return False
        last = max(counters, key=lambda c: c.time)
        own = [a for a in self.attempts if a.subscription == subscription and a.settlement == "ack"]
        confirmed = [a for a in own if self.confirmed(a) and a.settle_ok is not None and a.settle_ok <= last.time]
        return last.value < len({(a.event, a.settle_invoked) for a in confirmed})

    # Measures

    def windows(self) -> list[tuple[float, float]]:
        return [(f.begun, INFINITY if f.ended is None else f.ended) for f in self.h.faults]

    def latencies(self) -> list[tuple[float, bool]]:
        """Nanoseconds, and whether inside a fault window, for each pair that was handled or owed."""
        found = []
        open_pairs = self.open_pairs()
        pairs = {pair for pair in self.tries if pair[0] in self.ops} | self.owed()
        for pair in pairs:
            op = min(self.ops[pair[0]], key=lambda op: op.invoked if op.intended is None else op.intended)
            intended = op.invoked if op.intended is None else op.intended
            goods = [a.ended for a in self.tries.get(pair, []) if a.result == "ok" and a.ended is not None]
            cancelled = pair in self.unfinished() and pair not in open_pairs
            if goods:
                done = min(goods)
                joined = min(i.join_invoked for i in self.intervals if i.subscription == pair[1])
                due = max(intended, min(done, joined))
                inside = any(due < end and done >= begun for begun, end in self.windows())
                found.append((float(done - due), inside))
            elif pair in self.owed() and not cancelled:
                found.append((INFINITY, any(begun <= intended < end for begun, end in self.windows())))
        return found

    def recovered_ns(self, fault: FaultWindow, age_ns: int, horizon: int) -> float:
        """When nothing older than age waited any more, after the fault's end; infinite: not by the horizon."""
        assert fault.ended is not None
        last = -INFINITY
        for pair in self.owed() | set(self.tries):
            if pair[0] not in self.ops or (acked := self.acked_at(pair[0])) is None:
                continue
            ends = [a.settle_ok or a.settle_invoked or 0 for a in self.tries.get(pair, []) if self.settled(a)]
            if ends:
                done: float = min(ends)
            elif pair in self.open_pairs() and self.pending(pair[1]) > 0:
                done = INFINITY
            else:
                continue
            until = min(done, horizon)
            if done > fault.ended and acked + age_ns < until:
                last = max(last, until)
        return INFINITY if last >= horizon else max(0, last - fault.ended)
