"""Load on one event loop: as fast as possible, or at a rate; and the handler's end of it, that counts and times.

Every payload has PAYLOAD_BYTES and begins with the bench's header: a number, and when the event was due (monotonic).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import NamedTuple

from tests.benchmarks.rounds import Sample

from squall.chaos.message import HEADER_BYTES, Header, pack, unpack_header

TYPE = "order.created"
PAYLOAD_BYTES = 200
NONCE = b"squallbe"
LIMIT_S = 60.0
OUTSTANDING = 10_000
AT_ONCE = 100
MAX_BEHIND = 32
_FILLER = b"x" * (PAYLOAD_BYTES - HEADER_BYTES)


class Case(NamedTuple):
    """How to publish a payload with it, and whether that is awaited."""

    publish: Callable[[bytes], Awaitable[object] | None]
    awaited: bool


class Tally:
    """What the handlers did."""

    def __init__(self) -> None:
        self.handled = 0
        self.latencies_ns: list[int] = []

    async def count(self, payload: bytes) -> None:
        """A handler that counts."""
        self.handled += 1

    async def time(self, payload: bytes) -> None:
        """A handler that also notes how long it took since the event was due."""
        self.latencies_ns.append(time.monotonic_ns() - unpack_header(payload)[2])
        self.handled += 1

    def latencies(self) -> Sample:
        """`p50` and `p99`, microseconds."""
        ordered = sorted(self.latencies_ns)
        last = len(ordered) - 1
        return {"p50": ordered[last // 2] / 1e3, "p99": ordered[int(0.99 * last)] / 1e3}


def payload(number: int, due_ns: int = 0) -> bytes:
    """The payload of one event."""
    return pack(Header(NONCE, number, due_ns), _FILLER)


def payloads(events: int) -> Iterator[bytes]:
    """Those of so many events, numbered from 1, that are not due at any time."""
    return (payload(number) for number in range(1, events + 1))


async def flood(case: Case, texts: Iterable[bytes], tally: Tally, fan: int, cut_s: float = LIMIT_S) -> float:
    """Publish all, AT_ONCE at a time, with at most OUTSTANDING deliveries on their way, and wait until all are handled;
    whoever takes longer is cut after cut_s. Returns the seconds that it took."""
    publish, awaited, sleep, now = case.publish, case.awaited, asyncio.sleep, time.perf_counter
    published, began = 0, now()
    cut = began + cut_s
    for text in texts:
        if awaited:
            await publish(text)  # type: ignore[misc]
        else:
            publish(text)
        published += 1
        if published % AT_ONCE == 0:
            if tally.handled < published * fan:
                await sleep(0)
            while published * fan - tally.handled > OUTSTANDING and now() < cut:
                await sleep(0)
            if now() >= cut:
                break
    while tally.handled < published * fan and now() < cut:
        await sleep(0)
    return now() - began


async def pace(case: Case, events: int, rate: float, tally: Tally) -> None:
    """Publish at a rate, whatever became of the events before, and wait until all are handled. Raises TimeoutError."""
    period_ns, number = 1e9 / rate, 0
    begin_ns = time.monotonic_ns() + 2_000_000
    while number < events:
        due = min(events, int((time.monotonic_ns() - begin_ns) / period_ns) + 1)
        for _ in range(min(MAX_BEHIND, due - number)):
            result = case.publish(payload(number + 1, int(begin_ns + number * period_ns)))
            if case.awaited:
                await result  # type: ignore[misc]
            number += 1
        await asyncio.sleep(0)
    async with asyncio.timeout(LIMIT_S):
        while tally.handled < events:  # noqa: ASYNC110
            await asyncio.sleep(0)
