"""What a system under test must offer to be judged: the Target protocol and what passes through it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple, Protocol, runtime_checkable

from squall.core.api import EventSubscriber
from squall.core.clock import Clock
from squall.core.config import Config, PluginSection
from squall.core.errors import SquallError
from squall.core.event import Durability, Priority
from squall.core.fault import Process, Seam
from squall.core.filters import Filter
from squall.core.options import Options
from squall.core.subscription import EventHandler, OverflowPolicy


@dataclass(frozen=True)
class Claims:
    """What a target promises, and so what is judged even where a scenario expects nothing.

    `order` is the scope in which deliveries keep their order. `longest_delay_s` is the greatest legal wait before a
    redelivery: a stall or drain limit below it would judge too early. `lease_s` None: no lease ever runs out. `kept_by`
    names the server (`redis`, `serve`) that keeps what is acknowledged: with its process goes what `memory` keeps.
    `publish_path` names the seams that a publish passes until it is acknowledged (`net:redis`, `process:redis`), so
    that no other fault is blamed for what happens to it; None: it is not told. So many `max_events` fill its store;
    None: it has no such bound, or nobody knows.
    """

    delivery: Literal["at-most-once", "at-least-once"] = "at-least-once"
    order: Literal["none", "key"] = "key"
    durability: Durability = "memory"
    lease_s: float | None = None
    longest_delay_s: float = 0.0
    seq_scope: str | None = "store"
    max_attempts: int | None = None
    kept_by: str | None = None
    publish_path: tuple[str, ...] | None = None
    max_events: int | None = None


class Message(NamedTuple):
    """What the bench publishes. `payload` begins with the bench's own header, which identifies the event."""

    type: str
    payload: bytes
    priority: Priority
    key: str | None


class Outcome(NamedTuple):
    """How a publish ended: ok (with seq where there is one), fail (surely not stored), info (unknown)."""

    state: Literal["ok", "fail", "info"]
    seq: int | None = None
    why: str = ""
    duplicate: bool = False


@dataclass(frozen=True)
class SubscriberSpec:
    """A subscriber of a scenario. Durations in seconds; `start` is new, earliest or a seq; `overflow` None: as the
    target's own configuration says."""

    name: str
    pattern: str
    durable: bool = False
    concurrency: int = 1
    timeout_s: float = 30.0
    delivery: Literal["at-least-once", "at-most-once"] = "at-least-once"
    start: int | Literal["new", "earliest"] = "new"
    in_flight: int = 1000
    on_retry: Literal["skip", "block_key"] = "skip"
    priority_min: Priority | None = None
    filters: Sequence[Filter] = ()
    overflow: OverflowPolicy | None = None

    async def subscribe(self, subscriber: EventSubscriber, handler: EventHandler) -> str:
        """Subscribe as it says, at a router; returns the subscription's id. A durable one has the subscriber's name.
        Raises SubscriptionError."""
        return await subscriber.subscribe(
            self.pattern,
            handler,
            list(self.filters),
            self.priority_min,
            name=self.name if self.durable else None,
            delivery=self.delivery,
            start=self.start,
            concurrency=self.concurrency,
            timeout_s=self.timeout_s,
            in_flight=self.in_flight,
            overflow=self.overflow,
            on_retry=self.on_retry,
        )


class Received(NamedTuple):
    """One delivery, as the target hands it over; None where it does not say. `attempt` counts from 1."""

    payload: bytes
    seq: int | None = None
    key: str | None = None
    priority: int | None = None
    attempt: int | None = None
    worker: int = 0
    type: str | None = None


Settlement = Literal["ack", "nak", "term"]


class Terminal(NamedTuple):
    """An event that a subscription is done with other than by a handler, as the target itself lists it."""

    payload: bytes
    subscriber: str
    state: Literal["dead_lettered", "expired", "cancelled"]
    source: str


class Sink(Protocol):
    """Where a target brings what it does to one subscriber."""

    async def deliver(self, received: Received) -> None:
        """The handler. Returning is success; what it raises is the handler's failure and must be treated as such."""

    def settling(self, payloads: Sequence[bytes], settlement: Settlement, invoked_ns: int) -> None:
        """The target asks for these deliveries to be settled; invoked_ns by the recorder's clock."""

    def settled(self, payloads: Sequence[bytes], ok_ns: int, answer: Literal["ok", "refused", "lost"] = "ok") -> None:
        """The settlements that were asked for last for these were answered; or are `lost`: no answer will come, and
        nobody knows whether they count. Lost and without payloads: all that have no answer yet."""

    def gate_changed(self, gate: str, state: str) -> None:
        """A gate of the subscription is in another state, named as a breaker's: open holds all deliveries back."""


