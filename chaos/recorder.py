"""Records what was published and delivered, from outside the target, and hands it to the history by chunks.

A row is a run of integers in one `array('q')` per table; columns are cut out of it, and written, in a thread.
What was begun stands in `_open_ops` or a sink's open attempts before it takes effect, so that what never ended is
recorded as such. An attempt's key and priority are those its event was published with, whatever the target says: a
target that forgets keys must not look as if it had none to keep apart. What it says otherwise goes into a table `told`.
"""

from __future__ import annotations

import asyncio
import contextvars
import itertools
from array import array
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from sys import getsizeof
from typing import Literal

from squall.chaos.history import NULL, HistoryWriter
from squall.chaos.message import HEADER_BYTES, fingerprint, unpack_header
from squall.chaos.rows import Table
from squall.chaos.sent import Sent
from squall.core.clock import Clock
from squall.core.errors import SquallError
from squall.core.fault import Handler
from squall.core.target import Message, Outcome, Received, Settlement, SubscriberSpec

MAX_WAITING_CHUNKS = 256
MAX_AHEAD = 100_000
NUMBER_BYTES = 32
PUBLISH = (
    "op", "event", "type", "key", "priority", "intended", "invoked", "ended", "outcome", "seq", "duplicate", "hash",
)  # fmt: skip
ATTEMPT = (
    "event", "subscription", "attempt", "worker", "key", "priority", "seq", "begun", "ended", "result", "settlement",
    "settle_invoked", "settle_ok", "settle_answer", "by_handler", "hash",
)  # fmt: skip
BATCH = ("batch", "op", "invoked")
TOLD = ("event", "subscription", "begun", "type", "key", "priority")
CANCELLED = Outcome("info", why="cancelled")
OUTCOMES = {"ok": 0, "fail": 1, "info": 2}
SETTLEMENTS = {"ack": 0, "nak": 1, "term": 2}
OK, ERROR, TIMEOUT, DIED = 0, 1, 2, 3
_EVENT, _ATTEMPT, _BEGUN, _ENDED, _RESULT, _SETTLEMENT, _INVOKED, _SETTLED, _ANSWER = 0, 2, 7, 8, 9, 10, 11, 12, 13
_BEGINS = {
    "publish": PUBLISH.index("invoked"),
    "batch": BATCH.index("invoked"),
    "attempt": ATTEMPT.index("begun"),
    "told": TOLD.index("begun"),
}
_GAPS = {"publish": "publish", "batch": "publish", "attempt": "attempt", "told": "attempt"}

current_event: contextvars.ContextVar[tuple[int, int] | None] = contextvars.ContextVar("current_event", default=None)
"""The event and subscription whose handler runs, while a fault stands before it: what a hit is recorded with."""


