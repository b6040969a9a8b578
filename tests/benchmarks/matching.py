"""What it costs to find who gets an event, in a router with 10, 1,000 and 10,000 subscriptions.

Of ten patterns in an area seven name a type, two have `*` and one ends in `>`; two more match in every area. However
many subscriptions there are, four of them match a type that is asked for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from tests.benchmarks.rounds import Sample, Scale, alternate, median
from tests.benchmarks.table import Bar, Row, compare

from squall import Event, EventRouter
from squall.core.intake import Intake

SIZES = (10, 1_000, 10_000)
TYPES = 1_000
TIMES_CACHED, TIMES_UNCACHED = 100, 10
EVERYWHERE = ("*.order.created", ">")


def pattern(number: int) -> str:
    """The pattern of one subscription: ten an area, save that the first two are for every area."""
    if number < len(EVERYWHERE):
        return EVERYWHERE[number]
    area, kind = divmod(number, 10)
    return f"area{area}.>" if kind == 9 else f"area{area}.*.created" if kind >= 7 else f"area{area}.order.kind{kind}"


def route_ns(intake: Intake, types: Sequence[str]) -> int:
    """Nanoseconds to find who gets each of the types."""
    began = time.perf_counter_ns()
    for one in types:
        intake.route(one)
    return time.perf_counter_ns() - began


async def match(subscriptions: int, types: int) -> Sample:
    """Microseconds to find who gets a type: `cached`, and `uncached`, when it comes for the first time."""
    async with EventRouter() as router:

        async def handle(event: Event) -> None: ...

        subscriber = router.subscriber("bench")
        for number in range(subscriptions):
            await subscriber.subscribe(pattern(number), handle)
        names = [f"area{number % (subscriptions // 10)}.order{number}.created" for number in range(types)]
        intake, uncached_ns = router.intake, 0
        for _ in range(TIMES_UNCACHED):
            intake.forget_routes()
            uncached_ns += route_ns(intake, names)
        cached_ns = sum(route_ns(intake, names) for _ in range(TIMES_CACHED))
    return {
        "cached": cached_ns / (TIMES_CACHED * types * 1e3),
        "uncached": uncached_ns / (TIMES_UNCACHED * types * 1e3),
    }


def measure(scale: Scale) -> list[Row]:
    """Each number of subscriptions, the greater ones beside the smallest."""
    cases = {f"{size:,} subscriptions": {"subscriptions": size, "types": scale.of(TYPES)} for size in SIZES}
    found = alternate(match, cases, scale, "matching")
    (least, first), *_, (most, _) = found.items()
    rows = []
    for kind in ("cached", "uncached"):
        rows.append(Row("matching", f"{least}, {kind}", median(first, kind), "µs"))
        for size, samples in [*found.items()][1:]:
            bar = Bar("<", 3, "µs") if (size, kind) == (most, "cached") else None
            rows.append(compare("matching", f"{size}, {kind}", "µs", kind, samples, first, least, bar))
    return rows
