"""Injects a scenario's faults by its timetable, counts what they did, and heals them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, Literal

from squall.chaos.history import NULL, HistoryWriter
from squall.chaos.message import event_of
from squall.chaos.recorder import Recorder, current_event
from squall.chaos.scenario import Scenario
from squall.chaos.scenario_faults import PlannedFault
from squall.chaos.undo import Lease, forget, save_undo
from squall.chaos.watchdog import Watchdog
from squall.core.errors import ConfigError
from squall.core.fault import Evidence, FaultContext, Seam, Undo, told_of

State = Literal["planned", "active", "healed"]
EVIDENCE_S = 10.0
CANCEL_S = 5.0


@dataclass(frozen=True)
class FaultProgress:
    """One fault as people watch it. in_s: seconds until it is to begin, negative afterwards; for_s: how long it is to
    last; hits: what it has acted on so far. One in the network knows that when it is over, and has 0 till then."""

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
    """One fault, and what became of it. Times are monotonic ns. `standing` is the task that holds it from its begin to
    its end, `over` ends it. `blind` says why its evidence could not be read, `error` why it could not be healed."""

    planned: PlannedFault
    seam: Seam
    over: asyncio.Event = field(default_factory=asyncio.Event)
    standing: asyncio.Task[None] | None = None
    begun_ns: int | None = None
    ended_ns: int | None = None
    counted: Evidence = field(default_factory=lambda: Evidence(0, 0))
    hits: list[tuple[int, int | None, int | None]] = field(default_factory=list)
    blind: str | None = None
    error: str | None = None

    @property
    def state(self) -> State:
        return "planned" if self.begun_ns is None else "active" if self.ended_ns is None else "healed"

    @property
    def hit_count(self) -> int:
        """Those that it told one by one, and, once it is over, those that it counted by itself."""
        return len(self.hits) + self.counted.bitten


class FaultRun:
    """All faults of a run, each held by a task of its own: who stops the run stops none of them half way, and each is
    healed once. `failures` says which could not begin. Raises ConfigError where the target has no such seam."""

    def __init__(self, scenario: Scenario, seams: Mapping[str, Seam], recorder: Recorder, folder: Path) -> None:
        self._recorder, self._seed, self._folder = recorder, scenario.seed, folder
        self._windows: list[_Window] = []
        self.failures: list[str] = []
        self._watchdog: Watchdog | None = None
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
            if begins:
                window.standing = asyncio.create_task(self._stand(window))
            else:
                window.over.set()

    async def heal(self) -> None:
        """End whatever still stands, and wait until it is gone: its `heal_s` at most, then it could not be healed, and
        its plan stays for `squall heal`. What does not end when it is cancelled then is left."""
        await asyncio.gather(*(self._end(window) for window in self._windows))
        if self._watchdog is not None:
            self._watchdog.dismiss()
            self._watchdog = None

    async def _end(self, window: _Window) -> None:
        task, heal_s = window.standing, window.planned.fault.heal_s
        window.over.set()
        if task is None or await self._within(task, EVIDENCE_S + heal_s):
            return
        window.error = f"it took longer than {heal_s:g} s"
        task.cancel()
        if not await self._within(task, CANCEL_S):
            window.error += ", and went on when it was cancelled"
            window.standing, window.ended_ns = None, self._recorder.now()

    async def _within(self, task: asyncio.Future[Any], seconds: float) -> bool:
        """Whether the task is done so soon."""
        waiting = asyncio.ensure_future(self._recorder.clock.sleep(seconds))
        try:
            await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        return task.done()

    async def _stand(self, window: _Window) -> None:
        """The fault, from its plan to its end."""
        planned, now, entered = window.planned, self._recorder.now, False
        lease: Lease | None = None
        try:
            undo = planned.fault.plan(window.seam)
            before = await self._evidence(window)
            if undo is not None:
                self._watchdog = self._watchdog or Watchdog(self._folder)
                lease = save_undo(self._folder, planned.id, planned.on, type(planned.fault), undo)
            window.begun_ns = now()
            async with planned.fault.inject(window.seam, self._context(window, undo)):
                entered = True
                await window.over.wait()
                await self._count(window, before)
            if lease is not None:
                forget(lease.path)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  what fails is part of the verdict
            why = window.error or f"{type(error).__name__}: {error}"
            if entered:
                window.error = why
            else:
                window.begun_ns = None
                self.failures.append(f"fault {planned.id} ({planned.do} on {planned.on}) could not begin: {why}")
        finally:
            if lease is not None:
                lease.release()
        window.ended_ns = now()

    async def _count(self, window: _Window, before: Evidence) -> None:
        try:
            by_now = await self._evidence(window)
        except Exception as error:  # noqa: BLE001  what a fault cannot say of itself is part of the verdict
            window.blind = f"{type(error).__name__}: {error}"
        else:
            window.counted = Evidence(by_now.passes - before.passes, by_now.bitten - before.bitten)

    async def _evidence(self, window: _Window) -> Evidence:
        """What the fault says of itself by now. Raises TimeoutError where it takes too long, and whatever it raises."""
        asking = asyncio.ensure_future(window.planned.fault.evidence(window.seam))
        try:
            if not await self._within(asking, EVIDENCE_S):
                raise TimeoutError(f"its evidence took longer than {EVIDENCE_S:g} s")
            return asking.result()
        finally:
            asking.cancel()

    def _context(self, window: _Window, undo: Undo | None) -> FaultContext:
        planned, recorder = window.planned, self._recorder
        random = Random(f"{self._seed}:fault:{planned.id}")

        def hit(payload: bytes | None = None) -> None:
            event, subscription = current_event.get() or (None, None)
            if payload is not None:
                event = event_of(payload, recorder.nonce)
            window.hits.append((recorder.now(), None if event == NULL else event, subscription))
            told_of(planned.id, planned.on)

        return FaultContext(
            recorder.clock,
            Random(f"{self._seed}:fault:{planned.id}:own"),
            lambda: random.random() < planned.probability,
            hit,
            undo,
        )

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
                window.hit_count,
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
                    "passes": [window.counted.passes for _, window in begun],
                    "hits": [window.hit_count for _, window in begun],
                    "healed": [None if window.ended_ns is None else window.error is None for _, window in begun],
                    "error": [window.error or window.blind for _, window in begun],
                },
            )
        hits = [(number, *hit) for number, window in begun for hit in window.hits]
        if hits:
            numbers, times, events, subscriptions = zip(*hits, strict=True)
            writer.append(
                "fault_hit", {"fault": numbers, "time": times, "event": events, "subscription": subscriptions}
            )
