"""Events a second, and latency at a fixed rate, in memory: squall beside its limits and its peers, a process each.

python tests/benchmarks/memory.py [case …] [--fan 1] [--events 150000] [--rate 0] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import NamedTuple

from tests.benchmarks.limits.memory import TYPE, lanes

PAYLOAD_BYTES = 200
CUT_S = 3.0
OUTSTANDING = 10_000
CASES = ("await", "lanes", "squall", "recorded", "blinker", "psygnal", "pyee", "bubus")
Handler = Callable[[bytes], Awaitable[None]]


class Case(NamedTuple):
    """How to publish with it, and whether that is awaited."""

    publish: Callable[[bytes], Awaitable[object] | None]
    awaited: bool


class Sample(NamedTuple):
    """One round of one case."""

    case: str
    deliveries_per_s: float
    p50_us: float
    p99_us: float


async def wire(case: str, fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    """The case, ready to publish to `fan` subscribers."""
    if case == "await":

        async def call(payload: bytes) -> None:
            for _ in range(fan):
                await handler(payload)

        return Case(call, awaited=True)
    if case == "lanes":
        publish, workers = lanes(handler, fan)
        for worker in workers:
            stack.callback(worker.cancel)
        return Case(publish, awaited=False)
    if case in ("squall", "recorded"):
        return await _squall(fan, handler, stack, recorded=case == "recorded")
    return _PEERS[case](fan, handler, stack)


async def _squall(fan: int, handler: Handler, stack: AsyncExitStack, *, recorded: bool) -> Case:
    from squall import EventRouter
    from squall.core.event import Event

    router = await stack.enter_async_context(EventRouter())

    async def handle(event: Event) -> None:
        await handler(event.payload)

    for number in range(fan):
        await router.subscriber(f"bench{number}").subscribe("order.>", handle)
    publish = router.publisher("bench").publish
    return Case(lambda payload: publish(TYPE, payload), awaited=True)


def _blinker(fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    import blinker

    signal = blinker.Signal()
    receivers = []
    for _ in range(fan):

        async def receive(sender: object, payload: bytes) -> None:
            await handler(payload)

        receivers.append(receive)  # the signal holds them weakly
        signal.connect(receive)

    async def publish(payload: bytes, kept: object = receivers) -> None:
        await signal.send_async(TYPE, payload=payload)

    return Case(publish, awaited=True)


def _psygnal(fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    import psygnal

    class Bus:
        published = psygnal.Signal(bytes)

    bus = Bus()
    loop = asyncio.get_running_loop()
    backend = psygnal.set_async_backend("asyncio")
    task = loop.create_task(backend.run())
    stack.callback(task.cancel)
    receivers = []
    for _ in range(fan):

        async def receive(payload: bytes) -> None:
            await handler(payload)

        receivers.append(receive)
        bus.published.connect(receive)

    def publish(payload: bytes, kept: object = receivers) -> None:
        bus.published.emit(payload)

    return Case(publish, awaited=False)


def _pyee(fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    from pyee.asyncio import AsyncIOEventEmitter

    emitter = AsyncIOEventEmitter()
    for _ in range(fan):

        async def receive(payload: bytes) -> None:
            await handler(payload)

        emitter.add_listener(TYPE, receive)

    def publish(payload: bytes) -> None:
        emitter.emit(TYPE, payload)

    return Case(publish, awaited=False)


def _bubus(fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    import logging

    import bubus  # type: ignore[import-untyped]

    logging.getLogger("bubus").setLevel(logging.CRITICAL)

    class Created(bubus.BaseEvent[None]):  # type: ignore[misc]
        payload: bytes

    bus = bubus.EventBus(max_history_size=50)
    stack.push_async_callback(bus.stop)
    for number in range(fan):

        async def receive(event: Created) -> None:
            await handler(event.payload)

        receive.__name__ = f"receive{number}"
        bus.on(Created, receive)

    async def publish(payload: bytes) -> None:
        await bus.dispatch(Created(payload=payload))

    return Case(publish, awaited=True)


_PEERS: dict[str, Callable[[int, Handler, AsyncExitStack], Case]] = {
    "blinker": _blinker,
    "psygnal": _psygnal,
    "pyee": _pyee,
    "bubus": _bubus,
}


class Run:
    """One round: publishes 100 at a time (or open loop at a rate), and waits until all is handled or CUT_S passed."""

    def __init__(self, fan: int, events: int, rate: float) -> None:
        self.fan, self.events, self.rate = fan, events, rate
        self.handled = 0
        self.published = 0
        self.latencies_ns: list[int] = []
        self._value = b"x" * (PAYLOAD_BYTES - 20)

    async def handler(self, payload: bytes) -> None:
        """Counts; at a rate it also notes how long it took since the event was due."""
        self.handled += 1
        if self.rate:
            self.latencies_ns.append(time.perf_counter_ns() - int(payload[:20]))

    async def measure(self, name: str) -> Sample:
        """The round's figures."""
        async with AsyncExitStack() as stack:
            case = await wire(name, self.fan, self.handler, stack)
            gc.collect()
            began = time.perf_counter()
            deadline = began + CUT_S
            await (self._at_rate(case) if self.rate else self._at_once(case, deadline))
            while self.handled < self.published * self.fan and time.perf_counter() < deadline + CUT_S:  # noqa: ASYNC110
                await asyncio.sleep(0)
            took_s = time.perf_counter() - began
        ordered = sorted(self.latencies_ns) or [0]
        p50, p99 = (ordered[int(q * (len(ordered) - 1))] / 1e3 for q in (0.5, 0.99))
        return Sample(name, self.handled / took_s, p50, p99)

    async def _at_once(self, case: Case, deadline: float) -> None:
        payload, publish, sleep = b"0" * 20 + self._value, case.publish, asyncio.sleep
        for number in range(1, self.events + 1):
            if case.awaited:
                await publish(payload)  # type: ignore[misc]
            else:
                publish(payload)
            if number % 100 == 0:
                self.published = number
                await sleep(0)
                while number * self.fan - self.handled > OUTSTANDING:
                    await sleep(0)
                if time.perf_counter() > deadline:
                    return
        self.published = self.events

    async def _at_rate(self, case: Case) -> None:
        period_ns, number = 1e9 / self.rate, 0
        begin_ns = time.perf_counter_ns() + 2_000_000
        while number < self.events:
            due = min(self.events, int((time.perf_counter_ns() - begin_ns) / period_ns) + 1)
            for _ in range(min(32, due - number)):
                payload = b"%020d" % int(begin_ns + number * period_ns) + self._value
                result = case.publish(payload)
                if case.awaited:
                    await result  # type: ignore[misc]
                number += 1
            await asyncio.sleep(0)
        self.published = number


