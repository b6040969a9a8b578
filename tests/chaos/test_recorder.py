"""What the recorder writes of settlements that come early, twice or for something altered, and of rows it lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from squall import Priority, VirtualClock
from squall.chaos.history import HistoryWriter, open_history
from squall.chaos.message import Header, fingerprint, pack
from squall.chaos.recorder import Recorder, RecordingSink, current_event
from squall.chaos.rows import CHUNK_ROWS
from squall.core.errors import StoreFileError
from squall.core.fault import Handler
from squall.core.target import Message, Outcome, Received, SubscriberSpec

NONCE = bytes(8)
SPEC = SubscriberSpec("billing", "order.>")


def payload(event: int, filler: bytes = b"filler") -> bytes:
    return pack(Header(NONCE, event, 0), filler)


class Bench:
    """A recorder with one subscriber, whose handler calls `handles`."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.clock = folder, VirtualClock()
        self.writer = HistoryWriter(folder)
        self.recorder = Recorder(self.writer, self.clock, NONCE)
        self.seam = Handler("handler:billing")
        self.handles: Callable[[Received], Awaitable[None]] | None = None
        self.sink: RecordingSink = self.recorder.sink(0, SPEC, self.seam, self.handle)

    async def handle(self, received: Received) -> None:
        if self.handles is not None:
            await self.handles(received)

    async def publish(self, event: int, key: str | None) -> None:
        async def send(message: Message) -> Outcome:
            return Outcome("ok", event)

        await self.recorder.publish(send, Message("order.created", payload(event), Priority.NORMAL, key), event, 0)

    async def rows(self, columns: str, table: str = "attempt") -> list[tuple[object, ...]]:
        """The table as it was written, in the order of events."""
        await self.recorder.close()
        with open_history(self.folder) as db:
            return db.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path / "history")


async def test_a_settlement_ahead_of_the_handler_is_the_attempts_own(bench: Bench) -> None:
    """Settled first and handled afterwards: not `never settled`."""
    bench.sink.settling([payload(1)], "ack", 5)
    bench.sink.settled([payload(1)], 6)
    await bench.sink.deliver(Received(payload(1)))
    assert await bench.rows("event, result, settlement, settle_invoked, settle_ok") == [(1, "ok", "ack", 5, 6)]


async def test_a_nak_without_a_handler_is_not_the_next_attempts(bench: Bench) -> None:
    """What failed before it came to the handler was not delivered."""
    bench.sink.settling([payload(1)], "nak", 5)
    await bench.sink.deliver(Received(payload(1)))
    assert await bench.rows("event, settlement") == [(1, None)]


async def test_what_was_altered_on_the_way_is_settled_all_the_same(bench: Bench) -> None:
    """The target settles what it stored; the handler had something else with the same header."""
    await bench.sink.deliver(Received(payload(1, b"altered")))
    bench.sink.settling([payload(1)], "ack", 5)
    bench.sink.settled([payload(1)], 6)
    assert await bench.rows("event, settlement, settle_ok") == [(1, "ack", 6)]


async def test_a_settlement_is_about_the_attempt_that_ended(bench: Bench) -> None:
    """One attempt has ended, the next has begun: what is settled is the first, and the next is settled by itself."""
    await bench.sink.deliver(Received(payload(1)))

    async def settle_meanwhile(received: Received) -> None:
        bench.sink.settling([payload(1)], "nak", 5)
        bench.sink.settled([payload(1)], 6)

    bench.handles = settle_meanwhile
    await bench.sink.deliver(Received(payload(1)))
    bench.sink.settling([payload(1)], "ack", 8)
    bench.sink.settled([payload(1)], 9)
    assert await bench.rows("settlement, settle_invoked, settle_ok") == [("ack", 8, 9), ("nak", 5, 6)]


