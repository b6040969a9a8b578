"""The values of a sweep: numbers with one unit, as people write them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from squall.core.errors import ConfigError, Problem

NUMBER = re.compile(r"([0-9]+(?:\.[0-9]+)?|\.[0-9]+)([A-Za-z%/]*)")


@dataclass(frozen=True)
class Range:
    """From low to high, in `unit`. whole: both were written as whole numbers, and so are all values between."""

    low: float
    high: float
    unit: str
    whole: bool

    def text(self, value: float) -> str:
        """A value as `--set` reads it: `250ms`."""
        # never with an exponent, which no unit may follow
        return f"{value:.0f}{self.unit}" if self.whole else f"{Decimal(f'{value:.6g}'):f}{self.unit}"

    def grid(self, count: int, *, log: bool) -> tuple[float, ...]:
        """So many values from low to high, evenly spaced, on a logarithmic axis if so asked; each once."""
        steps = [number / max(1, count - 1) for number in range(count)]
        values = [
            self.low * (self.high / self.low) ** step if log else self.low + (self.high - self.low) * step
            for step in steps
        ]
        rounded = [float(round(value)) if self.whole else float(f"{value:.6g}") for value in values[1:-1]]
        return tuple(dict.fromkeys((self.low, *rounded, self.high)))


def read_range(low: str, high: str, *, log: bool) -> Range:
    """The range that `--from` and `--to` say. Raises ConfigError."""
    first, last = _read("--from", low), _read("--to", high)
    if first[1] != last[1]:
        message = f"expected one unit, got '{low}' and '{high}'"
        raise ConfigError([Problem("--to", message, hint="write both in the same unit, such as 1ms and 50ms")])
    if not first[0] < last[0]:
        raise ConfigError([Problem("--to", f"expected more than --from ({low}), got {high}")])
    if log and first[0] == 0:
        raise ConfigError([Problem("--log", "expected a --from above 0 on a logarithmic axis, got 0")])
    return Range(first[0], last[0], first[1], "." not in low + high)


def _read(option: str, text: str) -> tuple[float, str]:
    found = NUMBER.fullmatch(text)
    if found is None:
        raise ConfigError([Problem(option, f"expected a number, with a unit if it has one (5ms, 2KB), got '{text}'")])
    return float(found[1]), found[2]
