"""Locust's processes, from the bench's side: started, told what to publish, and their journals read."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from asyncio import StreamReader, StreamWriter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
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
from squall.core.units import format_seconds
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
    FromWorker,
    Hello,
    Lost,
    Noted,
    Publishes,
    Ready,
    Relay,
    Relayed,
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
JOINED = "workers.json"
"""In the driver's folder: who joined from other machines, and how well each knew the time."""


@dataclass
class Joined:
    """A worker on another machine: what that is called, once it has come, and how well it knows the time. `given`:
    what it was told to publish and is not known to have begun, when it is due by event; of these none up to
    `withdrawn`, once it has answered for that."""

    host: str = ""
    error_ns: int = 0
    given: dict[int, int] = field(default_factory=dict)
    withdrawn: int = -1


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
        self._from_worker: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        self._decoder: msgspec.msgpack.Decoder[FromProcess] = msgspec.msgpack.Decoder(FromProcess)
        self._place: TemporaryDirectory[str] | None = None
        self._server: asyncio.Server | None = None
        self._links: dict[str, StreamWriter] = {}
        self._pids: dict[str, int | None] = {}
        self._journals: list[IO[bytes]] = []
        self._joined: dict[str, Joined] = {}
        self._following: asyncio.Task[None] | None = None
        self._used: dict[str, Used] = {}
        self._warning, self._spawned, self._stopping = "", False, False
        self._finished: Finished | None = None

    async def start(self, ctx: LoadContext) -> None:
        self._ctx, self._place = ctx, TemporaryDirectory(prefix="squall-locust-")
        place, options = Path(self._place.name), self._options
        self._server = await asyncio.start_unix_server(self._connected, place / "bench")
        self._source = f"locust-{system_id()}"
        several = options.workers > 1 or options.join > 0
        names = [f"locust-{number + 1}" for number in range(options.workers + options.join)] if several else ["locust"]
        self._workers, elsewhere = names[: options.workers], names[options.workers :]
        self._joined = {name: Joined() for name in elsewhere}
        role: Role = "worker" if several else "alone"
        self._leader = "locust-master" if several else "locust"
        port = await self._launch(self._leader, "master", place, 0) if several else 0
        port = options.port if options.join else port
        await _all(*(self._launch(name, role, place, port) for name in self._workers))
        self._journals = [(place / f"{name}.journal").open("rb", buffering=0) for name in self._workers]
        self._turns = cycle(names)
        await self._await_joined(options.join_within)
        if not await self._until(lambda: self._spawned, SPAWN_S + self.users / options.spawn_rate):
            raise SquallError(self.failure or f"locust did not start its {self.users} users in time")
        self._following = asyncio.create_task(self._follow())

    async def _await_joined(self, within_s: float) -> None:
        """Until all have come that are to join from elsewhere, and keep who they are. Raises SquallError."""
        joined, address = self._joined, f"127.0.0.1:{self._options.port}"
        if not await self._until(lambda: all(one.host for one in joined.values()), within_s):
            came = sum(bool(one.host) for one in joined.values())
            raise SquallError(
                self.failure
                or f"{came} of {len(joined)} workers joined within {format_seconds(within_s)} at {address} (driver "
                f"locust, join); on each of their machines: squall load-worker {address}, through a tunnel to here"
            )
        if joined:
            told = [{"name": name, "host": one.host, "clock_error_ns": one.error_ns} for name, one in joined.items()]
            await asyncio.to_thread((self._ctx.folder / JOINED).write_bytes, msgspec.json.encode(told))

    async def _launch(self, name: str, role: Role, place: Path, master_port: int) -> int:
        """Start a process, and return its port when it has said hello."""
        url, token = self._ctx.endpoint.endpoint()
        journal = place / f"{name}.journal"
        journal.touch()

        def command(port: int) -> Sequence[str]:
            own = self._options.port if self._joined else port
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
                master_port=own if role == "master" else master_port,
                web=self._options.web and role != "worker",
                elsewhere=[*self._joined],
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
        elif isinstance(message, Relayed):
            self._said_elsewhere(message.name, self._from_worker.decode(message.body))
        elif isinstance(message, Lost):
            self._lose(message.name)

    def _said_elsewhere(self, name: str, message: FromWorker) -> None:
        one = self._joined[name]
        if isinstance(message, Ready):
            one.host, one.error_ns = message.host, message.error_ns
        elif isinstance(message, Noted):
            self._record(message.rows, one.given)
        elif isinstance(message, Used):
            self._used[name] = message
            one.given = {event: due_ns for event, due_ns in one.given.items() if event > one.withdrawn}
        elif isinstance(message, Warned):
            self._heard(name, message)

    def _lose(self, name: str) -> None:
        """Nobody knows which of what it was given it has begun, or still begins where it is cut off only."""
        one = self._joined[name]
        self.failure = self.failure or f"the generator was lost: {name}, a worker on {one.host}, does not answer"
        for event, due_ns in one.given.items():
            self._ctx.begun(event, due_ns)
        one.given = {}

    def publish(self, due: Sequence[Publish]) -> None:
        shares: dict[str, list[Due]] = {}
        for event, due_ns, message in due:
            one = Due(event, due_ns, message.type, message.priority.name, message.key, message.payload)
            name = next(self._turns)
            shares.setdefault(name, []).append(one)
            if name in self._joined:
                self._joined[name].given[event] = due_ns
        for name, share in shares.items():
            self._send(name, Publishes(share))

    def withdraw(self) -> None:
        for one in self._joined.values():
            one.withdrawn = max(one.given, default=one.withdrawn)
        for name in (*self._workers, *self._joined):
            self._send(name, Withdraw())

    def _send(self, name: str, message: Publishes | Withdraw | Finish) -> None:
        """To a worker elsewhere by way of the master."""
        told: ToProcess = Relay(name, msgspec.msgpack.encode(message)) if name in self._joined else message
        link = self._links[self._leader if name in self._joined else name]
        if not link.is_closing():
            link.write(frame(told))

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
        for journal in self._journals:
            while rows := journal.read(ROW.size * READ_ROWS):
                whole = len(rows) - len(rows) % ROW.size
                journal.seek(whole - len(rows), 1)
                self._record(rows[:whole], None)
                if whole < len(rows):
                    break

    def _record(self, rows: bytes, given: dict[int, int] | None) -> None:
        """Tell what rows say. given: what is with a worker elsewhere, and is known to have begun from now on."""
        ctx = self._ctx
        for event, at_ns, seq, code, duplicate in ROW.iter_unpack(rows):
            says = SAYS[code]
            if says != "begun":
                ctx.ended(event, at_ns, Outcome(says, None if seq == NO_SEQ else seq, duplicate=bool(duplicate)))
            elif given is None or given.pop(event, None) is not None:  # else it was told when its worker was lost
                ctx.begun(event, at_ns)

    async def describe(self) -> str:
        places = [_processes(self._options.workers)] if self._options.workers else []
        if self._joined:
            hosts = ", ".join(sorted({one.host for one in self._joined.values()}))
            places.append(f"{_processes(len(self._joined))} elsewhere ({hosts})")
        page = f", {self._page}" if self._page else ""
        return f"locust {self._version}: {self.users} users in {' and '.join(places)}{page}"

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
            name,
            self.users,
            self._options.workers + self._options.join,
            used.cpu,
            used.starved,
            self._warning,
            *sums,
            kinds=kinds,
        )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def _answers(one: Counted) -> Answers:
    times = (one.p50_ms / 1e3, one.p95_ms / 1e3, one.p99_ms / 1e3)
    return Answers(one.name, one.requests, one.failures, one.rate, *times)


async def _all(*launches: Coroutine[object, object, object]) -> None:
    """All of them, at once; raises what the first one raised, once none is left that starts."""
    for one in await asyncio.gather(*launches, return_exceptions=True):
        if isinstance(one, BaseException):
            raise one