async def test_an_attempt_after_one_that_runs_on_has_the_next_number(bench: Bench) -> None:
    """Given back at its timeout, it counts as failed, though its handler ends after the next has begun, or never."""
    words = [asyncio.get_running_loop().create_future() for _ in range(2)]
    running: list[asyncio.Future[None]] = []

    async def run(received: Received) -> None:
        await words[len(running)]

    bench.handles = run
    for _ in words:
        task = asyncio.ensure_future(bench.sink.deliver(Received(payload(1))))
        await bench.clock.settle()
        running.append(task)
        bench.sink.settling([payload(1)], "nak", bench.clock.monotonic_ns())
        bench.sink.settled([payload(1)], bench.clock.monotonic_ns())
    words[0].set_exception(ValueError("late"))
    await asyncio.gather(running[0], return_exceptions=True)
    bench.handles = None
    await bench.sink.deliver(Received(payload(1)))
    assert await bench.rows("attempt, result") == [(1, "error"), (2, None), (3, "ok")]
    words[1].set_result(None)
    await running[1]


async def test_handlers_that_run_on_are_counted_until_they_end(bench: Bench) -> None:
    """Those whose deliveries were given back or up at their timeout; not who is settled by then, and still at work."""
    ends = asyncio.Event()

    async def run(received: Received) -> None:
        await ends.wait()

    bench.handles = run
    running = [asyncio.ensure_future(bench.sink.deliver(Received(payload(event)))) for event in range(1, 6)]
    await bench.clock.settle()
    bench.sink.settling([payload(1)], "nak", bench.clock.monotonic_ns())  # lost to somebody else, and not over its time
    await bench.clock.advance(SPEC.timeout_s + 1)
    assert bench.recorder.abandoned == 0
    bench.sink.settling([payload(2)], "ack", bench.clock.monotonic_ns())
    bench.sink.settling([payload(3)], "nak", bench.clock.monotonic_ns())
    bench.sink.settling([payload(4)], "term", bench.clock.monotonic_ns())
    assert bench.recorder.abandoned == 2
    bench.sink.settled([payload(3)], bench.clock.monotonic_ns())
    assert bench.recorder.abandoned == 2
    ends.set()
    await asyncio.gather(*running)
    assert bench.recorder.abandoned == 0
    await bench.recorder.close()


