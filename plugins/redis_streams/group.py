"""A consumer group and its workers, each a consumer: read, handle, acknowledge; claim what has lain there too long."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

from squall.core.clock import Clock
from squall.core.event import Event, Priority
from squall.core.patterns import compile_pattern
from squall.core.target import Received, Sink, SubscriberSpec

ANSWER_S = 5.0
BLOCK_MS = 500
BATCH = 10
CLAIM_EVERY_NS = 1_000_000_000
IDLE_S = 1.0
AGAIN_S = 0.1
LATER_S = 0.001  # the recorder's time begins a moment after ours
_SEQ_BITS = 20

Entry = tuple[bytes, Mapping[bytes, bytes] | None]
T = TypeVar("T")


async def answered(answer: Awaitable[T]) -> T:
    """The answer to a command, within ANSWER_S. Raises TimeoutError, RedisError and OSError."""
    async with asyncio.timeout(ANSWER_S):
        return await answer


def seq_of(entry: bytes | str) -> int:
    """A stream's id, `milliseconds-number`, as one number that rises as it does."""
    milliseconds, _, number = (entry.decode() if isinstance(entry, bytes) else entry).partition("-")
    return (int(milliseconds) << _SEQ_BITS) + int(number or 0)


def _id_of(seq: int) -> str:
    return f"{seq >> _SEQ_BITS}-{seq & ((1 << _SEQ_BITS) - 1)}"


class _Message(NamedTuple):
    """An entry as filters see it."""

    type: str
    payload: bytes
    priority: Priority
    key: str | None
    source: str = "bench"
    correlation_id: str = ""
    metadata: Mapping[str, object] = {}


