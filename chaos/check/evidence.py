"""What the tables hold about a few events: the material from which blame is told."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

import duckdb

from squall.chaos.check.case import ABANDONED
from squall.chaos.check.facts import RunFacts
from squall.chaos.check.publish_path import passes

MAX_EVENTS = 50_000  # more than all invariants together keep, with their witnesses
MAX_HITS = 20_000
OPEN = "open"
"""The state of a gate that holds all deliveries back."""


@dataclass(frozen=True)
class Op:
    """One call of publish, times in ns."""

    event: int
    op: int
    topic: str
    key: str | None
    priority: int
    intended: int
    invoked: int
    ended: int | None
    outcome: str
    seq: int | None
    duplicate: bool
    hash: int | None = None


HOW = {
    "ok": "ended well",
    "error": "failed",
    "timeout": "was cut off at its timeout",
    "died": "crashed",
    "abandoned": "ignored its cancellation",
    None: "never ended",
}
"""How a handler ended, by its result."""


@dataclass(frozen=True)
class Try:
    """One call of a handler, times in ns. `result` is `abandoned` where the target was done with it when its time was
    over, and its handler ran on; it `ended` then."""

    event: int
    subscription: int
    attempt: int
    process: int
    worker: int
    seq: int | None
    begun: int
    ended: int | None
    result: str | None
    settlement: str | None
    settle_invoked: int | None
    settle_ok: int | None
    settle_answer: str | None
    by_handler: bool
    hash: int | None = None

    @property
    def settled(self) -> bool:
        """The target took the event for done after this."""
        return (
            self.settlement in ("ack", "term") and self.settle_invoked is not None and self.settle_answer != "refused"
        )


@dataclass(frozen=True)
class Told:
    """What a delivery came with that is not what its event was published with; None: as published, or not told."""

    event: int
    subscription: int
    topic: str | None
    key: str | None
    priority: int | None


@dataclass(frozen=True)
class End:
    """A row of `terminal`."""

    event: int
    subscription: int
    state: str
    time: int
    source: str


@dataclass(frozen=True)
class Window:
    """A fault while it was active."""

    fault: int
    name: str
    kind: str
    seam: str
    begun: int
    ended: int | None

    def active(self, begun: int, ended: int | None) -> bool:
        """Whether it was, at some moment from begun to ended (None: for ever)."""
        return (ended is None or self.begun <= ended) and (self.ended is None or begun < self.ended)


@dataclass(frozen=True)
class Hit:
    """A call that a fault acted on; event None: not told whose."""

    fault: int
    time: int
    event: int | None
    subscription: int | None


@dataclass(frozen=True)
class Control:
    """A pause, redrive or replay."""

    kind: str
    subscription: int | None
    event: int | None
    begun: int
    ended: int | None


@dataclass(frozen=True)
class Gated:
    """A state of a gate of a subscription, from when to when it was in it (None: to the end)."""

    subscription: int
    gate: str
    state: str
    begun: int
    ended: int | None

    @property
    def open_to_the_end(self) -> bool:
        """Whether it held all deliveries back when the recording ended."""
        return self.state == OPEN and self.ended is None

    def held_ns(self, begun: int, ended: int) -> int:
        """How much of the time from begun to ended it held all deliveries back."""
        if self.state != OPEN:
            return 0
        return max(0, min(ended, ended if self.ended is None else self.ended) - max(begun, self.begun))


@dataclass(frozen=True)
class Exit:
    """A process that began, or exited."""

    name: str
    started: int
    exited: int | None


@dataclass(frozen=True)
class Specification:
    """What a subscription asked for, in its last interval, and when it came and went. Times in ns."""

    name: str
    pattern: str
    filters: str | None
    priority_min: int | None
    delivery: str
    concurrency: int
    timeout: int | None
    max_attempts: int | None
    join_invoked: int
    join_ok: int | None
    leave_invoked: int | None
    leave_ok: int | None


@dataclass
class Evidence:
    """All that is known of some events. `origin_ns` is the zero of the times that people read.

    `owners`: whose seq it is that an attempt came with. `instead`: what came to a subscription with an event's seq, and
    was not it. `innocent`: faults that are only there by coincidence.
    `held_loop`: whose handler held the event loop, in words. `slowest_ns`: by subscription, how long the slowest
    handler took that ended well; only where an attempt was cut off. `running_on`: how many abandoned handlers each
    subscription had at the end. `durability`, `kept_by` and `publish_path` are what the target claimed.
    """

    origin_ns: int
    ops: dict[int, list[Op]] = field(default_factory=dict)
    tries: dict[int, list[Try]] = field(default_factory=dict)
    told: dict[tuple[int, int], Told] = field(default_factory=dict)
    ends: dict[int, list[End]] = field(default_factory=dict)
    hits: list[Hit] = field(default_factory=list)
    windows: Mapping[int, Window] = field(default_factory=dict)
    controls: Sequence[Control] = ()
    gates: Sequence[Gated] = ()
    processes: Sequence[Exit] = ()
    subscriptions: Mapping[int, Specification] = field(default_factory=dict)
    owners: Mapping[int, int] = field(default_factory=dict)
    instead: dict[tuple[int, int], Try] = field(default_factory=dict)
    innocent: frozenset[int] = frozenset()
    held_loop: str = ""
    slowest_ns: Mapping[int, int] = field(default_factory=dict)
    running_on: Mapping[int, int] = field(default_factory=dict)
    durability: str = ""
    kept_by: str | None = None
    publish_path: tuple[str, ...] | None = None

    def at(self, time_ns: int) -> str:
        """`29.941 s`."""
        return f"{(time_ns - self.origin_ns) / 1e9:.3f} s"

    def number(self, subscriber: str | None) -> int | None:
        """The id of the subscription of that name."""
        return next((number for number, one in self.subscriptions.items() if one.name == subscriber), None)

    def name(self, subscription: int) -> str:
        """The name of the subscription of that id."""
        one = self.subscriptions.get(subscription)
        return one.name if one else f"subscription {subscription}"

    def of(self, event: int, subscription: int | None) -> list[Try]:
        """The event's attempts at one subscription (None: at all), in order."""
        return [t for t in self.tries.get(event, []) if subscription is None or t.subscription == subscription]

    def hit_during(self, attempt: Try) -> Window | None:
        """The fault that acted on this attempt: it hit this event and subscription meanwhile; or one in whose window at
        this handler the attempt failed, where hits were not recorded one by one."""
        ended = attempt.ended
        for hit in self.hits:
            mine = hit.event == attempt.event and hit.subscription in (None, attempt.subscription)
            if mine and hit.time >= attempt.begun and (ended is None or hit.time <= ended):
                return self.windows.get(hit.fault)
        recorded = {hit.fault for hit in self.hits if hit.event is not None}
        seam = f"handler:{self.name(attempt.subscription)}"
        for window in self.windows.values():
            if window.seam == seam and window.fault not in recorded and window.active(attempt.begun, ended):
                return window
        return None

    @property
    def on_publish_path(self) -> list[Window]:
        """Faults that a publish may have passed on its way to its acknowledgement."""
        return [window for window in self.windows.values() if passes(self.publish_path, window.seam) is not False]

    def passed(self, begun: int, ended: int | None) -> list[Window]:
        """Those that a publish may have passed from begun to ended, innocent ones left out."""
        return [w for w in self.on_publish_path if w.fault not in self.innocent and w.active(begun, ended)]

    def held(self, subscription: int | None, begun: int, ended: int) -> list[Gated]:
        """The subscription's gates while they held it back at some moment from begun to ended."""
        return [g for g in self.gates if g.subscription == subscription and g.held_ns(begun, ended) > 0]

    def owner(self, attempt: Try) -> int | None:
        """The other event whose seq this attempt came with; None where it is the event's own, or nobody's."""
        ops = self.ops.get(attempt.event, [])
        if attempt.seq is None or any(op.outcome == "info" or op.seq == attempt.seq for op in ops):
            return None
        if attempt.hash is not None and any(op.hash == attempt.hash for op in ops):
            return None  # its payload is its own: it is the seq that is wrong
        return self.owners.get(attempt.seq)

    def keeper_ended(self, acked: int) -> Exit | None:
        """The process that kept what was acknowledged then, if it has ended before it had to be there again."""
        lives = [one for one in self.processes if one.name == self.kept_by]
        for one, following in zip_longest(lives, lives[1:]):
            if one.exited is not None and (following is None or acked < following.started):
                return one
        return None

    def restart(self, begun: int, ended: int | None) -> int | None:
        """When a process first began or exited after begun, until ended."""
        times = [time for one in self.processes for time in (one.started, one.exited) if time is not None]
        return min((time for time in times if time > begun and (ended is None or time <= ended)), default=None)


