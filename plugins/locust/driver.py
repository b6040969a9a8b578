"""Locust's processes, from the bench's side: started, told what to publish, and their journals read."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine, Sequence
from importlib.metadata import PackageNotFoundError, version
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO

import msgspec

from squall.core.errors import ConfigError, Problem, SquallError
from squall.core.identity import system_id
from squall.core.load_driver import Answers, Generated, LoadContext, Publish
from squall.core.target import Outcome, Program
from squall.plugins.locust.options import LocustOptions
from squall.plugins.locust.wire import (
    LENGTH,
    NO_SEQ,
    ROW,
    SAYS,
    TOKEN,
    Counted,
    Due,
    Finish,
    Finished,
    FromProcess,
    Hello,
    Publishes,
    Role,
    Setup,
    Spawned,
    ToProcess,
    Used,
    Warned,
    Withdraw,
    frame,
)

PROGRAM = Path(__file__).with_name("process.py")
POLL_S = 0.02
SPAWN_S = 60.0
FINISH_S = 60.0
READ_ROWS = 4096


class LocustDriver:
    """Publishes through Locust's users. Raises ConfigError where Locust is not installed."""

    def __init__(self, options: LocustOptions) -> None:
        try:
            self._version = version("locust")
        except PackageNotFoundError:
            problem = Problem("load.driver", "Locust is not installed", hint="pip install 'squall[locust]'")
            raise ConfigError([problem]) from None
        self._options = options
        self.users, self.failure, self._page = options.users, "", ""
        self._decoder: msgspec.msgpack.Decoder[FromProcess] = msgspec.msgpack.Decoder(FromProcess)
        self._place: TemporaryDirectory[str] | None = None
        self._server: asyncio.Server | None = None
        self._links: dict[str, StreamWriter] = {}
        self._pids: dict[str, int | None] = {}
        self._journals: list[IO[bytes]] = []
        self._following: asyncio.Task[None] | None = None
        self._used: dict[str, Used] = {}
        self._warning, self._spawned, self._stopping = "", False, False
        self._finished: Finished | None = None

    async def start(self, ctx: LoadContext) -> None:
        self._ctx, self._place = ctx, TemporaryDirectory(prefix="squall-locust-")
        place, options = Path(self._place.name), self._options
        self._server = await asyncio.start_unix_server(self._connected, place / "bench")
        self._source = f"locust-{system_id()}"
        several = options.workers > 1
        self._workers = [f"locust-{number + 1}" for number in range(options.workers)] if several else ["locust"]
        role: Role = "worker" if several else "alone"
        self._leader = "locust-master" if several else "locust"
        port = await self._launch(self._leader, "master", place, 0) if several else 0
        await _all(*(self._launch(name, role, place, port) for name in self._workers))
        self._journals = [(place / f"{name}.journal").open("rb", buffering=0) for name in self._workers]
        self._turns = cycle(self._workers)
        if not await self._until(lambda: self._spawned, SPAWN_S + self.users / options.spawn_rate):
            raise SquallError(self.failure or f"locust did not start its {self.users} users in time")
        self._following = asyncio.create_task(self._follow())

    async def _launch(self, name: str, role: Role, place: Path, master_port: int) -> int:
        """Start a process, and return its port when it has said hello."""
        url, token = self._ctx.endpoint.endpoint()
        journal = place / f"{name}.journal"
        journal.touch()

        def command(port: int) -> Sequence[str]:
            setup = Setup(
                role=role,
                name=name,
                socket=str(place / "bench"),
                journal=str(journal),
                folder=str(self._ctx.folder.resolve()),
                url=url,
                source=self._source,
                users=self.users,
                spawn_rate=self._options.spawn_rate,
                workers=self._options.workers,
                master_port=port if role == "master" else master_port,
                web=self._options.web and role != "worker",
            )
            return [sys.executable, "-P", str(PROGRAM), msgspec.json.encode(setup).decode()]

        launched = await self._ctx.launch(Program(name, command, lambda port: name in self._links, {TOKEN: token}))
        self._pids[name] = launched.process.pid
        return launched.port

    async def _connected(self, reader: StreamReader, writer: StreamWriter) -> None:
        """One process, for as long as it lives."""
        name = ""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                message = self._decoder.decode(await reader.readexactly(length))
                if isinstance(message, Hello):
                    name = message.name
                    self._links[name] = writer
                else:
                    self._heard(name, message)
        writer.close()
        if not self._stopping:
            pid = f" (pid {self._pids[name]})" if self._pids.get(name) else ""
            self.failure = self.failure or f"the generator was lost: {name}{pid} ended; see servers/{name}.log"

    def _heard(self, name: str, message: FromProcess) -> None:
        if isinstance(message, Spawned):
            self._spawned, self._page = True, message.page
        elif isinstance(message, Used):
            self._used[name] = message
        elif isinstance(message, Warned):
            self._warning = self._warning or f"{name} used {message.cpu:.0f} % of its processor"
        elif isinstance(message, Finished):
            self._finished = message

    def publish(self, due: Sequence[Publish]) -> None:
        shares: dict[str, list[Due]] = {}
        for event, due_ns, message in due:
            one = Due(event, due_ns, message.type, message.priority.name, message.key, message.payload)
            shares.setdefault(next(self._turns), []).append(one)
        for name, share in shares.items():
            self._send(name, Publishes(share))

    def withdraw(self) -> None:
        for name in self._workers:
            self._send(name, Withdraw())

    def _send(self, name: str, message: ToProcess) -> None:
        if not self._links[name].is_closing():
            self._links[name].write(frame(message))

    async def _follow(self) -> None:
        """Read what the processes note, until cancelled."""
        try:
            while True:
                self._read()
                await self._ctx.clock.sleep(POLL_S)
        except Exception as error:  # noqa: BLE001  whatever it is, what is recorded from now on would not be all
            self.failure = f"what locust noted could not be read: {type(error).__name__}: {error}"

    def _read(self) -> None:
        """What was noted since. A row that is only half there is read when it is whole."""
        ctx = self._ctx
        for journal in self._journals:
            while rows := journal.read(ROW.size * READ_ROWS):
                whole = len(rows) - len(rows) % ROW.size
                journal.seek(whole - len(rows), 1)
                for event, at_ns, seq, code, duplicate in ROW.iter_unpack(rows[:whole]):
                    says = SAYS[code]
                    if says == "begun":
                        ctx.begun(event, at_ns)
                    else:
                        seq_known = None if seq == NO_SEQ else seq
                        ctx.ended(event, at_ns, Outcome(says, seq_known, duplicate=bool(duplicate)))
                if whole < len(rows):
                    break

    async def describe(self) -> str:
        processes = f"{self._options.workers} processes" if self._options.workers > 1 else "1 process"
        page = f", {self._page}" if self._page else ""
        return f"locust {self._version}: {self.users} users in {processes}{page}"

    async def stop(self) -> Generated | None:
        if self._place is None:
            return None
        if self._following is not None:
            self._send(self._leader, Finish())
            await self._until(lambda: self._finished is not None, FINISH_S)
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)
            self._read()
        self._stopping = True
        if self._server is not None:
            self._server.close()
        for link in self._links.values():
            link.close()
        for journal in self._journals:
            journal.close()
        await asyncio.to_thread(self._place.cleanup)
        return self._generated(self._finished) if self._finished is not None else None

    async def _until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Wait for it; False when it takes longer, or a process is lost."""
        now = self._ctx.clock.monotonic_ns
        deadline_ns = now() + round(within_s * 1e9)
        while not condition() and not self.failure and now() < deadline_ns:
            await self._ctx.clock.sleep(POLL_S)
        return condition()

    def _generated(self, said: Finished) -> Generated:
        used = max(self._used.values(), key=lambda one: one.cpu + one.starved, default=Used(0.0, 0.0))
        name, sums = f"locust {self._version}", _answers(said.total)[1:]
        kinds = tuple(map(_answers, said.kinds))
        return Generated(
            name, self.users, self._options.workers, used.cpu, used.starved, self._warning, *sums, kinds=kinds
        )


def _answers(one: Counted) -> Answers:
    times = (one.p50_ms / 1e3, one.p95_ms / 1e3, one.p99_ms / 1e3)
    return Answers(one.name, one.requests, one.failures, one.rate, *times)


async def _all(*launches: Coroutine[object, object, object]) -> None:
    """All of them, at once; raises what the first one raised, once none is left that starts."""
    for one in await asyncio.gather(*launches, return_exceptions=True):
        if isinstance(one, BaseException):
            raise one
