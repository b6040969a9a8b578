"""A history as plain lists, written into files for the checker and read directly by the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import duckdb
import pyarrow as pa

from squall.chaos.history import HistoryWriter
from squall.chaos.history.tables import SORT, TABLES
from squall.chaos.history.writer import rows_of

Outcome = Literal["ok", "fail", "info"]
Result = Literal["ok", "error", "timeout", "died"]
Settlement = Literal["ack", "nak", "term"]


@dataclass
class Publish:
    """A row of `publish`, with a topic by name. The event's key is its number, None for no key."""

    event: int
    invoked: int
    ended: int | None
    outcome: Outcome = "ok"
    seq: int | None = None
    key: int | None = None
    priority: int = 2
    topic: str = "order.created"
    duplicate: bool = False
    hash: int | None = 7
    intended: int | None = None
    seq_scope: int = 0
    batch: int | None = None
    process: int = 0


@dataclass
class Attempt:
    """A row of `attempt`."""

    event: int | None
    begun: int
    ended: int | None
    result: Result | None = "ok"
    settlement: Settlement | None = "ack"
    settle_invoked: int | None = None
    settle_ok: int | None = None
    settle_answer: Literal["ok", "refused"] | None = None
    subscription: int = 0
    attempt: int = 1
    process: int = 0
    key: int | None = None
    priority: int = 2
    seq: int | None = None
    by_handler: bool = False
    hash: int | None = 7


@dataclass
class Told:
    """A row of `told`, with a topic by name."""

    event: int
    begun: int
    subscription: int = 0
    topic: str | None = None
    key: int | None = None
    priority: int | None = None


@dataclass
class Interval:
    """A row of `subscription`."""

    subscription: int = 0
    name: str = "billing"
    pattern: str = "order.>"
    filters: str | None = None
    priority_min: int | None = None
    durable: bool = True
    delivery: Literal["at-least-once", "at-most-once"] = "at-least-once"
    start: str = "new"
    on_retry: Literal["skip", "block_key"] = "skip"
    concurrency: int = 1
    timeout: int | None = None
    lease: int | None = None
    max_attempts: int | None = None
    join_invoked: int = 1
    join_ok: int | None = 2
    leave_invoked: int | None = None
    leave_ok: int | None = None
    from_seq: int | None = None
    to_seq: int | None = None


@dataclass
class Terminal:
    """A row of `terminal`."""

    event: int
    subscription: int = 0
    state: Literal["acked", "dead_lettered", "expired", "cancelled"] = "dead_lettered"
    time: int = 0
    source: str = "dead letters"


@dataclass
class FaultWindow:
    """A row of `fault`."""

    fault: int
    name: str
    begun: int
    ended: int | None
    kind: str = "exception"
    seam: str = "handler:billing"
    passes: int = 10
    hits: int = 1
    healed: bool | None = True
    error: str | None = None


@dataclass
class FaultHit:
    """A row of `fault_hit`."""

    fault: int
    time: int
    event: int | None = None
    subscription: int | None = None
    process: int | None = None


@dataclass
class Process:
    """A row of `process`."""

    process: int
    started: int
    exited: int | None = None
    name: str = "target"
    role: Literal["target", "worker", "bench"] = "target"
    pid: int = 1
    exit_code: int | None = None
    answered: int | None = None


@dataclass
class Control:
    """A row of `control`."""

    kind: Literal["pause", "redrive", "replay"]
    begun: int
    ended: int | None = None
    subscription: int | None = 0
    event: int | None = None


@dataclass
class Gap:
    """A row of `gap`."""

    source: Literal["publish", "attempt"]
    begun: int
    ended: int
    lost: int | None = None
    why: str = "ring overrun"


@dataclass
class Gate:
    """A row of `gate`."""

    time: int
    state: str
    subscription: int = 0
    gate: str = "breaker"


@dataclass
class Counter:
    """A row of `counter`."""

    time: int
    name: str
    subscription: int | None
    value: int


@dataclass
class Sample:
    """A row of `sample`."""

    time: int
    events: int
    memory: int = 80_000_000
    objects: int | None = 500_000
    handles: int = 30
    threads: int = 6
    tasks: int = 20
    store: int | None = None
    kept: int | None = None
    waiting: int = 0
    pid: int = 1


