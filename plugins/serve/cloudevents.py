"""CloudEvents 1.0 over HTTP: binary, structured and batch mode, read into what is to be published.

https://github.com/cloudevents/spec at v1.0.2: bindings/http-protocol-binding.md and formats/json-format.md.
"""

from __future__ import annotations

import base64
import binascii
import re
import uuid
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import unquote

import msgspec

from squall.core.errors import MAX_DELAY_S, InvalidEvent, SquallError
from squall.core.event import CONTENT_TYPE, MAX_PAYLOAD_BYTES, Priority, check_text
from squall.core.patterns import check_type
from squall.plugins.serve.errors import BadRequest
from squall.plugins.serve.publishing import Outgoing

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
REQUIRED = ("id", "source", "specversion", "type")
JSON = "application/json"
GIVEN_ID = "ceid"
NAME = re.compile(r"[a-z0-9]+")
NAMESPACE = uuid.UUID("5d0b6c1e-5a5b-5f0e-9d8a-3d0f0c6f1c55")

Attributes = dict[str, Any]
"""A CloudEvent's context attributes by name."""


def read(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> list[Outgoing | SquallError] | Outgoing:
    """What a request publishes: one event, or a batch with what is wrong in it. Raises BadRequest and InvalidEvent."""
    fields = [(name.decode("latin-1").lower(), value) for name, value in headers]
    content_type = next((value.decode("latin-1") for name, value in fields if name == "content-type"), "")
    media = content_type.partition(";")[0].strip().lower()
    if media == STRUCTURED:
        return _structured(_decode(body, dict[str, msgspec.Raw]))
    if media == BATCH:
        return [_told(_structured, one) for one in _decode(body, list[dict[str, msgspec.Raw]])]
    if media.startswith("application/cloudevents"):
        raise BadRequest(f"content-type: expected {STRUCTURED}, {BATCH}, or ce- headers, got {media}", 415)
    attributes = {name[3:]: _header(name, value) for name, value in fields if name.startswith("ce-")}
    return _outgoing(attributes, body, content_type)


def _told(read_one: Callable[[Any], Outgoing], one: Any) -> Outgoing | SquallError:
    try:
        return read_one(one)
    except InvalidEvent as error:
        return error


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body.decode(), type=kind)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is no CloudEvent in JSON: {error}") from error


def _header(name: str, value: bytes) -> str:
    """A header's value as section 3.1.3.2 of the binding says: unquoted, then percent-decoded."""
    text = value.decode("latin-1").strip()
    if len(text) > 1 and text[0] == text[-1] == '"':
        text = re.sub(r"\\(.)", r"\1", text[1:-1])
    try:
        return unquote(text.encode("latin-1"), errors="strict") if "%" in text else text.encode("latin-1").decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"{name}: expected UTF-8, percent-encoded ({error})") from error


def _structured(members: Mapping[str, msgspec.Raw]) -> Outgoing:
    attributes: Attributes = {}
    for name, raw in members.items():
        if name not in ("data", "data_base64") and (value := _value(name, raw)) is not None:
            attributes[name] = value
    content_type = attributes.pop("datacontenttype", None)
    if not isinstance(content_type, str | None):
        raise InvalidEvent(f"datacontenttype: expected text, got {content_type!r:.80}")
    if "data" in members and "data_base64" in members:
        raise InvalidEvent("data: expected data or data_base64, got both")
    if "data_base64" in members:
        return _outgoing(attributes, _unpacked(members["data_base64"]), content_type or "")
    if "data" not in members:
        return _outgoing(attributes, b"", content_type or "")
    data = bytes(members["data"])
    if content_type is not None and not _is_json(content_type) and data[:1] == b'"':
        data = msgspec.json.decode(data, type=str).encode()
    return _outgoing(attributes, data, content_type or JSON)


def _value(name: str, raw: msgspec.Raw) -> Any:
    """What JSON says there. A number may be right in JSON and too large to be kept."""
    try:
        return msgspec.json.decode(raw)
    except msgspec.ValidationError as error:
        raise InvalidEvent(f"{name}: expected a value that can be kept ({error})") from error


def _unpacked(raw: msgspec.Raw) -> bytes:
    try:
        return base64.b64decode(msgspec.json.decode(raw, type=str), validate=True)
    except (msgspec.ValidationError, binascii.Error, ValueError) as error:
        raise InvalidEvent(f"data_base64: expected base64 ({error})") from error


def _is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media in (JSON, "text/json") or media.endswith("+json")


