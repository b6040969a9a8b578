"""What a store must be: the protocol, its records, and what it promises.

A store takes events in the order of `append`, numbers them with `seq`, and commits in groups. Everything here runs
on the router's event loop; whatever would block belongs in the store's own threads.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, Protocol

from squall.core.argument_checks import check_query
from squall.core.errors import PublishError, SubscriptionError
from squall.core.event import Durability, Event, Priority

DeadReason = Literal["rejected", "overflow", "delivery_limit", "undecodable", "timeout"]


@dataclass(frozen=True)
class Capabilities:
    """What a store promises beyond its protocol: what an acknowledgement is worth, and for how long a caller's own
    event ids are remembered (0: not at all), by the router, or by the store itself, whose append then raises Repeated
    or Conflict; where several routers share the store and each is announced what the others append, how they take turns
    with named subscriptions; and how many events fill it, so that the oldest go (None: it has no such bound)."""

    durability: Durability
    dedupe_window_s: float = 0.0
    turns: Turns | None = None
    dedupes: bool = False
    max_events: int | None = None


class Repeated(PublishError):
    """What a store that recognises ids says of an append: nothing of it was stored, because these ids were stored
    before, each with its seq. The kernel appends the rest; no caller sees it."""

    def __init__(self, seqs: Mapping[str, int]) -> None:
        super().__init__(f"stored before: {', '.join(seqs)}")
        self.seqs = seqs


@dataclass(frozen=True)
class Query:
    """Which stored events; all given conditions must hold. Times are wall nanoseconds, bounds of seq exclusive; own_id
    asks for those whose publisher gave the id. Raises SubscriptionError for a malformed pattern, and ConfigError for
    all else that is wrong."""

    pattern: str | None = None
    source: str | None = None
    correlation_id: str | None = None
    priority: Priority | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    after_seq: int = 0
    before_seq: int | None = None
    seqs: tuple[int, ...] | None = None
    own_id: bool = False
    newest_first: bool = False
    limit: int = 500

    def __post_init__(self) -> None:
        check_query(self)


class Page(NamedTuple):
    """Events in seq order (or newest first), and the seq up to which (down to which) the store was searched.

    A store may stop searching before the limit is reached: go on with after_seq (newest first: before_seq) =
    searched_to, until that is the head (the first seq kept, or after_seq + 1).
    """

    events: Sequence[Event]
    searched_to: int


class Cursor(NamedTuple):
    """How far a durable subscription has settled one priority: all to `high` but `open_seqs` and attempt rows."""

    priority: int
    high: int
    open_seqs: tuple[int, ...] = ()


class AttemptRow(NamedTuple):
    """A delivery that failed and is tried again, or that waits for its time: `attempts` counts those made, and is 0
    then. `due_ns` and `first_ns`, of the first attempt (0: not known), are wall times."""

    seq: int
    attempts: int
    due_ns: int
    error: str
    first_ns: int = 0


class DeadLetter(NamedTuple):
    """An event that a subscription will not be given again, with its original bytes. Times are wall nanoseconds; known
    secrets are scrubbed from `error` and `trace`; `redrives` counts how often it was given back to the subscription,
    `redriven_ns` is when it last was, and 0 while it waits for somebody to do so."""

    event: Event
    subscription_id: str
    subscription: str
    pattern: str
    reason: DeadReason
    attempts: int
    first_ns: int
    last_ns: int
    error_type: str
    error: str
    trace: str
    redrives: int = 0
    redriven_ns: int = 0

    @property
    def traceparent(self) -> str | None:
        """The W3C trace context under which the event was published, where its metadata has one."""
        found = self.event.metadata.get("traceparent")
        return found if isinstance(found, str) else None


class Redrive(NamedTuple):
    """A dead letter that is to be given back, as it was seen: by then it had been given back so many `redrives`.
    durable: it is owed by the store. Times are wall nanoseconds."""

    subscription_id: str
    seq: int
    redrives: int
    durable: bool
    due_ns: int
    now_ns: int


@dataclass(frozen=True)
class DurableSpec:
    """What is stored of a named subscription. `filters` is JSON.

    `id` and `start`, the first owed seq, count for a new one only: one that is stored keeps its own.
    """

    id: str
    name: str
    subscriber_id: str
    pattern: str
    filters: str
    start: int | Literal["new", "earliest"] = "new"
    update: bool = False

    def differs(self, pattern: str, filters: str) -> bool:
        """Whether it is stored with another pattern or filters. Raises SubscriptionError when it may not be updated."""
        if (pattern, filters) == (self.pattern, self.filters):
            return False
        if not self.update:
            raise SubscriptionError(
                f"subscription {self.name!r}: stored with pattern {pattern!r} and filters {filters}, now asked for "
                f"{self.pattern!r} and {self.filters}; give update=True to change it (it then counts from now on), "
                "or another name"
            )
        return True


class Attached(NamedTuple):
    """A named subscription as stored: where it stands and what it still owes. given_up: at most so many events were
    owed to what it was before an update, and are no more."""

    id: str
    from_seq: int
    cursors: Sequence[Cursor]
    attempts: Sequence[AttemptRow]
    given_up: int = 0


@dataclass
class Settlement:
    """What a subscription has settled since it was last asked. A move to the dead letters shares its transaction.
    `unattended_ns` says since when, in wall ns, nobody handles it any more; 0 while somebody does."""

    subscription_id: str
    durable: bool
    cursors: Sequence[Cursor] = ()
    naks: list[AttemptRow] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    cleared: list[int] = field(default_factory=list)
    unattended_ns: int = 0


class Progress(Protocol):
    """A subscription's side of settling: asked for its state when a commit begins, not per event."""

    def take(self) -> Settlement:
        """All that is settled by now and was not taken before."""

    def committed(self, settlement: Settlement, error: Exception | None) -> None:
        """The settlement is stored, or it surely or possibly is not: then it must be given again."""


