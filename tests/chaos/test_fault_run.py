"""A fault outside of the bench: its plan is on disk before it acts, it says what it did, and it is healed once."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

import pytest
from tests.chaos.short_run import Section, scenario

from squall import VirtualClock
from squall.chaos.catalogue import load_catalogue
from squall.chaos.fault_run import CANCEL_S, EVIDENCE_S, FaultRun
from squall.chaos.history import HistoryWriter, open_history
from squall.chaos.recorder import Recorder
from squall.chaos.run import run_scenario
from squall.chaos.scenario import Scenario, load_scenario
from squall.chaos.scenario_faults import Kinds
from squall.chaos.targets.in_process import InProcessTarget
from squall.chaos.watch import Progress
from squall.core.config import Config
from squall.core.fault import Evidence, Fault, FaultContext, Seam, Storage, Undo


@dataclass
class Line:
    """Something outside, which everybody reaches by its name. `on_start`, `on_heal` and `on_evidence`
    are awaited by each start, heal and question before it is done."""

    up: bool = True
    sent: int = 0
    cut: int = 0
    done: list[str] = field(default_factory=list)
    plans: list[Path] = field(default_factory=list)
    on_start: Callable[[], Awaitable[None]] | None = None
    on_heal: Callable[[], Awaitable[None]] | None = None
    on_evidence: Callable[[], Awaitable[None]] | None = None

    def send(self) -> None:
        self.sent += 1
        self.cut += not self.up


LINES: dict[str, Line] = {}


class Network(Seam):
    """A line of a target's."""


class Down(Fault):
    """A stranger's: the line is down."""

    kind: ClassVar[type[Seam]] = Network
    name: ClassVar[str] = "down"

    def plan(self, seam: Seam) -> Undo | None:
        return {"line": seam.name}

    async def start(self, seam: Seam, ctx: FaultContext) -> None:
        line = LINES[seam.name]
        line.done.append("start")
        line.up = False
        assert all(path.exists() for path in line.plans), "it acts before its plan is on disk"
        if line.on_start is not None:
            await line.on_start()

    async def evidence(self, seam: Seam) -> Evidence:
        if (asked := LINES[seam.name].on_evidence) is not None:
            await asked()
        return Evidence(LINES[seam.name].sent, LINES[seam.name].cut)

    @classmethod
    async def heal(cls, undo: Undo) -> None:
        line = LINES[str(undo["line"])]
        line.done.append("heal")
        if line.on_heal is not None:
            await line.on_heal()
        line.up = True


FAULT: Section = {"id": "cut", "at": "100ms", "for": "200ms", "do": "down", "on": "network:line"}


class Bench:
    """A fault run in virtual time, with one fault, from 0.1 to 0.3 s."""

    def __init__(self, folder: Path) -> None:
        self.clock = VirtualClock()
        self.begun_ns = self.clock.monotonic_ns()
        self.writer = HistoryWriter(folder / "history")
        self.recorder = Recorder(self.writer, self.clock, bytes(8))
        self.line = LINES["network:line"] = Line()
        self.plan = folder / "undo-cut.json"
        self.line.plans.append(self.plan)
        self.folder = folder
        self.run = FaultRun(read(folder), {"network:line": Network("network:line")}, self.recorder, folder)

    async def until(self, at_s: float) -> None:
        """Move time on, so many seconds from the begin."""
        await self.clock.settle()
        while (left_s := at_s - (self.clock.monotonic_ns() - self.begun_ns) / 1e9) > 0:
            await self.clock.advance(min(left_s, 0.05))
            await self.clock.settle()

    async def recorded(self, columns: str) -> list[tuple[object, ...]]:
        self.run.record(self.writer)
        await self.recorder.close()
        with open_history(self.folder / "history") as db:
            return db.execute(f"SELECT {columns} FROM fault").fetchall()


