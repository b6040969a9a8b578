"""Spans as Parquet files in a folder, which others read while more are written: docs/tracing.md has the columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import count
from pathlib import Path

import msgspec

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
        import pyarrow as pa

        self._folder, self._dropped, self._counts = folder, dropped, counts
        text, number = pa.string(), pa.int64()
        link = pa.struct([("trace", text), ("span", text), ("what", text)])
        note = pa.struct([("time", number), ("name", text), ("attributes", text)])
        kinds = {
            **dict.fromkeys(("trace", "span", "parent", "name", "kind", "operation", "topic"), text),
            **dict.fromkeys(("subscription", "event"), text),
            **dict.fromkeys(("seq", "attempt", "begun", "ended", "wall", "waited"), number),
            **dict.fromkeys(("error", "message", "why"), text),
            "partial": pa.bool_(),
            "attributes": text,
            "links": pa.list_(link),
            "events": pa.list_(note),
        }
        self._schema = pa.schema([pa.field(name, kind) for name, kind in kinds.items()])
        self._numbers = count()

    def export(self, spans: Sequence[Span]) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        encode = msgspec.json.Encoder().encode
        rows = [
            (
                one.trace, one.span, one.parent, one.name, one.kind, one.operation, one.topic, one.subscription,
                one.event, one.seq or None, one.attempt or None, one.begun_ns, one.ended_ns, one.wall_ns,
                one.waited_ns, one.error, one.message or None, one.why, one.partial, encode(one.attributes),
                [{"trace": link.trace, "span": link.span, "what": link.what} for link in one.links],
                [{"time": note.at_ns, "name": note.name, "attributes": encode(note.attributes)} for note in one.notes],
            )
            for one in spans
        ]  # fmt: skip
        columns = [
            pa.array(column, type=field.type)
            for column, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._free()
            temporary = path.with_suffix(".tmp-0")
            pq.write_table(pa.Table.from_arrays(columns, schema=self._schema), temporary, compression="zstd")
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
