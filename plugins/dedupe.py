"""Dedupe: a subscription's handler is not called again for what it has ended well with before."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from hashlib import blake2b
from typing import Annotated, ClassVar

import msgspec
from pydantic import Field

from squall.core.clock import Clock
from squall.core.delivery import Ack, Attempts, Observer, SubscriptionChange
from squall.core.event import Event
from squall.core.middleware import Middleware, Next, around
from squall.core.options import Options as BaseOptions
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.subscription import Subscription
from squall.core.units import Seconds

Key = str | bytes
"""What a repetition is told by: an event's id, or 16 bytes of its type and its entry of metadata."""


class DedupeOptions(BaseOptions):
    """By what repetitions are told, and for how long and how many."""

    noun: ClassVar[str] = "dedupe"

    key: Annotated[
        Annotated[str, Field(min_length=1)] | None,
        Field(
            description="the entry of an event's metadata that says what it does: events of one type with the same one "
            "are repetitions; none, and for events without it: the event's id"
        ),
    ] = None
    window: Annotated[Seconds, Field(gt=0, description="remembered for so long after its handler ended well")] = 3600.0
    max_events: Annotated[
        int, Field(ge=1, description="remembered for each subscription, at most; then the oldest is forgotten")
    ] = 100_000


class Memory:
    """What one subscription's handler has ended well with, and what it has in hand.

    `skipped` counts repetitions that were not handled, `crowded_out` keys that were forgotten before their time; `left`
    says that nobody handles the subscription here any more.

    What is in hand stays there until the kernel has concluded the attempt, for a handler that returns may have been too
    late, or have said nak. A repetition that comes meanwhile waits for that.
    """

    def __init__(self, options: DedupeOptions, clock: Clock, subscription: Subscription) -> None:
        self.label, self.durable = subscription.label, subscription.durable
        self.left = self._kept = False
        self.skipped = self.crowded_out = 0
        self._window_ns, self._max = round(options.window * 1e9), options.max_events
        self._now_ns = clock.monotonic_ns
        # An ordered one: in a plain one, the way to the oldest leads past all that were taken out before it.
        self._until_ns: OrderedDict[Key, int] = OrderedDict()
        self._waited_for: dict[Key, asyncio.Future[None] | None] = {}
        self._in_hand: dict[int, Key] = {}
        self._waiting = 0

    @property
    def remembered(self) -> int:
        """So many keys, now."""
        self._forget()
        return len(self._until_ns)

    @property
    def over(self) -> bool:
        """Whether nobody needs it any more."""
        return self.left and not (self._in_hand or self._waiting or (self._kept and self.remembered))

    async def begin(self, key: Key, seq: int) -> bool:
        """Whether this event is to be handled; then it is in hand until `conclude`."""
        while key in self._waited_for:
            over = self._waited_for[key]
            if over is None:
                over = self._waited_for[key] = asyncio.get_running_loop().create_future()
            self._waiting += 1
            try:
                await asyncio.shield(over)  # several may wait, and each be cancelled by itself
            finally:
                self._waiting -= 1
        if self._until_ns.get(key, 0) > self._now_ns():
            self.skipped += 1
            return False
        self._waited_for[key], self._in_hand[seq] = None, key
        return True

    def conclude(self, attempts: Attempts) -> None:
        """These are over; those that ended well are remembered. Who waits for one goes on."""
        for attempt in attempts:
            key = self._in_hand.pop(attempt.event.seq, None)
            if key is None:
                continue  # it was skipped, or was over before it came as far
            if attempt.outcome == "ok" and isinstance(attempt.decision, Ack):
                self._until_ns.pop(key, None)
                self._until_ns[key] = self._now_ns() + self._window_ns
            over = self._waited_for.pop(key, None)
            if over is not None:
                over.set_result(None)
        self._forget()

    def leave(self, *, kept: bool) -> None:
        """Nobody handles it here any more. kept: it may be taken up again."""
        self.left, self._kept = True, kept

    def begin_anew(self) -> None:
        """It is taken up again: whatever was in hand is not any more, and its end was not told."""
        self.left = False
        self._waited_for.clear()
        self._in_hand.clear()

    def _forget(self) -> None:
        """Let go of what is too old, and of the oldest where there are too many."""
        now_ns = self._now_ns()
        while self._until_ns:
            oldest = next(iter(self._until_ns))
            if self._until_ns[oldest] > now_ns:
                if len(self._until_ns) <= self._max:
                    break
                self.crowded_out += 1
            del self._until_ns[oldest]


