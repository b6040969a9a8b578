"""What a scenario may expect, and invariants of one's own: what a plugin gives by squall_invariants."""

from __future__ import annotations

from typing import ClassVar

from squall.core.options import Options


class Expectation(Options):
    """Base of all; `name` is what stands under `expect:`."""

    noun: ClassVar[str] = "this expectation"
    name: ClassVar[str]


class Invariant(Expectation):
    """A kind of expectation of one's own; its fields are its options in a scenario, its docstring says what must hold.

    `sql` is one SELECT over the tables of a run's history, in DuckDB's SQL, that returns the rows which break it. Of
    its columns these are read, each of which it may leave out: `event` and `subscription` as the tables number them,
    `time` in nanoseconds as there, and `what` is wrong, as text: rows of which it says the same are told as one cause.
    `$limit` in it is the value of the option `limit`.
    """

    sql: ClassVar[str]
