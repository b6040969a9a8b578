"""Small histories at random: plausible runs, with every kind of trouble mixed in."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from tests.chaos.check.model import (
    Attempt,
    Control,
    Counter,
    FaultHit,
    FaultWindow,
    Gap,
    History,
    Interval,
    Outcome,
    Process,
    Publish,
    Result,
    Settlement,
    Terminal,
    Told,
)

from squall.chaos.check.facts import RunFacts, Span
from squall.core.target import Claims

TOPICS = ("order.created", "order.paid", "stock.low", "$sys.tick")
PATTERNS = ("order.>", "*.created", ">", "order.paid", "stock.*")
END = 400


@dataclass
class Generated:
    """A history with what its target claims and its run knows."""

    history: History
    claims: Claims
    facts: RunFacts


def generate(random: Random, subscriptions: int | None = None) -> Generated:
    """A history of a few events. Times are small numbers, so that they collide and overlap often."""
    maybe = _Maybe(random)
    count = subscriptions or random.randint(1, 3)
    history = History(intervals=[])
    for number in range(count):
        history.intervals += _intervals(maybe, number)
    for event in range(random.randint(0, 9)):
        history.publishes += _ops(maybe, event)
    for batch in range(random.choice([0, 0, 1, 2])):
        whole = random.sample(history.publishes, min(len(history.publishes), random.randint(1, 4)))
        alike: list[Outcome] = random.choice([["ok"], ["fail"], ["info"], ["info"], ["ok", "fail"]])
        for op in whole:
            op.batch, op.outcome = batch, random.choice(alike)
            op.seq = op.seq if op.outcome == "ok" else None
    for event in range(11 if maybe(0.1) else 9):
        for number in range(count):
            if maybe(0.75):
                history.attempts += _attempts(maybe, event, number, history)
    if maybe(0.1):
        seq = random.choice([None, random.randint(1, 9)])
        history.attempts.append(Attempt(None, random.randint(0, END), None, None, None, seq=seq))
    random.shuffle(history.attempts)
    _surroundings(maybe, history, count)
    drain = Span(250, maybe.time(300, END)) if maybe(0.6) else None
    claims = Claims(
        delivery="at-most-once" if maybe(0.15) else "at-least-once",
        seq_scope=random.choice(["store", "store", "store", None, "shard"]),
        lease_s=random.choice([None, None, 20e-9]),
        max_attempts=random.choice([None, 2]),
        durability=random.choice(["memory", "memory", "process"]),
        kept_by=random.choice([None, "redis", "redis", "redis"]),
    )
    drained = random.choice([None, True, False])
    return Generated(
        history, claims, RunFacts(drain=drain, drained=drained, clock_error_ns=random.choice([0, 0, 0, 5]))
    )


class _Maybe:
    """Weighted choices."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def __call__(self, probability: float) -> bool:
        return self.random.random() < probability

    def time(self, low: int = 0, high: int = END) -> int:
        return self.random.randint(low, high)


def _intervals(maybe: _Maybe, number: int) -> list[Interval]:
    random = maybe.random
    found = []
    joined = maybe.time(0, 60)
    for _ in range(2 if maybe(0.25) else 1):
        ok = None if maybe(0.05) else joined + maybe.time(0, 10)
        left = joined + maybe.time(20, 200) if maybe(0.35) else None
        durable = maybe(0.6)
        start = random.choices(["new", "earliest", "3"], [17, 2, 1])[0]
        found.append(
            Interval(
                number,
                f"s{number}",
                random.choice(PATTERNS),
                priority_min=2 if maybe(0.1) else None,
                durable=durable,
                delivery="at-most-once" if maybe(0.15) else "at-least-once",
                start=start,
                on_retry="block_key" if maybe(0.3) else "skip",
                concurrency=random.choice([1, 1, 3]),
                timeout=random.choice([None, 15, 40]),
                lease=random.choice([None, None, 30]),
                max_attempts=random.choice([None, 2, 3]),
                join_invoked=joined,
                join_ok=ok,
                leave_invoked=left,
                leave_ok=None if left is None or maybe(0.2) else left + maybe.time(0, 10),
                from_seq=maybe.time(0, 6) if (durable and maybe(0.6)) or start == "3" else None,
                to_seq=maybe.time(4, 12) if durable and maybe(0.15) else None,
            )
        )
        joined = (left or joined) + maybe.time(10, 60)
    return found


def _ops(maybe: _Maybe, event: int) -> list[Publish]:
    random = maybe.random
    key, priority, topic = random.choice([None, 0, 1]), random.choice([1, 2, 2, 2]), random.choice(TOPICS[:3])
    if maybe(0.05):
        topic = TOPICS[3]
    found: list[Publish] = []
    invoked = maybe.time(0, 200)
    for _ in range(random.choice([1, 1, 1, 1, 2, 3])):
        outcome = random.choices(["ok", "fail", "info"], [8, 1, 1])[0]
        ended = None if outcome == "info" and maybe(0.5) else invoked + maybe.time(0, 20)
        seq = None
        if outcome == "ok" and not maybe(0.1):
            seq = event + 1 if maybe(0.8) else maybe.time(1, 12)
        found.append(
            Publish(
                event,
                invoked,
                ended,
                outcome,  # type: ignore[arg-type]
                seq,
                key,
                priority,
                topic,
                duplicate=outcome == "ok" and bool(found) and maybe(0.5),
                hash=None if maybe(0.05) else 7,
                intended=invoked - maybe.time(0, 10),
                seq_scope=int(maybe(0.1)),
            )
        )
        invoked += maybe.time(0, 30)
    random.shuffle(found)
    return found


