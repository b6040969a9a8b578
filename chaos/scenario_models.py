"""The sections of a scenario file as models: what may be written, and what it means where it is left out.

Three lists are only known as lists here, since what their entries may hold depends on what is installed: `plugins`
(squall.core.config), `faults` (scenario_faults) and `expect` (scenario_expect).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from squall.chaos.message import HEADER_BYTES
from squall.core.config import PluginList
from squall.core.errors import SquallError
from squall.core.event import MAX_PAYLOAD_BYTES, Priority
from squall.core.filters import Filter, PriorityName
from squall.core.options import Options
from squall.core.patterns import check_pattern, check_type
from squall.core.subscription import OverflowPolicy
from squall.core.target import SubscriberSpec
from squall.core.units import Bytes, Ratio, Seconds

MAX_RATE = 1_000_000
MAX_BURST = 10_000_000
MAX_STAGE_S = 86_400.0
MAX_BATCH = 1000
MAX_KEYS = 1_000_000
MAX_CONCURRENCY = 10_000
MAX_SEED = 2**63 - 1


def _fits(pattern: str, what: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise PydanticCustomError("expected", "expected {what}", {"what": what})
        return text

    return AfterValidator(check)


def _pattern(text: str) -> str:
    if not text.strip():
        raise ValueError("expected a pattern such as order.>; the pattern > alone must be quoted: '>'")
    try:
        return check_pattern(text)
    except SquallError as error:
        raise ValueError(str(error).removeprefix("pattern: ")) from error


def _event_type(text: str) -> str:
    try:
        return check_type(text)
    except SquallError as error:
        raise ValueError(str(error).removeprefix("event_type: ")) from error


def _compiles(given: Filter) -> Filter:
    try:
        given.compile()
    except SquallError as error:
        raise ValueError(str(error)) from error
    return given


Id = Annotated[str, _fits(r"[a-z0-9-]{1,64}", "1 to 64 of a-z, 0-9 and -")]
"""The name of a scenario or a fault; it becomes part of file names."""

Name = Annotated[str, _fits(r"[A-Za-z0-9_-]{1,64}", "1 to 64 of letters, digits, _ and -")]
"""The name of a subscriber."""

VariableName = Annotated[str, _fits(r"[A-Za-z_][A-Za-z0-9_]{0,63}", "a name of letters, digits and _")]
Pattern = Annotated[str, AfterValidator(_pattern)]
EventType = Annotated[str, AfterValidator(_event_type)]
Duration = Annotated[Seconds, Field(gt=0, le=MAX_STAGE_S)]
Rate = Annotated[float, Field(ge=0, le=MAX_RATE)]


class HandlerSection(Options):
    """What handles a subscriber's events: the bench's own handler, after `latency`, or the operator's code `call`."""

    noun: ClassVar[str] = "a handler"

    latency: Seconds | None = None
    call: Annotated[str, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.latency is not None and self.call is not None:
            raise ValueError("a handler has a latency or calls code, not both")
        return self


class Subscriber(Options):
    """A subscriber of the scenario. join and leave count from the start of the load; None: from set up, to the end."""

    noun: ClassVar[str] = "a subscriber"

    pattern: Pattern
    durable: bool = False
    concurrency: Annotated[int, Field(ge=1, le=MAX_CONCURRENCY)] = 1
    timeout: Duration = 30.0
    handler: HandlerSection = HandlerSection()
    join: Seconds | None = None
    leave: Seconds | None = None
    delivery: Literal["at-least-once", "at-most-once"] = "at-least-once"
    start: Annotated[int, Field(ge=1)] | Literal["new", "earliest"] = "new"
    priority_min: PriorityName | None = None
    filters: tuple[Annotated[Filter, AfterValidator(_compiles)], ...] = ()
    in_flight: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    overflow: OverflowPolicy | None = Field(
        default=None, description="what a full queue does; none: as the backlog of squall.yaml says"
    )
    on_retry: Literal["skip", "block_key"] = "skip"

    def spec(self, name: str) -> SubscriberSpec:
        """What a target is asked for."""
        return SubscriberSpec(
            name=name,
            pattern=self.pattern,
            durable=self.durable,
            concurrency=self.concurrency,
            timeout_s=self.timeout,
            delivery=self.delivery,
            start=self.start,
            in_flight=self.in_flight,
            on_retry=self.on_retry,
            priority_min=self.priority_min,
            filters=self.filters,
            overflow=self.overflow,
        )


class Stage(Options):
    """A part of the load: `rate` events per second `for` a while (growing or falling evenly `to` another rate), or a
    `burst` of events at once; one by one, or so many as a `batch`."""

    noun: ClassVar[str] = "a stage"

    duration: Duration | None = Field(default=None, alias="for")
    rate: Rate | None = None
    to: Rate | None = None
    burst: Annotated[int, Field(ge=1, le=MAX_BURST)] | None = None
    batch: Annotated[int, Field(ge=1, le=MAX_BATCH)] | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        timed = (self.duration, self.rate, self.to)
        if self.burst is not None and timed != (None, None, None):
            raise ValueError("a stage is a burst, or has a rate for a while, not both")
        if self.burst is None and (self.duration is None or self.rate is None):
            raise ValueError("a stage needs 'for' and 'rate', or 'burst'")
        return self

    @property
    def seconds(self) -> float:
        """How long it takes; a burst takes no time."""
        return self.duration or 0.0

    @property
    def peak(self) -> float:
        """The highest rate, events per second; 0 of a burst."""
        return max(self.rate or 0.0, self.to or 0.0)

    @property
    def events(self) -> int:
        """How many events it publishes."""
        if self.burst is not None:
            return self.burst
        rate = self.rate or 0.0
        return round((rate + (rate if self.to is None else self.to)) / 2 * self.seconds)


class KeySection(Options):
    """Keys of a kind of event: each event takes one of `count`."""

    noun: ClassVar[str] = "a key"

    count: Annotated[int, Field(ge=1, le=MAX_KEYS)]


class EventSection(Options):
    """A kind of event in the load; weights are shares of all events. size in bytes, of the payload."""

    noun: ClassVar[str] = "an event"

    type: EventType
    weight: Annotated[float, Field(ge=0, le=1_000_000)] = 1.0
    priority: PriorityName = Field(default=Priority.NORMAL, json_schema_extra={"default": "NORMAL"})
    key: KeySection | None = None
    size: Annotated[Bytes, Field(ge=HEADER_BYTES, le=MAX_PAYLOAD_BYTES)] = 200


_DRIVER = WithJsonSchema(
    {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": {"type": ["object", "null"]},
            },
        ],
        "description": "who publishes: a name, or a name with options; none: the bench's own process",
    }
)


