"""Measured times and sizes as people read them."""

from __future__ import annotations

import math

from squall.core.fault import Network
from squall.core.units import format_count

_UNITS = (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6))


def latency(seconds: float) -> str:
    """`12.3 ms`: three digits, in the unit that fits; `never` for what is infinite."""
    if math.isinf(seconds):
        return "never"
    if seconds >= 1000:
        return f"{seconds:,.0f} s"
    for unit, size in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def size(bytes_: float) -> str:
    """`12.3 MB`: three digits, in the unit that fits, powers of a thousand; `any` for what is infinite."""
    if math.isinf(bytes_):
        return "any"
    for unit, of in (("GB", 1e9), ("MB", 1e6), ("KB", 1e3)):
        if abs(bytes_) >= of:
            return f"{bytes_ / of:.3g} {unit}" if abs(bytes_) < 999.5 * of else f"{bytes_ / of:,.0f} {unit}"
    return f"{bytes_:.3g} B" if abs(bytes_) >= 0.005 else "0 B"


def passed(count: int, seam: str) -> str:
    """`7 calls`: what of a fault's evidence is counted at this seam. Through a network no calls pass, but connections
    and the pieces in which data comes."""
    one, more = "call", "calls"
    if seam.startswith(f"{Network.prefix}:"):
        one, more = "connection or piece of data", "connections or pieces of data"
    return f"{format_count(count)} {one if count == 1 else more}"
