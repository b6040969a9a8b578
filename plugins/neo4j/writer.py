"""Writes what was observed, in the background: in batches, again and again until each is there."""

from __future__ import annotations

import asyncio
from collections import deque
from logging import Logger

from squall.core.clock import Clock
from squall.plugins.neo4j.batches import Batch, Batches, at
from squall.plugins.neo4j.graph import Graph, GraphError, Who
from squall.plugins.neo4j.observing import FlowObserver

LONGEST_PAUSE_S = 5.0
AFTER_REFUSED_LOGIN_S = 60.0
MAX_SLOW = 5
"""So often a row may outlast the timeout by itself, while the server answers to others."""


class Writer:
    """Takes from the observer what is new whenever all that was taken before is written: so what waits is bounded by
    what the observer holds, twice."""

    def __init__(
        self, observer: FlowObserver, graph: Graph, who: Who, clock: Clock, logger: Logger, flush_s: float
    ) -> None:
        self._observer, self._graph, self._who = observer, graph, who
        self._clock, self._logger, self._flush_s = clock, logger, flush_s
        self._batches = Batches()
        self._outbox: deque[Batch] = deque()
        self._slow = 0
        self._prepared = False
        self._trouble: str | None = None
        self._task: asyncio.Task[None] | None = None
        self._stopping = False

    async def prepare(self) -> None:
        """Connect, and set the graph up. Raises GraphError."""
        await self._graph.prepare()
        self._prepared = True

    def start(self) -> None:
        """Write from now on, until `stop`."""
        self._observer.noted("started")
        self._pause = asyncio.ensure_future(self._clock.sleep(0.0))
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, timeout_s: float) -> None:
        """Write the rest within timeout_s, as far as that is possible, and close."""
        self._stopping = True
        try:
            async with asyncio.timeout(timeout_s):
                if self._task is not None:
                    self._observer.noted("stopped")
                    # It ends what it is at: a driver that is cancelled while it connects leaves its socket open.
                    self._pause.cancel()
                    await self._task
                await self._write()  # what was under way when the task ended
                await self._write()  # and what has come since
                await self._graph.stopped(self._who, at(self._clock.time_ns()))
        except (GraphError, TimeoutError) as error:
            self._outbox.extend(self._batches.cut(self._observer.take()))
            rows = sum(len(rows) for batch in self._outbox for rows in batch.rows.values())
            why = f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else str(error)
            self._logger.error("neo4j: the router stops, and the last %d rows were not written: %s", rows, why)
        finally:
            await self._graph.close()

    async def _run(self) -> None:
        pause_s = 0.0
        while not self._stopping:
            self._pause = asyncio.ensure_future(self._clock.sleep(pause_s))
            await asyncio.wait([self._pause])
            if self._stopping:
                return
            try:
                await self._write()
            except GraphError as error:
                pause_s = max(self._flush_s, min(2 * pause_s, LONGEST_PAUSE_S))
                if error.kind == "login":
                    pause_s = max(pause_s, AFTER_REFUSED_LOGIN_S)
                elif error.kind == "slow":  # which has waited already
                    pause_s = self._flush_s
                self._failed(error)
            except Exception:
                pause_s = LONGEST_PAUSE_S
                self._logger.exception("neo4j: writing failed in a way that it should not; it is tried again")
            else:
                pause_s = self._flush_s
                self._works()

    async def _write(self) -> None:
        """Write all that is there. Raises GraphError; what was not written stays in the outbox."""
        if not self._prepared:
            await self.prepare()
        if not self._outbox:
            self._outbox.extend(self._batches.cut(self._observer.take()))
        while self._outbox:
            now = at(self._clock.time_ns())
            try:
                await self._graph.write(self._outbox[0], self._who, now, self._observer.rows_dropped)
            except GraphError as error:
                if error.kind == "slow":
                    self._lighten()
                raise
            self._outbox.popleft()
            self._slow = 0

    def _lighten(self) -> None:
        """What is too much for the server goes in two parts from now on; a single row is given up in the end."""
        batch = self._outbox.popleft()
        if batch.size > 1:
            self._outbox.extendleft(reversed(batch.halves()))
            return
        self._slow += 1
        if self._slow < MAX_SLOW:
            self._outbox.appendleft(batch)
            return
        self._slow = 0
        self._observer.rows_dropped += 1
        ((kind, (row,)),) = batch.rows.items()
        told = {name: value for name, value in row.items() if isinstance(value, str | int)}
        self._logger.error(
            "neo4j: a row of %s outlasted the timeout %d times, and is given up: %s", kind, MAX_SLOW, told
        )

    def _failed(self, error: GraphError) -> None:
        # One trouble where a server that hangs is found to answer again before it has done what it was asked.
        trouble = {"refused": str(error), "slow": "unreachable"}.get(error.kind, error.kind)
        if trouble != self._trouble:
            self._trouble = trouble
            self._logger.error("neo4j: %s; events go on, and what is counted meanwhile is written later", error)

    def _works(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            self._logger.warning(
                "neo4j: it works again, and what was counted is written; rows dropped so far: %d",
                self._observer.rows_dropped,
            )
