"""Events and dead letters as bytes and back: one MessagePack array each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from squall.core.event import Event, Priority
from squall.core.store import DeadLetter

_PRIORITIES = tuple(Priority)
_pack: Callable[[object], bytes] = msgspec.msgpack.Encoder().encode
_unpack: Callable[[bytes], list[Any]] = msgspec.msgpack.Decoder(list[Any]).decode
_unpack_event = msgspec.msgpack.Decoder(
    tuple[str, str, str, int, str | None, bytes | None, bytes, str, str | None, bool, int, int]
).decode
_json: Callable[[object], bytes] = msgspec.json.Encoder().encode
_from_json: Callable[[bytes], dict[str, Any]] = msgspec.json.Decoder(dict[str, Any]).decode


def pack_event(event: Event) -> bytes:
    """The event but for its seq and priority, which its place says. Raises what msgspec does on what it cannot hold.

    Metadata is JSON inside: MessagePack knows no numbers beyond 64 bits.
    """
    return _pack((
        event.id,
        event.type,
        event.source,
        event.time_ns,
        None if event.correlation_id == event.id else event.correlation_id,
        _json(event.metadata) if event.metadata else None,
        event.payload,
        event.version,
        event.key,
        event.own_id,
        event.due_ns,
        event.expires_ns,
    ))  # fmt: skip


def unpack_event(data: bytes, seq: int, priority: int) -> Event:
    """The event of pack_event. Raises ValueError where it is none."""
    try:
        fields = _unpack_event(data)
        event_id, event_type, source, time_ns, correlation_id, metadata, payload, version, key = fields[:9]
        own_id, due_ns, expires_ns = fields[9:]
        return Event(
            event_id,
            event_type,
            source,
            time_ns,  # type: ignore[arg-type]  # a datetime only when asked for
            _PRIORITIES[priority],
            event_id if correlation_id is None else correlation_id,
            {} if metadata is None else _from_json(metadata),
            payload,
            version,
            key=key,
            own_id=own_id,
            due_ns=due_ns,
            expires_ns=expires_ns,
            seq=seq,
        )
    except (LookupError, TypeError, ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"event {seq}: {error}") from error


def pack_letter(letter: DeadLetter) -> bytes:
    """The dead letter with its event. Errors may say what UTF-8 cannot: better altered than never stored."""
    event = letter.event
    return _pack((
        event.seq,
        int(event.priority),
        pack_event(event),
        [one.encode(errors="backslashreplace").decode() if isinstance(one, str) else one for one in letter[1:]],
    ))  # fmt: skip


def unpack_letter(data: bytes) -> DeadLetter:
    """The dead letter of pack_letter. Raises ValueError where it is none."""
    try:
        seq, priority, event, rest = _unpack(data)
        return DeadLetter(unpack_event(event, seq, priority), *rest)
    except (TypeError, msgspec.MsgspecError) as error:
        raise ValueError(f"dead letter: {error}") from error


def letter_name(subscription_id: str, seq: int) -> str:
    """What tells a dead letter apart."""
    return f"{subscription_id}:{seq}"
