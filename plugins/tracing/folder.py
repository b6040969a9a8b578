"""Spans as Parquet files in a folder, which others read while more are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from squall.plugins.tracing.columns import REPEATED, table
from squall.plugins.tracing.exporting import ExporterCounts, ExportError
from squall.plugins.tracing.spans import Span

COUNTS = "tracing.json"
MOST = 20_000


class FolderExporter:
    """Each export is a file, written under another name and then renamed, so that it is read whole or not at all.
    `tracing.json` beside them says what was dropped so far."""

    name = "folder"
    most = MOST

    def __init__(self, folder: Path, dropped: Callable[[], int], counts: Callable[[], ExporterCounts]) -> None:
        self._folder, self._dropped, self._counts = folder, dropped, counts
        self._numbers = count()
        pa.array(())  # the first array of a process imports pandas where it is installed: not while events pass

    def export(self, spans: Sequence[Span]) -> None:
        made = table(spans)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._free()
            temporary = path.with_suffix(".tmp-0")
            pq.write_table(made, temporary, compression="zstd", use_dictionary=REPEATED, write_statistics=False)  # type: ignore[arg-type]  # columns may be named
            temporary.replace(path)
            self._tell()
        except (OSError, pa.ArrowException) as error:
            raise ExportError(f"{self._folder}: spans cannot be written ({error})") from error

    def _free(self) -> Path:
        """The next name that no earlier process has taken."""
        return next(
            path for number in self._numbers if not (path := self._folder / f"spans-{number:06d}.parquet").exists()
        )

    def _tell(self) -> None:
        path = self._folder / COUNTS
        temporary = path.with_suffix(".tmp-0")
        temporary.write_bytes(msgspec.json.encode({"records_dropped": self._dropped(), **asdict(self._counts())}))
        temporary.replace(path)

    def hurry(self) -> None:
        """A file is written soon enough."""

    def close(self) -> None:
        try:
            if self._folder.is_dir():
                self._tell()
        except OSError as error:
            raise ExportError(f"{self._folder}: cannot be written ({error})") from error
