"""What the target held while it was soaked, over time: memory and files, handles, threads and tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import duckdb

from squall.chaos.check.growth import NAMED_SAMPLES
from squall.chaos.figures import size
from squall.chaos.report.axis import Axis
from squall.chaos.report.chart import Chart, Series, Values, level_chart
from squall.core.units import format_count


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
        f"""SELECT name, {axis.bucket("time")} AS bucket, min(memory), min(store),
            min(handles), min(threads), min(tasks)
        FROM {NAMED_SAMPLES}
        WHERE time BETWEEN {axis.begun_ns} AND {axis.ended_ns - 1} GROUP BY ALL ORDER BY name, bucket"""
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


def sizes(processes: Sequence[Held]) -> Mapping[str, Values]:
    """Bytes to draw, by the name of the line: memory and the store's files, where they are known."""
    return _lines(processes, lambda one: {"memory": one.memory, "store's files": one.store})


def counts(processes: Sequence[Held]) -> Mapping[str, Values]:
    """How many to draw, by the name of the line: handles, threads and tasks, where they are known."""
    return _lines(processes, lambda one: {"handles": one.handles, "threads": one.threads, "tasks": one.tasks})


def _lines(processes: Sequence[Held], figures: Callable[[Held], Mapping[str, Values]]) -> Mapping[str, Values]:
    return {
        what if len(processes) == 1 else f"{one.process}'s {what}": values
        for one in processes
        for what, values in figures(one).items()
        if any(value is not None for value in values)
    }


def held_charts(processes: Sequence[Held], axis: Axis) -> tuple[Chart, ...]:
    """Two of them; none where nobody looked."""
    if not processes:
        return ()
    memory, counted = _series(sizes(processes), size), _series(counts(processes), format_count)
    return (
        level_chart("Memory", "bytes", "What the target held; the bench's own is left out.", memory, axis, size),
        level_chart("Handles, threads, tasks", "how many", "What was open, or ran.", counted, axis, format_count),
    )


def _last(values: Values) -> float:
    return next((value for value in reversed(values) if value is not None), 0.0)


def _series(lines: Mapping[str, Values], told: Callable[[float], str]) -> list[Series]:
    return [
        Series(name, f"s{place % 6}", values, f"{told(_last(values))} at the end")
        for place, (name, values) in enumerate(lines.items())
    ]
