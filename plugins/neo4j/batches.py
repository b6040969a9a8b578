"""What is written to the graph in one transaction: rows by kind, under a number that is counted once."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

MAX_ROWS = 500
Kind = Literal["subscriptions", "publishes", "deliveries", "audit"]
Row = Mapping[str, object]
"""Parameters of a query, by name: text, whole numbers, times, or nothing."""


@dataclass(frozen=True)
class Batch:
    """At most MAX_ROWS rows. A router's numbers grow by one: the graph takes each of them once, however often it is
    sent. `width` is how far the number before is away."""

    number: float
    rows: Mapping[Kind, list[Row]]
    width: float = 1.0

    @property
    def size(self) -> int:
        """How many rows it has."""
        return sum(map(len, self.rows.values()))

    def halves(self) -> tuple[Batch, Batch]:
        """Its rows in two batches. The second has its own number, the first one between that and the one before: if the
        whole was written, and nobody knows, neither is taken."""
        flat = [(kind, row) for kind, rows in self.rows.items() for row in rows]
        width, middle = self.width / 2, len(flat) // 2
        first = Batch(self.number - width, _by_kind(flat[:middle]), width)
        return first, Batch(self.number, _by_kind(flat[middle:]), width)


class Batches:
    """Cuts rows into batches, numbered from 1."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)

    def cut(self, rows: Iterable[tuple[Kind, Row]]) -> Iterator[Batch]:
        """The rows in their order, those of a kind together in each batch."""
        rest = iter(rows)
        while some := list(itertools.islice(rest, MAX_ROWS)):
            yield Batch(next(self._numbers), _by_kind(some))


def _by_kind(rows: Iterable[tuple[Kind, Row]]) -> Mapping[Kind, list[Row]]:
    by_kind: dict[Kind, list[Row]] = {}
    for kind, row in rows:
        by_kind.setdefault(kind, []).append(row)
    return by_kind


def at(time_ns: int) -> datetime:
    """A wall time as the graph holds it."""
    return datetime.fromtimestamp(time_ns / 1e9, UTC)
