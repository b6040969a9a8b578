"""Durations, sizes and rates as people write them in a file, and back.

`Seconds` and `Bytes` are annotations for fields of an options model: `timeout: Seconds = 30`. The field then takes
`500ms`, `5s`, `2m`, `1h`, `1d` or a plain number of seconds, and holds a float of seconds; sizes alike hold an int of
bytes. Bound them with `Annotated[Seconds, Field(gt=0)]`.
"""

from __future__ import annotations

import math
import re
from typing import Annotated

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

SECONDS_PER_UNIT = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
BYTES_PER_UNIT = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
}
MAX_SECONDS = 3650 * 86400.0
MAX_BYTES = 2**40

_DURATION = r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(ns|us|ms|s|m|h|d)"
_SIZE = r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(B|KB|MB|GB|KiB|MiB|GiB)"
_ANY_DURATION = r"(-?[0-9]+(?:\.[0-9]+)?) ?(ns|us|ms|s|m|h|d)"
_ANY_SIZE = r"(-?[0-9]+(?:\.[0-9]+)?) ?(B|KB|MB|GB|KiB|MiB|GiB)"
_DURATION_WORDS = "a duration such as 100ms, 5s, 2m or 1h (a plain number is seconds)"
_SIZE_WORDS = "a size such as 200B, 4KB or 1MB (a plain number is bytes; KiB, MiB are powers of 1024)"


def _expected(what: str) -> PydanticCustomError:
    return PydanticCustomError("expected", "expected {what}", {"what": what})


def parse_seconds(value: object) -> float:
    """Seconds from `5s`, or from a number that is seconds already.

    Raises PydanticCustomError (a ValueError) naming the accepted forms, for text without a unit, a bool or a
    not-a-number value, or the bound of a value that is negative, infinite or too large.
    """
    seconds, plain = math.nan, True
    if isinstance(value, str):
        match = re.fullmatch(_ANY_DURATION, value)
        if match:
            seconds = float(match[1]) * SECONDS_PER_UNIT[match[2]]
            plain = re.fullmatch(_DURATION, value) is not None
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(max(min(value, 2 * MAX_SECONDS), -1))  # a whole number may be too large for a float
    if seconds < 0:
        raise _expected("a duration of at least 0s")
    if seconds > MAX_SECONDS:
        raise _expected("a duration of at most 3650d")
    if math.isnan(seconds) or not plain:
        raise _expected(_DURATION_WORDS)
    return seconds


def parse_bytes(value: object) -> int:
    """Bytes from `4KB` (1000) or `4KiB` (1024), or from a whole number that is bytes already.

    Raises PydanticCustomError (a ValueError) naming the accepted forms, for a fraction of a byte too, or the bound of a
    value that is negative or too large.
    """
    size, plain = math.nan, True
    if isinstance(value, str):
        match = re.fullmatch(_ANY_SIZE, value)
        if match:
            size = float(match[1]) * BYTES_PER_UNIT[match[2]]
            plain = re.fullmatch(_SIZE, value) is not None
        elif near := next((unit for unit in BYTES_PER_UNIT if re.fullmatch(rf"[0-9.]+ ?{unit}", value, re.I)), ""):
            raise _expected(f"{_SIZE_WORDS}, so '{value[: -len(near)]}{near}'")
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    if size < 0:
        raise _expected("a size of at least 0B")
    if size > MAX_BYTES:
        raise _expected("a size of at most 1024GiB")
    if math.isnan(size) or not plain or size != int(size):
        raise _expected(_SIZE_WORDS)
    return int(size)


Seconds = Annotated[
    float,
    BeforeValidator(parse_seconds),
    WithJsonSchema(
        {
            "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_DURATION}$"}],
            "description": "a duration: 100ms, 5s, 2m, 1h, or a number of seconds",
        }
    ),
]
"""A duration of zero or more, in seconds."""

Bytes = Annotated[
    int,
    BeforeValidator(parse_bytes),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": f"^{_SIZE}$"}],
            "description": "a size: 200B, 4KB, 1MB, or a number of bytes",
        }
    ),
]
"""A size of zero or more, in bytes."""


def _share(value: object) -> object:
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,9})? ?%", value):
        share = f"{float(value.removesuffix('%')) / 100:.12g}"
        raise _expected(f"a share between 0 and 1, so {share}")
    return value


Ratio = Annotated[float, BeforeValidator(_share), Field(ge=0, le=1)]
"""A share between 0 and 1."""


def format_seconds(seconds: float) -> str:
    """The shortest form that people would write and `parse_seconds` reads: `0s`, `250ms`, `1.5s`, `90s`, `2m`, `1h`."""
    for unit in ("d", "h", "m"):
        if seconds and seconds % SECONDS_PER_UNIT[unit] == 0:
            return f"{seconds / SECONDS_PER_UNIT[unit]:.0f}{unit}"
    if seconds == 0 or seconds >= 1:
        return f"{_short(seconds)}s"
    for unit in ("ms", "us"):
        if seconds >= SECONDS_PER_UNIT[unit]:
            return f"{_short(seconds / SECONDS_PER_UNIT[unit])}{unit}"
    return f"{_short(seconds / 1e-9)}ns"


def format_bytes(size: int) -> str:
    """`200B`, `4KB`, `1.5MB`: three digits at most after the point."""
    for unit in ("GB", "MB", "KB"):
        if size >= BYTES_PER_UNIT[unit]:
            return f"{_short(size / BYTES_PER_UNIT[unit])}{unit}"
    return f"{size}B"


def format_count(number: float) -> str:
    """`2,000`, `62,317`, `0.5`: thousands separated, no needless fraction."""
    return f"{number:,.0f}" if number == int(number) else f"{number:,.3f}".rstrip("0")


def format_rate(per_second: float) -> str:
    """`2,000/s`."""
    return f"{format_count(per_second)}/s"


def _short(number: float) -> str:
    return f"{number:.3f}".rstrip("0").rstrip(".")
