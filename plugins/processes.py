"""Faults in processes that the run has started: killed, suspended, ended and started again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, ClassVar

from pydantic import Field

from squall.core.errors import SquallError
from squall.core.fault import Fault, FaultContext, Process, Seam
from squall.core.plugin import Plugin, hookimpl
from squall.core.units import Seconds


class ProcessFault(Fault):
    """A fault that acts on a process as a whole. It dies with the run, as the process does."""

    kind = Process
    name = ""
    per_call: ClassVar[bool] = False
    heal_s: ClassVar[float] = 120.0  # a database takes its time to start, on a busy machine the more

    @asynccontextmanager
    async def inject(self, seam: Seam, ctx: FaultContext) -> AsyncIterator[None]:
        """Entered: the process is gone, and does not answer. Left: it answers again."""
        assert isinstance(seam, Process)
        async with seam.turn:
            try:
                await self.take(seam)
                if await seam.answers():
                    raise SquallError(f"{seam.name} still answers")
                ctx.hit()
                yield
            finally:
                await (self.bring_back(seam) if seam.pid is not None else seam.start())

    async def take(self, process: Process) -> None:
        """Let it be gone."""
        raise NotImplementedError

    async def bring_back(self, process: Process) -> None:
        """Let it be there again, where it has not ended: then it is started."""


class Kill(ProcessFault):
    """The process is ended at once, as by `kill -9`, and started again when the fault ends."""

    name = "kill"

    async def take(self, process: Process) -> None:
        await process.kill()


class Stop(ProcessFault):
    """The process stands still (SIGSTOP): connections stay, and nothing is answered. It goes on when the fault ends."""

    name = "stop"

    async def take(self, process: Process) -> None:
        await process.suspend()

    async def bring_back(self, process: Process) -> None:
        await process.resume()


class Restart(ProcessFault):
    """The process is told to end (SIGTERM), and started again when the fault ends."""

    name = "restart"

    within: Annotated[Seconds, Field(gt=0, description="how long it may take to end")] = 20.0

    async def take(self, process: Process) -> None:
        await process.end(self.within)


class ProcessesPlugin(Plugin):
    """Offers faults in processes to scenarios."""

    summary: ClassVar[str] = "faults: kill, stop and restart of servers that the run has started"

    @hookimpl
    def squall_faults(self) -> Sequence[type[Fault]]:
        return [Kill, Stop, Restart]
