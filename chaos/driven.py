"""A load that somebody else publishes: what is due is handed to a driver, and what it tells of it is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path

from squall.chaos.catalogue import Catalogue
from squall.chaos.load import ON_TIME_NS, TICK_S, Due, Messages, due_times
from squall.chaos.recorder import Recorder
from squall.chaos.scenario import Scenario
from squall.chaos.scenario_models import Stage
from squall.core.errors import ConfigError
from squall.core.load_driver import LoadContext, LoadDriver, Publish
from squall.core.target import Endpoint, Launch, Outcome, Target

AHEAD_NS = 500_000_000
MAX_AHEAD = 10_000
AT_ONCE = 500


def make_driver(scenario: Scenario, target: Target, catalogue: Catalogue) -> LoadDriver | None:
    """The driver that a scenario names; None: the bench's own tasks. Raises ConfigError where it lacks something, or
    cannot do what the scenario asks for."""
    section = scenario.driver
    if section is None:
        return None
    problems = []
    if not isinstance(target, Endpoint):
        message = f"{section.name} publishes over HTTP, and target {scenario.target} takes nothing there"
        problems.append(section.problem(message, "use target: squall"))
    for index, stage in enumerate(scenario.load.stages):
        if stage.batch is not None:
            message = f"{section.name} publishes events one by one"
            problems.append(scenario.document.problem(("load", "stages", index, "batch"), message, "leave it out"))
    if problems:
        raise ConfigError(problems)
    kind = catalogue.drivers[section.name]
    try:
        return kind.make(section.options(kind.options))
    except ConfigError as error:
        raise ConfigError([section.problem(one.message, one.hint) for one in error.problems]) from error


class Driven:
    """What a driver was handed, and what it tells of it. `busy_ns`: how long its publishes took, in all."""

    def __init__(self, driver: LoadDriver, recorder: Recorder, messages: Messages) -> None:
        self.driver, self.recorder, self.messages = driver, recorder, messages
        self.waiting: dict[int, tuple[DrivenLoad, Publish, bool]] = {}
        self.open: dict[int, tuple[Publish, tuple[int, ...]]] = {}
        self.busy_ns = 0

    async def start(self, folder: Path, target: Target, launch: Launch) -> None:
        """Let the driver come, with a folder of its own for what it writes. Raises SquallError."""
        assert isinstance(target, Endpoint)  # `make_driver` saw to it
        await asyncio.to_thread(folder.mkdir)
        clock = self.recorder.clock
        await self.driver.start(LoadContext(clock, folder, target, launch, self.begun, self.ended))

    def begun(self, event: int, at_ns: int) -> None:
        """The driver is about to send it."""
        load, one, excused = self.waiting.pop(event)
        self.open[event] = one, self.recorder.begin(one.message, event, one.due_ns, at_ns)
        load.sent += 1
        load.achieved += excused or at_ns - one.due_ns <= ON_TIME_NS

    def ended(self, event: int, at_ns: int, outcome: Outcome) -> None:
        """It has its answer, or will have none."""
        one, begin = self.open.pop(event)
        self.recorder.end(begin, one.message, outcome, at_ns)
        self.busy_ns += at_ns - begin[-1]


class DrivenLoad:
    """Publishes a load through a driver; as `Generator`, of whose words its own have the meaning."""

    def __init__(self, driven: Driven) -> None:
        self._driven = driven
        self.asked = self.sent = self.achieved = 0
        self._burst_ends = self._excused = 0
        self._withdrawn = False

    @property
    def publishers(self) -> int:
        """Tasks of its own that publish: the driver has processes for that."""
        return 0

    @property
    def in_flight(self) -> int:
        """Publishes that are due or begun and have not ended."""
        now_ns = self._driven.recorder.now()
        late = 0 if self._withdrawn else sum(one.due_ns <= now_ns for _, one, _ in self._driven.waiting.values())
        return late + len(self._driven.open)

    async def run(self, stages: Sequence[Stage], stop: asyncio.Event) -> None:
        """Hand over what is due soon until the stages are over, `stop` is set, or the driver has failed. What is a
        second late when they are over is asked for and never sent."""
        clock, total = self._driven.recorder.clock, sum(stage.events for stage in stages)
        self._driven.busy_ns = 0  # of this load
        start_ns = clock.monotonic_ns()
        ends_ns = start_ns + round(sum(stage.seconds for stage in stages) * 1e9)
        batch: list[Publish] = []
        for due in due_times(stages):
            due_ns = start_ns + round(due.at_s * 1e9)
            while not self._over(stop) and (self._full() or due_ns - clock.monotonic_ns() > AHEAD_NS):
                self._hand_over(batch)
                if clock.monotonic_ns() > ends_ns + ON_TIME_NS and not due.of_burst:
                    self.asked = total
                    self.withdraw()
                    return
                await clock.sleep(10 * TICK_S)
            if self._over(stop):
                break
            batch.append(self._planned(due, due_ns))
            if len(batch) >= AT_ONCE:
                self._hand_over(batch)
                await asyncio.sleep(0)
        self._hand_over(batch)
        while not self._over(stop) and self._late(ends_ns):
            await clock.sleep(10 * TICK_S)
        self.withdraw()

    def _late(self, ends_ns: int) -> bool:
        """Whether the load goes on: until its end, a second longer for what is late, as long as a burst takes."""
        now_ns = self._driven.recorder.now()
        return now_ns < ends_ns or (
            bool(self._driven.waiting) and (now_ns <= ends_ns + ON_TIME_NS or self.sent < self._excused)
        )

    def _over(self, stop: asyncio.Event) -> bool:
        return stop.is_set() or bool(self._driven.driver.failure)

    def _full(self) -> bool:
        return len(self._driven.waiting) >= MAX_AHEAD

    def _planned(self, due: Due, due_ns: int) -> Publish:
        """The publish that is due then; known to the recorder from now on, since it may be delivered before it is told
        to have begun."""
        self.asked += 1
        if due.of_burst:
            self._burst_ends = self.asked
        if self.sent < self._burst_ends:
            self._excused = self.asked
        message, event = self._driven.messages.next(due_ns)
        self._driven.recorder.sent.add(message, event)
        one = Publish(event, due_ns, message)
        self._driven.waiting[event] = self, one, self.asked <= self._excused
        return one

    def _hand_over(self, batch: list[Publish]) -> None:
        if batch:
            self._driven.driver.publish(tuple(batch))
            batch.clear()

    def withdraw(self) -> None:
        """Nothing more is to be begun. What is not due yet was not asked for."""
        now_ns = self._driven.recorder.now()
        self._withdrawn = True
        self.asked -= sum(load is self and one.due_ns > now_ns for load, one, _ in self._driven.waiting.values())
        self._driven.driver.withdraw()

    async def finish(self, over: Callable[[], bool]) -> None:
        """Wait until everything that was begun has its answer, the driver has failed, or `over`."""
        while self._driven.open and not over() and not self._driven.driver.failure:
            await self._driven.recorder.clock.sleep(10 * TICK_S)
