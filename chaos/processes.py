"""The processes of a run: servers that the scenario asks for, and what the target brings along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from squall.chaos.history import HistoryWriter
from squall.chaos.scenario_models import ServersSection
from squall.chaos.server import HOST, DidNotStart, Server, free_port
from squall.chaos.server_kinds import neo4j_server, redis_server
from squall.core.clock import Clock
from squall.core.errors import SquallError
from squall.core.fault import Process
from squall.core.target import Launched, Program

LOGS = "servers"
KILL_AGAIN_S = 0.05
T = TypeVar("T")


@dataclass
class _Life:
    """One process, from its start to its end. Times are monotonic ns."""

    pid: int
    started: int
    answered: int
    exited: int | None = None
    exit_code: int | None = None


class StartedProcess(Process):
    """A server as faults may treat it; every life of it is noted, and `died` has the pids of those that ended though
    nobody ended them."""

    def __init__(self, name: str, server: Server, clock: Clock) -> None:
        super().__init__(f"process:{name}")
        self.server, self.lives, self.died = server, list[_Life](), list[int]()
        self._now = clock.monotonic_ns

    @property
    def pid(self) -> int | None:
        return self.lives[-1].pid if self.lives and self.lives[-1].exited is None else None

    async def answers(self) -> bool:
        return await asyncio.to_thread(self.server.answers)

    async def start(self) -> None:
        started = self._now()
        await self._blocking(self.server.start)
        self.lives.append(_Life(self.server.pid, started, self._now()))

    async def kill(self) -> None:
        await self._check_lives()
        await self._blocking(self.server.kill)
        self._gone()

    async def end(self, within_s: float) -> None:
        await self._check_lives()
        try:
            await self._blocking(lambda: self.server.end(within_s))
        finally:
            self._gone()

    async def suspend(self) -> None:
        await self._check_lives()
        await self._blocking(self.server.suspend)

    async def resume(self) -> None:
        await self._blocking(self.server.resume)

    async def _check_lives(self) -> None:
        """Raises SquallError where there is nothing to end: what a process did by itself, no fault has done."""
        pid = self.server.pid
        if await self.look():
            raise SquallError(f"{self.name} (pid {pid}) had ended by itself before")

    async def look(self) -> bool:
        """Whether it has ended though nobody ended it; then it may be started again."""
        if self.pid is None or not self.server.ended():
            return False
        self.died.append(self.pid)
        await asyncio.to_thread(self.server.kill)
        self._gone()
        return True

    def _gone(self) -> None:
        if self.pid is not None:
            self.lives[-1].exited, self.lives[-1].exit_code = self._now(), self.server.exit_code

    async def stop(self) -> None:
        """End it with the run."""
        await asyncio.to_thread(self.server.stop)
        self._gone()

    async def _blocking(self, call: Callable[[], T]) -> T:
        """What blocks, in a thread. Who is cancelled meanwhile waits for its end, so that nothing is left half done:
        the process is killed first, also one that is only about to be started."""
        working = asyncio.ensure_future(asyncio.to_thread(call))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            ended = False
            while not ended:
                ended = working.done()
                await asyncio.to_thread(self.server.kill)
                await asyncio.wait([working], timeout=KILL_AGAIN_S)
            await asyncio.gather(working, return_exceptions=True)  # what it raised for that is no news
            self._gone()
            raise


class Processes:
    """Starts processes for a run, and ends them with it. `servers` are those of the scenario, by kind: where they are.
    `seams` are all, by name."""

    def __init__(self, wanted: ServersSection, folder: Path, clock: Clock) -> None:
        self._wanted, self._folder, self._clock = wanted, folder, clock
        self._temporary: TemporaryDirectory[str] | None = None
        self._all: dict[str, StartedProcess] = {}
        self._aside: list[StartedProcess] = []
        self.servers: dict[str, tuple[str, int]] = {}
        self._brought: list[StartedProcess] = []

    @property
    def seams(self) -> dict[str, Process]:
        """Where faults may take hold, by name."""
        return {one.name: one for one in self._all.values()}

    def brought(self) -> list[int]:
        """The pids of what the target has brought along, as far as it is there now; 0: it is not."""
        return [process.pid or 0 for process in self._brought]

    async def start(self) -> None:
        """Start what the scenario asks for. Raises SquallError where a program is missing, or does not start."""
        redis, clock = self._wanted.redis, self._clock
        made: dict[str, Server] = {}
        if redis is not None:
            place, log = self._place("redis")
            made["redis"] = redis_server(place, aof=redis.appendonly, fsync=redis.appendfsync, log=log, clock=clock)
        if self._wanted.neo4j is not None:
            place, log = self._place("neo4j")
            made["neo4j"] = neo4j_server(place, log=log, clock=clock)
        for name, server in made.items():
            await self._begin(name, server)
            self.servers[name] = (HOST, server.port)

    async def launch(self, program: Program) -> Launched:
        """Start what a target brings along. Raises SquallError."""
        server = self._server(program)
        process = await self._begin(program.name, server)
        self._brought.append(process)
        return Launched(process, HOST, server.port)

    async def launch_aside(self, program: Program) -> Launched:
        """Start what is no part of the target: faults do not act on it, and the history tells nothing of it. Raises
        SquallError."""
        server = self._server(program)
        process = StartedProcess(program.name, server, self._clock)
        self._aside.append(process)
        await process.start()
        return Launched(process, HOST, server.port)

    def _server(self, program: Program) -> Server:
        port = free_port()
        place, log = self._place(program.name)
        return Server(
            place,
            program.command(port),
            lambda: program.answers(port),
            port=port,
            scheme="http",
            environment=program.environment,
            log=log,
            clock=self._clock,
        )

    def _place(self, name: str) -> tuple[Path, Path]:
        """Where its data may be, as long as the run lasts, and where its log stays."""
        if self._temporary is None:
            self._temporary = TemporaryDirectory(prefix="squall-servers-")
        place, logs = Path(self._temporary.name) / name, self._folder / LOGS
        place.mkdir()
        logs.mkdir(exist_ok=True)
        return place, logs / f"{name}.log"

    async def _begin(self, name: str, server: Server) -> StartedProcess:
        server.temporary = True
        process = self._all[name] = StartedProcess(name, server, self._clock)
        try:
            await process.start()
        except DidNotStart:
            del self._all[name]
            raise
        return process

    async def ended_by_themselves(self) -> list[str]:
        """Those that were gone though nobody ended them, in words."""
        for one in self._all.values():
            await one.look()
        return [
            f"{one.name} (pid {pid}) ended by itself: see {LOGS}/{one.name.partition(':')[2]}.log"
            for one in self._all.values()
            for pid in one.died
        ]

    def record(self, writer: HistoryWriter) -> None:
        """Write all lives into the history. Process 0 is the bench."""
        lives = [(one.name.partition(":")[2], life) for one in self._all.values() for life in one.lives]
        if lives:
            writer.append(
                "process",
                {
                    "process": list(range(1, len(lives) + 1)),
                    "name": [name for name, _ in lives],
                    "role": ["target"] * len(lives),
                    "pid": [life.pid for _, life in lives],
                    "started": [life.started for _, life in lives],
                    "answered": [life.answered for _, life in lives],
                    "exited": [life.exited for _, life in lives],
                    "exit_code": [life.exit_code for _, life in lives],
                },
            )

    async def close(self) -> None:
        """End all of them, also where one cannot be ended. What they kept is gone, but for their logs."""
        async with AsyncExitStack() as closing:
            if self._temporary is not None:
                closing.push_async_callback(asyncio.to_thread, self._temporary.cleanup)
            for one in (*self._all.values(), *self._aside):
                closing.push_async_callback(one.stop)
