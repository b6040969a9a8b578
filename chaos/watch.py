"""A run as people watch it: four times a second, what it is doing and how fast."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from squall.chaos.fault_run import FaultProgress, FaultRun
from squall.chaos.load import LoadGenerator
from squall.chaos.recorder import Recorder
from squall.core.load_driver import LoadDriver
from squall.core.target import Target

PROGRESS_S = 0.25
COUNT_NS = 1_000_000_000
COUNT_SHARE = 50  # a target's own sums may be dear: a fiftieth of the time is spent on them at most
COUNT_LATEST_NS = 30_000_000_000  # or they only took long, since the target could not be reached
OLD_NS = 10_000_000_000
Phase = Literal["setup", "steady", "load", "heal", "drain", "check"]


@dataclass(frozen=True)
class Progress:
    """A moment of a run. Rates are per second since the last one; p99_s is of what was handled since then.

    phase_s is how long the phase has lasted, of total_s (None: nobody knows). pending and dead_lettered are the
    target's own sums (None: it keeps none), lag_s by how much the event loop was late. abandoned: handlers that ignored
    their cancellation, and run on.
    """

    target: str
    phase: Phase
    phase_s: float
    total_s: float | None
    asked: float
    achieved: float
    acknowledged: int
    refused: int
    handled: int
    in_flight: int
    pending: int | None
    dead_lettered: int | None
    p99_s: float | None
    lag_s: float
    faults: tuple[FaultProgress, ...]
    abandoned: int = 0


class Watch:
    """Looks at the parts of a run, and tells `show`."""

    def __init__(
        self, recorder: Recorder, target: Target, show: Callable[[Progress], None], driver: LoadDriver | None
    ) -> None:
        self._recorder, self._target, self._show, self._driver = recorder, target, show, driver
        self._now = recorder.clock.monotonic_ns
        self._generator: LoadGenerator | None = None
        self._faults: FaultRun | None = None
        self._phase: Phase = "setup"
        self._total_s: float | None = None
        self._phase_ns = self._load_ns = 0
        self._seen_ns, self._asked, self._acknowledged = self._now(), 0, 0
        self._pending: int | None = None
        self._dead_lettered: int | None = None
        self._described = ""
        self._rates = (0.0, 0.0)
        self._p99_s: float | None = None

    def enter(
        self,
        phase: Phase,
        total_s: float | None = None,
        generator: LoadGenerator | None = None,
        faults: FaultRun | None = None,
    ) -> None:
        """A phase begins now, and lasts total_s; generator and faults count from here on."""
        if self._phase != "setup":
            self._tell(0.0)
        self._phase, self._total_s, self._phase_ns = phase, total_s, self._now()
        if generator is not None:
            self._generator, self._asked = generator, generator.asked
        if faults is not None:
            self._faults, self._load_ns = faults, self._now()
        self._tell(0.0)

    async def run(self) -> None:
        """Tell until cancelled."""
        clock = self._recorder.clock
        self._described = await self._target.describe()
        if self._driver is not None:
            self._described += f" · {await self._driver.describe()}"
        self._recorder.latencies_ns = []
        count_ns = counted_ns = self._now()
        while True:
            due_ns = self._now() + round(PROGRESS_S * 1e9)
            await clock.sleep(PROGRESS_S)
            lag_s = max(0.0, (self._now() - due_ns) / 1e9)
            if (asked_ns := self._now()) >= count_ns:
                await self._count()
                counted_ns = self._now()
                count_ns = counted_ns + min(COUNT_LATEST_NS, max(COUNT_NS, COUNT_SHARE * (counted_ns - asked_ns)))
            elif asked_ns - counted_ns > OLD_NS:  # no figure is better than one that is not true any more
                self._pending = self._dead_lettered = None
            self._tell(lag_s)

    async def _count(self) -> None:
        sums = (await self._target.counters()).subscribers.values()
        pending = [one.pending for one in sums if one.pending is not None]
        dead = [one.dead_lettered for one in sums if one.dead_lettered is not None]
        self._pending = sum(pending) if pending else None
        self._dead_lettered = sum(dead) if dead else None

    def _tell(self, lag_s: float) -> None:
        recorder, now_ns, generator = self._recorder, self._now(), self._generator
        asked, acknowledged = generator.asked if generator else 0, recorder.acknowledged
        elapsed_s = (now_ns - self._seen_ns) / 1e9
        if elapsed_s >= PROGRESS_S / 2:  # a shorter time says nothing of a rate
            self._rates = (asked - self._asked) / elapsed_s, (acknowledged - self._acknowledged) / elapsed_s
            self._seen_ns, self._asked, self._acknowledged = now_ns, asked, acknowledged
        if recorder.latencies_ns:
            self._p99_s = sorted(recorder.latencies_ns)[int(len(recorder.latencies_ns) * 0.99)] / 1e9
            recorder.latencies_ns = []
        self._show(
            Progress(
                target=self._described,
                phase=self._phase,
                phase_s=(now_ns - self._phase_ns) / 1e9,
                total_s=self._total_s,
                asked=self._rates[0],
                achieved=self._rates[1],
                acknowledged=acknowledged,
                refused=recorder.refused + recorder.unknown,
                handled=recorder.handled,
                in_flight=generator.in_flight if generator else 0,
                pending=self._pending,
                dead_lettered=self._dead_lettered,
                p99_s=self._p99_s,
                lag_s=lag_s,
                faults=self._faults.progress((now_ns - self._load_ns) / 1e9) if self._faults else (),
                abandoned=recorder.abandoned,
            )
        )