def gather(db: duckdb.DuckDBPyConnection, facts: RunFacts, events: Collection[int]) -> Evidence:
    """Read everything about at most MAX_EVENTS of the events."""
    wanted = sorted(events)[:MAX_EVENTS]
    chosen = f"event IN ({', '.join(map(str, wanted))})" if wanted else "false"
    evidence = _surroundings(db, facts)
    for row in db.execute(
        "SELECT event, op, coalesce(t.name, ''), k.name, priority, intended, invoked, ended, outcome, seq, duplicate, "
        "hash "
        "FROM publish p LEFT JOIN topic t ON t.topic = p.type LEFT JOIN key k ON k.key = p.key "
        f"WHERE {chosen} ORDER BY invoked, op"
    ).fetchall():
        evidence.ops.setdefault(row[0], []).append(Op(*row))
    columns = ", ".join(Try.__dataclass_fields__)
    told = "CASE WHEN ran_on THEN 'abandoned' ELSE result END AS result, "
    told += "CASE WHEN ran_on THEN settle_invoked ELSE ended END AS ended"
    for row in db.execute(
        f"SELECT {columns} FROM (SELECT * REPLACE ({told}) FROM (SELECT *, {ABANDONED} AS ran_on FROM attempt a "
        f"WHERE {chosen})) ORDER BY begun, rid"
    ).fetchall():
        evidence.tries.setdefault(row[0], []).append(Try(*row))
    if any(one.result == "timeout" for tries in evidence.tries.values() for one in tries):
        evidence.slowest_ns = dict(
            db.execute("SELECT subscription, max(ended - begun) FROM attempt WHERE result = 'ok' GROUP BY 1").fetchall()
        )
    _impostors(db, evidence, chosen, columns)
    for row in db.execute(
        "SELECT event, subscription, c.name, k.name, priority FROM told t LEFT JOIN topic c ON c.topic = t.type "
        f"LEFT JOIN key k ON k.key = t.key WHERE {chosen} ORDER BY begun DESC"
    ).fetchall():
        evidence.told[row[:2]] = Told(*row)
    for row in db.execute(
        f"SELECT event, subscription, state, time, source FROM terminal WHERE {chosen} ORDER BY time"
    ).fetchall():
        evidence.ends.setdefault(row[0], []).append(End(*row))
    evidence.hits = [
        Hit(*row)
        for row in db.execute(
            f"SELECT fault, time, event, subscription FROM fault_hit WHERE {chosen} ORDER BY time LIMIT {MAX_HITS}"
        ).fetchall()
    ]
    return evidence