def _attempts(maybe: _Maybe, event: int, number: int, history: History) -> list[Attempt]:
    random = maybe.random
    ops = [op for op in history.publishes if op.event == event]
    op = ops[0] if ops else Publish(event, 50, 60)
    start = min((op.invoked for op in ops), default=50)
    begun = max(0, start + maybe.time(-3 if maybe(0.05) else 0, 60))
    found: list[Attempt] = []
    for attempt in range(1, random.choice([1, 1, 1, 1, 2, 2, 3, 4]) + 1):
        result: Result | None = random.choices(["ok", "error", "timeout", "died", None], [12, 4, 2, 1, 1])[0]  # type: ignore[assignment]
        ended = None if result is None or (result == "died" and maybe(0.5)) else begun + maybe.time(0, 30)
        settlement: Settlement | None = "ack" if result == "ok" else random.choice(["nak", "nak", "term", None])
        if maybe(0.08):
            settlement = random.choice(["ack", "nak", "term", None])
        invoked = (
            None if settlement is None or maybe(0.05) else (ended or begun) + maybe.time(-5 if maybe(0.1) else 0, 5)
        )
        ok = None if invoked is None or maybe(0.1) else invoked + maybe.time(0, 10)
        found.append(
            Attempt(
                event,
                begun,
                ended,
                result,
                settlement,
                invoked,
                ok,
                None if ok is None else ("refused" if maybe(0.07) else "ok"),
                number,
                attempt,
                random.choice([0, 0, 1]),
                op.key,
                op.priority,
                None if maybe(0.08) else maybe.time(1, 12) if maybe(0.04) else op.seq,
                by_handler=maybe(0.07),
                hash=random.choice([None, 8]) if maybe(0.06) else 7,
            )
        )
        if maybe(0.03):
            topic, told_key, level = random.choice([(TOPICS[2], None, None), (None, 1, 3), (TOPICS[0], 0, None)])
            history.told.append(Told(event, begun, number, topic, told_key, level))
        begun += maybe.time(0, 50)
    return found


def _keepers(maybe: _Maybe) -> list[Process]:
    """The lives of who keeps the events: it ends, once or twice, and comes back or does not."""
    found: list[Process] = []
    gone = 0
    for life in range(2, 2 + (maybe.random.choice([1, 2, 3]) if maybe(0.3) else 0)):
        started, gone = maybe.time(gone, gone + 40), maybe.time(gone + 40, gone + 120)
        found.append(Process(life, started, None if maybe(0.3) else gone, "redis"))
    return found


def _surroundings(maybe: _Maybe, history: History, subscriptions: int) -> None:
    random = maybe.random

    def anyone() -> int:
        return random.randrange(subscriptions)

    for _ in range(random.choice([0, 0, 1, 3])):
        state = random.choice(["acked", "dead_lettered", "dead_lettered", "expired", "cancelled"])
        history.terminals.append(Terminal(maybe.time(0, 10), anyone(), state, maybe.time(50, END)))  # type: ignore[arg-type]
    for number in range(random.choice([0, 1, 2])):
        begun = maybe.time(0, 200)
        history.faults.append(
            FaultWindow(number, f"f{number}", begun, None if maybe(0.1) else begun + maybe.time(1, 90))
        )
        history.hits.append(FaultHit(number, begun, maybe.time(0, 9) if maybe(0.3) else None))
    if maybe(0.2):
        history.processes.append(Process(0, 0, maybe.time(100, 300)))
        history.processes.append(Process(1, maybe.time(100, 300)))
    history.processes += _keepers(maybe)
    for _ in range(random.choice([0, 0, 0, 1, 2])):
        kind = random.choice(["redrive", "redrive", "replay", "pause"])
        subscription = None if maybe(0.3) else anyone()
        event = maybe.time(0, 9) if maybe(0.5) else None
        history.controls.append(Control(kind, maybe.time(60, 300), None, subscription, event))  # type: ignore[arg-type]
    if maybe(0.12):
        begun = maybe.time(0, 300)
        history.gaps.append(Gap(random.choice(["publish", "attempt"]), begun, begun + 10))
    for number in range(subscriptions):
        if maybe(0.4):
            value = 0 if maybe(0.5) else maybe.time(0, 4)
            history.counters += [Counter(50, "pending", number, 9), Counter(390, "pending", number, value)]
            if maybe(0.3):
                history.counters.append(Counter(maybe.time(150, 390), "acked", number, maybe.time(0, 9)))
