"""The header that every payload of the bench begins with: which run, which event, and when it was to be sent."""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

_HEADER = struct.Struct("<8sQq")
HEADER_BYTES = _HEADER.size


class Header(NamedTuple):
    """nonce: the run's own 8 bytes. event: the run-wide number. intended_ns: monotonic."""

    nonce: bytes
    event: int
    intended_ns: int


def pack(header: Header, filler: bytes) -> bytes:
    """A payload: the header, then filler."""
    return _HEADER.pack(*header) + filler


def event_of(payload: bytes, nonce: bytes) -> int | None:
    """The run-wide number of the event that the payload is of; None where it is none of this run's."""
    if len(payload) < HEADER_BYTES:
        return None
    found, event, _ = _HEADER.unpack_from(payload)
    return event if found == nonce else None


unpack_header = _HEADER.unpack_from
"""nonce, event, intended_ns of a payload that is long enough, as a plain tuple: for the recorder's hot path."""

fingerprint = zlib.crc32
"""The hash by which the checker sees that a payload arrived as it was published."""