def _outgoing(attributes: Attributes, data: bytes, content_type: str) -> Outgoing:
    """The event that these attributes and data are. Raises InvalidEvent that names the attribute."""
    for name in REQUIRED:
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise InvalidEvent(f"{name}: expected a CloudEvent with {', '.join(REQUIRED)}, each text; it has no {name}")
    for name in attributes:
        if not NAME.fullmatch(name):
            raise InvalidEvent(f"attribute {name!r:.80}: expected a name of lower-case letters and digits")
    taken = dict(attributes)
    version, given, source, event_type = (taken.pop(name) for name in ("specversion", "id", "source", "type"))
    if version != "1.0":
        raise InvalidEvent(f"specversion: expected 1.0, got {version!r:.80}")
    if "time" in taken:
        _check_time(taken["time"])
    _check_type(event_type)
    if len(data) > MAX_PAYLOAD_BYTES:
        raise InvalidEvent(f"data: expected at most {MAX_PAYLOAD_BYTES} bytes, got {len(data)}")
    event_id = _event_id(source, given)
    if event_id != given:
        taken[GIVEN_ID] = given
    if content_type:
        taken[CONTENT_TYPE] = JSON if content_type.replace(" ", "").lower() in _PLAIN_JSON else content_type
    delay_s, ttl_s = _delay_and_ttl(taken)
    return Outgoing(
        type=event_type,
        payload=data,
        source=source,
        priority=_priority(taken.pop("priority", "NORMAL")),
        correlation_id=_text("correlationid", taken.pop("correlationid", None)),
        key=_key(("partitionkey", taken.pop("partitionkey", None)), ("subject", taken.get("subject"))),
        metadata=taken,
        event_id=event_id,
        delay_s=delay_s,
        ttl_s=ttl_s,
    )


_PLAIN_JSON = (JSON, f"{JSON};charset=utf-8")


def told(text: str, posted: Iterable[Outgoing | SquallError]) -> str:
    """What was said of events by their ids, by those that their publisher gave."""
    for one in posted:
        if isinstance(one, Outgoing) and f"event_id {one.event_id}" in text:
            given = (one.metadata or {}).get(GIVEN_ID)
            named = given if isinstance(given, str) and _event_id(one.source, given) == one.event_id else one.event_id
            text = text.replace(f"event_id {one.event_id}", f"id {named:.80}")
    return text


def _event_id(source: str, given: str) -> str:
    """A UUID is kept; of any other id, which CloudEvents makes unique within its source, one is made from both, so
    that the same event always has the same."""
    try:
        return str(uuid.UUID(given)) if len(given) == 36 else str(uuid.uuid5(NAMESPACE, f"{source}\0{given}"))
    except ValueError:
        return str(uuid.uuid5(NAMESPACE, f"{source}\0{given}"))


def _check_type(event_type: str) -> None:
    try:
        check_type(event_type)
    except InvalidEvent as error:
        raise InvalidEvent(f"type: {str(error).removeprefix('event_type: ')}") from None


def _check_time(value: object) -> None:
    try:
        if isinstance(value, str) and "T" in value.upper() and datetime.fromisoformat(value).tzinfo is not None:
            return
    except ValueError:
        pass
    raise InvalidEvent(f"time: expected a timestamp as RFC 3339 writes it, got {value!r:.80}")


def _priority(value: object) -> Priority:
    if isinstance(value, str) and value.upper() in Priority.__members__:
        return Priority[value.upper()]
    raise InvalidEvent(f"priority: expected one of {', '.join(Priority.__members__)}, got {value!r:.80}")


def _key(*given: tuple[str, object]) -> str | None:
    """The first of these attributes that is there, and not empty."""
    return next((_text(name, value) for name, value in given if value not in (None, "")), None)


def _text(name: str, value: object) -> str | None:
    if not isinstance(value, str | None):
        raise InvalidEvent(f"{name}: expected text, got {value!r:.80}")
    if value is not None:
        check_text(name, value)
    return value


def _delay_and_ttl(attributes: Attributes) -> tuple[float, float | None]:
    """Both in seconds."""
    delay_ms, ttl_ms = _milliseconds(attributes, "delayms", 0) or 0, _milliseconds(attributes, "ttlms", 1)
    if ttl_ms is None:
        return delay_ms / 1000, None
    if ttl_ms <= delay_ms:
        raise InvalidEvent(
            f"ttlms: expected more than delayms, which is {delay_ms}, got {ttl_ms}: the event would expire before it "
            "may be delivered"
        )
    return delay_ms / 1000, ttl_ms / 1000


def _milliseconds(attributes: Attributes, name: str, least: int) -> int | None:
    value = attributes.pop(name, None)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # in JSON, 5.0 is a whole number
    number = int(value) if not isinstance(value, bool) and str(value).isdecimal() and len(str(value)) <= 12 else -1
    if not least <= number <= MAX_DELAY_S * 1000:
        raise InvalidEvent(
            f"{name}: expected a whole number of milliseconds, {least} to {MAX_DELAY_S * 1000}, got {value!r:.80}"
        )
    return number
