"""A publish that waits for its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from squall.core.errors import SquallError
from squall.core.event import Receipt
from squall.protos import wire_pb2 as pb


class Pending:
    """A publish, of one event or an atomic batch, and who waits for it.

    `row` is its place in the journal (0: none). `aged_ns` is the time from which the events' delays and times to live
    count now; `first_sent_ns` is when it was first sent, monotonic (0: never), and
    `unanswered` says that it was sent on a connection that is lost now. Without a `deadline_ns` it waits for ever.
    """

    __slots__ = (
        "aged_ns", "answer", "atomic", "deadline_ns", "events", "first_sent_ns", "made_ns", "row", "size", "unanswered",
    )  # fmt: skip

    def __init__(self, events: Sequence[pb.Outgoing], *, atomic: bool, made_ns: int, deadline_ns: int | None) -> None:
        self.events, self.atomic, self.deadline_ns = events, atomic, deadline_ns
        self.made_ns = self.aged_ns = made_ns
        self.size = sum(one.ByteSize() + 8 for one in events)
        self.row = self.first_sent_ns = 0
        self.unanswered = False
        self.answer: asyncio.Future[list[Receipt]] = asyncio.get_running_loop().create_future()

    def fail(self, error: SquallError) -> None:
        """Tell who waits, if anybody does still."""
        if not self.answer.done():
            self.answer.set_exception(error)