class Turns(Protocol):
    """Of a store that several routers share: at any time, one of them delivers a named subscription."""

    async def take(self, subscription_id: str) -> tuple[Attached, asyncio.Future[None]]:
        """Returns when it is this router's turn, until it closes the store or falls silent: where the subscription
        stands, and a future that ends with the turn. Then others deliver, and settlements from here do not count and
        are not answered. Raises SubscriptionError when the subscription was ended meanwhile, and StoreError."""

    async def give_up(self, subscription_id: str) -> None:
        """Let another router have the turn at once."""


class StoreCounts(NamedTuple):
    """The store's own sums; dead_letters: those that wait, and were not given back.
    unattended: named subscriptions that nobody has handled for as long as the store minds."""

    events: int
    dead_letters: int
    head_seq: int
    unattended: tuple[str, ...] = ()


class EventStore(Protocol):
    """Events, subscriptions, cursors, attempts and dead letters.

    Errors: StoreError with outcome `fail` when surely nothing was stored, `info` when that is unknown.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it promises. What depends on what is found may be said by `open`, and change later."""

    @property
    def next_seq(self) -> int:
        """The seq that the next appended event gets: greater than all given so far."""

    async def open(self, on_stored: Callable[[Sequence[Event]], None]) -> int:
        """Take the store over; returns the greatest stored seq. Raises StoreFileError.

        on_stored is called on the loop, in seq order, with every event that is appended from now on, as soon as it
        is as durable as `capabilities` says and before the publisher learns of it. What another router stored and
        cannot be decoded is announced without a type, and read then.
        """

    async def close(self) -> None:
        """Commit what waits, then let go. Idempotent."""

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        """Number the events in this order and store all or none. Returns None when that is already done and
        on_stored was called, else an awaitable that ends when it is, or raises StoreError; append itself may raise it
        too. With `dedupes`, raises Repeated and Conflict by what is `given` with events. Cancelling the awaitable does
        not take the events back."""

    def settle(self, progress: Progress) -> None:
        """Ask progress for its settlement with the next commit (at the latest within 20 ms), then tell it the result;
        neither within this call."""

    async def attach(self, spec: DurableSpec) -> Attached:
        """Create the named subscription or take it up again. Raises SubscriptionError when its pattern or filters
        changed and `update` is not set; with it they count from the current head."""

    async def detach(self, subscription_id: str) -> None:
        """End a named subscription: nothing after the current head is owed to it; its cursors and attempts go."""

    async def read(self, query: Query) -> Page:
        """Stored events, at most query.limit of them. Raises StoreError, and core.quarantine.Undecodable at the first
        in the query's order that cannot be decoded: subscriptions put it into their dead letters, and read on."""

    async def dead_letters(self, subscription: str | None = None, after: int = 0, limit: int = 500) -> list[DeadLetter]:
        """Dead letters in the order of their arrival, from the after-th on; `subscription` is an id or a name. Those
        that were given back stay among them."""

    async def redrive(self, wanted: Sequence[Redrive]) -> list[Redrive]:
        """Mark these dead letters as given back, and of durable ones owe each event to its subscription again, as an
        attempt row of no attempts: in one transaction. Returns those that were: not what was given back since it was
        seen, nor what a subscription that has ended, or that another router delivers, was owed. A letter of a later
        failure takes the place of the one given back, keeps its redrives, and waits again."""

    async def counts(self) -> StoreCounts:
        """The store's own sums, counted, not remembered."""
