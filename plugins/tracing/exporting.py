"""The way of spans out: made in a thread, then to each exporter in a lane of its own, so that none waits for another.

Everything here is bounded: what finds no place is dropped, and counted. Events never wait for any of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from logging import Logger
from typing import Protocol

from squall.core.clock import Clock
from squall.plugins.tracing.spans import Span, SpanMaker
from squall.plugins.tracing.tracer import Tracer

TRIES = 5
SPANS_A_RECORD = 2
LONGEST_PAUSE_S = 30.0


class ExportError(Exception):
    """Spans did not arrive, as far as is known; the same ones may be exported again."""


class Exporter(Protocol):
    """Where spans go. `export` and `close` are called in one thread, `hurry` from another."""

    name: str
    most: int
    """How many spans one export may have."""

    def export(self, spans: Sequence[Span]) -> None:
        """Write or send them. Raises ExportError."""

    def hurry(self) -> None:
        """The router stops, and its time is up: an export that is under way is to end soon."""

    def close(self) -> None:
        """There will be no more. Raises ExportError."""


@dataclass(frozen=True)
class ExporterCounts:
    """What became of one exporter's spans. failures: exports that did not arrive, also those that did later."""

    exported: int
    dropped: int
    waiting: int
    failures: int


class Lane:
    """One exporter, with a thread, and what waits for it."""

    def __init__(self, exporter: Exporter, most: int, clock: Clock, logger: Logger) -> None:
        self.exporter, self._most, self._clock, self._logger = exporter, most, clock, logger
        self._queue: deque[Span] = deque()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"squall-tracing-{exporter.name}")
        self._wake = asyncio.Event()
        self._ending = False
        self._tries = self._exported = self._dropped = self._failures = 0
        self.task = asyncio.get_running_loop().create_task(self._run())

    @property
    def counts(self) -> ExporterCounts:
        return ExporterCounts(self._exported, self._dropped, len(self._queue), self._failures)

    def put(self, spans: Sequence[Span]) -> None:
        """Take these in, as far as there is room."""
        room = self._most - len(self._queue)
        self._queue.extend(spans[:room])
        self._drop(len(spans) - room)
        if not self._tries:
            self._wake.set()

    def _drop(self, count: int) -> None:
        if count > 0 and not self._dropped:
            self._logger.warning("tracing: %s does not keep up; spans are dropped, and counted", self.exporter.name)
        self._dropped += max(0, count)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while self._queue and await self._export():
                pass
            if self._ending:
                break
            self._wake.clear()
            if self._tries:
                self._clock.call_later(min(2.0 ** (self._tries - 1), LONGEST_PAUSE_S), self._wake.set)
            await self._wake.wait()
        try:
            await loop.run_in_executor(self._thread, self.exporter.close)
        except ExportError as error:
            self._logger.error("tracing: %s: %s", self.exporter.name, error)

    async def _export(self) -> bool:
        """Export what waits longest. Returns whether to go on at once."""
        spans = list(islice(self._queue, self.exporter.most))
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self.exporter.export, spans)
        except Exception as error:
            self._failures += 1
            self._tries += 1
            if self._tries == 1:
                known = isinstance(error, ExportError)
                self._logger.error("tracing: %s: %s; events go on", self.exporter.name, error, exc_info=not known)
            if self._tries < TRIES:
                return False
            self._drop(len(spans))
        else:
            self._exported += len(spans)
            self._tries = 0
        for _ in spans:
            self._queue.popleft()
        return not self._tries

    def end(self) -> None:
        """No more will come: export the rest, once, and close."""
        self._ending = True
        self._wake.set()

    def release(self) -> None:
        """The time is over. What waits still is dropped; the thread ends when it can."""
        self._drop(len(self._queue))
        self._queue.clear()
        self.exporter.hurry()
        self._thread.shutdown(wait=False)


class Pipeline:
    """From a tracer's records to all exporters."""

    def __init__(
        self,
        tracer: Tracer,
        maker: SpanMaker,
        exporters: Sequence[Exporter],
        clock: Clock,
        logger: Logger,
    ) -> None:
        options = tracer.options
        self._tracer, self._maker, self._clock, self._logger = tracer, maker, clock, logger
        self._flush_s = options.flush
        most = SPANS_A_RECORD * options.max_waiting  # so that what was noted finds room where nothing waits
        self.lanes = [Lane(exporter, most, clock, logger) for exporter in exporters]
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="squall-tracing")
        self._wake = asyncio.Event()
        self._over = False
        tracer.wake = self._wake.set
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        over = False
        while not over:
            timer = self._clock.call_later(self._flush_s, self._wake.set)
            await self._wake.wait()
            self._wake.clear()
            timer.cancel()
            over = self._over  # also where the router stops before this has begun: the last time is for what is left
            await self._make(over=over)

    async def _make(self, *, over: bool) -> None:
        tracer = self._tracer
        tracer.tick(over=over)
        records = list(tracer.records)
        tracer.records.clear()
        if not records:
            return
        offset_ns = self._clock.time_ns() - self._clock.monotonic_ns()
        make: Callable[..., list[Span]] = self._maker.make
        try:
            spans = await asyncio.get_running_loop().run_in_executor(self._thread, make, records, offset_ns)
        except Exception:
            tracer.records_dropped += len(records)
            self._logger.exception("tracing: %d records could not be made into spans", len(records))
            return
        for lane in self.lanes:
            lane.put(spans)

    async def stop(self, timeout_s: float) -> None:
        """Export what there is within timeout_s, and let go."""
        self._over = True
        self._wake.set()
        tasks = [self._task, *(lane.task for lane in self.lanes)]
        try:
            async with asyncio.timeout(timeout_s):
                await self._task
                for lane in self.lanes:
                    lane.end()
                await asyncio.gather(*(lane.task for lane in self.lanes))
        except TimeoutError:
            self._logger.error("tracing: not everything was exported within %g s of the router's stop", timeout_s)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for lane in self.lanes:
                lane.release()
            self._thread.shutdown(wait=False)
        lost = sum(lane.counts.dropped for lane in self.lanes)
        if lost or self._tracer.records_dropped:
            self._logger.warning("tracing: dropped %d records and %d spans in all", self._tracer.records_dropped, lost)
