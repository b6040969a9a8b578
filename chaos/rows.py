"""Rows of the recorder's tables that are not written yet."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

CHUNK_ROWS = 4096
PACKED_ROWS = 256

Write = Callable[[str, "array[int]", Sequence[str]], None]
"""Takes interleaved rows of a table, and the names of its columns."""


class Table:
    """Rows of one table that are not written yet, one after the other: gathered in a list and packed some at a time,
    which costs half of packing each, and never holds the loop for long."""

    def __init__(self, name: str, columns: Sequence[str], write: Write) -> None:
        self.name, self.columns, self.width = name, columns, len(columns)
        self._write = write
        self._rows: list[int] = []
        self._packed: array[int] = array("q")
        self._some, self._full = PACKED_ROWS * self.width, CHUNK_ROWS * self.width

    def add(self, row: Sequence[int]) -> None:
        self._rows += row
        if len(self._rows) >= self._some:
            self._pack()
            if len(self._packed) >= self._full:
                self.flush()

    @property
    def held_objects(self) -> int:
        """Numbers that are not packed yet; about every other one is small, or another's too: no object of its own."""
        return len(self._rows) // 2

    def _pack(self) -> None:
        self._packed.fromlist(self._rows)
        self._rows.clear()

    def flush(self) -> None:
        self._pack()
        rows, self._packed = self._packed, array("q")
        if rows:
            self._write(self.name, rows, self.columns)
