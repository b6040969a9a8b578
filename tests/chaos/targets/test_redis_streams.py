"""A program with Redis streams of its own: what it claims, what it does with failures, and what it leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import pytest
import redis
from tests.servers import Server

from squall import Filter, Priority
from squall.core.clock import SystemClock
from squall.core.config import Config
from squall.core.target import Message, Received, RunContext, SubscriberSpec
from squall.plugins.redis_streams.target import CONNECTIONS, RedisStreamsOptions, RedisStreamsTarget

STREAM = "squall-bench"


class Sink:
    """Remembers what it is given; `fails` has how many times each payload is refused."""

    def __init__(self, **fails: int) -> None:
        self.got: list[bytes] = []
        self.asked: list[tuple[str, bytes]] = []
        self.answered: list[bytes] = []
        self.fails = {name.encode(): times for name, times in fails.items()}
        self.error: BaseException = RuntimeError("not yet")

    async def deliver(self, received: Received) -> None:
        self.got.append(received.payload)
        if self.fails.get(received.payload, 0) > 0:
            self.fails[received.payload] -= 1
            raise self.error

    def settling(self, payloads: Sequence[bytes], settlement: str, invoked_ns: int) -> None:
        self.asked += [(settlement, payload) for payload in payloads]

    def settled(self, payloads: Sequence[bytes], ok_ns: int, answer: str = "ok") -> None:
        self.answered += payloads

    def gate_changed(self, gate: str, state: str) -> None:
        """It has none."""


class Held(Sink):
    """Handles nothing to its end until it may go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def deliver(self, received: Received) -> None:
        await super().deliver(received)
        await self.go.wait()


@asynccontextmanager
async def program(server: Server, folder: Path) -> AsyncIterator[RedisStreamsTarget]:
    target = RedisStreamsTarget()
    options = RedisStreamsOptions(url=server.url)
    await target.start(RunContext(SystemClock(), Random(1), folder, Config(), options=options))
    try:
        yield target
    finally:
        await target.stop()


