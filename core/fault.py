"""Faults and the seams in which they act: what a fault plugin implements, and what a target offers it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from random import Random
from typing import ClassVar, NamedTuple, Protocol

from pydantic import JsonValue

from squall.core.clock import Clock
from squall.core.event import Event
from squall.core.options import Options

Act = Callable[[list[bytes]], Awaitable[None]]
"""What a fault does to a call. It is given the payloads of the call's events, and may put others in their place."""

Undo = Mapping[str, JsonValue]
"""What takes a fault back, as data: it is on disk before the fault acts, and outlives whoever began it."""

watcher: ContextVar[Callable[[Sequence[Event], str, str], None] | None] = ContextVar("watcher", default=None)
"""Who watches what runs here, a tracer: called with the events of a call that a fault has acted on, the fault's name,
and its seam's."""

passing: ContextVar[Sequence[Event]] = ContextVar("passing", default=())
"""The events of the call that runs here: said by whoever lets it pass a seam, so that faults need not know."""


def told_of(fault: str, seam: str) -> None:
    """A fault of this name has acted on the call that runs now: who watches it is told."""
    if (tell := watcher.get()) is not None:
        tell(passing.get(), fault, seam)


class Seam:
    """A place that faults act in. Where calls pass through it, a fault that stands in it is awaited by each before the
    call goes on: it may wait, raise, or change payloads. `passes` counts the calls.

    A seam is called `<prefix>:<name>`; the prefix is the class's name in lower case where the class says no other."""

    prefix: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        cls.prefix = cls.prefix or cls.__name__.lower()

    def __init__(self, name: str) -> None:
        self.name = name
        self.passes = 0
        self.acts: list[Act] = []

    async def run(self, payloads: list[bytes]) -> None:
        """Let a call pass: awaits every fault that stands here now. Skip it where `acts` is empty, but count."""
        for act in tuple(self.acts):
            await act(payloads)


class Handler(Seam):
    """The call of a subscriber's handler, named `handler:<subscriber>`."""


class Storage(Seam):
    """An append or a settlement on its way to the store, named `storage:events`. A settlement has no payloads."""


class Network(Seam):
    """Connections from one part to another, named `net:<name>`. A proxy stands there: whoever connects to `host` and
    `port` instead of the other part itself, passes the faults."""

    prefix = "net"

    def __init__(self, name: str, host: str, port: int) -> None:
        super().__init__(name)
        self.host, self.port = host, port


class Process(Seam):
    """A process that the run has started, named `process:<name>`. Nothing else is ever signalled.

    Each call returns when what it says is so. Raises SquallError where it cannot be. A fault holds `turn` from before
    it takes the process until it has brought it back."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.turn = asyncio.Lock()

    @property
    def pid(self) -> int | None:
        """The process that is there now; None while there is none."""
        raise NotImplementedError

    async def answers(self) -> bool:
        """Whether it answers just now."""
        raise NotImplementedError

    async def kill(self) -> None:
        """End it at once, as `kill -9`."""
        raise NotImplementedError

    async def end(self, within_s: float) -> None:
        """Tell it to end (SIGTERM), and wait for that."""
        raise NotImplementedError

    async def suspend(self) -> None:
        """Let it stand still (SIGSTOP): connections stay, nothing is done."""
        raise NotImplementedError

    async def resume(self) -> None:
        """Let it go on (SIGCONT), until it answers."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start it again, at its port and with what it kept, until it answers."""
        raise NotImplementedError


class Keep(Protocol):
    """Writes to disk what takes a proxy away, for whoever finds it when the run is gone."""

    def __call__(self, fault: type[Fault], undo: Undo) -> None:
        """That fault's `heal` does, with this. Raises SquallError."""


class Proxies(Protocol):
    """Who puts proxies before what a target connects to, for the faults of a run."""

    async def between(self, name: str, host: str, port: int, keep: Keep) -> Network:
        """Put one before host and port; `name` is the seam's, `net:redis`. One that would outlive the bench's process
        is put once `keep` has been called. Raises SquallError."""

    async def close(self) -> None:
        """The run is over: take all of them away."""


class Hit(Protocol):
    """Counts what a fault acted on."""

    def __call__(self, payload: bytes | None = None) -> None:
        """A call; where one event of several was changed, that event, by the payload that it had."""


@dataclass(frozen=True)
class FaultContext:
    """What the runner gives a fault: time, randomness of its own, and `bites()`, which says with the fault's
    probability and seed whether it acts on this call. `hit()` counts a call that it acted on. `undo` is its own plan,
    which is on disk by now."""

    clock: Clock
    random: Random
    bites: Callable[[], bool]
    hit: Hit
    undo: Undo | None = None


class Evidence(NamedTuple):
    """Did it bite? Counts that only grow: what has passed the seam, and what of it the fault has acted on. The runner
    asks before the fault begins and before it ends, and takes the difference."""

    passes: int
    bitten: int


class Fault(Options):
    """A kind of fault; its fields are its options in a scenario.

    `kind` is the seam class it acts in, `name` what a scenario's `do` says. A fault that dies with the bench's process
    overrides `inject` alone. One that acts outside of it overrides `plan`, `start`, `evidence` and `heal`: it is begun
    when its plan is on disk, and healed once, whatever happens to the run. `per_call` False: it does not act on calls
    one by one, so a scenario cannot give it a probability.
    """

    kind: ClassVar[type[Seam]]
    name: ClassVar[str]
    per_call: ClassVar[bool] = True
    heal_s: ClassVar[float] = 30.0

    def plan(self, seam: Seam) -> Undo | None:
        """What `heal` will need to take the fault back; None where it dies with the process."""
        return None

    def inject(self, seam: Seam, ctx: FaultContext) -> AbstractAsyncContextManager[None]:
        """Entered: the fault acts. Left: it is gone. Each call it acts on is counted by ctx.hit()."""
        return self._outside(seam, ctx)

    @asynccontextmanager
    async def _outside(self, seam: Seam, ctx: FaultContext) -> AsyncIterator[None]:
        try:
            await self.start(seam, ctx)
            yield
        finally:
            await self.heal(ctx.undo or {})

    async def start(self, seam: Seam, ctx: FaultContext) -> None:
        """Make the fault act. Whatever it raises, `heal` follows."""
        raise NotImplementedError

    async def evidence(self, seam: Seam) -> Evidence:
        """How much has passed, and was acted on, by now. What ctx.hit() counts is added to it."""
        return Evidence(seam.passes, 0)

    @classmethod
    async def heal(cls, undo: Undo) -> None:
        """Take back what the plan says. It may be called again, from any process, and when nothing was done yet."""
        raise NotImplementedError
