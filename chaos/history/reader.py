"""Opens a history: DuckDB views over its files, whole or still being written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from squall.chaos.history.tables import TABLES
from squall.core.errors import StoreFileError

MANIFEST = "history.json"
FORMAT = "squall-history"
VERSION = 1
COMPLETE = ".parquet"

_TYPES = {pa.int64(): "BIGINT", pa.int32(): "INTEGER", pa.int8(): "TINYINT", pa.bool_(): "BOOLEAN"}


@dataclass(frozen=True)
class Manifest:
    """What history.json says: whether the recording was finished, and how many rows each table then had."""

    complete: bool
    rows: dict[str, int]


def tune(connection: duckdb.DuckDBPyConnection, spill: Path, *, memory: str = "400MB", threads: int = 2) -> None:
    """Settings with which ten million records are checked in under 1 GiB; `spill` is where what does not fit goes."""
    connection.execute(f"SET memory_limit = '{memory}'")
    connection.execute(f"SET threads = {threads}")
    connection.execute("SET preserve_insertion_order = false")
    connection.execute("SET temp_directory = '" + str(spill / "spill").replace("'", "''") + "'")
    connection.execute("SET autoinstall_known_extensions = false")


def read_manifest(folder: Path) -> Manifest:
    """Raises StoreFileError when folder holds no history, or one that this version cannot read."""
    path = folder / MANIFEST
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["format"] != FORMAT:
            raise ValueError(f"its format is {found['format']!r}, expected {FORMAT!r}")
        if found["version"] != VERSION:
            raise ValueError(f"its version is {found['version']!r}, this squall reads version {VERSION}")
        return Manifest(complete=bool(found["complete"]), rows={str(k): int(v) for k, v in found["rows"].items()})
    except FileNotFoundError as error:
        raise StoreFileError(f"{folder}: holds no history ({MANIFEST} is missing)") from error
    except OSError as error:
        raise StoreFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreFileError(f"{path}: is not a squall history ({error})") from error


def chunk_list(folder: Path, table: str) -> list[Path]:
    """The chunks of a table that are there now, in the order in which they were begun."""
    return sorted(folder.glob(f"{table}-[0-9]*.parquet"))


def files_of(folder: Path, table: str, manifest: Manifest) -> list[Path]:
    """The files that hold the table: one once it is compacted, else its chunks (none yet is fine).

    Raises StoreFileError when a file is missing, corrupt, of another table, or has not the rows that it had.
    """
    whole = folder / f"{table}{COMPLETE}"
    if not manifest.complete:
        return chunk_list(folder, table)
    if table not in manifest.rows:  # written before there was such a table
        return []
    try:
        found = pq.ParquetFile(whole)
        columns, rows = found.schema_arrow.names, found.metadata.num_rows
        found.close()
    except FileNotFoundError as error:
        raise StoreFileError(f"{whole}: is missing; a finished history has one file for each table") from error
    except (OSError, pa.ArrowException) as error:
        raise StoreFileError(f"{whole}: cannot be read as Parquet ({error})") from error
    if columns != TABLES[table].names:
        raise StoreFileError(
            f"{whole}: is not the table {table}: expected columns {', '.join(TABLES[table].names)}, "
            f"got {', '.join(columns)}"
        )
    if rows != manifest.rows.get(table):
        raise StoreFileError(f"{whole}: has {rows} rows, {manifest.rows.get(table)} were written")
    return [whole]


def open_history(folder: Path, spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A DuckDB connection with a view for each table of `tables.py`, named as there, over the files now in folder.

    Each view also has `rid`, a number that identifies a row and tells which of two was written first. A history that
    is still being written shows the chunks there are: open it again to see more.

    Raises StoreFileError when the folder holds no history, or a file is missing, foreign or corrupt.
    """
    manifest = read_manifest(folder)
    sources = {table: files_of(folder, table, manifest) for table in TABLES}
    connection = duckdb.connect()
    try:
        tune(connection, spill or folder)
        for table, files in sources.items():
            connection.execute(f'CREATE VIEW "{table}" AS {_select(table, files)}')
    except duckdb.Error as error:
        connection.close()
        raise StoreFileError(f"{folder}: the history cannot be read ({error})") from error
    return connection


def _select(table: str, files: list[Path]) -> str:
    if not files:
        columns = [f'NULL::{_TYPES.get(field.type, "VARCHAR")} AS "{field.name}"' for field in TABLES[table]]
        return f"SELECT {', '.join(columns)}, NULL::BIGINT AS rid WHERE false"
    names = ", ".join("'" + str(file).replace("'", "''") + "'" for file in files)
    return f"SELECT *, (file_index::BIGINT << 40) + file_row_number AS rid FROM read_parquet([{names}])"
