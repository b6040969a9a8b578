"""Neo4j: how fast rows get into the graph, and what it costs events that a router writes into one.

Rounds are paired: a router with it and two without, in turn. What the two without differ by is the noise.
"""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from itertools import repeat
from pathlib import Path

from tests.benchmarks.load import TYPE, Case, Tally, flood, payload
from tests.benchmarks.rounds import Sample, Scale, alternate, median
from tests.benchmarks.table import Bar, Row, compare
from tests.servers import neo4j_server

from squall import Event, EventRouter
from squall.core.identity import system_id
from squall.plugins.breaker import BreakerPlugin
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.neo4j import Neo4jPlugin
from squall.plugins.neo4j.batches import Batches, Kind, at
from squall.plugins.neo4j.batches import Row as GraphRow
from squall.plugins.neo4j.graph import Graph, Who
from squall.plugins.neo4j.options import Neo4jOptions, Neo4jUrl
from squall.plugins.retry import RetryPlugin

ROWS, EVENTS = 10_000, 300_000
SERVICES = 50
WITH, WITHOUT, AGAIN = "with neo4j", "without", "without, again"


def _rows(count: int) -> Iterator[tuple[Kind, GraphRow]]:
    """Flows between SERVICES services and as many topics as that takes."""
    now = at(time.time_ns())
    for number in range(count):
        service, topic = f"bench-{number % SERVICES}", f"bench.topic{number // SERVICES}"
        flow = {"service": service, "topic": topic, "first": now, "last": now}
        if number % 2:
            yield "publishes", {**flow, "count": 1, "audit": f"bench/{service}/{topic}"}
        else:
            yield "deliveries", {**flow, "subscription": None, "delivered": 1, "failed": 0, "dead_lettered": 0}


async def writing(url: str, rows: int) -> Sample:
    """`rows` a second, in the writer's batches."""
    graph, now = Graph(Neo4jOptions(url=Neo4jUrl(url), timeout=300.0)), datetime.now(UTC)
    who = Who(system_id(), "bench", "localhost", 0, now)
    batches = list(Batches().cut(_rows(rows)))
    await graph.prepare()
    began = time.perf_counter()
    for batch in batches:
        await graph.write(batch, who, now, 0)
    took_s = time.perf_counter() - began
    await graph.close()
    return {"rows": rows / took_s}


async def passing(case: str, url: str, events: int) -> Sample:
    """`events` a second through a router in memory, published and handled."""
    plugins = [RetryPlugin(), BreakerPlugin(), MetricsPlugin()]
    more = [Neo4jPlugin(url=url, required=True, flush=0.2)] if case == WITH else []
    tally = Tally()

    async def handle(event: Event) -> None:
        tally.handled += 1

    async with EventRouter([*plugins, *more]) as router:
        await router.subscriber("bench").subscribe("order.>", handle)
        gc.collect()
        case_ = Case(partial(router.publisher("bench").publish, TYPE), awaited=True)
        took_s = await flood(case_, repeat(payload(1), events), tally, fan=1)
    return {"events": events / took_s}


def measure(scale: Scale) -> list[Row]:
    """Both, on one server."""
    with tempfile.TemporaryDirectory() as folder, neo4j_server(Path(folder)) as server:
        url = server.url
        written = alternate(writing, {WITH: {"url": url, "rows": scale.of(ROWS)}}, scale, "neo4j, rows")[WITH]
        cases = {case: {"case": case, "url": url, "events": scale.of(EVENTS)} for case in (WITH, WITHOUT, AGAIN)}
        found = alternate(passing, cases, scale, "neo4j, events beside it")
    return [
        Row("neo4j", "written into the graph", median(written, "rows"), "rows/s"),
        compare("neo4j", WITH, "events/s", "events", found[WITH], found[WITHOUT], WITHOUT, Bar("≥", 0.97)),
        compare("neo4j", AGAIN, "events/s", "events", found[AGAIN], found[WITHOUT], WITHOUT),
    ]
