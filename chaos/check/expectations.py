"""What a scenario may expect: a model for each invariant, whose fields are its options in the file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, model_validator

from squall.core.invariant import Expectation as Expectation  # noqa: PLC0414  looked for here, beside its kinds
from squall.core.units import Bytes, Ratio, Seconds

Window = Literal["all", "outside-faults", "inside-faults"]


class Measured(Expectation):
    """A threshold, over a window; of each of `subscribers`, or of all together. It can be expected of the steady phase
    too."""

    window: Window = "all"
    subscribers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None


class NoLoss(Expectation):
    """Every acknowledged event that is owed to a subscriber ends: handled, dead-lettered, expired or cancelled."""

    name = "no_loss"


class NoPhantom(Expectation):
    """Nothing is delivered that was not published, or before it was."""

    name = "no_phantom"


class NoGhost(Expectation):
    """Nothing is delivered whose every publish failed."""

    name = "no_ghost"


class NoStray(Expectation):
    """Nothing is delivered to a subscriber whose pattern and filters do not match it."""

    name = "no_stray"


class Intact(Expectation):
    """Events arrive as they were published: payload, type, priority and key."""

    name = "intact"


class Atomic(Expectation):
    """A batch is stored whole or not at all."""

    name = "atomic"


class Duplicates(Expectation):
    """At most `max_ratio` of the first deliveries are followed by one that nothing explains."""

    name = "duplicates"
    max_ratio: Ratio = 0.0


class Order(Expectation):
    """Events of a key and priority are first delivered in the order in which they were published."""

    name = "order"
    by: Literal["key"] = "key"


class Overlap(Expectation):
    """No two events of a key are handled at once."""

    name = "overlap"


class UniqueSeq(Expectation):
    """No two events share a seq, and each is delivered with the seq that it was acknowledged with."""

    name = "unique_seq"


class SeqOrder(Expectation):
    """An event published after another was acknowledged gets a greater seq."""

    name = "seq_order"


class OneTerminal(Expectation):
    """An event ends once for each subscriber."""

    name = "one_terminal"


class MaxAttempts(Expectation):
    """No event is tried more often than its subscriber allows."""

    name = "max_attempts"


class Conservation(Expectation):
    """What is owed is handled, dead-lettered, expired, cancelled, or counted as pending by the target itself."""

    name = "conservation"


class Starvation(Expectation):
    """A waiting priority is passed over at most `bounds` times (CRITICAL, HIGH, NORMAL, LOW).

    `pipeline` bounds the time from an acknowledgement until the event waits in its subscriber's queue.
    """

    name = "starvation"
    bounds: tuple[int, int, int, int] = (7, 8, 11, 18)
    pipeline: Seconds = 0.25


class Recovery(Expectation):
    """Within `within` of a fault's end no event older than `age` waits. `of` names it; without, the last fault's."""

    name = "recovery"
    fault: str | None = Field(default=None, alias="of")
    within: Annotated[Seconds, Field(gt=0)]
    age: Annotated[Seconds, Field(gt=0)] = 2.0


class Latency(Measured):
    """From when an event was to be sent, or its subscriber joined if later, until a handler has ended well. What is
    never handled counts as infinite."""

    name = "latency"
    p50: Seconds | None = None
    p90: Seconds | None = None
    p95: Seconds | None = None
    p99: Seconds | None = None
    p999: Seconds | None = None
    max: Seconds | None = None

    @model_validator(mode="after")
    def _has_a_limit(self) -> Latency:
        if not self.limits:
            raise ValueError("latency needs a bound, such as p99: 200ms")
        return self

    @property
    def limits(self) -> Mapping[str, float]:
        """Seconds by quantile name, as far as given."""
        found = {name: getattr(self, name) for name in QUANTILES}
        return {name: limit for name, limit in found.items() if limit is not None}


QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999, "max": 1.0}


class Throughput(Measured):
    """At least `min` events per second: acknowledged, or handled by each of `subscribers`, on average over the load."""

    name = "throughput"
    min: Annotated[float, Field(gt=0)]


class ErrorBudget(Measured):
    """At most `max_ratio` of the publishes are not acknowledged, or of the attempts of each of `subscribers` fail."""

    name = "error_budget"
    max_ratio: Ratio


class Growth(Expectation):
    """While the load goes on, its target does not come to hold ever more memory, objects, handles, threads or tasks."""

    name = "growth"
    memory: Bytes = Field(default=20, description="bytes of memory that each event may leave behind")
    objects: Annotated[float, Field(ge=0)] = Field(
        default=0.1, description="blocks of Python's memory that each event may leave behind"
    )
    counts: Annotated[int, Field(ge=0)] = Field(
        default=8, description="how many more handles, threads or tasks there may be at the end of the load"
    )
    store: Bytes | None = Field(
        default=None, description="bytes of its files that each event may leave behind; none: it is only told"
    )


EXPECTATIONS: Mapping[str, type[Expectation]] = {
    kind.name: kind
    for kind in (
        NoLoss,
        NoPhantom,
        NoGhost,
        NoStray,
        Intact,
        Atomic,
        Duplicates,
        Order,
        Overlap,
        UniqueSeq,
        SeqOrder,
        OneTerminal,
        MaxAttempts,
        Conservation,
        Starvation,
        Recovery,
        Latency,
        Throughput,
        ErrorBudget,
        Growth,
    )
}
"""Every invariant of squall's own that a scenario may expect, by the name that stands under `expect:`."""
