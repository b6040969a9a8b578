"""What the target held while it was soaked, over time: memory and files, handles, threads and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from squall.chaos.figures import size
from squall.chaos.report.axis import Axis
from squall.chaos.report.chart import Chart, Series, Values, level_chart
from squall.core.units import format_count

COUNTED = ("handles", "threads", "tasks")


@dataclass(frozen=True)
class Held:
    """Of one process, in each bucket: bytes of memory and of the store's files, and how many
    handles, threads and tasks. None: nobody looked yet, or any more, or could know."""

    process: str
    memory: Values
    store: Values
    handles: Values
    threads: Values
    tasks: Values


def held(db: duckdb.DuckDBPyConnection, axis: Axis) -> tuple[Held, ...]:
    """Of every process that was looked at, the least in each bucket; what was not looked at is as it was before."""
    rows = db.execute(
        f"""SELECT coalesce(name, 'bench') AS process, {axis.bucket("time")} AS bucket, min(memory), min(store),
            min(handles), min(threads), min(tasks)
        FROM sample LEFT JOIN (SELECT DISTINCT name, pid FROM process) USING (pid)
        WHERE time BETWEEN {axis.begun_ns} AND {axis.ended_ns - 1} GROUP BY ALL ORDER BY process, bucket"""
    ).fetchall()
    found: dict[str, dict[int, Sequence[float | None]]] = {}
    for name, bucket, *values in rows:
        found.setdefault(name, {})[bucket] = values
    return tuple(
        Held(name, *(_between(looks, figure, axis.count) for figure in range(5))) for name, looks in found.items()
    )


def _between(looks: dict[int, Sequence[float | None]], figure: int, count: int) -> Values:
    values: list[float | None] = [None] * count
    for bucket in range(min(looks), max(looks) + 1):
        values[bucket] = looks[bucket][figure] if bucket in looks else values[bucket - 1]
    return tuple(values)


def held_charts(processes: Sequence[Held], axis: Axis) -> tuple[Chart, ...]:
    """Two of them; none where nobody looked."""
    if not processes:
        return ()
    of_bytes, counted = list[Series](), list[Series]()
    for one in processes:
        named = "" if len(processes) == 1 else f"{one.process}'s "
        for what, values in (("memory", one.memory), ("store's files", one.store)):
            _add(of_bytes, f"{named}{what}", values, size(_last(values)))
        for what in COUNTED:
            values = getattr(one, what)
            _add(counted, f"{named}{what}", values, format_count(_last(values)))
    return (
        level_chart("Memory", "bytes", "What the target held; the bench's own is left out.", of_bytes, axis, size),
        level_chart("Handles, threads, tasks", "how many", "What was open, or ran.", counted, axis, format_count),
    )


def _last(values: Values) -> float:
    return next((value for value in reversed(values) if value is not None), 0.0)


def _add(lines: list[Series], name: str, values: Values, note: str) -> None:
    if any(value is not None for value in values):
        lines.append(Series(name, f"s{len(lines) % 6}", values, f"{note} at the end"))
