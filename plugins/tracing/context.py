"""W3C trace context: where a trace goes on, as `traceparent` in an event's metadata; and traces that ids give.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping
from hashlib import blake2b
from typing import Any, NamedTuple

TRACEPARENT = "traceparent"
TRACESTATE = "tracestate"
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_HEX_TRACE = re.compile(r"(?!0{16})[0-9a-f]{16}(?!0{16})[0-9a-f]{16}")


class TraceContext(NamedTuple):
    """A span that others continue from. `trace` and `span` are 32 and 16 lower-case hexadecimal digits."""

    trace: str
    span: str
    sampled: bool = True

    def header(self) -> str:
        """As `traceparent` says it."""
        return f"00-{self.trace}-{self.span}-{'01' if self.sampled else '00'}"


def read(metadata: Mapping[str, Any]) -> TraceContext | None:
    """The context in an event's metadata. None where there is none, or none that can be read."""
    value = metadata.get(TRACEPARENT)
    found = _FORM.fullmatch(value) if isinstance(value, str) else None
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    return TraceContext(found[2], found[3], bool(int(found[4], 16) & 1))


def forget(metadata: MutableMapping[str, Any]) -> None:
    """Take out a context that cannot be read: it must not travel on."""
    metadata.pop(TRACEPARENT, None)
    metadata.pop(TRACESTATE, None)


def trace_of(event_id: str) -> str:
    """The trace that begins with the event of this id: a UUID's own digits. The second half names its publish."""
    digits = event_id.replace("-", "")
    return digits if _HEX_TRACE.fullmatch(digits) else blake2b(event_id.encode(), digest_size=16).hexdigest()


def span_of(event_id: str) -> str:
    """The span of the publish of this event, in whatever trace it is."""
    return trace_of(event_id)[16:]
