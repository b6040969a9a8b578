"""Spans that the tracing plugin has written into a folder: the newest files of it, as many as a page can bear."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from squall.chaos.history.reader import tune
from squall.core.errors import StoreFileError
from squall.plugins.tracing.columns import SCHEMA

MAX_FILES = 2000
MAX_BYTES = 64_000_000
MAX_SPANS = 60_000
"""Of so many files, bytes of them and spans a page shows at most. A service writes a file a second, for ever."""
WHOLE = "spans.parquet"
Clock = Literal["begun", "wall"]
"""The column that says when: monotonic, of a run's history; or wall time, where processes came and went."""

ORDERS: Mapping[str, str] = {
    "newest": "max(at_ns) DESC",
    "slowest": "max(until_ns) - min(at_ns) DESC",
    "most failures": "count(error) DESC, max(at_ns) DESC",
    "most spans": "count(*) DESC, max(at_ns) DESC",
}
"""By what traces are chosen, and the SQL that says so."""


class Traced(NamedTuple):
    """One span. at_ns and until_ns are of the clock asked for; begun_ns is monotonic, as are the times in notes."""

    trace: str
    span: str
    parent: str | None
    operation: str
    topic: str
    receiver: str | None
    source: str | None
    seq: int | None
    attempt: int | None
    begun_ns: int
    at_ns: int
    until_ns: int
    waited_ns: int | None
    error: str | None
    message: str | None
    why: str
    partial: bool
    attributes: str | None
    links: Sequence[Mapping[str, str]]
    notes: Sequence[Mapping[str, object]]


_COLUMNS = """trace, span, parent, operation, coalesce(topic, '') AS topic, subscription AS receiver, source, seq,
    attempt, begun AS begun_ns, {clock} AS at_ns, {clock} + greatest(ended - begun, 0) AS until_ns,
    waited AS waited_ns, error, message,
    coalesce(why, '') AS why, coalesce(partial, false) AS partial, attributes, coalesce(links, []) AS links,
    coalesce(events, []) AS notes"""


@dataclass(frozen=True)
class Files:
    """What of a folder is looked at, newest first: written until newest_s (seconds since 1970), `older` files are not
    looked at, and `unreadable` says which could not be, and why."""

    paths: tuple[Path, ...] = ()
    newest_s: float = 0.0
    older: int = 0
    unreadable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Wanted:
    """Which traces: those with a span of this type, kept for this reason, that ended with this error; None: any."""

    order: str = "newest"
    limit: int = 20
    topic: str | None = None
    why: str | None = None
    error: str | None = None


def has_spans(folder: Path) -> bool:
    """Whether there are any."""
    return bool(newest_files(folder).paths)


def newest_files(folder: Path, until_s: float | None = None) -> Files:
    """The files to look at: of a run that is over the one that it has; else the newest of those that had been written
    by until_s. Files have their name only once they are whole."""
    whole = folder / WHOLE
    if whole.exists():
        return Files((whole,), whole.stat().st_mtime)
    written = sorted(_written(folder, until_s), reverse=True)
    paths: list[Path] = []
    room = MAX_BYTES
    for _, path, size in written[:MAX_FILES]:
        room -= size
        if room < 0 and paths:
            break
        paths.append(Path(path))
    return Files(tuple(paths), written[0][0] if written else 0.0, len(written) - len(paths))


def _written(folder: Path, until_s: float | None) -> Iterator[tuple[float, str, int]]:
    if not folder.is_dir():
        return
    for entry in os.scandir(folder):
        if entry.name.startswith("spans-") and entry.name.endswith(".parquet"):
            try:
                found = entry.stat()
            except FileNotFoundError:  # somebody tidies up
                continue
            if until_s is None or found.st_mtime <= until_s:
                yield found.st_mtime, entry.path, found.st_size


@contextmanager
def open_spans(
    folder: Path, clock: Clock, until_s: float | None = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Files]]:
    """The spans as a view `span`, and what it is made of. Raises StoreFileError."""
    try:
        with TemporaryDirectory(prefix="squall-dashboard-") as spill, duckdb.connect() as db:
            tune(db, Path(spill))
            files = newest_files(folder, until_s)
            try:
                _view(db, files.paths, clock)
            except duckdb.Error:  # one has gone meanwhile, or is damaged: which one is, only looking at each tells
                files = _readable(newest_files(folder, until_s))
                _view(db, files.paths, clock)
            yield db, files
    except (OSError, duckdb.Error) as error:
        raise StoreFileError(
            f"{folder}: the spans cannot be read ({error}). If files were just removed there, load the page anew"
        ) from error


def _view(db: duckdb.DuckDBPyConnection, paths: Sequence[Path], clock: Clock) -> None:
    if paths:
        names = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
        columns = _COLUMNS.format(clock=clock)
        whole = f"trace IS NOT NULL AND span IS NOT NULL AND begun + ended + {clock} IS NOT NULL"
        source = f"read_parquet([{names}], union_by_name = true)"
        db.execute(f"CREATE VIEW span AS SELECT {columns} FROM {source} WHERE {whole}")


def _readable(files: Files) -> Files:
    """Without those that are no spans."""
    told = {path: _why_not(path) for path in files.paths}
    return Files(
        tuple(path for path, why in told.items() if not why),
        files.newest_s,
        files.older,
        tuple(f"{path.name}: {why}" for path, why in told.items() if why),
    )


def _why_not(path: Path) -> str:
    try:
        names = pq.read_schema(path).names
    except (OSError, pa.ArrowException) as error:
        return f"cannot be read as Parquet ({error})"
    missing = [name for name in SCHEMA.names if name not in names]
    return f"is not what the tracing plugin wrote: it has no column {missing[0]}" if missing else ""


def values(db: duckdb.DuckDBPyConnection, column: Literal["topic", "why", "error"], limit: int = 1000) -> list[str]:
    """What stands in a column, each once, in order."""
    found = db.execute(f"SELECT DISTINCT {column} FROM span WHERE {column} IS NOT NULL ORDER BY 1 LIMIT {limit}")
    return [value for (value,) in found.fetchall()]


def choose(db: duckdb.DuckDBPyConnection, wanted: Wanted) -> list[str]:
    """The names of the traces that are wanted, in their order."""
    rows = db.execute(
        f"""SELECT trace FROM span GROUP BY trace
        HAVING bool_or(($topic IS NULL OR topic = $topic) AND ($why IS NULL OR why = $why)
            AND ($error IS NULL OR coalesce(error = $error, false)))
        ORDER BY {ORDERS[wanted.order]}, trace LIMIT $limit""",
        {"topic": wanted.topic, "why": wanted.why, "error": wanted.error, "limit": wanted.limit},
    ).fetchall()
    return [trace for (trace,) in rows]


def of_seqs(db: duckdb.DuckDBPyConnection, seqs: Sequence[int]) -> list[str]:
    """The names of the traces that have the events with these numbers in the store."""
    found = db.execute("SELECT DISTINCT trace FROM span WHERE seq IN (SELECT unnest($seqs::BIGINT[]))", {"seqs": seqs})
    return [trace for (trace,) in found.fetchall()]


def read(db: duckdb.DuckDBPyConnection, traces: Sequence[str]) -> list[Traced]:
    """The spans of these traces, the first ones of too many, in the order of their begins."""
    rows = db.execute(
        f"""SELECT {", ".join(Traced._fields)} FROM span WHERE trace IN (SELECT unnest($traces::VARCHAR[]))
        ORDER BY at_ns, until_ns DESC LIMIT {MAX_SPANS}""",
        {"traces": traces},
    ).fetchall()
    return [Traced(*row) for row in rows]