class Recorder:
    """The recorder of one run. `now` is its own source of time, untouched by any fault.

    `acknowledged`, `refused` and `unknown` count publishes by outcome, `handled` handlers that ended well. `moved_ns`:
    when a handler last began or ended, or a settlement was answered, which the checker takes for progress.
    """

    def __init__(self, writer: HistoryWriter, clock: Clock, nonce: bytes) -> None:
        self.clock, self.now, self.nonce = clock, clock.monotonic_ns, nonce
        self.sent = Sent()
        self.acknowledged = self.refused = self.unknown = self.handled = self.moved_ns = 0
        self.latencies_ns: list[int] | None = None
        self.failures: list[str] = []
        self.attempts = Table("attempt", ATTEMPT, self.write)
        self.told = Table("told", TOLD, self.write)
        self._publishes = Table("publish", PUBLISH, self.write)
        self._batched = Table("batch", BATCH, self.write)
        self._tables = (self._publishes, self._batched, self.attempts, self.told)
        self._written = {"topic": 0, "key": 0}
        self._ops, self._batches = itertools.count(1), itertools.count(1)
        self._open_ops: dict[int, tuple[int, ...]] = {}
        self._sinks: list[RecordingSink] = []
        self._writer = writer
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="squall-recorder")
        self._waiting: set[Future[None]] = set()
        self._gaps: list[tuple[str, int, int, int, str]] = []
        self._gates: list[tuple[int, int, str, str]] = []

    @property
    def held(self) -> tuple[int, int]:
        """Bytes and objects that it keeps itself: a little of each event, more of those that failed, and rows that wait
        to be packed, which at a low rate come and go too slowly to be told from growth."""
        failed = [sink.failed for sink in self._sinks]
        objects = sum(map(len, failed))
        size = self.sent.held_bytes + sum(map(getsizeof, failed)) + NUMBER_BYTES * objects
        return size, objects + sum(table.held_objects for table in self._tables)

    @property
    def abandoned(self) -> int:
        """Handlers that run on, though the target gave their deliveries back or up when their time was over."""
        return sum(sink.abandoned for sink in self._sinks)

    # Publishes

    async def publish(
        self, send: Callable[[Message], Awaitable[Outcome]], message: Message, event: int, intended_ns: int
    ) -> Outcome:
        """Send the message and record the call: invoked before, its end and outcome after."""
        begin = self.begin(message, event, intended_ns, self.now())
        outcome = CANCELLED
        try:
            outcome = await send(message)
        except Exception as error:  # noqa: BLE001  whatever a target raises, its outcome is unknown
            outcome = Outcome("info", why=f"{type(error).__name__}: {error}")
        finally:
            self.end(begin, message, outcome, self.now())
        return outcome

    async def publish_batch(
        self,
        send: Callable[[Sequence[Message]], Awaitable[Sequence[Outcome]]],
        batch: Sequence[tuple[Message, int]],
        intended_ns: int,
    ) -> None:
        """Send messages, each with its event's number, as one; a call of each is recorded, and its batch."""
        number, begins = next(self._batches), [self.begin(*one, intended_ns, self.now()) for one in batch]
        for begin in begins:
            self._batched.add((number, begin[0], begin[-1]))
        outcomes: Sequence[Outcome] = [CANCELLED] * len(batch)
        try:
            answered = await send([message for message, _ in batch])
            if len(answered) != len(batch):
                raise ValueError(f"the target answered for {len(answered)} of {len(batch)} messages")
            outcomes = answered
        except Exception as error:  # noqa: BLE001  whatever a target raises, its outcome is unknown
            outcomes = [Outcome("info", why=f"{type(error).__name__}: {error}")] * len(batch)
        finally:
            for begin, (message, _), outcome in zip(begins, batch, outcomes, strict=True):
                self.end(begin, message, outcome, self.now())

    def begin(self, message: Message, event: int, intended_ns: int, at_ns: int) -> tuple[int, ...]:
        """A call of publish that was begun; what `end` is given. Without an end, its outcome is unknown."""
        kind, key = self.sent.add(message, event)
        op = next(self._ops)
        begin = self._open_ops[op] = (op, event, kind, key, message.priority, intended_ns, at_ns)
        return begin

    def end(self, begin: tuple[int, ...], message: Message, outcome: Outcome, at_ns: int) -> None:
        """The call that was begun has ended."""
        state, seq = outcome.state, NULL if outcome.seq is None else outcome.seq
        self._publishes.add((*begin, at_ns, OUTCOMES[state], seq, outcome.duplicate, fingerprint(message.payload)))
        del self._open_ops[begin[0]]
        if state == "ok":
            self.acknowledged += 1
        elif state == "fail":
            self.refused += 1
        else:
            self.unknown += 1

    # Deliveries

    def sink(
        self,
        number: int,
        spec: SubscriberSpec,
        seam: Handler,
        handle: Callable[[Received], Awaitable[None]],
    ) -> RecordingSink:
        """Where a target delivers for one subscriber; number is its id in the history."""
        sink = RecordingSink(self, number, spec, seam, handle)
        self._sinks.append(sink)
        return sink

    def gate_changed(self, subscription: int, gate: str, state: str) -> None:
        """A gate of the subscription of this number is in another state from now on."""
        self._gates.append((subscription, self.now(), gate, state))

    # Writing

    def write(self, table: str, rows: array[int], columns: Sequence[str]) -> None:
        """Hand interleaved rows to the writing thread."""
        if len(self._waiting) >= MAX_WAITING_CHUNKS:
            self._lost(table, rows, len(columns), "the disk does not keep up")
            return
        future = self._thread.submit(self._write, table, rows, columns)
        self._waiting.add(future)
        future.add_done_callback(self._waiting.discard)

    def _write(self, table: str, rows: array[int], columns: Sequence[str]) -> None:
        width = len(columns)
        cut = {name: rows[index::width] for index, name in enumerate(columns)}
        count = len(rows) // width
        if table in ("publish", "attempt"):
            cut["process"] = array("q", bytes(8 * count))
        if table == "publish":
            cut["seq_scope"] = cut["process"]
        try:
            self._writer.append(table, cut)
        except (SquallError, ValueError) as error:
            self._lost(table, rows, width, str(error))

    def _lost(self, table: str, rows: array[int], width: int, why: str) -> None:
        """These rows are not in the history: it must not be judged as if they had never been."""
        self.failures.append(f"{len(rows) // width} rows of {table} were dropped: {why}")
        if table not in _GAPS:  # without samples nothing else is missing
            return
        begins = rows[_BEGINS[table] :: width]
        self._gaps.append((_GAPS[table], min(begins), max(begins), len(begins), why))

    async def flush(self) -> None:
        """Write out what ended so far, with the names that it needs."""
        for table in self._tables:
            table.flush()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write_names)

    async def close(self) -> None:
        """Record what never ended as such, and write everything out."""
        for begin in self._open_ops.values():
            self._publishes.add((*begin, NULL, OUTCOMES["info"], NULL, 0, NULL))
        for sink in self._sinks:
            sink.close()
        for table in self._tables:
            table.flush()
        await asyncio.get_running_loop().run_in_executor(self._thread, self._finish)
        self._thread.shutdown()

    def _write_names(self) -> None:
        """Names that are new since the last time."""
        try:
            for table, names in (("topic", self.sent.types.names), ("key", self.sent.keys.names)):
                written = self._written[table]
                new = names[written:]
                if new:
                    self._writer.append(table, {table: list(range(written, written + len(new))), "name": new})
                    self._written[table] += len(new)
        except (SquallError, ValueError) as error:
            self.failures.append(str(error))

    def _finish(self) -> None:
        self._write_names()
        try:
            if self._gates:
                self._writer.append("gate", _columns(("subscription", "time", "gate", "state"), self._gates))
            if self._gaps:
                self._writer.append("gap", _columns(("source", "begun", "ended", "lost", "why"), self._gaps))
            self._writer.compact()
        except (SquallError, ValueError) as error:
            self.failures.append(str(error))


