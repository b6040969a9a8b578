"""The tables of a history, as Arrow schemas.

All times are int64 nanoseconds of one monotonic clock; durations (timeout, lease, ttl) are int64 nanoseconds too. A
column marked nullable holds NULL where the thing never happened, or nobody knows.

What keeps the checker fast and SQL readable:

- `event` is the identity of a message, a run-wide integer carried in its payload; `op` is one call of publish, so a
  client's retries are several ops of one event. An attempt whose `event` is NULL handled something foreign: another
  run's event, or bytes that are no event of the bench.
- `type`, `key`, `subscription`, `process` are integers. Their names are in the side tables `topic`, `key`,
  `subscription`, `process`. `key` is NULL for events without a key.
- words of a small vocabulary (outcome, result, settlement, …) are text: a dictionary in the file, and as fast to compare
  as an integer. Writers may give codes instead: the index in `WORDS`.

| table | one row per |
|---|---|
| publish | call of publish. `ended` NULL: it never returned. `seq` where the target gave one, comparable within `seq_scope`. `duplicate`: the target says that it had this event already. `hash`: of the payload |
| attempt | call of a handler. `result` NULL: it was still running when the recording ended; `died`: its worker or process did. `settle_invoked` NULL: nobody settled it; `settle_ok` NULL: no answer. `by_handler`: the handler itself settled, on purpose |
| batch | call of publish that was one of a batch's: all of a batch were published as one |
| told | delivery that came with another type, key or priority than its event was published with, by the target's own word; NULL: with the published one, or the target does not say |
| subscription | interval in which one specification held: from joining to leaving (NULL: never left) |
| terminal | (event, subscription) that ended other than by a handler, as `source` lists it |
| fault | window in which a fault was active. `healed` NULL: nobody tried; false: it failed, `error` says how |
| fault_hit | call that a fault acted on |
| process | process: the target's, a worker's, the bench's. `answered` NULL: it never did, or was not asked |
| gate | change of a gate of a subscription: its name, and the state that it is in from `time` on; `open` holds all deliveries back |
| control | pause (an interval), redrive or replay of a subscription; `event` NULL: of all its events |
| gap | interval in which records of a table (`source`) may be missing |
| counter | sum that the target keeps itself: `stored`, and per subscription `owed`, `acked`, `dead_lettered`, `expired`, `cancelled`, `pending` |
| sample | look at what a process of the target, or the bench with the target in it, held: bytes of `memory`, how many `objects` (blocks of Python's memory), `handles`, `threads` and `tasks`, without what is the bench's own; bytes of the `store`'s files, and events `kept` in it; `events` were acknowledged by then, and so many deliveries and publishes were `waiting` |
| topic, key | name |
"""  # noqa: E501  a table's row is one line

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

NULL = -(1 << 63)
"""What stands for NULL in an `array('q')` given to the writer."""

WORDS: Mapping[str, tuple[str, ...]] = {
    "outcome": ("ok", "fail", "info"),
    "result": ("ok", "error", "timeout", "died"),
    "settlement": ("ack", "nak", "term"),
    "settle_answer": ("ok", "refused"),
    "delivery": ("at-least-once", "at-most-once"),
    "on_retry": ("skip", "block_key"),
    "state": ("acked", "dead_lettered", "expired", "cancelled"),
    "role": ("target", "worker", "bench"),
    "control": ("pause", "redrive", "replay"),
    "source_table": ("publish", "attempt"),
}
"""The vocabularies. A field's metadata names the one it uses."""

_WORD = pa.dictionary(pa.int8(), pa.string())


def _field(name: str, kind: pa.DataType) -> pa.Field[Any]:
    optional = name.endswith("?")
    return pa.field(name.removesuffix("?"), kind, nullable=optional)


def _ints(*names: str) -> list[pa.Field[Any]]:
    return [_field(name, pa.int64()) for name in names]


def _ids(*names: str) -> list[pa.Field[Any]]:
    return [_field(name, pa.int32()) for name in names]


def _flags(*names: str) -> list[pa.Field[Any]]:
    return [_field(name, pa.bool_()) for name in names]


def _texts(*names: str) -> list[pa.Field[Any]]:
    return [_field(name, pa.string()) for name in names]