def child(case: str, fan: int, events: int, rate: float) -> Sample:
    """One round in a fresh process."""
    command = [sys.executable, __file__, case, "--one", f"--fan={fan}", f"--events={events}", f"--rate={rate}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    return Sample(*json.loads(done.stdout.splitlines()[-1]))


def rounds(cases: tuple[str, ...], fan: int, events: int, rate: float, count: int) -> dict[str, list[Sample]]:
    """`count` alternating rounds: every case once in each."""
    found: dict[str, list[Sample]] = {case: [] for case in cases}
    for _ in range(count):
        for case in cases:
            found[case].append(child(case, fan, events, rate))
    return found


def main() -> None:
    """Print a line for each case; with --one, measure here and print JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--fan", type=int, default=1)
    parser.add_argument("--events", type=int, default=150_000)
    parser.add_argument("--rate", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--one", action="store_true")
    options = parser.parse_args()
    if options.one:
        run = Run(options.fan, options.events, options.rate)
        print(json.dumps(asyncio.run(run.measure(options.cases[0]))))
        return
    found = rounds(tuple(options.cases), options.fan, options.events, options.rate, options.rounds)
    for case, samples in found.items():
        per_s = statistics.median(sample.deliveries_per_s for sample in samples)
        line = f"{case:10s} {per_s:12,.0f} deliveries/s"
        if "lanes" in found:
            pairs = zip(samples, found["lanes"], strict=True)
            line += f"  x{statistics.median(a.deliveries_per_s / b.deliveries_per_s for a, b in pairs):.2f} of lanes"
        if options.rate:
            line += f"  p50 {statistics.median(s.p50_us for s in samples):.1f} us"
            line += f"  p99 {statistics.median(s.p99_us for s in samples):.1f} us"
        print(line)


if __name__ == "__main__":
    main()
