"""What each piece costs, in nanoseconds an event in memory.

First the kernel and the default plugins, each on top of the one before; then what may come on top of those, each by
itself.
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle, pairwise, repeat
from typing import Any

from tests.benchmarks.load import TYPE, Case, Tally, flood, payload
from tests.benchmarks.rounds import Sample, Scale, alternate, median
from tests.benchmarks.table import Row

from squall import Event, EventRouter, Filter, Plugin, around, guard, hookimpl
from squall.core.middleware import Middleware, Next
from squall.core.plugin import Context
from squall.core.subscription import Subscription
from squall.plugins.breaker import BreakerPlugin
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.rate_limit import RateLimitPlugin
from squall.plugins.retry import RetryPlugin

EVENTS = 100_000
CONCURRENCY = 8
KEYS = [f"k-{number}" for number in range(100)]


def _check(event: Event) -> None:
    """The least that a guard can do."""


async def _pass(event: Event, following: Next) -> None:
    """The least that an `around` can do."""
    await following(event)


class OnPublish(Plugin):
    """One layer that each publish passes."""

    def __init__(self, layer: Middleware) -> None:
        super().__init__()
        self._layer = layer

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        return self._layer


class OnDeliver(Plugin):
    """One layer around each handler."""

    def __init__(self, layer: Middleware) -> None:
        super().__init__()
        self._layer = layer

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware:
        return self._layer


@dataclass(frozen=True)
class Piece:
    """A router's plugins, how its subscriber subscribes (None: there is none), and whether events have keys."""

    plugins: Callable[[], Sequence[Plugin]] = tuple
    subscribe: dict[str, Any] | None = field(default_factory=dict)
    keys: bool = False


def _defaults() -> list[Plugin]:
    return [MetricsPlugin(), BreakerPlugin(), RetryPlugin()]


def _with(make: Callable[[], Plugin]) -> Piece:
    return Piece(lambda: [*_defaults(), make()])


STEPS = {
    "publish alone": Piece(subscribe=None),
    "+ 1 subscriber": Piece(),
    "+ metrics": Piece(lambda: _defaults()[:1]),
    "+ breaker": Piece(lambda: _defaults()[:2]),
    "+ retry": Piece(_defaults),
}
BASE = "+ retry"
EXTRAS = {
    "rate_limit": _with(lambda: RateLimitPlugin(rate=1_000_000, burst=1_000_000_000)),
    "a guard at publish": _with(lambda: OnPublish(guard(_check))),
    "an around at publish": _with(lambda: OnPublish(around(_pass))),
    "a guard before the handler": _with(lambda: OnDeliver(guard(_check, stage="handler"))),
    "an around the handler": _with(lambda: OnDeliver(around(_pass, stage="handler"))),
    "a filter": Piece(_defaults, {"filters": [Filter(source="bench")]}),
    f"keys, concurrency {CONCURRENCY}": Piece(_defaults, {"concurrency": CONCURRENCY}, keys=True),
}


async def cost(piece: str, events: int) -> Sample:
    """`ns` an event, published and handled."""
    asked, tally = {**STEPS, **EXTRAS}[piece], Tally()
    async with AsyncExitStack() as stack:
        router = await stack.enter_async_context(EventRouter([*asked.plugins()]))
        publish = partial(router.publisher("bench").publish, TYPE)
        if asked.subscribe is not None:

            async def handle(event: Event) -> None:
                tally.handled += 1

            await router.subscriber("bench").subscribe("order.>", handle, **asked.subscribe)
        case = Case(publish, awaited=True)
        if asked.keys:
            key = cycle(KEYS).__next__
            case = Case(lambda text: publish(text, key=key()), awaited=True)
        gc.collect()
        took_s = await flood(case, repeat(payload(1), events), tally, fan=int(asked.subscribe is not None))
    return {"ns": took_s * 1e9 / events}


def _row(group: str, piece: str, before: str, found: dict[str, list[Sample]]) -> Row:
    """What the piece costs with all that it comes on top of, beside that alone; and the difference."""
    ours, theirs = found[piece], found[before]
    added = statistics.median(a["ns"] - b["ns"] for a, b in zip(ours, theirs, strict=True))
    return Row(group, piece, median(ours, "ns"), "ns", before, median(theirs, "ns"), added=added)


def measure(scale: Scale) -> list[Row]:
    """The steps up to the default router, then each extra on top of that."""
    cases = {piece: {"piece": piece, "events": scale.of(EVENTS)} for piece in (*STEPS, *EXTRAS)}
    found = alternate(cost, cases, scale, "pieces")
    first = next(iter(STEPS))
    group = "what each piece costs, an event"
    return [
        Row(group, first, median(found[first], "ns"), "ns"),
        *(_row(group, step, before, found) for before, step in pairwise(STEPS)),
        *(_row("what else costs, an event", extra, BASE, found) for extra in EXTRAS),
    ]