def read(folder: Path) -> Scenario:
    path = folder / "short.yaml"
    path.write_text(json.dumps(scenario(faults=[FAULT])), encoding="utf-8")
    known = load_catalogue().known(Config())
    return load_scenario(path, known=replace(known, faults={**known.faults, "network": {"down": Down}}))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_an_outside_fault_is_planned_on_disk_started_counted_and_healed(bench: Bench) -> None:
    """The plan names whose it is, and is gone with the fault; what it did is the difference of its counts."""
    bench.line.send()
    running = asyncio.create_task(bench.run.run(bench.clock.monotonic_ns()))
    await bench.until(0.2)
    assert bench.line.done == ["start"]
    assert json.loads(bench.plan.read_text("utf-8")) == {
        "version": 1, "kind": "network", "do": "down", "on": "network:line", "what": "",
        "undo": {"line": "network:line"},
    }  # fmt: skip
    for _ in range(3):
        bench.line.send()
    await bench.until(0.5)
    await running
    await bench.run.heal()
    assert bench.line.done == ["start", "heal"]
    assert not bench.plan.exists()
    assert await bench.recorded("name, passes, hits, healed, error") == [("cut", 3, 3, True, None)]


@pytest.mark.parametrize("held", ["on_start", "on_heal"])
async def test_a_run_that_is_stopped_in_the_midst_heals_once(bench: Bench, held: str) -> None:
    """While the fault is being started or healed, the run is cancelled: neither is cut short, nor done twice."""
    go_on = asyncio.Event()
    setattr(bench.line, held, go_on.wait)
    running = asyncio.create_task(bench.run.run(bench.clock.monotonic_ns()))
    await bench.until(0.35 if held == "on_heal" else 0.2)
    running.cancel()
    healing = asyncio.create_task(bench.run.heal())
    await bench.clock.settle()
    assert not healing.done()
    go_on.set()
    await healing
    await bench.run.heal()
    assert bench.line.done == ["start", "heal"]
    assert bench.line.up


async def test_a_fault_that_cannot_begin_is_told_and_healed(bench: Bench) -> None:
    """What it may have done until then is taken back."""

    async def refuse() -> None:
        raise ConnectionError("no such proxy")

    bench.line.on_start = refuse
    running = asyncio.create_task(bench.run.run(bench.clock.monotonic_ns()))
    await bench.until(0.5)
    await running
    await bench.run.heal()
    assert bench.line.done == ["start", "heal"]
    assert bench.run.failures == ["fault cut (down on network:line) could not begin: ConnectionError: no such proxy"]


async def test_a_heal_that_fails_leaves_its_plan(bench: Bench) -> None:
    """Somebody else can take it back by that."""

    async def refuse() -> None:
        raise ConnectionError("proxy gone")

    bench.line.on_heal = refuse
    running = asyncio.create_task(bench.run.run(bench.clock.monotonic_ns()))
    await bench.until(0.5)
    await running
    await bench.run.heal()
    assert bench.plan.exists()
    assert await bench.recorded("healed, error") == [(False, "ConnectionError: proxy gone")]


@pytest.mark.parametrize("heal_s", [Fault.heal_s, 0.5, 40.0])
async def test_a_heal_that_does_not_end_is_given_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, heal_s: float
) -> None:
    """After as long as the fault itself says that it may take, and not before; the run goes on, and says so."""
    monkeypatch.setattr(Down, "heal_s", heal_s)
    bench.line.on_heal = asyncio.Event().wait  # type: ignore[assignment]
    running = asyncio.create_task(bench.run.run(bench.clock.monotonic_ns()))
    await bench.until(0.5)
    await running
    healing = asyncio.create_task(bench.run.heal())
    await bench.until(0.4 + EVIDENCE_S + heal_s)
    assert not healing.done()
    await bench.until(1.0 + EVIDENCE_S + heal_s)
    await healing
    assert await bench.recorded("healed, error") == [(False, f"it took longer than {heal_s:g} s")]


async def test_a_heal_that_swallows_its_cancellation_is_left(bench: Bench) -> None:
    """Once: whoever heals again does not wait for it any more."""
    go_on = asyncio.Event()

    async def hang() -> None:
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await go_on.wait()

    bench.line.on_heal = hang
    running = asyncio.create_task(bench.run.run(bench.clock.monotonic_ns()))
    await bench.until(0.5)
    await running
    healing = asyncio.create_task(bench.run.heal())
    await bench.until(1.0 + EVIDENCE_S + Fault.heal_s + CANCEL_S)
    assert healing.done()
    await bench.run.heal()
    error = f"it took longer than {Fault.heal_s:g} s, and went on when it was cancelled"
    try:
        assert await bench.recorded("healed, error, ended IS NOT NULL") == [(False, error, True)]
        assert bench.plan.exists()
    finally:
        go_on.set()
        await bench.clock.settle()


