"""One run: set up, steady state, load and faults, heal everything, drain, check, report."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Literal

from pydantic import TypeAdapter

from squall.chaos.catalogue import Catalogue
from squall.chaos.check.engine import check, check_steady
from squall.chaos.check.expectations import EXPECTATIONS
from squall.chaos.check.expectations import Expectation as Judged
from squall.chaos.check.facts import RunFacts, Span, save_facts
from squall.chaos.check.verdict import Verdict
from squall.chaos.fault_run import FaultRun
from squall.chaos.history import HistoryWriter
from squall.chaos.load import Generator, Messages
from squall.chaos.participants import Participants
from squall.chaos.recorder import Recorder
from squall.chaos.run_folder import VERDICT, make_run_folder
from squall.chaos.scenario import Scenario, drain_limits
from squall.chaos.scenario_expect import Expectation
from squall.chaos.scenario_models import Stage
from squall.core.clock import Clock, SystemClock
from squall.core.config import Config
from squall.core.errors import SquallError
from squall.core.identity import system_id
from squall.core.target import RunContext, Target

POLL_S = 0.05
PROGRESS_S = 0.25
ANSWER_S = 30.0
INTERRUPTED_DRAIN_S = 2.0
Phase = Literal["setup", "steady", "load", "heal", "drain", "check", "report"]


@dataclass(frozen=True)
class FaultProgress:
    """One fault as people watch it. in_s: seconds until it begins."""

    id: str
    do: str
    on: str
    state: Literal["planned", "active", "healed"]
    in_s: float
    hits: int


@dataclass(frozen=True)
class Progress:
    """A run as people watch it. Rates are events per second since the last progress."""

    phase: Phase
    elapsed_s: float
    total_s: float
    asked: float
    achieved: float
    acknowledged: int
    handled: int
    in_flight: int
    faults: tuple[FaultProgress, ...]


@dataclass(frozen=True)
class RunResult:
    """A run that is over: where its folder is, and what came out."""

    folder: Path
    verdict: Verdict
    duration_s: float
    interrupted: bool


async def run_scenario(
    scenario: Scenario,
    config: Config,
    catalogue: Catalogue,
    *,
    runs: Path | None = None,
    clock: Clock | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
) -> RunResult:
    """Run a scenario and judge it. Raises ConfigError, WiringError or StoreFileError before the load; afterwards what
    goes wrong is part of the verdict. Setting `stop` ends the load early: everything is healed, drained briefly, and
    written."""
    clock = clock or SystemClock()
    began_ns = clock.monotonic_ns()
    source = "\n".join(scenario.document.lines) + "\n"
    folder = make_run_folder(
        runs or config.folder / config.bench.runs, scenario.name, source, scenario.seed, clock, system_id()[:6]
    )
    target = catalogue.targets[scenario.target]()
    run = _Run(scenario, config, target, folder, clock, on_progress, stop or asyncio.Event())
    facts = await run.execute()
    expectations = run.expectations()
    verdict = await asyncio.to_thread(check, folder / "history", target.claims, expectations, facts)
    (folder / VERDICT).write_bytes(TypeAdapter(Verdict).dump_json(verdict, indent=2) + b"\n")
    return RunResult(folder, verdict, (clock.monotonic_ns() - began_ns) / 1e9, run.stop.is_set())


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        config: Config,
        target: Target,
        folder: Path,
        clock: Clock,
        on_progress: Callable[[Progress], None] | None,
        stop: asyncio.Event,
    ) -> None:
        self.scenario, self.config, self.target, self.folder = scenario, config, target, folder
        self.clock, self.on_progress, self.stop = clock, on_progress, stop
        self.random = Random(f"{scenario.seed}:run")
        nonce = bytes.fromhex(system_id().replace("-", ""))[:8]
        self.writer = HistoryWriter(folder / "history")
        self.recorder = Recorder(self.writer, clock, nonce)
        self.messages = Messages(scenario.load.events, nonce, Random(f"{scenario.seed}:load"))
        self.generator = Generator(self.recorder, self.messages, target.publish)
        self.participants = Participants(scenario, config, target, self.recorder, self.writer)
        self.faults: FaultRun | None = None
        self.facts = RunFacts(scenario.name, scenario.seed)
        self.phase: Phase = "setup"
        self._load_ns = 0
        self._seen = (0, 0, 0)

    async def execute(self) -> RunFacts:
        """All phases up to the drain, whatever happens in them; the history is complete afterwards."""
        await self.target.start(RunContext(self.clock, self.random, self.folder, self.config, self.scenario.plugins))
        try:
            await self.participants.join_first()
            limits = drain_limits(self.scenario, self.target.claims.longest_delay_s)
            self.facts = replace(self.facts, stall_s=limits.stall_s)
            self.faults = FaultRun(self.scenario, {**self.target.seams(), **self.participants.seams}, self.recorder)
            watching = asyncio.create_task(self._watch())
            try:
                await self._steady()
                if self.facts.steady_held is not False:
                    await self._load()
                await self._drain(limits.limit_s, limits.stall_s)
            finally:
                watching.cancel()
                await asyncio.gather(watching, return_exceptions=True)
            await self.participants.record_ends()
        finally:
            try:
                await self.target.stop()
            except SquallError as error:
                self._reason(f"the target did not stop: {error}")
            if self.faults is not None:
                self.faults.record(self.writer)
            await self.recorder.close()
            self.facts = replace(self.facts, recorder_failures=(*self.recorder.failures, *self.writer.failures))
            save_facts(self.facts, self.folder)
        return self.facts

    def _reason(self, text: str) -> None:
        self.facts = replace(self.facts, reasons=(*self.facts.reasons, text))

    async def _steady(self) -> None:
        steady = self.scenario.steady
        if steady is None:
            return
        self.phase = "steady"
        generator = Generator(self.recorder, self.messages, self.target.publish)
        begun = self.clock.monotonic_ns()
        stage = Stage.model_validate({"for": steady.seconds, "rate": self.scenario.steady_rate})
        await generator.run([stage], self.stop)
        await generator.finish(ANSWER_S)
        span = Span(begun, self.clock.monotonic_ns())
        self.facts = replace(self.facts, steady=span)
        await self._until(self._idle, 5.0)
        await self.recorder.flush()
        findings = await asyncio.to_thread(
            check_steady, self.folder / "history", self.target.claims, judged(steady.expect), span
        )
        self.facts = replace(self.facts, steady_held=all(finding.state == "valid" for finding in findings))

    async def _load(self) -> None:
        assert self.faults is not None
        self.phase = "load"
        self._load_ns = begun = self.clock.monotonic_ns()
        others = [
            asyncio.create_task(self.participants.come_and_go(begun)),
            asyncio.create_task(self.faults.run(begun)),
            asyncio.create_task(self._abort()),
        ]
        await self.generator.run(self.scenario.load.stages, self.stop)
        self.phase = "heal"
        for task in others:
            task.cancel()
        for failed in await asyncio.gather(*others, return_exceptions=True):
            if isinstance(failed, Exception):
                self._reason(f"{type(failed).__name__}: {failed}")
        await self.faults.heal()
        healed = self.clock.monotonic_ns()
        self.facts = replace(
            self.facts,
            load=Span(begun, healed),
            healed_ns=healed,
            asked=self.generator.asked,
            achieved=self.generator.achieved,
        )

    async def _abort(self) -> None:
        """Stop the load when too many publishes fail for too long."""
        abort = self.scenario.abort
        if abort is None:
            return
        since_ns: int | None = None
        before = (0, 0)
        while True:
            await self.clock.sleep(1.0)
            failed, acknowledged = self.recorder.refused + self.recorder.unknown, self.recorder.acknowledged
            bad, total = failed - before[0], failed - before[0] + acknowledged - before[1]
            before = (failed, acknowledged)
            now_ns = self.clock.monotonic_ns()
            if not total or bad / total < abort.publish_errors:
                since_ns = None
            elif since_ns is None:
                since_ns = now_ns
            elif now_ns - since_ns >= abort.duration * 1e9:
                self._reason(f"aborted: {bad / total:.0%} of the publishes failed for {abort.duration:g} s")
                self.stop.set()
                return

    async def _drain(self, limit_s: float, stall_s: float) -> None:
        """Wait until nothing is pending, or nothing has moved for stall_s, or limit_s is over."""
        self.phase = "drain"
        if self.stop.is_set():
            limit_s = min(limit_s, INTERRUPTED_DRAIN_S)
        begun = moved = self.clock.monotonic_ns()
        await self.generator.finish(min(ANSWER_S, limit_s))
        done, drained = -1, False
        while not drained and self.clock.monotonic_ns() - begun < limit_s * 1e9:
            counts = (await self.target.counters()).subscribers.values()
            drained = not any(one.pending for one in counts)
            now_done = sum((one.acked or 0) + (one.dead_lettered or 0) for one in counts) + self.recorder.handled
            if now_done != done:
                done, moved = now_done, self.clock.monotonic_ns()
            elif self.clock.monotonic_ns() - moved > stall_s * 1e9:
                break
            await self.clock.sleep(POLL_S)
        self.facts = replace(self.facts, drain=Span(begun, self.clock.monotonic_ns()), drained=drained)

    async def _idle(self) -> bool:
        return not any(one.pending for one in (await self.target.counters()).subscribers.values())

    async def _until(self, holds: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
        deadline_ns = self.clock.monotonic_ns() + round(timeout_s * 1e9)
        while not await holds() and self.clock.monotonic_ns() < deadline_ns:
            await self.clock.sleep(POLL_S)

    def expectations(self) -> Sequence[Judged]:
        """What the scenario expects; without `expect`, the safety of what the target claims."""
        if self.scenario.expect is not None:
            return judged(self.scenario.expect)
        names = ["no_loss"] if self.target.claims.delivery == "at-least-once" else []
        names += ["duplicates", "order"] if self.target.claims.order == "key" else ["duplicates"]
        return [EXPECTATIONS[name].of(name, {}) for name in names]

    async def _watch(self) -> None:
        while self.on_progress is not None:
            await self.clock.sleep(PROGRESS_S)
            self.on_progress(self._progress())

    def _progress(self) -> Progress:
        recorder, now_ns = self.recorder, self.clock.monotonic_ns()
        then_ns, asked, sent = self._seen
        self._seen = (now_ns, self.generator.asked, recorder.acknowledged)
        elapsed_s = max(1e-9, (now_ns - then_ns) / 1e9)
        load_s = (now_ns - self._load_ns) / 1e9 if self._load_ns else 0.0
        faults = self.faults.progress(load_s) if self.faults is not None else ()
        return Progress(
            self.phase,
            load_s,
            self.scenario.load.seconds,
            (self.generator.asked - asked) / elapsed_s,
            (recorder.acknowledged - sent) / elapsed_s,
            recorder.acknowledged,
            recorder.handled,
            self.generator.in_flight,
            tuple(FaultProgress(*one) for one in faults),
        )


def judged(expectations: Sequence[Expectation]) -> list[Judged]:
    """A scenario's expectations as the checker's; a latency that names several subscribers is one for each."""
    found = []
    for one in expectations:
        options = one.options.model_dump(by_alias=True, exclude_none=True)
        subscribers = options.pop("subscribers", None) or (None,)
        for subscriber in subscribers:
            own = options if subscriber is None else {**options, "subscriber": subscriber}
            found.append(EXPECTATIONS[one.name].of(one.name, own))
    return found
