"""Writes a history: Parquet chunks that a second process may read as they come, one sorted file a table at the end."""

from __future__ import annotations

import json
import os
import threading
from array import array
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, TypeAlias

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from squall.chaos.history.reader import COMPLETE, FORMAT, MANIFEST, VERSION, chunk_list, tune
from squall.chaos.history.tables import NULL, SORT, TABLES, WORDS
from squall.core.errors import StoreFileError

ROW_GROUP_ROWS = 122_880

Column: TypeAlias = "array[int] | Sequence[object]"


class HistoryWriter:
    """Writes the tables of one run into `folder`, from any thread.

    `append` turns columns into a chunk: written under a temporary name, then renamed, so that a reader sees all of it
    or nothing. What fails is raised and kept in `failures`: a history that lost rows must not be judged as whole.

    Raises StoreFileError when the folder cannot be written or holds a history already.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: dict[str, int] = dict.fromkeys(TABLES, 0)
        self.failures: list[str] = []
        self._chunks = dict.fromkeys(TABLES, 0)
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if (folder / MANIFEST).exists():
                raise StoreFileError(f"{folder}: holds a history already; give each run a folder of its own")
            self._write_manifest(complete=False)
        except OSError as error:
            raise StoreFileError(f"{folder}: the history cannot be written ({error.strerror or error})") from error

    def append(self, table: str, columns: Mapping[str, Column]) -> None:
        """Write rows, given column by column, as one chunk.

        A column is an `array('q')` (NULL stands for no value) or a sequence with None. Columns of words take words or
        codes, the index in `tables.WORDS`. A nullable column may be left out: NULL throughout.

        Raises StoreFileError when the chunk cannot be written, ValueError when columns do not fit the table.
        """
        if table in TABLES and not any(len(column) for column in columns.values()):
            return
        rows = self._rows(table, columns)
        with self._lock:
            number = self._chunks[table]
            self._chunks[table] += 1
        self._write(table, rows, number)
        with self._lock:
            self.rows[table] += rows.num_rows

    def rewrite(self, table: str, columns: Mapping[str, Column]) -> None:
        """Write all rows of a small table that is never appended to, instead of those before. As `append`."""
        rows = self._rows(table, columns)
        self._write(table, rows, 0)
        with self._lock:
            self.rows[table] = rows.num_rows

    def _rows(self, table: str, columns: Mapping[str, Column]) -> pa.Table:
        try:
            return rows_of(table, columns)
        except (KeyError, ValueError, TypeError, pa.ArrowException) as error:
            message = f"history table {table}: {error}"
            self.failures.append(message)
            raise ValueError(message) from error

    def _write(self, table: str, rows: pa.Table, number: int) -> None:
        path = self.folder / f"{table}-{number:06d}.parquet"
        temporary = path.with_suffix(f".tmp-{number}")
        try:
            pq.write_table(rows, temporary, compression="zstd", row_group_size=ROW_GROUP_ROWS)
            temporary.replace(path)
        except (OSError, pa.ArrowException) as error:
            raise self._failed(path, error) from error

    def compact(self) -> None:
        """Make one file a table, sorted by its time, and remove the chunks. Nothing may be appended afterwards.

        Raises StoreFileError when a file cannot be written.
        """
        connection = duckdb.connect()
        try:
            tune(connection, self.folder)
            for table in TABLES:
                self._compact(connection, table)
            self._write_manifest(complete=True)
            for table in TABLES:
                for chunk in chunk_list(self.folder, table):
                    chunk.unlink()
        except (OSError, duckdb.Error, pa.ArrowException) as error:
            raise self._failed(self.folder, error) from error
        finally:
            connection.close()

    def _compact(self, connection: duckdb.DuckDBPyConnection, table: str) -> None:
        path = self.folder / f"{table}{COMPLETE}"
        temporary = path.with_suffix(".tmp-0")
        chunks = [str(chunk) for chunk in chunk_list(self.folder, table)]
        if not chunks:
            nothing = [pa.nulls(0, field.type) for field in TABLES[table]]
            pq.write_table(pa.Table.from_arrays(nothing, schema=TABLES[table]), temporary, compression="zstd")
        else:
            columns = ", ".join(f'"{name}"' for name in TABLES[table].names)
            connection.execute(
                f"COPY (SELECT {columns} FROM read_parquet($chunks) "
                f"ORDER BY {SORT[table]}, file_index, file_row_number) "
                f"TO '{_quoted(temporary)}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP_ROWS})",
                {"chunks": chunks},
            )
        temporary.replace(path)

    def _write_manifest(self, *, complete: bool) -> None:
        manifest = {"format": FORMAT, "version": VERSION, "complete": complete, "rows": self.rows}
        temporary = self.folder / f"{MANIFEST}.tmp-0"
        temporary.write_text(json.dumps(manifest, indent=2) + os.linesep, encoding="utf-8")
        temporary.replace(self.folder / MANIFEST)

    def _failed(self, path: Path, error: Exception) -> StoreFileError:
        message = f"{path}: the history cannot be written ({error})"
        self.failures.append(message)
        return StoreFileError(message)


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")


def rows_of(table: str, columns: Mapping[str, Column]) -> pa.Table:
    """The rows of a table, given as to `HistoryWriter.append`. Raises KeyError, ValueError, TypeError, ArrowException
    where they do not fit it."""
    schema = TABLES[table]
    if unknown := sorted(set(columns) - set(schema.names)):
        raise ValueError(f"has no column {', '.join(unknown)}; columns: {', '.join(schema.names)}")
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {lengths}")
    rows = next(iter(lengths.values()), 0)
    arrays = [_array(field, columns[field.name]) if field.name in columns else _absent(field, rows) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _absent(field: pa.Field[Any], rows: int) -> pa.Array[Any]:
    if not field.nullable:
        raise ValueError(f"column {field.name} is missing")
    nothing: pa.Array[Any] = pa.nulls(rows, field.type)
    return nothing


def _array(field: pa.Field[Any], column: Column) -> pa.Array[Any]:
    if pa.types.is_dictionary(field.type):
        made: pa.Array[Any] = pa.DictionaryArray.from_arrays(_codes(field, column), _texts(_words(field)))
    elif pa.types.is_string(field.type):
        made = _texts(column)
    else:
        made = _integers(column, nullable=field.nullable).cast(field.type)
    if made.null_count and not field.nullable:
        raise ValueError(f"column {field.name} has rows without a value")
    return made


def _codes(field: pa.Field[Any], column: Column) -> pa.Array[Any]:
    if not isinstance(column, array):
        codes: dict[object, int | None] = {word: code for code, word in enumerate(_words(field))}
        codes[None] = None
        if unknown := sorted({str(word) for word in column if word not in codes}):
            expected = ", ".join(_words(field))
            raise ValueError(f"column {field.name}: expected one of {expected}, got {', '.join(unknown)}")
        column = [codes[word] for word in column]
    return _integers(column, nullable=field.nullable).cast(pa.int8())


# `pa.array`, `pa.scalar` and `empty_table` would do, but the first of them in a process imports pandas, where that is
# installed: a third of a second that each run would wait for.
def _texts(column: Column) -> pa.Array[Any]:
    """A sequence of texts, None for no value. Raises TypeError for what is neither."""
    encoded = [b"" if text is None else str.encode(text) for text in column]  # type: ignore[arg-type]  # it says so
    offsets = array("i", accumulate(map(len, encoded), initial=0))
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    texts: pa.Array[Any] = pa.Array.from_buffers(pa.string(), len(encoded), buffers)
    if None in column:
        there = _numbers(array("q", [text is not None for text in column]), nullable=False)
        texts = pc.if_else(there.cast(pa.bool_()), texts, pa.nulls(1, pa.string())[0])
    return texts


def _integers(column: Column, *, nullable: bool) -> pa.Array[Any]:
    """An array, or a sequence of integers or flags, None for no value. Raises TypeError for what is neither."""
    if isinstance(column, array):
        return _numbers(column, nullable=nullable)
    return _numbers(array("q", [NULL if one is None else one for one in column]), nullable=True)  # type: ignore[misc]


def _numbers(column: array[int], *, nullable: bool) -> pa.Array[Any]:
    """The column as int64, NULL where the array says so; without copying an array('q') more than that takes."""
    if column.typecode != "q":
        column = array("q", column)
    numbers: pa.Array[Any] = pa.Array.from_buffers(pa.int64(), len(column), [None, pa.py_buffer(column)])
    if nullable:
        there = pc.not_equal(numbers, _numbers(array("q", [NULL]), nullable=False)[0])
        numbers = pc.if_else(there, numbers, pa.nulls(1, pa.int64())[0])
    return numbers


def _words(field: pa.Field[Any]) -> tuple[str, ...]:
    metadata = field.metadata or {}
    return WORDS[metadata[b"words"].decode()]