@dataclass
class History:
    """All that was recorded, in the order in which it was written."""

    publishes: list[Publish] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)
    intervals: list[Interval] = field(default_factory=lambda: [Interval()])
    terminals: list[Terminal] = field(default_factory=list)
    faults: list[FaultWindow] = field(default_factory=list)
    hits: list[FaultHit] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    controls: list[Control] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    counters: list[Counter] = field(default_factory=list)
    gates: list[Gate] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)


Row = TypeVar("Row")


def write(history: History, folder: Path) -> Path:
    """Write the history into folder, compacted; returns folder."""
    writer = HistoryWriter(folder)
    for table, columns in _tables(history):
        writer.append(table, columns)
    writer.compact()
    return folder


@cache
def _engine() -> duckdb.DuckDBPyConnection:
    """One for all histories: to start one takes longer than to judge by it.

    Of one thread, and without optimizers: histories this small are worth neither. To improve the plan of a query takes
    longer than to answer it. That the improved plans, by which runs are judged, say the same is for who judges
    histories in files: the comparisons with the oracle, and of each planted violation with what is said here."""
    db = duckdb.connect(config={"threads": 1})
    db.execute("SET GLOBAL preserve_insertion_order = false")
    optimizers = ",".join(name for (name,) in db.execute("SELECT name FROM duckdb_optimizers()").fetchall())
    db.execute(f"SET GLOBAL disabled_optimizers = '{optimizers}'")
    return db


def in_memory(history: History) -> duckdb.DuckDBPyConnection:
    """The same tables without files, for `judge`: sorted as compacted ones are, gone when the connection is closed."""
    db = _engine().cursor()
    given = dict(_tables(history))
    for table, by in SORT.items():
        columns = given.get(table, {})
        times = columns.get(by, [])
        order = sorted(range(len(times)), key=times.__getitem__)
        ordered = {name: [values[place] for place in order] for name, values in columns.items()}
        rows = rows_of(table, ordered) if times else TABLES[table].empty_table()
        db.register("rows", rows.append_column("rid", pa.array(range(rows.num_rows), pa.int64())))
        db.execute(f'CREATE TEMP TABLE "{table}" AS FROM rows')
        db.unregister("rows")
    return db


def _tables(history: History) -> Iterator[tuple[str, dict[str, list[Any]]]]:
    """Each table's columns."""
    names = {p.topic for p in history.publishes} | {t.topic for t in history.told if t.topic is not None}
    topics: dict[str | None, int] = {topic: number for number, topic in enumerate(sorted(names))}
    keyed: list[Publish | Attempt | Told] = [*history.publishes, *history.attempts, *history.told]
    keys = sorted({one.key for one in keyed if one.key is not None})
    yield "topic", {"topic": list(topics.values()), "name": list(topics)}
    yield "key", {"key": list(keys), "name": [f"k-{key}" for key in keys]}
    columns = _columns(history.publishes, skip={"topic", "batch"})
    columns["op"] = list(range(len(history.publishes)))
    columns["type"] = [topics[p.topic] for p in history.publishes]
    columns["intended"] = [p.invoked if p.intended is None else p.intended for p in history.publishes]
    yield "publish", columns
    batched = [(p.batch, op, p.invoked) for op, p in enumerate(history.publishes) if p.batch is not None]
    yield "batch", {name: [row[place] for row in batched] for place, name in enumerate(("batch", "op", "invoked"))}
    yield "attempt", {**_columns(history.attempts), "worker": [0] * len(history.attempts)}
    yield "told", {**_columns(history.told, skip={"topic"}), "type": [topics.get(t.topic) for t in history.told]}
    yield "subscription", _columns(history.intervals)
    yield "terminal", _columns(history.terminals)
    yield "fault", _columns(history.faults)
    yield "fault_hit", _columns(history.hits)
    yield "process", _columns(history.processes)
    yield "control", _columns(history.controls)
    yield "gap", _columns(history.gaps)
    yield "counter", _columns(history.counters)
    yield "gate", _columns(history.gates)
    yield "sample", _columns(history.samples)


def _columns(rows: Sequence[Row], skip: frozenset[str] | set[str] = frozenset()) -> dict[str, list[Any]]:
    if not rows:
        return {}
    names = [f.name for f in fields(rows[0]) if f.name not in skip]  # type: ignore[arg-type]
    return {name: [getattr(row, name) for row in rows] for name in names}