class Group:
    """One subscriber. `left`: it has given its group up."""

    def __init__(self, client: Redis, stream: str, name: str, spec: SubscriberSpec, sink: Sink, clock: Clock) -> None:
        self.spec, self.left = spec, False
        self._client, self._stream, self._name, self._sink, self._clock = client, stream, name, sink, clock
        self._matches = compile_pattern(spec.pattern)
        self._filters = [one.compile() for one in spec.filters]
        self._first = spec.delivery == "at-most-once"
        self._idle_ms = round((spec.timeout_s + IDLE_S) * 1000)
        self._in_hand: set[bytes] = set()
        self._workers: list[asyncio.Task[None]] = []

    @property
    def longest_delay_s(self) -> float:
        """How long it may take until what was not handled is tried again: it must be idle, and somebody must look, who
        may have a batch in hand before."""
        return self.spec.timeout_s + self._idle_ms / 1000 + CLAIM_EVERY_NS / 1e9 + ANSWER_S

    async def begin(self) -> int:
        """Make the group and its workers; returns the first seq that it is owed."""
        start = self.spec.start
        after = "$" if start == "new" else "0" if start == "earliest" else _id_of(start - 1)
        await self._make(after)
        groups = await answered(self._client.xinfo_groups(self._stream))
        mine = next(one for one in groups if _name(one) == self._name)
        workers = range(self.spec.concurrency)
        self._workers = [asyncio.create_task(self._work(f"worker-{number}")) for number in workers]
        for worker in self._workers:
            worker.add_done_callback(self._ended)
        return seq_of(mine["last-delivered-id"]) + 1

    def _ended(self, worker: asyncio.Task[None]) -> None:
        """What it handles no more, nobody may: said at once, for it explains what the verdict finds."""
        if not worker.cancelled() and (error := worker.exception()) is not None:
            logging.getLogger("squall").error(
                "redis-streams: a worker of %s has ended: %s: %s",
                self.spec.name,
                type(error).__name__,
                error,
                exc_info=error,
            )

    async def _make(self, after: str) -> None:
        try:
            await answered(self._client.xgroup_create(self._stream, self._name, after, mkstream=True))
        except ResponseError as error:
            if "BUSYGROUP" not in str(error):  # another worker was first
                raise

    async def leave(self) -> int:
        """End the group; returns the first seq that it is not owed any more."""
        info = await answered(self._client.xinfo_stream(self._stream))
        await self.stop()
        return seq_of(info["last-generated-id"]) + 1

    async def stop(self) -> None:
        """End the workers, and the group where the server is there."""
        for task in self._workers:
            task.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._workers.clear()
        if not self.left:
            self.left = True
            try:
                await answered(self._client.xgroup_destroy(self._stream, self._name))
            except (RedisError, OSError) as error:
                logging.getLogger("squall").warning("redis-streams: group %s stays: %s", self._name, error)

    async def pending(self) -> int | None:
        """What is not read yet, or not acknowledged, by the server's own count; None where it does not know."""
        for one in await answered(self._client.xinfo_groups(self._stream)):
            if _name(one) == self._name and one["lag"] is not None:
                return int(one["lag"]) + int(one["pending"])
        return None

    # Reading

    async def _work(self, consumer: str) -> None:
        """Read and handle, for ever. What was given out before a lost connection, and may not have come here, is read
        again first: so that nothing passes it."""
        now, again, claim_ns = self._clock.monotonic_ns, False, 0
        while True:
            try:
                entries: Sequence[Entry] = ()
                if again:
                    entries, again = await self._given(consumer), False
                elif now() >= claim_ns:
                    claim_ns = now() + CLAIM_EVERY_NS
                    entries = await self._idle(consumer)
                await self._take(entries or await self._new(consumer))
            except (RedisError, OSError) as error:
                again = True
                if "NOGROUP" in str(error):
                    await self._make_anew()
                await self._clock.sleep(AGAIN_S)

    async def _make_anew(self) -> None:
        """The server has forgotten the group, and what was in the stream: whatever is in it now is new."""
        try:
            await self._make("0")
        except (RedisError, OSError) as error:
            logging.getLogger("squall").warning("redis-streams: group %s is not there: %s", self._name, error)

    async def _new(self, consumer: str) -> Sequence[Entry]:
        read = self._client.xreadgroup(
            self._name, consumer, {self._stream: ">"}, count=BATCH, block=BLOCK_MS, noack=self._first
        )
        return _entries(await answered(read))

    async def _given(self, consumer: str) -> Sequence[Entry]:
        """What it was given, and has not acknowledged."""
        read = self._client.xreadgroup(self._name, consumer, {self._stream: "0"}, count=BATCH * 100)
        return self._not_in_hand(_entries(await answered(read)))

    async def _idle(self, consumer: str) -> Sequence[Entry]:
        """What anybody was given, and has not acknowledged for too long."""
        claim = self._client.xautoclaim(self._stream, self._name, consumer, self._idle_ms, "0", count=BATCH)
        return self._not_in_hand((await answered(claim))[1])

    def _not_in_hand(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Without what a worker here is at: it is not idle, whoever it counts as given to."""
        return [entry for entry in entries if entry[0] not in self._in_hand]

    # Handling

    async def _take(self, entries: Sequence[Entry]) -> None:
        """Handle the entries one after the other, and acknowledge those that ended well."""
        numbers = [entry for entry, _ in entries]
        self._in_hand.update(numbers)
        try:
            done: list[bytes] = []
            payloads: list[bytes] = []
            for number, fields in entries:
                message = None if fields is None else _read(fields)
                if message is None or not self._wants(message):
                    done.append(number)
                elif await self._handle(number, message):
                    done.append(number)
                    payloads.append(message.payload)
            if done and not self._first:
                await self._acknowledge(done, payloads)
        finally:
            self._in_hand.difference_update(numbers)

    def _wants(self, message: _Message) -> bool:
        least = self.spec.priority_min
        return (
            self._matches(message.type)
            and (least is None or message.priority <= least)
            and all(test(cast("Event", message)) for test in self._filters)
        )

    async def _handle(self, number: bytes, message: _Message) -> bool:
        """Whether it ended well. What did not stays with the group, to be claimed when it has been idle."""
        now, payloads = self._clock.monotonic_ns, [message.payload]
        if self._first:  # it was acknowledged when it was read
            self._sink.settling(payloads, "ack", now())
            self._sink.settled(payloads, now())
        try:
            async with asyncio.timeout(self.spec.timeout_s + LATER_S):
                await self._sink.deliver(
                    Received(message.payload, seq_of(number), message.key, message.priority, type=message.type)
                )
        except BaseException as error:  # whatever it is, it is the handler's, and recorded as such
            worker = asyncio.current_task()
            if isinstance(error, asyncio.CancelledError) and worker is not None and worker.cancelling():
                raise  # it is not: the worker is stopped
            if not self._first:
                self._sink.settling(payloads, "nak", now())
            self._sink.settled(payloads, now())
            return False
        if self._first:
            self._sink.settled(payloads, now())
        else:
            self._sink.settling(payloads, "ack", now())
        return True

    async def _acknowledge(self, numbers: Sequence[bytes], payloads: Sequence[bytes]) -> None:
        """XACK, again and again until it is answered: it does no harm twice. Who is not in the group's list any more
        was acknowledged before, or was forgotten by the server: either way it does not come again."""
        while True:
            try:
                await answered(self._client.xack(self._stream, self._name, *numbers))
            except (RedisError, OSError):
                await self._clock.sleep(AGAIN_S)
            else:
                self._sink.settled(payloads, self._clock.monotonic_ns())
                return


def _read(fields: Mapping[bytes, bytes]) -> _Message | None:
    """None for what somebody else has put there."""
    try:
        key = fields.get(b"key")
        priority = Priority(int(fields[b"priority"]))
        return _Message(fields[b"type"].decode(), fields[b"payload"], priority, None if key is None else key.decode())
    except (KeyError, ValueError):
        return None


def _entries(answer: Any) -> Sequence[Entry]:
    """The entries of the one stream that was read."""
    found: Sequence[Entry] = next(iter(answer.values()), ())
    return found


def _name(group: Mapping[str, Any]) -> str:
    found = group["name"]
    return found.decode() if isinstance(found, bytes) else str(found)
