"""Injects a scenario's faults by its timetable, counts what they did, and heals them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from random import Random
from typing import Literal

from squall.chaos.history import HistoryWriter
from squall.chaos.recorder import Recorder, current_event
from squall.chaos.scenario import Scenario
from squall.chaos.scenario_faults import PlannedFault
from squall.core.errors import ConfigError
from squall.core.fault import FaultContext, Seam

State = Literal["planned", "active", "healed"]


@dataclass(frozen=True)
class FaultProgress:
    """One fault as people watch it. in_s: seconds until it is to begin, negative afterwards; for_s: how long it is to
    last; hits: calls that it has acted on so far."""

    id: str
    do: str
    on: str
    probability: float
    state: State
    in_s: float
    for_s: float
    hits: int


@dataclass
class _Window:
    """One fault, and what became of it. Times are monotonic ns."""

    planned: PlannedFault
    seam: Seam
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    begun_ns: int | None = None
    ended_ns: int | None = None
    passes: int = 0
    hits: list[tuple[int, int | None, int | None]] = field(default_factory=list)
    error: str | None = None

    @property
    def state(self) -> State:
        return "planned" if self.begun_ns is None else "active" if self.ended_ns is None else "healed"


class FaultRun:
    """All faults of a run. Raises ConfigError where the target has no such seam."""

    def __init__(self, scenario: Scenario, seams: Mapping[str, Seam], recorder: Recorder) -> None:
        self._recorder, self._seed = recorder, scenario.seed
        self._windows: list[_Window] = []
        for planned in scenario.faults:
            seam = seams.get(planned.on)
            if seam is None or not isinstance(seam, planned.fault.kind):
                raise ConfigError(
                    f"fault {planned.id}: the target has no seam '{planned.on}' for {planned.do}; "
                    f"it has {', '.join(seams)}"
                )
            self._windows.append(_Window(planned, seam))

    async def run(self, load_began_ns: int) -> None:
        """Begin and end every fault at its time."""
        clock = self._recorder.clock
        marks = [(window.planned.begin_s, 1, window) for window in self._windows]
        marks += [(window.planned.end_s, 0, window) for window in self._windows]
        for at_s, begins, window in sorted(marks, key=lambda mark: mark[:2]):
            wait_s = at_s - (clock.monotonic_ns() - load_began_ns) / 1e9
            if wait_s > 0:
                await clock.sleep(wait_s)
            await (self._begin(window) if begins else self._end(window))

    async def heal(self) -> None:
        """End whatever still stands."""
        for window in self._windows:
            await self._end(window)

    async def _begin(self, window: _Window) -> None:
        planned, recorder = window.planned, self._recorder
        random = Random(f"{self._seed}:fault:{planned.id}")

        def hit() -> None:
            event = current_event.get() or (None, None)
            window.hits.append((recorder.now(), *event))

        ctx = FaultContext(
            recorder.clock,
            Random(f"{self._seed}:fault:{planned.id}:own"),
            lambda: random.random() < planned.probability,
            hit,
        )
        window.begun_ns, window.passes = recorder.now(), -window.seam.passes
        await window.stack.enter_async_context(planned.fault.inject(window.seam, ctx))

    async def _end(self, window: _Window) -> None:
        if window.state != "active":
            return
        try:
            await window.stack.aclose()
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  a heal that fails is part of the verdict
            window.error = f"{type(error).__name__}: {error}"
        window.passes += window.seam.passes
        window.ended_ns = self._recorder.now()

    def progress(self, load_s: float) -> tuple[FaultProgress, ...]:
        """Each fault as it stands, load_s after the start of the load."""
        return tuple(
            FaultProgress(
                window.planned.id,
                window.planned.do,
                window.planned.on,
                window.planned.probability,
                window.state,
                window.planned.begin_s - load_s,
                window.planned.end_s - window.planned.begin_s,
                len(window.hits),
            )
            for window in self._windows
        )

    @property
    def acted_s(self) -> float:
        """For how many seconds at least one fault was active."""
        total_ns = until_ns = 0
        for begun, ended in sorted((w.begun_ns or 0, w.ended_ns or 0) for w in self._windows if w.begun_ns is not None):
            total_ns += max(0, ended - max(begun, until_ns))
            until_ns = max(until_ns, ended)
        return total_ns / 1e9

    def record(self, writer: HistoryWriter) -> None:
        """Write what the faults did into the history."""
        begun = [(number, window) for number, window in enumerate(self._windows) if window.begun_ns is not None]
        if begun:
            writer.append(
                "fault",
                {
                    "fault": [number for number, _ in begun],
                    "name": [window.planned.id for _, window in begun],
                    "kind": [window.planned.do for _, window in begun],
                    "seam": [window.planned.on for _, window in begun],
                    "begun": [window.begun_ns or 0 for _, window in begun],
                    "ended": [window.ended_ns for _, window in begun],
                    "passes": [window.passes for _, window in begun],
                    "hits": [len(window.hits) for _, window in begun],
                    "healed": [None if window.ended_ns is None else window.error is None for _, window in begun],
                    "error": [window.error for _, window in begun],
                },
            )
        hits = [(number, *hit) for number, window in begun for hit in window.hits]
        if hits:
            numbers, times, events, subscriptions = zip(*hits, strict=True)
            writer.append(
                "fault_hit", {"fault": numbers, "time": times, "event": events, "subscription": subscriptions}
            )