def _impostors(db: duckdb.DuckDBPyConnection, evidence: Evidence, chosen: str, columns: str) -> None:
    """Attempts that came with the seq of another event; only where all seqs are of one scope."""
    if db.execute("SELECT count(DISTINCT seq_scope) FROM publish").fetchall() != [(1,)]:
        return
    numbered = "publish WHERE outcome = 'ok' AND NOT duplicate AND seq IS NOT NULL"
    evidence.owners = dict(
        db.execute(
            f"SELECT seq, min(event) FROM {numbered} AND seq IN (SELECT seq FROM attempt WHERE {chosen}) GROUP BY seq"
        ).fetchall()
    )
    mine = f"SELECT seq, event AS mine FROM {numbered} AND {chosen}"
    for mine_event, *row in db.execute(
        f"""SELECT mine, {columns} FROM attempt a JOIN ({mine}) m USING (seq)
        ANTI JOIN (FROM {numbered}) own ON own.event = a.event AND own.seq = a.seq ORDER BY begun, rid"""
    ).fetchall():
        attempt = Try(*row)
        evidence.instead.setdefault((mine_event, attempt.subscription), attempt)


def gate_states(db: duckdb.DuckDBPyConnection) -> list[Gated]:
    """Every state of every gate that changed, in the order of time."""
    rows = db.execute(
        "SELECT subscription, gate, state, time, lead(time) OVER (PARTITION BY subscription, gate ORDER BY time, rid) "
        "FROM gate ORDER BY time, rid"
    ).fetchall()
    return [Gated(*row) for row in rows]


def _surroundings(db: duckdb.DuckDBPyConnection, facts: RunFacts) -> Evidence:
    (first,) = db.execute("SELECT min(invoked) FROM publish").fetchone() or (0,)
    windows = [
        Window(*row)
        for row in db.execute(
            "SELECT fault, name, kind, seam, begun, ended FROM fault ORDER BY begun, fault"
        ).fetchall()
    ]
    controls = db.execute("SELECT kind, subscription, event, begun, ended FROM control ORDER BY begun").fetchall()
    processes = db.execute("SELECT name, started, exited FROM process ORDER BY started").fetchall()
    running_on = db.execute(
        f"SELECT subscription, count(*) FROM attempt a WHERE ended IS NULL AND {ABANDONED} GROUP BY 1"
    ).fetchall()
    subscriptions = db.execute(
        f"SELECT subscription, {', '.join(Specification.__dataclass_fields__)} FROM subscription ORDER BY join_invoked"
    ).fetchall()
    return Evidence(
        origin_ns=facts.load.begun if facts.load else int(first or 0),
        windows={window.fault: window for window in windows},
        controls=[Control(*row) for row in controls],
        gates=gate_states(db),
        processes=[Exit(*row) for row in processes],
        running_on=dict(running_on),
        durability=facts.durability,
        kept_by=facts.kept_by,
        publish_path=facts.publish_path,
        subscriptions={row[0]: Specification(*row[1:]) for row in subscriptions},
    )