async def test_progress_is_whatever_an_attempt_does(bench: Bench) -> None:
    """It begins, ends well or not, is answered: the same for who waits for a drain and for the checker."""
    seen = []

    async def step() -> None:
        await bench.clock.advance(1)
        seen.append(bench.recorder.moved_ns)

    async def run(received: Received) -> None:
        await step()
        await bench.clock.advance(1)
        if received.attempt == 1:
            raise ValueError("failed")

    bench.handles = run
    begun = bench.clock.monotonic_ns()
    with pytest.raises(ValueError, match="failed"):
        await bench.sink.deliver(Received(payload(1), attempt=1))
    await step()
    bench.sink.settling([payload(1)], "nak", bench.clock.monotonic_ns())
    bench.sink.settled([payload(1)], bench.clock.monotonic_ns())
    await step()
    await bench.sink.deliver(Received(payload(1), attempt=2))
    await step()
    assert [(moved - begun) // 1_000_000_000 for moved in seen] == [0, 2, 3, 4, 6]
    await bench.recorder.close()


async def test_what_a_target_says_otherwise_of_an_event_is_kept(bench: Bench) -> None:
    """Another type, key or priority than was published, each by its name; what is the same, or not said, is not."""
    await bench.publish(1, "k-7")
    await bench.sink.deliver(Received(payload(1), key="k-7", priority=Priority.NORMAL, type="order.created"))
    await bench.sink.deliver(Received(payload(1)))
    await bench.sink.deliver(Received(payload(1), key="k-8", type="order.paid"))
    await bench.sink.deliver(Received(payload(1), priority=Priority.LOW))
    names = "told t LEFT JOIN topic n ON n.topic = t.type LEFT JOIN key k ON k.key = t.key"
    assert await bench.rows("event, n.name, k.name, priority", names) == [
        (1, "order.paid", "k-8", None),
        (1, None, None, Priority.LOW),
    ]


async def test_an_attempt_has_the_key_that_its_event_was_published_with(bench: Bench) -> None:
    """And the priority, whatever the target says: forgetting keys must not hide that it does not keep them apart."""
    await bench.publish(1, "k-7")
    await bench.publish(2, None)
    await bench.sink.deliver(Received(payload(1), key=None, priority=Priority.LOW))
    await bench.sink.deliver(Received(payload(2), key="made-up"))
    assert await bench.rows("event, k.name, priority", "attempt a LEFT JOIN key k ON k.key = a.key") == [
        (1, "k-7", Priority.NORMAL),
        (2, None, Priority.NORMAL),
    ]


async def test_what_a_fault_does_to_a_handlers_payload_is_the_handlers_alone(bench: Bench) -> None:
    """It gets the changed one; what the target delivered is recorded."""
    seen = []

    async def corrupt(payloads: list[bytes]) -> None:
        payloads[:] = [b"poison"]

    async def handles(received: Received) -> None:
        seen.append(received.payload)

    bench.seam.acts.append(corrupt)
    bench.handles = handles
    await bench.sink.deliver(Received(payload(1)))
    assert seen == [b"poison"]
    assert await bench.rows("event, hash") == [(1, fingerprint(payload(1)))]


async def test_what_a_task_does_after_a_handler_is_not_that_handlers(bench: Bench) -> None:
    """A hit of a fault in the store, at the next settlement, belongs to no event."""
    seen = []

    async def fault(payloads: list[bytes]) -> None:
        seen.append(current_event.get())

    bench.seam.acts.append(fault)
    await bench.sink.deliver(Received(payload(1)))
    assert seen == [(1, 0)]
    assert current_event.get() is None


async def test_rows_that_cannot_be_written_are_a_gap(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A history without them must not be judged as if they had never been."""
    append = bench.writer.append

    def refuse(table: str, columns: dict[str, object]) -> None:
        if table == "attempt":
            raise StoreFileError("no space left")
        append(table, columns)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.writer, "append", refuse)
    for event in range(1, CHUNK_ROWS + 1):
        await bench.sink.deliver(Received(payload(event)))
        bench.sink.settling([payload(event)], "ack", 5)
        bench.sink.settled([payload(event)], 6)
    assert await bench.rows("source, lost, why", "gap") == [("attempt", CHUNK_ROWS, "no space left")]
    assert bench.recorder.failures == [f"{CHUNK_ROWS} rows of attempt were dropped: no space left"]


async def test_an_answer_that_will_not_come_belongs_to_no_later_attempt(bench: Bench) -> None:
    """The first attempt stays unconfirmed, whatever is said of the second."""
    for attempt in (1, 2):
        await bench.sink.deliver(Received(payload(1), 1, attempt=attempt))
        bench.sink.settling([payload(1)], "ack", attempt)
        if attempt == 1:
            bench.sink.settled([payload(1)], 5, "lost")
    bench.sink.settled([payload(1)], 7)
    assert await bench.rows("attempt, settle_invoked, settle_ok") == [(1, 1, None), (2, 2, 7)]


async def test_all_answers_that_are_out_may_be_lost_at_once(bench: Bench) -> None:
    """But for attempts that still run."""
    await bench.sink.deliver(Received(payload(1), 1))
    bench.sink.settling([payload(1)], "ack", 1)
    running = asyncio.Event()

    async def run(received: Received) -> None:
        bench.sink.settled((), 5, "lost")
        running.set()

    bench.handles = run
    await bench.sink.deliver(Received(payload(2), 2))
    assert running.is_set()
    bench.sink.settling([payload(2)], "ack", 6)
    for event in (1, 2):
        bench.sink.settled([payload(event)], 7)
    assert await bench.rows("event, settle_invoked, settle_ok") == [(1, 1, None), (2, 6, 7)]
