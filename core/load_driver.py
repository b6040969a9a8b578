"""Who publishes a load instead of the bench's own tasks: the LoadDriver protocol and what passes through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from squall.core.clock import Clock
from squall.core.options import Options
from squall.core.target import Endpoint, Launch, Message, Outcome


class Publish(NamedTuple):
    """One publish of the load: the run-wide number of its event, when it is due (monotonic ns), and what is sent."""

    event: int
    due_ns: int
    message: Message


class Answers(NamedTuple):
    """What a driver counted of one kind of request: answers, failures among them, rate per second, percentiles in
    seconds from when a request was sent."""

    name: str
    requests: int
    failures: int
    rate: float
    p50_s: float
    p95_s: float
    p99_s: float


@dataclass(frozen=True)
class Generated:
    """What a driver says of itself when a run is over.

    users: how many published at once, in so many processes. cpu and starved: of the process that wanted most of it,
    over the load: the share of one processor that it used, and of the time that it waited for one, where that is known.
    warning: what it complains of itself. requests, failures, rate and percentiles are by its own count, as Answers have
    them: of all, and `kinds` of each kind.
    """

    driver: str
    users: int
    processes: int
    cpu: float
    starved: float
    warning: str
    requests: int
    failures: int
    rate: float
    p50_s: float
    p95_s: float
    p99_s: float
    kinds: tuple[Answers, ...] = ()


@dataclass(frozen=True)
class LoadContext:
    """What a driver starts with. `folder` is its own in the run's folder, for what it wants to keep; `launch` starts
    its processes, which end with the run; `endpoint` is where the target takes events.

    Of each publish it tells when it is `begun` (event, monotonic ns), and of each that has begun how it `ended` (event,
    monotonic ns, outcome). What is begun must be told even if whoever sent it is killed at once.
    """

    clock: Clock
    folder: Path
    endpoint: Endpoint
    launch: Launch
    begun: Callable[[int, int], None]
    ended: Callable[[int, int, Outcome], None]


class LoadDriver(Protocol):
    """Publishes when it is told to; what is published when, and what is recorded of it, is the bench's. Made with its
    options, of the model that `squall_load_drivers` names for it; it raises ConfigError where it lacks something."""

    users: int
    """How many publishes may be under way at once."""
    failure: str
    """Why it cannot go on; empty as long as it can."""

    async def start(self, ctx: LoadContext) -> None:
        """Return when it can publish without delay. Raises SquallError."""

    def publish(self, due: Sequence[Publish]) -> None:
        """Take these, in the order in which they are due, a little ahead of it."""

    def withdraw(self) -> None:
        """What was taken and not begun is not to be sent any more."""

    async def describe(self) -> str:
        """One line for people."""

    async def stop(self) -> Generated | None:
        """Tell all that was begun and ended, and what was generated; None where that is lost. Called once."""


class LoadDriverKind(NamedTuple):
    """A kind of driver: the model of its section in a scenario, and what makes one of it."""

    options: type[Options]
    make: Callable[..., LoadDriver]
