"""Light records: what is noted while an event passes. Spans are made of them afterwards, elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from squall.core.delivery import Attempt
from squall.core.errors import StoreError
from squall.core.event import Event
from squall.core.store import Query
from squall.plugins.tracing.context import TraceContext


class Hit(NamedTuple):
    """A fault acted on what is recorded: at which monotonic time, which fault, in which seam."""

    at_ns: int
    fault: str
    seam: str


class Receiver(msgspec.Struct, frozen=True, gc=False):
    """Of whom a delivery is: the subscription, its name or its subscriber's id, and its pattern."""

    id: str
    label: str
    subscriber: str
    pattern: str


class Try(NamedTuple):
    """The store was asked, refused, and was asked again afterwards. Monotonic times."""

    begun_ns: int
    ended_ns: int
    error: BaseException | None


class Published(msgspec.Struct, gc=False):
    """A publish of a sampled event. `context` is its span, `parent` the span it continues. begun_ns and ended_ns are
    the store's; 0 where it was not asked, or has not answered. `tries` came before that. `repeated`: the store had it
    already."""

    event: Event
    context: TraceContext
    parent: str | None
    begun_ns: int = 0
    ended_ns: int = 0
    batch: int = 1
    error: BaseException | None = None
    hits: list[Hit] | None = None
    tries: Sequence[Try] = ()
    repeated: bool = False

    @property
    def refused(self) -> bool:
        """Whether the store surely has not taken it: it may be published again, under the same id."""
        return isinstance(self.error, StoreError) and self.error.outcome == "fail"


class Delivered(msgspec.Struct, gc=False):
    """An attempt. `why` it is kept: None where its event is sampled. `before`: the span of the attempt before this one.
    `redrive`: the span of the redrive that gave its event back.
    refused_ns: when the store refused the settlement; settled_ns: when it took it. `held`: among the slowest so far,
    which only the end of the window decides."""

    attempt: Attempt
    receiver: Receiver
    span: str
    invoked_ns: int
    why: str | None = None
    before: str | None = None
    replayed: bool = False
    settled_ns: int = 0
    refused_ns: list[int] | None = None
    hits: Sequence[Hit] = ()
    held: bool = False
    redrive: str | None = None


class LetGo(msgspec.Struct, gc=False):
    """A sampled event that a subscription, or all of them, did not take."""

    event: Event
    receiver: Receiver | None
    span: str
    at_ns: int
    why: str


class Redrove(msgspec.Struct, gc=False):
    """A dead letter was given back, by whom or from where `origin` says (empty: not told). `why` that is kept: None
    where its event is sampled."""

    event: Event
    receiver: Receiver
    span: str
    at_ns: int
    origin: str
    why: str | None


class Replayed(msgspec.Struct, gc=False):
    """A page of history that was read. `links`: the publishes of those of its events that are traced."""

    query: Query
    context: TraceContext
    parent: str | None
    begun_ns: int
    ended_ns: int
    count: int
    links: list[TraceContext]
    error: BaseException | None = None


Record = Published | Delivered | LetGo | Redrove | Replayed