async def test_evidence_that_is_not_given_is_no_failure_to_heal(bench: Bench) -> None:
    """The fault is gone, and what it did is not known."""
    running = asyncio.create_task(bench.run.run(bench.clock.monotonic_ns()))
    await bench.until(0.2)
    bench.line.on_evidence = asyncio.Event().wait  # type: ignore[assignment]
    await bench.until(0.5)
    await running
    healing = asyncio.create_task(bench.run.heal())
    await bench.until(1.0 + EVIDENCE_S)
    await healing
    assert (bench.line.done, bench.plan.exists()) == (["start", "heal"], False)
    told = f"TimeoutError: its evidence took longer than {EVIDENCE_S:g} s"
    assert await bench.recorded("healed, error, hits") == [(True, told, 0)]


async def test_a_plan_that_was_removed_by_hand_is_no_failure_to_heal(bench: Bench) -> None:
    running = asyncio.create_task(bench.run.run(bench.clock.monotonic_ns()))
    await bench.until(0.2)
    bench.plan.unlink()
    await bench.until(0.5)
    await running
    await bench.run.heal()
    assert await bench.recorded("healed, error") == [(True, None)]


class Rots(Fault):
    """Every tenth payload is stored with its last byte changed; whose it is, is told or not."""

    kind: ClassVar[type[Seam]] = Storage
    name: ClassVar[str] = "rot"
    telling: bool = True

    @asynccontextmanager
    async def inject(self, seam: Seam, ctx: FaultContext) -> AsyncIterator[None]:
        seen = 0

        async def act(payloads: list[bytes]) -> None:
            nonlocal seen
            for place, payload in enumerate(payloads):
                seen += 1
                if seen % 10 == 0:
                    payloads[place] = payload[:-1] + bytes([payload[-1] ^ 1])
                    ctx.hit(payload if self.telling else None)

        seam.acts.append(act)
        try:
            yield
        finally:
            seam.acts.remove(act)


@pytest.mark.slow
@pytest.mark.parametrize("telling", [True, False])
async def test_what_a_fault_says_that_it_corrupted_is_no_violation(tmp_path: Path, telling: bool) -> None:
    """A fault sees payloads and may change them; the checker sees it, and excuses what the fault has named."""
    catalogue = load_catalogue()
    faults: Kinds = {**catalogue.faults, "storage": {"rot": Rots}}
    catalogue = replace(catalogue, faults=faults)
    path = tmp_path / "short.yaml"
    rot = {**FAULT, "do": "rot", "on": "storage:events", "telling": telling}
    path.write_text(json.dumps(scenario(faults=[rot])), encoding="utf-8")
    read = load_scenario(path, known=catalogue.known(Config()))
    result = await run_scenario(read, replace(Config(), folder=tmp_path), catalogue)
    broken = {finding.name for finding in result.verdict.findings if finding.state == "invalid"}
    assert broken == (set() if telling else {"intact"}), result.verdict.causes


class OverALine(InProcessTarget):
    """Each publish goes over the line, which carries it all the same."""

    def seams(self) -> dict[str, Seam]:
        return {**super().seams(), "network:line": Network("network:line")}

    async def publish(self, message):  # type: ignore[no-untyped-def]
        LINES["network:line"].send()
        return await super().publish(message)


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [False, True])
async def test_a_whole_run_heals_it_once_even_if_it_is_stopped(tmp_path: Path, stopped: bool) -> None:
    """As by Ctrl-C, while the fault stands; otherwise it bit, and the verdict is valid."""
    line = LINES["network:line"] = Line()
    catalogue = load_catalogue()
    faults: Kinds = {**catalogue.faults, "network": {"down": Down}}
    catalogue = replace(catalogue, faults=faults, targets={"in-process": OverALine})
    stop = asyncio.Event()

    def progress(now: Progress) -> None:
        if stopped and any(fault.state == "active" for fault in now.faults):
            stop.set()

    result = await run_scenario(
        read(tmp_path), replace(Config(), folder=tmp_path), catalogue, on_progress=progress, stop=stop
    )
    assert line.done == ["start", "heal"]
    assert line.up
    assert not list(result.folder.glob("undo-*"))
    assert result.interrupted is stopped
    assert result.verdict.state == ("unknown" if stopped else "valid"), result.verdict.reasons
