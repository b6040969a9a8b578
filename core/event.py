"""The event, its four priorities, and how payloads become bytes and back."""

from __future__ import annotations

import enum
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from squall.core.errors import InvalidEvent

if TYPE_CHECKING:
    from squall.core.clock import Clock

Durability = Literal["memory", "process", "disk"]
MAX_PAYLOAD_BYTES = 1_048_576
MAX_TEXT = 256
CONTENT_TYPE = "content-type"
_JSON = "application/json"
_PROTOBUF = "application/protobuf; type="
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Priority(enum.IntEnum):
    """Most urgent first. The number is the level's index in every queue."""

    CRITICAL = 0
    HIGH = 1
    NORMAL = 2
    LOW = 3


class _SeedFields(msgspec.Struct, gc=False):
    id: str
    type: str
    source: str
    timestamp: datetime
    priority: Priority
    correlation_id: str
    metadata: dict[str, Any]
    payload: bytes
    version: str


class Event(_SeedFields, kw_only=True, gc=False):
    """One event. Treat it as read-only once it is published: all its subscribers share the object.

    `timestamp` may be given as a datetime or as nanoseconds since 1970; it reads as a UTC datetime, made when
    first asked for (a datetime costs more than the rest of the event). `key` orders events, `seq` is the store's
    monotonic number (0 until stored), `published_ns` the monotonic time of the publish (0 when read from a store).
    `due_ns` and `expires_ns` are wall times before which, and from which on, it is not delivered (0: none); `own_id`
    says that its publisher gave the id. `given` is for a store that recognises ids itself: 16 bytes which tell what was
    published with the id from anything else (empty: it need not be recognised). `origin` is the address of the remote
    client that has just published it here (empty: none has).

    The garbage collector does not walk events (a hundred thousand of them would cost it a third of the throughput):
    a reference cycle through `metadata`, which holds plain data, would never be freed.
    """

    key: str | None = None
    seq: int = 0
    published_ns: int = 0
    due_ns: int = 0
    expires_ns: int = 0
    own_id: bool = False
    given: bytes = b""
    origin: str = ""

    @property
    def data(self) -> Any:
        """The payload decoded by its content type: JSON, a protobuf message, or the bytes as they are."""
        content_type = self.metadata.get(CONTENT_TYPE, "")
        if content_type == _JSON:
            return msgspec.json.decode(self.payload)
        if content_type.startswith(_PROTOBUF):
            return _decode_protobuf(content_type.removeprefix(_PROTOBUF), self.payload)
        return self.payload

    def left_ns(self, wall_ns: int, clock: Clock) -> int:
        """How long until that wall time. In the process that published it, a jump of the
        wall clock moves nothing."""
        if self.published_ns:
            return wall_ns - self.time_ns - (clock.monotonic_ns() - self.published_ns)
        return wall_ns - clock.time_ns()

    @property
    def time_ns(self) -> int:
        """Wall time of the publish, nanoseconds since 1970 UTC."""
        raw: int | datetime = _raw_timestamp(self)
        if isinstance(raw, int):
            return raw
        return (raw - _EPOCH) // timedelta(microseconds=1) * 1000


_raw_timestamp = _SeedFields.__dict__["timestamp"].__get__


def _timestamp(event: Event) -> datetime:
    raw = _raw_timestamp(event)
    return raw if isinstance(raw, datetime) else _EPOCH + timedelta(microseconds=raw // 1000)


# The struct's own slot stays what the constructor fills; only reading goes through the conversion.
_SeedFields.timestamp = property(_timestamp)  # type: ignore[assignment]


@dataclass(slots=True)
class EventData:
    """One event of `publish_batch`."""

    event_type: str
    payload: Any
    priority: Priority = Priority.NORMAL
    correlation_id: str | None = None
    key: str | None = None
    metadata: Mapping[str, Any] | None = None
    event_id: str | None = field(default=None, kw_only=True)
    delay_s: float = field(default=0.0, kw_only=True)
    ttl_s: float | None = field(default=None, kw_only=True)


class Receipt(NamedTuple):
    """What an acknowledged publish is worth. `durability` never claims more than was done: None, with seq 0, where a
    routing rule dropped the event and nothing was stored."""

    id: str
    seq: int
    durability: Durability | None
    duplicate: bool = False


def encode(payload: Any) -> tuple[bytes, str | None]:
    """Bytes and content type of a payload: bytes as they are, a protobuf message serialized, anything else as JSON.

    Raises InvalidEvent when the payload cannot be serialized.
    """
    if isinstance(payload, bytes):
        return payload, None
    if isinstance(payload, bytearray | memoryview):
        return bytes(payload), None
    try:
        if hasattr(payload, "SerializeToString"):
            return payload.SerializeToString(), _PROTOBUF + payload.DESCRIPTOR.full_name
        return _json(payload), _JSON
    except Exception as error:
        raise InvalidEvent(
            "payload: cannot be serialized: expected bytes, a protobuf message, or what JSON can hold, got "
            f"{type(payload).__name__} ({error})"
        ) from error


def _json(value: Any) -> bytes:
    encoded = msgspec.json.encode(value)
    if b"null" in encoded:  # which is also what it makes of numbers that JSON cannot hold
        json.dumps(msgspec.to_builtins(value, str_keys=True), allow_nan=False)
    return encoded


def content(payload: Any, metadata: Mapping[str, Any] | None) -> tuple[bytes, dict[str, Any]]:
    """The payload as bytes, and the metadata, a copy, with its content type. Raises InvalidEvent."""
    own: dict[str, Any] = {}
    if metadata is not None:
        check_metadata(metadata)
        own.update(metadata)
    encoded, content_type = encode(payload)
    if content_type is not None:
        own.setdefault(CONTENT_TYPE, content_type)
    return encoded, own


def check_metadata(metadata: Mapping[str, Any]) -> None:
    """Raises InvalidEvent for what a store could not keep: metadata is plain data, as JSON holds it."""
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise InvalidEvent(f"metadata: expected a mapping of text to plain data, got {metadata!r:.80}")
    if not isinstance(metadata.get(CONTENT_TYPE, ""), str):
        raise InvalidEvent(f"metadata[{CONTENT_TYPE!r}]: expected text, got {metadata[CONTENT_TYPE]!r:.80}")
    try:
        _json(metadata)
    except Exception as error:
        raise InvalidEvent(f"metadata: expected what JSON can hold, by name ({error})") from error


def _decode_protobuf(name: str, payload: bytes) -> Any:
    from google.protobuf import descriptor_pool, message_factory

    descriptor = descriptor_pool.Default().FindMessageTypeByName(name)
    return message_factory.GetMessageClass(descriptor).FromString(payload)


def check_text(name: str, value: object) -> None:
    """Raises InvalidEvent unless value is text of 1 to 256 characters."""
    if not isinstance(value, str) or not 0 < len(value) <= MAX_TEXT:
        got = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise InvalidEvent(f"{name}: expected text of 1 to {MAX_TEXT} characters, got {got}")