def _columns(names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> dict[str, list[object]]:
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


class RecordingSink:
    """The bench's end of one subscription: runs the handler, and records when and how that went."""

    def __init__(
        self,
        recorder: Recorder,
        number: int,
        spec: SubscriberSpec,
        seam: Handler,
        handle: Callable[[Received], Awaitable[None]],
    ) -> None:
        self._recorder, self._number, self._seam, self._handle = recorder, number, seam, handle
        self._timeout_ns = round(spec.timeout_s * 1e9)
        self._joined_ns = recorder.now()
        self._open: dict[bytes, list[list[int]]] = {}
        self._ahead: dict[bytes, list[int]] = {}
        self.failed: dict[int, int] = {}

    @property
    def abandoned(self) -> int:
        """How many of its handlers the checker would tell as abandoned, and run on."""
        given = (SETTLEMENTS["nak"], SETTLEMENTS["term"])
        rows = (row for rows in self._open.values() for row in rows if row[_SETTLEMENT] in given)
        return sum(row[_ENDED] == NULL and row[_INVOKED] - row[_BEGUN] >= self._timeout_ns for row in rows)

    async def deliver(self, received: Received) -> None:
        """Record the begin, pass the seam, run the handler, record the end; what the handler raises is raised."""
        recorder, payload, seam = self._recorder, received.payload, self._seam
        event, intended = NULL, 0
        if len(payload) >= HEADER_BYTES:
            nonce, found, intended = unpack_header(payload)
            event = found if nonce == recorder.nonce else NULL
        attempt = received.attempt
        if attempt is None:
            attempt = self.failed.get(event, 0) + 1
        key, priority, told = recorder.sent.compare(received, event)
        begun = recorder.moved_ns = recorder.now()
        row = [
            event, self._number, attempt, received.worker, key, priority,
            NULL if received.seq is None else received.seq, begun, NULL, NULL, NULL, NULL, NULL, NULL, 0,
            fingerprint(payload),
        ]  # fmt: skip
        if told is not None:
            recorder.told.add((event, self._number, begun, *told))
        if self._ahead and (ahead := self._ahead.pop(payload, None)) is not None:
            row[_SETTLEMENT : _ANSWER + 1] = ahead
        self._open.setdefault(payload, []).append(row)
        seam.passes += 1
        try:
            if seam.acts:
                current_event.set((event, self._number))
                try:
                    payloads = [payload]
                    await seam.run(payloads)
                    received = received._replace(payload=payloads[0])
                finally:
                    current_event.set(None)  # what this task does next, such as settling, is not this handler
            await self._handle(received)
        except BaseException as error:
            row[_ENDED] = recorder.moved_ns = ended = recorder.now()
            row[_RESULT] = ERROR
            self._has_failed(row)
            if isinstance(error, asyncio.CancelledError):
                row[_RESULT] = TIMEOUT if ended - begun >= self._timeout_ns else DIED
            elif not isinstance(error, Exception):
                row[_RESULT] = DIED
            raise
        row[_ENDED] = recorder.moved_ns = ended = recorder.now()
        row[_RESULT] = OK
        recorder.handled += 1
        if recorder.latencies_ns is not None:
            recorder.latencies_ns.append(ended - max(intended, self._joined_ns))

    def settling(self, payloads: Sequence[bytes], settlement: Settlement, invoked_ns: int) -> None:
        code = SETTLEMENTS[settlement]
        for payload in payloads:
            rows = self._open.get(payload) or self._open.get(self._altered(payload))
            if rows is None:
                # Settled before a handler has it. A nak without one is a delivery that never came as far.
                if settlement != "nak" and len(self._ahead) < MAX_AHEAD:
                    self._ahead[payload] = [code, invoked_ns, NULL, NULL]
                continue
            if len(rows) > 1:
                # It means those that ended, or the one that is given up while it still runs.
                waiting = [row for row in rows if row[_INVOKED] == NULL]
                rows = [row for row in waiting if row[_ENDED] != NULL] or waiting[:1]
            for row in rows:
                if row[_INVOKED] == NULL:
                    row[_SETTLEMENT], row[_INVOKED] = code, invoked_ns
                    if settlement != "ack":
                        self._has_failed(row)

    def settled(self, payloads: Sequence[bytes], ok_ns: int, answer: Literal["ok", "refused", "lost"] = "ok") -> None:
        if answer == "lost":
            self._lost(payloads)
            return
        self._recorder.moved_ns = max(self._recorder.moved_ns, ok_ns)
        code, opened = int(answer == "refused"), self._open
        for payload in payloads:
            rows = opened.pop(payload, None) or opened.pop(self._altered(payload), None)
            if rows is not None:
                # Kept is another attempt, begun since, or one that was settled first and still runs.
                kept = [row for row in rows if not self._answered(row, ok_ns, code)]
                if kept:
                    opened[payload] = kept
            elif payload in self._ahead:
                self._ahead[payload][2:] = ok_ns, code

    def _lost(self, payloads: Sequence[bytes]) -> None:
        """Their attempts are over, and their settlements stay without an answer; of all that ended, where none is
        named."""
        for payload in payloads or tuple(self._open):
            rows = self._open.pop(payload, [])
            kept = [row for row in rows if row[_ENDED] == NULL]
            for row in rows:
                if row[_ENDED] != NULL:
                    self._recorder.attempts.add(row)
            if kept:
                self._open[payload] = kept

    def gate_changed(self, gate: str, state: str) -> None:
        self._recorder.gate_changed(self._number, gate, state)

    def _answered(self, row: list[int], ok_ns: int, code: int) -> bool:
        """Note the answer to a settlement that was asked for; whether the attempt is over and so handed on."""
        if row[_INVOKED] != NULL and row[_SETTLED] == NULL:
            row[_SETTLED], row[_ANSWER] = ok_ns, code
        over = row[_ENDED] != NULL and row[_SETTLED] != NULL
        if over:
            self._recorder.attempts.add(row)
        return over

    def _has_failed(self, row: list[int]) -> None:
        """The event's next attempt has the next number; the handler of an earlier one may end after it has begun."""
        self.failed[row[_EVENT]] = max(row[_ATTEMPT], self.failed.get(row[_EVENT], 0))

    def _altered(self, payload: bytes) -> bytes:
        """The payload under which an event was begun that is settled under another one: the bench's header is the same.
        Only where something is wrong, so it may look through all that is open."""
        if len(payload) < HEADER_BYTES:
            return payload
        header = payload[:HEADER_BYTES]
        return next((known for known in self._open if known.startswith(header)), payload)

    def close(self) -> None:
        for rows in self._open.values():
            for row in rows:
                self._recorder.attempts.add(row)
        self._open.clear()
