"""Open-loop load: events are due by the clock, whatever became of those before."""

from __future__ import annotations

import asyncio
import math
from bisect import bisect
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import NamedTuple, Protocol

from squall.chaos.message import HEADER_BYTES, Header, pack
from squall.chaos.recorder import Recorder
from squall.chaos.scenario_models import EventSection, Stage
from squall.core.target import Message, Outcome

TICK_S = 0.001
MAX_PUBLISHERS = 10_000
ON_TIME_NS = 1_000_000_000

Send = Callable[[Message], Awaitable[Outcome]]
SendBatch = Callable[[Sequence[Message]], Awaitable[Sequence[Outcome]]]


class Due(NamedTuple):
    """A publish that is due, seconds from the start of the load: one of a burst? Of how many events, if of a batch?"""

    at_s: float
    of_burst: bool
    batch: int | None

    @property
    def events(self) -> int:
        """How many events it publishes."""
        return 1 if self.batch is None else self.batch


def due_times(stages: Sequence[Stage]) -> Iterator[Due]:
    """When the publishes of a load are due, never falling. A batch is due when its first event would be.

    A stage whose rate goes evenly from r to s over T has sent n events when r·t + (s - r)·t²/2T = n.
    """
    start_s = 0.0
    for stage in stages:
        rate, slope = stage.rate or 0.0, 0.0
        if stage.to is not None:
            slope = (stage.to - rate) / stage.seconds
        for n in range(0, stage.events, stage.batch or 1):
            batch = None if stage.batch is None else min(stage.batch, stage.events - n)
            if stage.burst is not None:
                passed_s = 0.0
            elif slope and n:
                passed_s = min(stage.seconds, 2 * n / (rate + math.sqrt(max(0.0, rate * rate + 2 * slope * n))))
            else:
                passed_s = n / rate if n else 0.0
            yield Due(start_s + passed_s, stage.burst is not None, batch)
        start_s += stage.seconds


class Messages:
    """The events of a load: kinds drawn by weight, keys evenly, payloads that name their run and event."""

    def __init__(self, kinds: Sequence[EventSection], nonce: bytes, random: Random) -> None:
        self._kinds = kinds
        self._shares = list(accumulate(kind.weight for kind in kinds))
        self._keys = [[f"k-{n}" for n in range(kind.key.count)] if kind.key is not None else [None] for kind in kinds]
        self._fillers = [random.randbytes(max(0, kind.size - HEADER_BYTES)) for kind in kinds]
        self._nonce, self._random = nonce, random
        self.made = 0

    def next(self, intended_ns: int) -> tuple[Message, int]:
        """The next message, and its run-wide number."""
        random = self._random.random
        index = bisect(self._shares, random() * self._shares[-1]) if len(self._shares) > 1 else 0
        kind, keys = self._kinds[index], self._keys[index]
        self.made += 1
        key = keys[int(random() * len(keys))] if len(keys) > 1 else keys[0]
        payload = pack(Header(self._nonce, self.made, intended_ns), self._fillers[index])
        return Message(kind.type, payload, kind.priority, key), self.made


class LoadGenerator(Protocol):
    """Publishes a load: the bench's own tasks, or a driver. `asked`, `achieved` and `in_flight` as `Generator` has
    them."""

    asked: int
    achieved: int

    @property
    def in_flight(self) -> int: ...

    @property
    def publishers(self) -> int: ...

    async def run(self, stages: Sequence[Stage], stop: asyncio.Event) -> None: ...

    async def finish(self, over: Callable[[], bool]) -> None: ...