async def publish(target: RedisStreamsTarget, *payloads: str, kind: str = "order.created") -> None:
    for payload in payloads:
        outcome = await target.publish(Message(kind, payload.encode(), Priority.NORMAL, "k"))
        assert outcome.state == "ok", outcome


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def idle(target: RedisStreamsTarget) -> None:
    """Nothing is pending any more, by the server's own count: None is a server that could not be asked."""
    async with asyncio.timeout(60):
        while any(one.pending != 0 for one in (await target.counters()).subscribers.values()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_it_claims_what_the_server_says_of_itself(
    redis_server: Server, redis_without_aof: Server, tmp_path: Path
) -> None:
    """Asked when it starts; a durability is never taken on trust."""
    for server, durability in ((redis_server, "disk"), (redis_without_aof, "memory")):
        async with program(server, tmp_path) as target:
            assert (target.claims.durability, target.claims.kept_by) == (durability, "redis")
    with redis.Redis(port=redis_server.port) as client:
        client.config_set("appendfsync", "everysec")
    async with program(redis_server, tmp_path) as target:
        assert target.claims.durability == "memory"
        assert "appendfsync everysec" in await target.describe()


async def test_what_is_handled_is_acknowledged_and_what_fails_comes_again(redis_server: Server, tmp_path: Path) -> None:
    """After it has been idle, and not before; the others go on meanwhile."""
    sink = Sink(b=1)
    async with program(redis_server, tmp_path) as target:
        await target.subscribe(SubscriberSpec("billing", "order.>", timeout_s=0.2), sink)
        await publish(target, "a", "b", "c")
        await eventually(lambda: len(sink.answered) == 4)  # the server counts an acknowledgement before it answers
        await idle(target)
        assert sink.got == [b"a", b"b", b"c", b"b"]
        assert sink.asked == [("ack", b"a"), ("nak", b"b"), ("ack", b"c"), ("ack", b"b")]
        assert sorted(sink.answered) == [b"a", b"b", b"b", b"c"]
        assert (await target.counters()).stored == 3


async def test_who_wants_less_is_given_less(redis_server: Server, tmp_path: Path) -> None:
    """By pattern and filters, which the program looks at itself."""
    wide, narrow = Sink(), Sink()
    async with program(redis_server, tmp_path) as target:
        await target.subscribe(SubscriberSpec("wide", "order.>"), wide)
        filters = [Filter(max_bytes=3)]
        await target.subscribe(SubscriberSpec("narrow", "*.created", filters=filters), narrow)
        await publish(target, "one", "three")
        await publish(target, "two", kind="order.paid")
        await idle(target)
    assert (wide.got, narrow.got) == ([b"one", b"three", b"two"], [b"one"])


async def test_order_is_claimed_only_as_far_as_it_is_true(redis_server: Server, tmp_path: Path) -> None:
    """One worker keeps it; of several, each takes what comes."""
    async with program(redis_server, tmp_path) as target:
        for name, concurrency, order in (("one", 1, "key"), ("many", 4, "none")):
            await target.subscribe(SubscriberSpec(name, ">", concurrency=concurrency), Sink())
            assert target.claims.order == order


async def test_it_begins_where_it_is_asked_to(redis_server: Server, tmp_path: Path) -> None:
    """With what is new, with all that there is, or at a seq; and says which seq that is."""
    early, late, middle = Sink(), Sink(), Sink()
    async with program(redis_server, tmp_path) as target:
        first = await target.publish(Message("a", b"1", Priority.NORMAL, None))
        second = await target.publish(Message("a", b"2", Priority.NORMAL, None))
        assert first.seq is not None
        assert second.seq is not None
        await target.subscribe(SubscriberSpec("early", ">", start="earliest"), early)
        handle = await target.subscribe(SubscriberSpec("late", ">"), late)
        await target.subscribe(SubscriberSpec("middle", ">", start=second.seq), middle)
        assert handle.from_seq == second.seq + 1
        await publish(target, "3")
        await idle(target)
    assert (early.got, middle.got, late.got) == ([b"1", b"2", b"3"], [b"2", b"3"], [b"3"])


async def test_who_takes_events_at_most_once_is_given_each_once(redis_server: Server, tmp_path: Path) -> None:
    """It was acknowledged when it was read."""
    sink = Sink(a=1)
    async with program(redis_server, tmp_path) as target:
        await target.subscribe(SubscriberSpec("billing", ">", delivery="at-most-once", timeout_s=0.1), sink)
        await publish(target, "a", "b")
        await eventually(lambda: len(sink.got) == 2)  # nothing is pending once it is read
        await idle(target)
    assert (sink.got, sink.asked) == ([b"a", b"b"], [("ack", b"a"), ("ack", b"b")])


async def test_groups_are_gone_afterwards_and_events_of_others_are_left_alone(
    redis_server: Server, tmp_path: Path
) -> None:
    """A group of its own for each run; what was in the stream stays there, and is passed by where it is no event."""
    sink = Sink()
    with redis.Redis(port=redis_server.port) as client:
        client.xgroup_create(STREAM, "theirs", "$", mkstream=True)
        client.xadd(STREAM, {"foreign": "entry"})
        async with program(redis_server, tmp_path) as target:
            handle = await target.subscribe(SubscriberSpec("billing", ">", start="earliest"), sink)
            await publish(target, "a", "b")
            await idle(target)
            to_seq = await target.unsubscribe(handle)
            outcome = await target.publish(Message("a", b"later", Priority.NORMAL, None))
            assert outcome.seq is not None
            assert to_seq is not None
            assert to_seq <= outcome.seq
        assert [group["name"] for group in client.xinfo_groups(STREAM)] == [b"theirs"]
        assert client.xlen(STREAM) == 4
    assert sink.got == [b"a", b"b"]


async def test_a_server_that_is_gone_refuses_and_one_that_came_back_is_used(
    redis_server: Server, tmp_path: Path
) -> None:
    """Nobody answers there: surely nothing was stored. What was published before is handled once."""
    sink = Sink()
    async with program(redis_server, tmp_path) as target:
        await target.subscribe(SubscriberSpec("billing", ">"), sink)
        await publish(target, "a")
        await idle(target)
        await asyncio.to_thread(redis_server.kill)
        outcome = await target.publish(Message("a", b"lost", Priority.NORMAL, None))
        again = await target.publish(Message("a", b"lost", Priority.NORMAL, None))
        assert {outcome.state, again.state} <= {"fail", "info"}
        assert again.state == "fail"
        assert (await target.counters()).subscribers["billing"].pending is None
        await asyncio.to_thread(redis_server.start)
        await publish(target, "b")
        await idle(target)
    assert sink.got == [b"a", b"b"]


async def test_many_consumers_leave_publishers_their_connections(redis_server: Server, tmp_path: Path) -> None:
    """Each waits for entries on one of its own, more of them than publishers have."""
    sinks = [Sink(), Sink()]
    async with program(redis_server, tmp_path) as target:
        for number, sink in enumerate(sinks):
            await target.subscribe(SubscriberSpec(f"s{number}", ">", concurrency=CONNECTIONS), sink)
        with redis.Redis(port=redis_server.port) as client:
            await eventually(lambda: client.info("clients")["blocked_clients"] == 2 * CONNECTIONS)
        await publish(target, "a", "b", "c")
        await eventually(lambda: all(len(sink.answered) == 3 for sink in sinks))
        assert [one.pending for one in (await target.counters()).subscribers.values()] == [0, 0]
    assert [sorted(sink.got) for sink in sinks] == [[b"a", b"b", b"c"]] * 2


async def test_what_is_in_hand_is_not_taken_again_after_a_lost_connection(redis_server: Server, tmp_path: Path) -> None:
    """A worker reads again what it was given last; but another may be at it, from whom it has claimed it."""
    sink = Held()
    async with program(redis_server, tmp_path) as target:
        await target.subscribe(SubscriberSpec("billing", ">", concurrency=2, timeout_s=60), sink)
        await publish(target, "a")
        await eventually(lambda: sink.got == [b"a"])
        with redis.Redis(port=redis_server.port) as client:
            (group,) = (one["name"] for one in client.xinfo_groups(STREAM))
            (held,) = client.xpending_range(STREAM, group, "-", "+", 10)
            other = b"worker-0" if held["consumer"] == b"worker-1" else b"worker-1"
            client.xclaim(STREAM, group, other, 0, [held["message_id"]])
            latest = max(int(one["id"]) for one in client.client_list())
            client.client_kill_filter(_type="normal", skipme=True)
            await eventually(lambda: len(sink.got) > 1 or waits(client, latest))
        assert sink.got == [b"a"]
        sink.go.set()
        await idle(target)


def waits(client: redis.Redis, latest: int) -> bool:
    """Whether a connection that was made after that one waits for entries."""
    return any(int(one["id"]) > latest and "b" in one["flags"] for one in client.client_list())


async def test_a_handler_that_cancels_itself_has_failed_and_its_worker_goes_on(
    redis_server: Server, tmp_path: Path
) -> None:
    """As with any other error: what it was at comes again."""
    sink = Sink(a=1)
    sink.error = asyncio.CancelledError()
    async with program(redis_server, tmp_path) as target:
        await target.subscribe(SubscriberSpec("billing", ">", timeout_s=0.2), sink)
        await publish(target, "a", "b")
        await idle(target)
    assert sink.asked == [("nak", b"a"), ("ack", b"b"), ("ack", b"a")]


async def test_a_worker_that_ends_by_an_error_of_its_own_says_so(
    redis_server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is handled from then on: whoever reads the verdict must be able to see why."""
    sink = Sink()
    sink.settling = broken  # type: ignore[method-assign, assignment]
    async with program(redis_server, tmp_path) as target:
        await target.subscribe(SubscriberSpec("billing", ">"), sink)
        await publish(target, "a")
        await eventually(lambda: "a worker of billing has ended: ValueError: broken" in caplog.text)


def broken(*_: object) -> None:
    raise ValueError("broken")