def _word(name: str, vocabulary: str = "") -> list[pa.Field[Any]]:
    field = _field(name, _WORD)
    return [field.with_metadata({"words": vocabulary or field.name})]


def _level(*names: str) -> list[pa.Field[Any]]:
    return [_field(name, pa.int8()) for name in names]


TABLES: Mapping[str, pa.Schema] = {
    "publish": pa.schema(
        [
            *_ints("op", "event"),
            *_ids("process", "type", "key?"),
            *_level("priority"),
            *_ints("ttl?", "intended", "invoked", "ended?"),
            *_word("outcome"),
            *_ints("seq?"),
            *_ids("seq_scope"),
            *_flags("duplicate"),
            *_ints("hash?"),
        ]
    ),
    "batch": pa.schema(_ints("batch", "op", "invoked")),
    "attempt": pa.schema(
        [
            *_ints("event?"),
            *_ids("subscription", "attempt", "process", "worker", "key?"),
            *_level("priority"),
            *_ints("seq?", "begun", "ended?"),
            *_word("result?"),
            *_word("settlement?"),
            *_ints("settle_invoked?", "settle_ok?"),
            *_word("settle_answer?"),
            *_flags("by_handler"),
            *_ints("hash?"),
        ]
    ),
    "told": pa.schema(
        [*_ints("event"), *_ids("subscription"), *_ints("begun"), *_ids("type?", "key?"), *_level("priority?")]
    ),
    "subscription": pa.schema(
        [
            *_ids("subscription"),
            *_texts("name", "pattern", "filters?"),
            *_level("priority_min?"),
            *_flags("durable"),
            *_word("delivery"),
            *_texts("start"),
            *_word("on_retry"),
            *_ids("concurrency"),
            *_ints("timeout?", "lease?"),
            *_ids("max_attempts?"),
            *_ints("join_invoked", "join_ok?", "leave_invoked?", "leave_ok?", "from_seq?", "to_seq?"),
        ]
    ),
    "terminal": pa.schema([*_ints("event"), *_ids("subscription"), *_word("state"), *_ints("time"), *_texts("source")]),
    "fault": pa.schema(
        [
            *_ids("fault"),
            *_texts("name", "kind", "seam"),
            *_ints("begun", "ended?", "passes", "hits"),
            *_flags("healed?"),
            *_texts("error?"),
        ]
    ),
    "fault_hit": pa.schema([*_ids("fault"), *_ints("time", "event?"), *_ids("subscription?", "process?")]),
    "process": pa.schema(
        [
            *_ids("process"),
            *_texts("name"),
            *_word("role"),
            *_ids("pid"),
            *_ints("started", "answered?", "exited?"),
            *_ids("exit_code?"),
        ]
    ),
    "gate": pa.schema([*_ids("subscription"), *_ints("time"), *_texts("gate", "state")]),
    "control": pa.schema([*_word("kind", "control"), *_ids("subscription?"), *_ints("event?", "begun", "ended?")]),
    "gap": pa.schema([*_word("source", "source_table"), *_ints("begun", "ended"), *_ints("lost?"), *_texts("why")]),
    "counter": pa.schema([*_ints("time"), *_texts("name"), *_ids("subscription?"), *_ints("value")]),
    "sample": pa.schema(
        [
            *_ids("pid"),
            *_ints("time", "events", "memory?", "objects?", "handles?", "threads?", "tasks?"),
            *_ints("store?", "kept?", "waiting"),
        ]
    ),
    "topic": pa.schema([*_ids("topic"), *_texts("name")]),
    "key": pa.schema([*_ids("key"), *_texts("name")]),
}

SORT: Mapping[str, str] = {
    "publish": "invoked",
    "batch": "invoked",
    "attempt": "begun",
    "told": "begun",
    "subscription": "join_invoked",
    "terminal": "time",
    "fault": "begun",
    "fault_hit": "time",
    "process": "started",
    "gate": "time",
    "control": "begun",
    "gap": "begun",
    "counter": "time",
    "sample": "time",
    "topic": "topic",
    "key": "key",
}
"""The column that each compacted table is sorted by; rows that tie keep the order in which they were written."""
