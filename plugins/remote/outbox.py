"""Publishes that have no answer yet: in what order they are sent, how often, and what became of them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain

from squall.core.clock import Clock
from squall.core.errors import InvalidEvent, NotRunning, Overflow, PublishError, StoreError
from squall.core.event import Receipt
from squall.plugins.remote import wire
from squall.plugins.remote.errors import ProtocolError, publish_error
from squall.plugins.remote.journal import Journal
from squall.plugins.remote.pending import Pending
from squall.plugins.remote.settings import Settings
from squall.protos import wire_pb2 as pb

FRAME_BYTES = 262_144
FRAME_OVERHEAD_BYTES = 64


class Outbox:
    """The bounded buffer. What is sent stays in it until it is answered: a lost connection puts it back in its place.

    The journal is used only while there is no connection: what has its answer soon needs no disk.
    """

    def __init__(self, settings: Settings, clock: Clock, logger: logging.Logger, journal: Journal | None) -> None:
        self._clock, self._logger, self._journal = clock, logger, journal
        self._max_events, self._max_bytes = settings.buffer_events, settings.buffer_bytes
        self._waiting: deque[Pending] = deque()
        self._sent: dict[int, list[Pending]] = {}
        self._events = self._bytes = self._request = 0
        self._connected = False
        for pending in journal.load(clock) if journal is not None else ():
            self._take_in(pending)
            pending.answer.add_done_callback(partial(self._tell, pending))
        if self._waiting:
            logger.warning("%d publishes of an earlier process wait to be sent", len(self._waiting))

    @property
    def busy(self) -> bool:
        """Does anybody wait for an answer?"""
        return any(not one.answer.done() for one in self._all())

    def _all(self) -> Iterator[Pending]:
        return chain(chain.from_iterable(self._sent.values()), self._waiting)

    def add(self, pending: Pending) -> None:
        """Take it in, to be sent after what is here. Raises Overflow, or StoreError of the journal."""
        if self._events + len(pending.events) > self._max_events or self._bytes + pending.size > self._max_bytes:
            raise Overflow(
                f"buffer: {self._events} events with {self._bytes} bytes wait for the server already, no room for "
                f"{len(pending.events)} more; nothing was sent (publish slower, or raise buffer_events, buffer_bytes)"
            )
        if not self._connected and self._journal is not None:
            self._journal.add((pending,), self._clock)
        self._take_in(pending)

    def _take_in(self, pending: Pending) -> None:
        self._waiting.append(pending)
        self._events += len(pending.events)
        self._bytes += pending.size

    def withdraw(self, pending: Pending) -> None:
        """Nobody waits for it any more: if it was never sent, it never will be."""
        if not pending.first_sent_ns and pending in self._waiting:
            self._waiting.remove(pending)
            self._gone((pending,))

    # Sending

    def connected(self, welcome: pb.Welcome) -> None:
        """There is a connection, to a server that says this of itself."""
        self._connected = True
        self._frames = max(1, welcome.max_publishes // 2)
        self._frame_events = max(1, welcome.max_events)
        self._max_frame_bytes = welcome.max_frame_bytes
        # Half of it: what is sent late in the window may be on its way for a while.
        self._safe_ns = welcome.dedupe_window_ms * 1_000_000 // 2

    def frames(self) -> Iterator[bytes]:
        """What may be sent now, each frame marked as sent when it is taken. Publishes are sent together where they can
        be, and no more of them than the server reads without stopping: behind them settlements would wait."""
        while self._waiting and len(self._sent) < self._frames:
            batch = self._next_batch()
            if not batch:
                continue
            self._request += 1
            now_ns = self._clock.monotonic_ns()
            for pending in batch:
                pending.first_sent_ns = pending.first_sent_ns or now_ns
            if rows := [one.row for one in batch if one.row]:
                self._write(partial(Journal.mark_sent, rows=rows, now_ns=self._clock.time_ns()))
            self._sent[self._request] = batch
            frame = pb.ClientFrame()
            frame.publish.request, frame.publish.atomic = self._request, batch[0].atomic
            frame.publish.events.extend(chain.from_iterable(pending.events for pending in batch))
            yield frame.SerializeToString()

    def _next_batch(self) -> list[Pending]:
        batch: list[Pending] = []
        events = size = 0
        most = min(FRAME_BYTES, self._max_frame_bytes - FRAME_OVERHEAD_BYTES)
        while self._waiting:
            first = self._waiting[0]
            events, size = events + len(first.events), size + first.size
            if batch and (first.atomic or events > self._frame_events or size > most):
                break
            self._waiting.popleft()
            if self._may_go(first):
                batch.append(first)
                if first.atomic:
                    break
        return batch

    def _may_go(self, pending: Pending) -> bool:
        """False where it was given up, or must not be sent (again)."""
        if not pending.answer.done():
            now_ns = self._clock.monotonic_ns()
            if pending.size > self._max_frame_bytes - FRAME_OVERHEAD_BYTES:
                text = f"events: the server takes {self._max_frame_bytes} bytes in a frame, got {pending.size}"
                pending.fail(InvalidEvent(text))
            elif pending.first_sent_ns and now_ns - pending.first_sent_ns > self._safe_ns:
                text = "sent on a connection that was lost; the server would not know it again by now, and may have"
                pending.fail(PublishError(f"{text} stored it: it is not sent again", "info"))
            elif (over := _aged(pending, now_ns)) is not None:
                pending.fail(PublishError(over, "info" if pending.first_sent_ns else "fail"))
        if pending.answer.done():
            self._gone((pending,))
        return not pending.answer.done()

    # What becomes of it

    def answered(self, published: pb.Published) -> bool:
        """The server's answer to a frame. False where it takes nothing more: what it refused so waits for the next
        connection. Raises ProtocolError."""
        batch = self._sent.get(published.request, ())
        if not batch or len(published.receipts) != sum(len(one.events) for one in batch):
            got, request = len(published.receipts), published.request
            raise ProtocolError(f"expected as many receipts as request {request} has events, got {got}")
        del self._sent[published.request]
        receipts = iter(published.receipts)
        back = [one for one in batch if not self._answer(one, [next(receipts) for _ in one.events])]
        self._gone([one for one in batch if one not in back] if back else batch)
        self._waiting.extendleft(reversed(back))
        return not back

    def _answer(self, pending: Pending, receipts: list[pb.Receipt]) -> bool:
        failed = next((one for one in receipts if one.outcome != pb.OUTCOME_OK), None)
        if pending.answer.done():
            return True
        if failed is None:
            pending.answer.set_result([wire.receipt(one) for one in receipts])
            return True
        error = publish_error(failed, sent_before=pending.unanswered)
        if isinstance(error, NotRunning):
            pending.first_sent_ns = pending.first_sent_ns if pending.unanswered else 0
            return False
        pending.fail(error)
        return True

    def lost(self) -> None:
        """The connection is gone: what has no answer is sent again on the next one, first and in its order."""
        self._connected = False
        sent, self._sent = [one for batch in self._sent.values() for one in batch], {}
        for pending in sent:
            pending.unanswered = True
        self._waiting.extendleft(reversed([one for one in sent if not one.answer.done()]))
        self._gone([one for one in sent if one.answer.done()])
        new = [one for one in self._waiting if not one.row]
        self._write(partial(Journal.add, batch=new, clock=self._clock))

    def sweep(self, now_ns: int, why: str) -> None:
        """End what is past its deadline. `why` says what keeps publishes from being sent."""
        for pending in self._all():
            if pending.deadline_ns is None or pending.deadline_ns > now_ns:
                continue
            waited_s = (now_ns - pending.made_ns) / 1e9
            if pending.first_sent_ns:
                pending.fail(PublishError(f"no answer within {waited_s:.3g} s: it may have been stored", "info"))
            else:
                pending.fail(PublishError(f"not sent within {waited_s:.3g} s, so it is not stored: {why}"))
        # Wherever it stands: in the file the next process would send it.
        if ended := [one for one in self._waiting if one.answer.done()]:
            self._waiting = deque(one for one in self._waiting if not one.answer.done())
            self._gone(ended)

    def close(self) -> None:
        """Nothing is sent any more. What is in the journal stays there, to be sent by the next process."""
        for pending in self._all():
            if pending.row:
                pending.fail(PublishError("stopped before it was answered: the next process sends it", "info"))
            elif pending.first_sent_ns:
                pending.fail(PublishError("stopped before it was answered: it may have been stored", "info"))
            else:
                pending.fail(PublishError("stopped before it was sent, so it is not stored"))
        self._waiting.clear()
        self._sent.clear()
        if self._journal is not None:
            self._journal.close()

    # The journal

    def _write(self, write: Callable[[Journal], None]) -> None:
        """What the journal does not take keeps nothing from being sent."""
        if self._journal is not None:
            try:
                write(self._journal)
            except StoreError as error:
                self._logger.error("%s", error)

    def _gone(self, batch: Sequence[Pending]) -> None:
        for pending in batch:
            self._events -= len(pending.events)
            self._bytes -= pending.size
        if rows := [one.row for one in batch if one.row]:
            self._write(partial(Journal.remove, rows=rows))

    def _tell(self, pending: Pending, answer: asyncio.Future[list[Receipt]]) -> None:
        """Of a publish whose caller was an earlier process."""
        if not answer.cancelled() and (error := answer.exception()) is not None:
            ids = ", ".join(one.event.id for one in pending.events)
            self._logger.error("publishing event %s for an earlier process: %s", ids, error)


def _aged(pending: Pending, now_ns: int) -> str | None:
    """Count the wait in the events' delays and times to live, which began with the publish; says so if one is over."""
    waited_ms = (now_ns - pending.aged_ns) // 1_000_000
    if not waited_ms:
        return None
    for one in pending.events:
        if one.HasField("ttl_ms") and one.ttl_ms <= waited_ms:
            return f"event {one.event.id}: its time to live passed before it could be sent"
    for one in pending.events:
        if one.HasField("ttl_ms"):
            one.ttl_ms -= waited_ms
        one.delay_ms = max(0, one.delay_ms - waited_ms)
    pending.aged_ns += waited_ms * 1_000_000
    return None