class _Endings(Observer):
    """Tells memories how attempts ended: what a layer sees of a handler is less than what the kernel makes of it."""

    def __init__(self, memories: dict[str, Memory]) -> None:
        self._memories = memories

    def attempted(self, subscription: Subscription, attempts: Attempts, settle_invoked_ns: int) -> None:
        memory = self._memories.get(subscription.id)
        if memory is not None:
            memory.conclude(attempts)
            if memory.left:
                _prune(self._memories)

    def subscription_changed(self, subscription: Subscription, change: SubscriptionChange) -> None:
        memory = self._memories.get(subscription.id)
        if memory is not None and change in ("unsubscribed", "detached"):
            memory.leave(kept=change == "detached" and subscription.durable)
            _prune(self._memories)


class DedupePlugin(Plugin):
    """A layer around each handler, at stage dedupe. A delivery that it skips has ended well, and is acked.

    Memories outlive the wiring, so that a named subscription which is left and taken up again, or whose router is
    stopped and started again, still knows what it has handled; they do not outlive the process.
    """

    summary: ClassVar[str] = "deliver middleware: what a handler ended well with before is not handled again"
    Options = DedupeOptions
    options: DedupeOptions

    def __init__(self, options: BaseOptions | None = None, **values: object) -> None:
        super().__init__(options, **values)
        self._memories: dict[str, Memory] = {}
        self._key_of = _key_of(self.options.key)

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        for memory in self._memories.values():  # of the router's last run, which told nobody's end
            memory.begin_anew()
            memory.leave(kept=memory.durable)
        _prune(self._memories)
        return _Endings(self._memories)

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        _prune(self._memories)
        memory = self._memories.get(subscription.id)
        if memory is None:
            memory = self._memories[subscription.id] = Memory(self.options, ctx.clock, subscription)
        memory.begin_anew()
        begin, key_of = memory.begin, self._key_of

        async def once(event: Event, following: Next) -> None:
            if await begin(key_of(event), event.seq):
                await following(event)

        return around(once, stage="dedupe")

    @hookimpl
    def squall_metrics_text(self) -> str:
        families: tuple[tuple[str, str, str, Callable[[Memory], int]], ...] = (
            ("skipped_total", "counter", "Deliveries that were not handled again.", lambda one: one.skipped),
            ("crowded_out_total", "counter", "Forgotten before their time.", lambda one: one.crowded_out),
            ("remembered", "gauge", "What repetitions are told by.", lambda one: one.remembered),
        )
        return "".join(line for family in families for line in self._samples(*family))

    def _samples(self, name: str, kind: str, about: str, value: Callable[[Memory], int]) -> Iterator[str]:
        yield f"# HELP squall_dedupe_{name} {about}\n# TYPE squall_dedupe_{name} {kind}\n"
        for key, memory in self._memories.items():
            label = memory.label.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
            yield f'squall_dedupe_{name}{{subscription="{label}",id="{key}"}} {value(memory)}\n'


def _key_of(name: str | None) -> Callable[[Event], Key]:
    if name is None:
        return lambda event: event.id

    def key(event: Event) -> Key:
        given = event.metadata.get(name)
        if given is None:
            return event.id
        # Of one size, whatever a publisher gives. The type belongs to it: what one request causes may share an entry.
        return blake2b(msgspec.json.encode((event.type, given), order="deterministic"), digest_size=16).digest()

    return key


def _prune(memories: dict[str, Memory]) -> None:
    """Drop the memories of subscriptions that are gone, once there is nothing left in them."""
    for key in [key for key, memory in memories.items() if memory.over]:
        del memories[key]