class Handle(NamedTuple):
    """A subscription in being: from which seq it is owed events, where the target knows."""

    id: str
    from_seq: int | None = None


class SubscriberCounts(NamedTuple):
    """The target's own sums for one subscriber; None where it keeps none."""

    owed: int | None
    acked: int | None
    dead_lettered: int | None
    expired: int | None
    cancelled: int | None
    pending: int | None


class Counters(NamedTuple):
    """The target's own sums."""

    stored: int | None
    subscribers: Mapping[str, SubscriberCounts]


Detour = Callable[[str, str, int], Awaitable[tuple[str, int]]]
"""Where to connect to instead: from a name such as `redis`, and the host and port that it is really at."""


async def straight(name: str, host: str, port: int) -> tuple[str, int]:
    """The detour that is none."""
    return host, port


class Program(NamedTuple):
    """A server that a target brings along. command: of the port of loopback that it is to listen at. answers: whether
    it does, asked in a thread again and again. environment: over the bench's own."""

    name: str
    command: Callable[[int], Sequence[str]]
    answers: Callable[[int], bool]
    environment: Mapping[str, str]


class Launched(NamedTuple):
    """A program that runs, and answers. It stays at this port, whoever ends and starts it."""

    process: Process
    host: str
    port: int


Launch = Callable[[Program], Awaitable[Launched]]
"""Starts a program as a child process, which does not outlive the run. Raises SquallError."""


async def no_launch(program: Program) -> Launched:
    """Where there is no bench that starts processes."""
    raise SquallError(f"nobody is there to start {program.name}")


@dataclass(frozen=True)
class RunContext:
    """What a target starts with. `folder` is the run's own, `config` the operator's, `plugins` the scenario's.
    `options` are the operator's for this target, of the class's own model.

    A target whose parts talk over a network awaits `detour(name, host, port)` for each connection that faults may act
    on, while it starts, and connects to what that returns: a proxy at the seam `net:<name>` where the scenario has
    faults there, else the address itself. Such seams are the bench's own: `seams()` need not name them.

    `subscribers` are the names of all that will come: who gives each a connection of its own can ask for its detour,
    though it joins later.

    `servers` are those that the scenario has the bench start, by kind (`redis`, `neo4j`): host and port. A target that
    brings a server along has it started by `launch`: faults may then act on `process:<name>`.
    """

    clock: Clock
    random: Random
    folder: Path
    config: Config
    plugins: Sequence[PluginSection] = ()
    detour: Detour = straight
    servers: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    launch: Launch = no_launch
    options: Options | None = None
    subscribers: Sequence[str] = ()


@runtime_checkable
class Batches(Protocol):
    """What a target has besides that publishes batches, each all or none: a stage with `batch` asks for it."""

    async def publish_batch(self, messages: Sequence[Message]) -> Sequence[Outcome]:
        """Publish the messages as one; an outcome of each, in their order. Never raises for what the target answers."""


@runtime_checkable
class Endpoint(Protocol):
    """What a target has besides that takes CloudEvents over HTTP, at `/v1/events`: drivers of load publish there."""

    def endpoint(self) -> tuple[str, str]:
        """Its URL, without a path, and the bearer token; once it has started."""


class Target(Protocol):
    """A system under test. Made without arguments; `claims` holds from `start` on."""

    claims: Claims

    async def start(self, ctx: RunContext) -> None: ...

    async def publish(self, message: Message) -> Outcome:
        """Publish one message; never raises for what the target answers."""

    async def subscribe(self, spec: SubscriberSpec, sink: Sink) -> Handle: ...

    async def unsubscribe(self, handle: Handle) -> int | None:
        """End the subscription; the seq from which it is owed nothing, where known."""

    async def counters(self) -> Counters: ...

    async def terminals(self) -> Sequence[Terminal]:
        """Every dead letter, expiry and cancellation that the target has by now."""

    def seams(self) -> Mapping[str, Seam]:
        """Where faults may take hold, by name."""

    async def describe(self) -> str:
        """One line for people: what was composed."""

    async def stop(self) -> None: ...
