"""Questions to the graph, as functions and as `squall flow`."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.core.world import Heard
from tests.plugins.neo4j.graphs import options, own, router
from typer.testing import CliRunner

from squall import Event, EventRouter
from squall.chaos.cli import app
from squall.core.errors import ConfigError
from squall.plugins.neo4j.command import since
from squall.plugins.neo4j.flow import changes, cycles, dead_ends, dependents, receivers
from squall.plugins.neo4j.graph import Graph


async def shop(squall: EventRouter, a: str) -> None:
    """A shop whose orders are billed and packed, and whose parcels come back as orders; nobody reads its debug."""
    heard = Heard()

    async def bill(event: Event) -> None:
        await squall.publisher(f"{a}.billing").publish(f"{a}.paid", b"")

    await squall.subscriber(f"{a}.billing").subscribe(f"{a}.order", bill)
    await squall.subscriber(f"{a}.packing").subscribe(f"{a}.paid", heard, name=f"{a}.pack")
    await squall.subscriber(f"{a}.audit").subscribe(f"{a}.nothing", heard, name=f"{a}.waits")
    await squall.subscriber(f"{a}.shop").subscribe(f"{a}.returned", heard)
    gone = await squall.subscriber(f"{a}.audit").subscribe(f"{a}.never", heard)
    await squall.subscriber(f"{a}.audit").unsubscribe(gone)
    for source, topic in (("shop", "order"), ("shop", "order"), ("packing", "returned"), ("shop", "debug")):
        await squall.publisher(f"{a}.{source}").publish(f"{a}.{topic}", b"")
    async with asyncio.timeout(60):
        while len(heard.events) < 3:  # noqa: ASYNC110  two are packed, one comes back
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def asked(url: str) -> AsyncIterator[Graph]:
    graph = Graph(options(url).options)
    try:
        yield graph
    finally:
        await graph.close()


async def test_questions_to_the_graph(neo4j_url: str) -> None:
    """Each is answered for what has passed, by name."""
    a, before = own(), datetime.now(UTC)
    async with router(neo4j_url, router=f"{a}.router") as squall:
        await shop(squall, a)
    async with asked(neo4j_url) as graph:
        told = [(one.topic, one.service, one.count) for one in await receivers(graph) if one.topic.startswith(a)]
        assert told == [
            (f"{a}.order", f"{a}.billing", 2),
            (f"{a}.paid", f"{a}.packing", 2),
            (f"{a}.returned", f"{a}.shop", 1),
        ]
        (one,) = await receivers(graph, f"{a}.paid")
        assert one.last is not None
        assert before < one.last < datetime.now(UTC)

        found = await dependents(graph, f"{a}.shop")
        assert [(one.service, one.steps) for one in found] == [(f"{a}.billing", 1), (f"{a}.packing", 2)]
        assert found[1].path == (f"{a}.shop", f"{a}.order", f"{a}.billing", f"{a}.paid", f"{a}.packing")
        assert await dependents(graph, f"{a}.audit") == []

        dead = [(one.kind, one.name, one.of, one.count) for one in await dead_ends(graph) if one.name.startswith(a)]
        assert dead == [
            ("topic", f"{a}.debug", None, 1),
            ("subscription", f"{a}.waits", f"{a}.audit", 0),
        ]

        around = [ring for ring in await cycles(graph) if ring[0].startswith(a)]
        names = ("billing", "paid", "packing", "returned", "shop", "order", "billing")
        assert around == [tuple(f"{a}.{name}" for name in names)]


async def test_what_has_changed_since(neo4j_url: str) -> None:
    """What was done, and flows that were not there before; what was there before is no change."""
    a = own()
    async with router(neo4j_url, router=f"{a}.router") as squall:
        await shop(squall, a)
    between = datetime.now(UTC)
    async with router(neo4j_url, router=f"{a}.other") as squall:
        heard = Heard()
        await squall.subscriber(f"{a}.audit").subscribe(f"{a}.debug", heard, name=f"{a}.debugging")
        await squall.publisher(f"{a}.shop").publish(f"{a}.debug", b"")
        await squall.publisher(f"{a}.shop").publish(f"{a}.order", b"")
        async with asyncio.timeout(60):
            while not heard.events:  # noqa: ASYNC110  it is received, and not only sent
                await asyncio.sleep(0.01)
    async with asked(neo4j_url) as graph:
        found = await changes(graph, between)
        mine = [one for one in found if a in f"{one.service} {one.router}"]
        assert [(one.what, one.service, one.about, one.router) for one in mine] == [
            ("started", None, None, f"{a}.other"),
            ("subscribed", f"{a}.audit", f"{a}.debugging ({a}.debug)", f"{a}.other"),
            ("received for the first time", f"{a}.audit", f"{a}.debug", None),
            ("stopped", None, None, f"{a}.other"),
        ]
        assert [one.at for one in found] == sorted(one.at for one in found)
        assert await changes(graph, datetime.now(UTC) + timedelta(days=1)) == []


def squall(*arguments: str) -> tuple[int, str]:
    result = CliRunner(env={"COLUMNS": "200"}).invoke(app, ["flow", *arguments])
    return result.exit_code, result.output


async def test_the_command_asks_the_graph_of_the_operators_file(neo4j_url: str, tmp_path: Path) -> None:
    """As a table for people, as a document for programs."""
    a = own()
    file = tmp_path / "squall.yaml"
    file.write_text(f"version: 1\nplugins:\n  - neo4j: {{url: '{neo4j_url}'}}\n", encoding="utf-8")
    async with router(neo4j_url) as running:
        await shop(running, a)

    def ask(*arguments: str) -> tuple[int, str]:
        return squall(*arguments, "--config", str(file))

    code, output = await asyncio.to_thread(ask, "receivers", f"{a}.order")
    assert (code, output.split()[:9]) == (
        0,
        ["topic", "service", "count", "failed", "dead_lettered", "last", f"{a}.order", f"{a}.billing", "2"],
    )
    code, output = await asyncio.to_thread(ask, "dependents", f"{a}.shop", "--json")
    assert (code, json.loads(output)[0]) == (
        0,
        {"service": f"{a}.billing", "path": [f"{a}.shop", f"{a}.order", f"{a}.billing"]},
    )
    code, output = await asyncio.to_thread(ask, "dead-ends")
    assert (code, f"{a}.debug" in output, f"{a}.waits" in output) == (0, True, True)
    code, output = await asyncio.to_thread(ask, "cycles")
    assert (code, f"{a}.billing → {a}.paid → {a}.packing" in output) == (0, True)
    code, output = await asyncio.to_thread(ask, "changes", "1h")
    assert (code, f"{a}.waits ({a}.nothing)" in output) == (0, True)
    assert await asyncio.to_thread(ask, "receivers", f"{a}.unheard-of") == (0, "none\n")


def test_the_command_says_what_it_needs(tmp_path: Path) -> None:
    """A question that lacks its subject, and a graph that is not there."""
    code, output = squall("dependents")
    assert (code, "flow dependents: expected a service's name" in output) == (2, True)
    file = tmp_path / "squall.yaml"
    file.write_text("version: 1\nplugins:\n  - neo4j: {url: 'bolt://127.0.0.1:1'}\n", encoding="utf-8")
    code, output = squall("cycles", "--config", str(file))
    assert (code, "Neo4j at bolt://127.0.0.1:1: it cannot be reached: " in output) == (4, True)


NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2h", NOW - timedelta(hours=2)),
        ("2026-01-30", datetime(2026, 1, 30, tzinfo=UTC)),
        ("2026-01-30T10:00+02:00", datetime(2026, 1, 30, 8, tzinfo=UTC)),
    ],
)
def test_since_when(text: str, expected: datetime) -> None:
    """So long ago, or at a time."""
    assert since(text, NOW) == expected


def test_since_when_it_does_not_know() -> None:
    """It says what it understands."""
    with pytest.raises(ConfigError, match=r"how long ago \(2h\), or a time .*, got 'yesterday'"):
        since("yesterday", NOW)
