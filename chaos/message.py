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


unpack_header = _HEADER.unpack_from
"""nonce, event, intended_ns of a payload that is long enough, as a plain tuple: for the recorder's hot path."""

fingerprint = zlib.crc32
"""The hash by which the checker sees that a payload arrived as it was published."""
