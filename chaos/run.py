"""One run: set up, steady state, load and faults, heal everything, drain, check, report."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from squall.chaos.catalogue import Catalogue
from squall.chaos.check.engine import check, check_steady
from squall.chaos.check.facts import RunFacts, Span, save_facts
from squall.chaos.check.output import save_junit, save_verdict
from squall.chaos.check.verdict import Verdict
from squall.chaos.composition import Composed, save_composed
from squall.chaos.driven import Driven, DrivenLoad, make_driver
from squall.chaos.fault_run import FaultRun
from squall.chaos.footprint import check_footprints
from squall.chaos.history import HistoryWriter
from squall.chaos.live_file import live_file
from squall.chaos.load import Generator, LoadGenerator, Messages
from squall.chaos.named_target import claims_of, make_target, target_options
from squall.chaos.networks import Networks
from squall.chaos.participants import Participants
from squall.chaos.processes import Processes
from squall.chaos.profile import check_profiler, profiled
from squall.chaos.recorder import Recorder
from squall.chaos.report import write_report
from squall.chaos.run_folder import COMPOSED, JUNIT, VERDICT, discard_run_folder, make_run_folder, point_latest
from squall.chaos.run_log import logged_to
from squall.chaos.samples import Samples
from squall.chaos.scenario import Drain, Scenario, drain_limits
from squall.chaos.scenario_models import Stage
from squall.chaos.spans import complete_spans
from squall.chaos.watch import Progress, Watch
from squall.core.clock import Clock, SystemClock
from squall.core.config import Config
from squall.core.errors import SquallError, StoreFileError
from squall.core.heap import heap_set_aside
from squall.core.identity import system_id
from squall.core.load_driver import LoadDriver
from squall.core.processor import waited_ns
from squall.core.target import Batches, Claims, RunContext, Target
from squall.core.units import format_seconds

POLL_S = 0.05
POLL_SHARE = 10  # counting a backlog is work for the target, which has better to do
ANSWER_S = 30.0
BRIEFLY_S = 2.0
DRIVER = "driver"


@dataclass(frozen=True)
class RunResult:
    """A run that is over: where its folder is, and what came out.

    `faulty_s`: for how long at least one fault was active. `warnings` and `errors`: how many of each were logged, into
    the folder's log.txt.
    `interrupted`: by `stop`, so that the verdict is of a shorter run than was asked for.
    """

    folder: Path
    verdict: Verdict
    duration_s: float
    faulty_s: float
    warnings: int
    errors: int
    interrupted: bool


async def run_scenario(
    scenario: Scenario,
    config: Config,
    catalogue: Catalogue,
    *,
    runs: Path | None = None,
    composed: Composed | None = None,
    clock: Clock | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    stop: asyncio.Event | None = None,
    profile: bool = False,
) -> RunResult:
    """Run a scenario and judge it. Raises ConfigError, WiringError or StoreFileError before the load; afterwards what
    goes wrong is part of the verdict. `composed`, what it runs against, is kept in its folder. Setting `stop` ends the
    load early: everything is healed, drained briefly, and written. `profile`: where the time went, into its folder."""
    if profile:
        check_profiler()
    if scenario.watches_growth:
        check_footprints()
    clock = clock or SystemClock()
    began_ns = clock.monotonic_ns()
    source = "\n".join(scenario.document.lines) + "\n"
    where = runs or config.folder / config.bench.runs
    sets, soak_s = scenario.overridden, scenario.soak_s
    folder = make_run_folder(where, scenario.name, source, scenario.seed, clock, system_id()[:6], sets, soak_s)
    if composed is not None:
        save_composed(composed, folder / COMPOSED)
    run: _Run | None = None
    with logged_to(folder) as log, live_file(folder, clock, on_progress) as show:
        try:
            target = make_target(scenario, config, catalogue)
            driver = make_driver(scenario, target, catalogue)
            networks = Networks(scenario, config, catalogue, clock, folder)
            run = _Run(scenario, config, target, driver, networks, folder, clock, show, stop or asyncio.Event())
            async with profiled(folder, clock) if profile else contextlib.nullcontext():
                facts = await run.execute()
        except BaseException:
            if run is None or not run.began:
                discard_run_folder(folder)
            raise
        run.watch.enter("check")
        try:
            await asyncio.to_thread(complete_spans, folder)
        except StoreFileError as error:
            logging.getLogger("squall").warning("%s", error)
        verdict = await asyncio.to_thread(check, folder / "history", run.claims, scenario.expectations, facts)
        save_verdict(verdict, folder / VERDICT)
        save_junit(verdict, scenario.name, folder / JUNIT)
        await asyncio.to_thread(write_report, folder)
    duration_s = (clock.monotonic_ns() - began_ns) / 1e9
    faulty_s = run.faults.acted_s if run.faults is not None else 0.0
    return RunResult(folder, verdict, duration_s, faulty_s, log.warning_count, log.error_count, run.interrupted)


class _Run:
    def __init__(
        self,
        scenario: Scenario,
        config: Config,
        target: Target,
        driver: LoadDriver | None,
        networks: Networks,
        folder: Path,
        clock: Clock,
        on_progress: Callable[[Progress], None] | None,
        stop: asyncio.Event,
    ) -> None:
        self.scenario, self.config, self.target, self.folder = scenario, config, target, folder
        self.networks, self.clock, self.stop = networks, clock, stop
        self.processes = Processes(scenario.servers, folder, clock)
        self.random = Random(f"{scenario.seed}:run")
        nonce = bytes.fromhex(system_id().replace("-", ""))[:8]
        self.writer = HistoryWriter(folder / "history")
        self.recorder = Recorder(self.writer, clock, nonce)
        self.messages = Messages(scenario.load.events, nonce, Random(f"{scenario.seed}:load"))
        self.driven = Driven(driver, self.recorder, self.messages) if driver is not None else None
        self.generator = self._generator()
        self.samples = Samples(self.recorder, target, folder, scenario.load.seconds, self.processes, self.generator)
        self.participants = Participants(scenario, config, target, self.recorder, self.writer)
        self.faults: FaultRun | None = None
        rate, rate_variable = scenario.greatest_rate
        self.facts = RunFacts(scenario.name, scenario.seed, rate=rate, rate_variable=rate_variable)
        self.watch = Watch(self.recorder, target, on_progress or (lambda progress: None), driver)
        self.watched = on_progress is not None
        self.began = self.aborted = False

    def _generator(self) -> LoadGenerator:
        """Who publishes in one phase."""
        if self.driven is not None:
            return DrivenLoad(self.driven)
        batches = self.target.publish_batch if isinstance(self.target, Batches) else None
        return Generator(self.recorder, self.messages, self.target.publish, batches)

    @property
    def claims(self) -> Claims:
        """What is judged. Asked for anew each time: a target may learn more of itself with each subscription."""
        return claims_of(self.target, self.config.targets.get(self.scenario.target))

    @property
    def interrupted(self) -> bool:
        """Stopped from outside, not by its own `abort`."""
        return self.stop.is_set() and not self.aborted

    async def execute(self) -> RunFacts:
        """All phases up to the drain, whatever happens in them; the history is complete afterwards."""
        async with contextlib.AsyncExitStack() as closing:  # whatever becomes of one of them, the others are closed
            closing.push_async_callback(_close, "the proxies could not be taken away", self.networks.close)
            closing.push_async_callback(_close, "a process could not be ended", self.processes.close)
            await self._execute()
        return self.facts

    async def _execute(self) -> None:
        await self.processes.start()
        await self.target.start(
            RunContext(
                self.clock,
                self.random,
                self.folder,
                self.config,
                self.scenario.plugins,
                self.networks.detour,
                self.processes.servers,
                self.processes.launch,
                target_options(self.target, self.scenario.target, self.config),
                tuple(self.scenario.subscribers),
            )
        )
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(self._write)
            ending.push_async_callback(lambda: self._noted("the target did not stop", self.target.stop()))
            await self.participants.join_first()
            if (driven := self.driven) is not None:
                stop = self._stop_driver
                ending.push_async_callback(lambda: self._noted("the load driver did not stop", stop(driven)))
                await driven.start(self.folder / DRIVER, self.target, self.processes.launch_aside)
            limits = drain_limits(self.scenario, self.claims.longest_delay_s)
            self.facts = replace(self.facts, stall_s=limits.stall_s).claimed(self.claims)
            seams = {**self.target.seams(), **self.participants.seams, **self.networks.seams, **self.processes.seams}
            self.faults = FaultRun(self.scenario, seams, self.recorder, self.folder)
            ending.push_async_callback(self.faults.heal)
            point_latest(self.folder)
            self.began = True
            with heap_set_aside():
                await self._noted("the run was cut short", self._phases(limits))
            await self._noted("the target's own word is missing", self.participants.record_ends())

    async def _phases(self, limits: Drain) -> None:
        watching = [asyncio.create_task(self.watch.run())] if self.watched else []
        try:
            await self._steady()
            if self.facts.steady_held is not False and not self.stop.is_set():
                await self._load()
            await self._drain(limits.limit_s, limits.stall_s)
        finally:
            for task in watching:
                task.cancel()
            for failed in await asyncio.gather(*watching, return_exceptions=True):
                if isinstance(failed, Exception):
                    logging.getLogger("squall").warning("the progress could not be told: %r", failed)

    async def _write(self) -> None:
        """Complete the history, and what is known beside it."""
        if self.faults is not None:
            for failure in self.faults.failures:
                self._reason(failure)
            self.faults.record(self.writer)
        if ended := await self.processes.ended_by_themselves():  # first: it explains the others
            self.facts = replace(self.facts, target_up=False, reasons=(*ended, *self.facts.reasons))
        self.processes.record(self.writer)
        self.samples.flush()
        await self.recorder.close()
        self.facts = replace(self.facts, recorder_failures=(*self.recorder.failures, *self.writer.failures))
        save_facts(self.facts, self.folder)

    async def _noted(self, what: str, doing: Awaitable[object]) -> None:
        """What fails once the run has begun is a reason of its verdict, and no end without one."""
        try:
            await doing
        except Exception as error:
            logging.getLogger("squall").warning("%s", what, exc_info=error)
            self._reason(f"{what}: {error}" if isinstance(error, SquallError) else f"{what}: {error!r}")

    def _reason(self, text: str) -> None:
        self.facts = replace(self.facts, reasons=(*self.facts.reasons, text))

    async def _stop_driver(self, told: Driven) -> None:
        driver = told.driver
        generated = await driver.stop()
        self.facts = replace(self.facts, generated=generated, busy_ns=told.busy_ns)
        if driver.failure:
            self._reason(driver.failure)

    async def _steady(self) -> None:
        steady = self.scenario.steady
        if steady is None:
            return
        generator = self._generator()
        self.watch.enter("steady", steady.seconds, generator)
        begun = self.clock.monotonic_ns()
        stage = Stage.model_validate({"for": steady.seconds, "rate": self.scenario.steady_rate})
        await generator.run([stage], self.stop)
        await generator.finish(self._over(ANSWER_S))
        span = Span(begun, self.clock.monotonic_ns())
        self.facts = replace(self.facts, steady=span)
        over = self._over(5.0)
        while not over() and any(one.pending for one in (await self.target.counters()).subscribers.values()):
            await self.clock.sleep(POLL_S)
        if self.interrupted:
            self._reason("interrupted in the steady phase, before the load")
            return
        await self.recorder.flush()
        findings = await asyncio.to_thread(check_steady, self.folder / "history", self.claims, steady.expect, span)
        for finding in findings:
            if finding.state != "valid":
                self._reason(f"steady state: {finding.title or finding.name} {finding.why_unknown or finding.summary}")
        self.facts = replace(self.facts, steady_held=all(finding.state == "valid" for finding in findings))

    async def _load(self) -> None:
        assert self.faults is not None
        if self.scenario.watches_growth:
            await self.samples.prepare()
        begun, waited = self.clock.monotonic_ns(), waited_ns()
        self.watch.enter("load", self.scenario.load.seconds, self.generator, self.faults)
        others = [
            asyncio.create_task(self.participants.come_and_go(begun)),
            asyncio.create_task(self.faults.run(begun)),
            asyncio.create_task(self._abort()),
        ]
        if self.scenario.watches_growth:
            others.append(asyncio.create_task(self.samples.run()))
        try:
            await self.generator.run(self.scenario.load.stages, self.stop)
        finally:
            for task in others:
                task.cancel()
            ended = await asyncio.gather(*others, return_exceptions=True)
        if self.interrupted:
            load_s = self.scenario.load.seconds
            passed_s = min(load_s, (self.clock.monotonic_ns() - begun) / 1e9)
            self._reason(f"interrupted after {passed_s:.1f} of {format_seconds(load_s)} of load")
        self.watch.enter("heal")
        for failed in ended:
            if isinstance(failed, Exception):
                self._reason(f"{type(failed).__name__}: {failed}")
        await self.faults.heal()
        healed = self.clock.monotonic_ns()
        self.facts = replace(
            self.facts,
            load=Span(begun, healed),
            starved=min(1.0, (waited_ns() - waited) / max(1, healed - begun)),
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
                self.aborted = not self.stop.is_set()
                self.stop.set()
                return

    async def _drain(self, limit_s: float, stall_s: float) -> None:
        """Wait until nothing is pending, or nothing has moved for stall_s, or limit_s is over."""
        self.watch.enter("drain", limit_s)
        over = self._over(limit_s)
        begun = moved = self.clock.monotonic_ns()
        await self.generator.finish(self._over(min(ANSWER_S, limit_s)))
        if self.facts.load is not None:  # a burst may be longer in hand than the load lasts
            self.facts = replace(self.facts, achieved=self.generator.achieved)
        done, drained = -1, False
        while not drained and not over():
            asked = self.clock.monotonic_ns()
            counts = (await self.target.counters()).subscribers.values()
            took_s = (self.clock.monotonic_ns() - asked) / 1e9
            counted = all(one.pending is not None for one in counts)
            drained = counted and not any(one.pending for one in counts)
            now_done = sum((one.acked or 0) + (one.dead_lettered or 0) for one in counts)
            if now_done != done:
                done, moved = now_done, self.clock.monotonic_ns()
            elif self.clock.monotonic_ns() - max(moved, self.recorder.moved_ns) > stall_s * 1e9:
                drained = not counted  # what it does not count has been as quiet as it can be waited for
                break
            await self.clock.sleep(max(POLL_S, POLL_SHARE * took_s))
        self.facts = replace(self.facts, drain=Span(begun, self.clock.monotonic_ns()), drained=drained)
        if self.interrupted and not drained and not self.facts.reasons:
            self._reason("interrupted while it drained")

    def _over(self, timeout_s: float) -> Callable[[], bool]:
        """Whether timeout_s has passed from now; once the run is interrupted, BRIEFLY_S from then is enough."""
        now = self.clock.monotonic_ns
        deadline_ns = now() + round(timeout_s * 1e9)

        def over() -> bool:
            nonlocal deadline_ns
            if self.interrupted:
                deadline_ns = min(deadline_ns, now() + round(BRIEFLY_S * 1e9))
            return now() >= deadline_ns

        return over


async def _close(what: str, close: Callable[[], Awaitable[None]]) -> None:
    """What is not closed well takes nothing from the verdict, and is logged."""
    try:
        await close()
    except Exception as error:
        logging.getLogger("squall").warning("%s", what, exc_info=error)