class Generator:
    """Publishes a load. Of its events `asked` were due, `sent` were begun, `achieved` were begun within a second.
    A burst has no rate to keep: it counts as achieved when it is begun, and so does what was due while it waited.

    Publishers are tasks that live as long as the load; another is woken or started whenever all of them wait for the
    target, up to MAX_PUBLISHERS: from there on the target holds the generator back, and latencies show it.
    """

    def __init__(self, recorder: Recorder, messages: Messages, send: Send, send_batch: SendBatch | None = None) -> None:
        self._recorder, self._messages, self._send, self._send_batch = recorder, messages, send, send_batch
        self._due: deque[tuple[int, Due]] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._publishers: list[asyncio.Task[None]] = []
        self.asked = self.sent = self.achieved = 0
        self._burst_ends = self._excused = 0

    @property
    def in_flight(self) -> int:
        """Publishes that are due or begun and have not ended."""
        return len(self._due) + len(self._publishers) - len(self._idle)

    @property
    def publishers(self) -> int:
        """Tasks that publish, or wait to: as many as were ever needed at once."""
        return len(self._publishers)

    async def run(self, stages: Sequence[Stage], stop: asyncio.Event) -> None:
        """Publish what is due until the stages are over or stop is set. What the generator is a second behind with when
        they are over is asked for and never sent: a load that cannot be kept must not go on for longer than it says."""
        clock = self._recorder.clock
        start_ns, asked = clock.monotonic_ns(), self.asked
        ends_ns = start_ns + round(sum(stage.seconds for stage in stages) * 1e9)
        for due in due_times(stages):
            due_ns = start_ns + round(due.at_s * 1e9)
            while (now_ns := clock.monotonic_ns()) < due_ns and not stop.is_set():
                self._more_publishers()
                await clock.sleep(max(TICK_S, (due_ns - now_ns) / 1e9 if due_ns - now_ns < 1e8 else 0.1))
            if stop.is_set():
                break
            if now_ns > ends_ns + ON_TIME_NS and not due.of_burst:
                self._give_up(asked + sum(stage.events for stage in stages))
                break
            self._due.append((due_ns, due))
            self.asked += due.events
            if due.of_burst:
                self._burst_ends = self.asked
            if self.sent < self._burst_ends:
                self._excused = self.asked
            if len(self._due) % 1000 == 0:
                self._more_publishers()
                await asyncio.sleep(0)
        while clock.monotonic_ns() < ends_ns and not stop.is_set():
            self._more_publishers()
            await clock.sleep(min(0.1, max(TICK_S, (ends_ns - clock.monotonic_ns()) / 1e9)))
        self._more_publishers()

    def _give_up(self, asked: int) -> None:
        """What is due by now cannot be sent in time any more; a burst, which has no time, is."""
        self.asked = asked
        if self.sent >= self._burst_ends:
            self._due.clear()

    async def finish(self, over: Callable[[], bool]) -> None:
        """Wait until everything due was sent and answered, or `over`; then cancel the rest: unknown."""
        while self.in_flight and not over():
            self._more_publishers()
            await self._recorder.clock.sleep(0.01)
        self._due.clear()
        for task in self._publishers:
            task.cancel()
        await asyncio.gather(*self._publishers, return_exceptions=True)
        self._publishers.clear()
        self._idle.clear()

    def _more_publishers(self) -> None:
        wanted = len(self._due)
        while wanted and self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
            wanted -= 1
        if wanted and len(self._publishers) < MAX_PUBLISHERS:
            loop = asyncio.get_running_loop()
            self._publishers += [
                loop.create_task(self._publish()) for _ in range(min(wanted, MAX_PUBLISHERS - len(self._publishers)))
            ]

    async def _publish(self) -> None:
        recorder, due, loop = self._recorder, self._due, asyncio.get_running_loop()
        turns = 0
        while True:
            if not due:
                waiter = loop.create_future()
                self._idle.append(waiter)
                await waiter
                continue
            intended_ns, one = due.popleft()
            self.sent += one.events
            if self.sent <= self._excused or recorder.now() - intended_ns <= ON_TIME_NS:
                self.achieved += one.events
            if one.batch is None:
                message, event = self._messages.next(intended_ns)
                await recorder.publish(self._send, message, event, intended_ns)
            else:
                assert self._send_batch is not None  # `make_target` saw to it
                batch = [self._messages.next(intended_ns) for _ in range(one.batch)]
                await recorder.publish_batch(self._send_batch, batch, intended_ns)
            turns += 1
            if turns % 64 == 0:
                await asyncio.sleep(0)