class Load(Options):
    """What is published: stages one after the other, events drawn by weight."""

    noun: ClassVar[str] = "the load"

    driver: Annotated[Any, _DRIVER] = None
    stages: Annotated[tuple[Stage, ...], Field(min_length=1, max_length=1000)]
    events: Annotated[tuple[EventSection, ...], Field(min_length=1, max_length=1000)]

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def total(self) -> int:
        """How many events are published in all."""
        return sum(stage.events for stage in self.stages)


ExpectList = Annotated[tuple[Any, ...], Field(description="what must hold: a name, or a name with options")]


class SteadySection(Options):
    """What must hold, before any fault, at the first stage's rate; else the verdict is unknown."""

    noun: ClassVar[str] = "the steady phase"

    duration: Duration = Field(alias="for")
    expect: ExpectList = ()


class Abort(Options):
    """Stop the load when the share of failing publishes stays above publish_errors for so long."""

    noun: ClassVar[str] = "abort"

    publish_errors: Annotated[Ratio, Field(gt=0)]
    duration: Duration = Field(alias="for")


class DrainSection(Options):
    """How long to wait for what is pending, after everything is healed: in all, and without any progress."""

    noun: ClassVar[str] = "the drain"

    limit: Duration | None = None
    stall: Duration | None = None


class FaultSection(Options):
    """One fault; further keys are options of its kind. at counts from the start of the load; without `for` it lasts
    to the load's end."""

    model_config = ConfigDict(extra="allow")
    noun: ClassVar[str] = "a fault"

    id: Id
    at: Seconds
    duration: Duration | None = Field(default=None, alias="for")
    do: Annotated[str, Field(min_length=1, description="the kind of fault")]
    on: Annotated[str, Field(min_length=3, description="where: kind:name, such as handler:billing")]
    probability: Annotated[Ratio, Field(gt=0)] = 1.0


class RandomChoice(Options):
    """A fault that a random schedule may choose; further keys are options of its kind."""

    model_config = ConfigDict(extra="allow")
    noun: ClassVar[str] = "a random fault"

    do: Annotated[str, Field(min_length=1)]
    on: Annotated[str, Field(min_length=3)]
    probability: Annotated[Ratio, Field(gt=0)] = 1.0


class RandomSection(Options):
    """A schedule drawn from the scenario's seed: `count` faults, each one of `of`, within `between`, lasting `for`
    (both a pair, least and most). Their ids are this id with a number."""

    noun: ClassVar[str] = "a random schedule"

    id: Id = "random"
    count: Annotated[int, Field(ge=1, le=100)]
    between: tuple[Seconds, Seconds]
    duration: tuple[Duration, Duration] = Field(alias="for")
    choices: Annotated[tuple[RandomChoice, ...], Field(min_length=1)] = Field(alias="of")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.duration[0] > self.duration[1]:
            raise ValueError("'for' gives the shortest duration first, then the longest")
        if self.between[1] - self.between[0] < self.duration[1]:
            raise ValueError("'between' is shorter than the longest duration in 'for'")
        return self


class RandomEntry(Options):
    """An entry of the fault list that stands for several."""

    noun: ClassVar[str] = "an entry of random faults"

    random: RandomSection


class RedisSection(Options):
    """A Redis of the run's own."""

    noun: ClassVar[str] = "a redis"

    appendonly: Annotated[
        bool, Field(description="it keeps what it was given on disk; false: it forgets everything when it ends")
    ] = True
    appendfsync: Annotated[
        Literal["always", "everysec", "no"], Field(description="when what it was given is on disk")
    ] = "always"


class Neo4jSection(Options):
    """A Neo4j of the run's own, without logins."""

    noun: ClassVar[str] = "a neo4j"


class ServersSection(Options):
    """Servers that the bench starts for the run, at free ports of loopback, and ends with it."""

    noun: ClassVar[str] = "the servers"

    redis: RedisSection | None = None
    neo4j: Neo4jSection | None = None


class ScenarioFile(Options):
    """A scenario file as a whole."""

    noun: ClassVar[str] = "a scenario"

    version: Literal[1]
    name: Id
    about: str = ""
    seed: Annotated[int, Field(ge=0, le=MAX_SEED)] = 1
    vars: dict[VariableName, bool | int | float | str] = Field(default_factory=dict)
    target: Annotated[str, Field(min_length=1)] = "in-process"
    plugins: PluginList = ()
    servers: ServersSection = ServersSection()
    subscribers: Annotated[dict[Name, Subscriber], Field(min_length=1, max_length=1000)]
    steady: SteadySection | None = None
    load: Load
    faults: tuple[dict[str, Any], ...] = ()
    abort: Abort | None = None
    drain: DrainSection = DrainSection()
    expect: ExpectList | None = None
