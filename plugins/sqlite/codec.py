"""Events as rows and back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from squall.core.event import Event, Priority
from squall.core.patterns import compile_pattern
from squall.core.quarantine import UNDECODABLE, stand_in

Row = tuple[Any, ...]

COLUMNS = "seq, id, type, source, version, priority, time, key, correlation, metadata, payload, extra"
BYTES = (
    "seq, id, type, CAST(source AS BLOB), CAST(version AS BLOB), priority, time, CAST(key AS BLOB), correlation, "
    "CAST(metadata AS BLOB), payload, CAST(extra AS BLOB)"
)
"""COLUMNS with bytes for texts, where one of them is none."""
PLACES = "?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?"
MAX_PATTERNS = 1000

_PRIORITIES = tuple(Priority)
_from_hex = bytes.fromhex
_encode = msgspec.json.Encoder().encode
_decode: Callable[[str | bytes], dict[str, object]] = msgspec.json.Decoder(dict[str, object]).decode


def pack_id(text: str) -> bytes | str:
    """The 16 bytes of a UUID in its usual form; any other text stays as it is, so that each comes back unchanged."""
    digits = text.replace("-", "")
    if len(digits) == 32 and text[8:24:5] == "----":
        try:
            packed = _from_hex(digits)
        except ValueError:
            return text
        if packed.hex() == digits:
            return packed
    return text


def pack_ids(texts: Sequence[str]) -> list[bytes | str]:
    """pack_id of each; when all are UUIDs in their usual form, which is the rule, at a third of the price."""
    number, joined = len(texts), "".join(texts)
    digits, dashes = joined.replace("-", ""), "-" * number
    if (
        len(digits) == 32 * number
        and all(joined[place::36] == dashes for place in (8, 13, 18, 23))
        and set(map(len, texts)) == {36}
    ):
        try:
            packed = _from_hex(digits)
        except ValueError:
            packed = b""
        if packed.hex() == digits:
            return [packed[start : start + 16] for start in range(0, 16 * number, 16)]
    return [pack_id(text) for text in texts]


def unpack_id(stored: bytes | str) -> str:
    """The text that pack_id was given."""
    if isinstance(stored, str):
        return stored
    digits = stored.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class TypeNumbers(dict[str, int]):
    """The number of each event type, as stored; a new type gets the next. `unsaved` are not committed yet."""

    def __init__(self, stored: Iterable[tuple[int, str]]) -> None:
        super().__init__((name, number) for number, name in stored)
        self.names = ["", *self]
        self.unsaved: list[tuple[int, str]] = []
        self._by_pattern: dict[str, tuple[int, list[int]]] = {}

    def __missing__(self, name: str) -> int:
        name.encode()  # what SQLite could not store must not wait among the unsaved
        number = self[name] = len(self.names)
        self.names.append(name)
        self.unsaved.append((number, name))
        return number

    def matching(self, pattern: str) -> Sequence[int] | None:
        """The numbers of the types that match; None when all do. Raises SubscriptionError."""
        if len(self._by_pattern) >= MAX_PATTERNS:
            self._by_pattern.clear()
        searched, found = self._by_pattern.get(pattern, (1, []))
        end = len(self.names)
        if searched < end:
            matches = compile_pattern(pattern)
            found = found + [number for number in range(searched, end) if matches(self.names[number])]
            self._by_pattern[pattern] = end, found
        return None if len(found) == end - 1 else found


def encode_events(events: Sequence[Event], types: TypeNumbers) -> list[Row]:
    """The events as rows of COLUMNS. Raises TypeError, ValueError or msgspec's errors for what cannot be stored."""
    return [
        (
            event.seq,
            packed,
            types[event.type],
            event.source,
            event.version,
            event.priority,
            event.time_ns,
            event.key,
            None if event.correlation_id == event.id else pack_id(event.correlation_id),
            _encode(event.metadata).decode() if event.metadata else None,
            event.payload,
            _extra(event) if event.due_ns or event.expires_ns or event.own_id else None,
        )
        for event, packed in zip(events, pack_ids([event.id for event in events]), strict=True)
    ]


class _Extra(msgspec.Struct, omit_defaults=True):
    own_id: bool = False
    due_ns: int = 0
    expires_ns: int = 0


def _extra(event: Event) -> str:
    return _encode(_Extra(event.own_id, event.due_ns, event.expires_ns)).decode()


def _extras(stored: str | bytes) -> dict[str, Any]:
    return msgspec.structs.asdict(msgspec.json.decode(stored, type=_Extra))


def decode_event(row: Row, types: TypeNumbers) -> Event:
    """The event of a row of COLUMNS or BYTES. Raises ValueError when it is none."""
    seq, packed, number, source, version, priority, time_ns, key, correlation, metadata, payload, extra = row
    try:
        event_id = unpack_id(packed)
        if isinstance(source, bytes):
            source, version, key = source.decode(), version.decode(), key and key.decode()
        if not isinstance(payload, bytes):
            raise TypeError(f"its payload is {type(payload).__name__}, expected bytes")
        return Event(
            event_id,
            types.names[number],
            source,
            time_ns,
            _PRIORITIES[priority],
            event_id if correlation is None else unpack_id(correlation),
            {} if metadata is None else _decode(metadata),
            payload,
            version,
            key=key,
            seq=seq,
            **({} if extra is None else _extras(extra)),
        )
    except (LookupError, TypeError, ValueError, AttributeError, msgspec.MsgspecError) as error:
        raise ValueError(f"row {seq} of the table event: {error}") from error


def row_stand_in(row: Row, types: TypeNumbers) -> Event:
    """What stands for a row that is no event: with its payload, and all else as it was found in the metadata."""
    seq, _, number, _, _, priority, _, _, _, _, payload, _ = row
    known = isinstance(number, int) and 0 < number < len(types.names)
    return stand_in(
        seq,
        priority,
        payload if isinstance(payload, bytes) else repr(payload).encode(),
        types.names[number] if known else UNDECODABLE,
        {"row": repr([column for column in row if column is not payload])},
    )
