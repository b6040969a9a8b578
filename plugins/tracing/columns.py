"""Spans as columns: what the Parquet files have. docs/tracing.md says what each column means."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import Any, TypeAlias

import msgspec
import pyarrow as pa

from squall.plugins.tracing.spans import About, Span

_TEXT, _NUMBER = pa.string(), pa.int64()
_LINK = pa.struct([("trace", _TEXT), ("span", _TEXT), ("what", _TEXT)])
_NOTE = pa.struct([("time", _NUMBER), ("name", _TEXT), ("attributes", _TEXT)])
_NOBODY = About(None, None, None, None, None, None, None)  # type: ignore[arg-type]
REPEATED = ["operation", "topic", "subscription", "subscriber", "pattern", "source", "priority", "error", "why"]
"""Columns with few values: worth a dictionary in the file."""

_KINDS: Mapping[str, pa.DataType] = {
    **dict.fromkeys(("trace", "span", "parent", "operation", "topic", "subscription", "subscriber", "pattern"), _TEXT),
    **dict.fromkeys(("event", "source", "correlation", "key", "priority"), _TEXT),
    **dict.fromkeys(("size", "seq", "attempt", "begun", "ended", "wall", "waited"), _NUMBER),
    **dict.fromkeys(("error", "message", "why"), _TEXT),
    "partial": pa.bool_(),
    "attributes": _TEXT,
    "links": pa.list_(_LINK),
    "events": pa.list_(_NOTE),
}
SCHEMA = pa.schema([pa.field(name, kind) for name, kind in _KINDS.items()])
Column: TypeAlias = "pa.Array[Any] | list[Any]"


def table(spans: Sequence[Span]) -> pa.Table:
    """The spans as a table; a column at a time, for rows of Python objects would cost several times as much."""
    abouts = [span.about or _NOBODY for span in spans]
    receivers = [span.receiver for span in spans]
    columns: dict[str, Column] = {
        "subscription": [None if one is None else one.label for one in receivers],
        "subscriber": [None if one is None else one.subscriber for one in receivers],
        "pattern": [None if one is None else one.pattern for one in receivers],
        "event": [one.id for one in abouts],
        "seq": [one.seq or None for one in abouts],
        "attempt": [span.attempt or None for span in spans],
        "message": [span.message or None for span in spans],
        "attributes": [_json(span.more) if span.more else None for span in spans],
        "links": _lists(
            [span.links for span in spans], _LINK, [attrgetter(name) for name in ("trace", "span", "what")]
        ),
        "events": _lists(
            [span.notes for span in spans],
            _NOTE,
            [attrgetter("at_ns"), attrgetter("name"), lambda note: _json(note.attributes)],
        ),
    }
    for name in ("source", "correlation", "key", "priority", "size"):
        columns[name] = list(map(attrgetter(name), abouts))
    for name in ("begun", "ended", "wall", "waited"):
        columns[name] = list(map(attrgetter(f"{name}_ns"), spans))
    for name in ("trace", "span", "parent", "operation", "topic", "error", "why", "partial"):
        columns[name] = list(map(attrgetter(name), spans))
    return pa.Table.from_arrays([_array(columns[field.name], field.type) for field in SCHEMA], schema=SCHEMA)


def _array(column: Column, kind: pa.DataType) -> pa.Array[Any]:
    return pa.array(column, type=kind) if isinstance(column, list) else column


def _lists(
    lists: Sequence[Sequence[object]], kind: pa.StructType, parts: Sequence[Callable[..., object]]
) -> pa.Array[Any]:
    offsets = pa.array([0, *accumulate(map(len, lists))], type=pa.int32())
    flat = [one for some in lists for one in some]
    arrays = [pa.array([part(one) for one in flat], type=kind.field(place).type) for place, part in enumerate(parts)]
    return pa.ListArray.from_arrays(offsets, pa.StructArray.from_arrays(arrays, fields=list(kind)))


def _json(attributes: Mapping[str, object]) -> str:
    return msgspec.json.encode(attributes).decode()
