"""Neo4j is killed, hangs, loses answers, is not there, refuses: events go on, and every count is right afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import LiteralString

import pytest
from neo4j import AsyncGraphDatabase
from tests import servers
from tests.core.world import Heard, Log
from tests.plugins.neo4j.graphs import ask, delivered, options, own, published, router, until
from tests.plugins.redis.cutting import Cutting
from typer.testing import CliRunner

from squall import ConfigError, EventRouter, ServerError
from squall.chaos.cli import app
from squall.plugins.memory import MemoryPlugin
from squall.plugins.neo4j.graph import Graph, GraphError

pytestmark = pytest.mark.slow  # Neo4j, and more than one of it

COMMIT = b"\x00\x02\xb0\x12"  # as Bolt frames it


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """A Neo4j for this module alone: its tests kill it, and start it again."""
    with servers.neo4j_server(tmp_path_factory.mktemp("neo4j")) as mine:
        yield mine


async def publish(squall: EventRouter, topic: str, count: int) -> None:
    publisher = squall.publisher(f"{topic}-shop")
    for _ in range(count):
        await publisher.publish(topic, b"")


def has(url: str, topic: str, count: int):  # type: ignore[no-untyped-def]
    """Whether the graph knows so many events of the topic, published and delivered."""

    async def check() -> bool:
        both = await published(url, topic), await delivered(url, topic)
        return both == ({f"{topic}-shop": count}, {f"{topic}-billing": [count, 0, 0]})

    return check


async def test_a_killed_server_knows_every_event_when_it_is_back(server: servers.Server) -> None:
    """`kill -9` while events are published: none waits for it, and none is counted twice or never."""
    topic, log, heard = own(), Log(), Heard()
    async with router(server.url, log=log) as squall:
        await squall.subscriber(f"{topic}-billing").subscribe(topic, heard)
        await publish(squall, topic, 50)
        await until(has(server.url, topic, 50))
        killed = asyncio.create_task(asyncio.to_thread(server.kill))
        count = 50
        while not (killed.done() and log.at_least(logging.ERROR)):
            await publish(squall, topic, 10)
            count += 10
            await asyncio.sleep(0.01)
        assert len(heard.events) > 50
        await asyncio.to_thread(server.start)
        await publish(squall, topic, 7)
        await until(has(server.url, topic, count + 7))
    assert await has(server.url, topic, count + 7)()
    (error,) = log.at_least(logging.ERROR)
    assert error.startswith(f"neo4j: Neo4j at {server.url}: it cannot be reached: ")
    assert "neo4j: it works again, and what was counted is written; rows dropped so far: 0" in log.text


async def test_a_server_that_hangs_holds_nothing_up(server: servers.Server) -> None:
    """It accepts connections and answers nothing: events go on, one error is logged, and afterwards all is counted."""
    topic, log = own(), Log()
    async with router(server.url, log=log, timeout=0.5) as squall:
        await squall.subscriber(f"{topic}-billing").subscribe(topic, Heard())
        await publish(squall, topic, 5)
        await until(has(server.url, topic, 5))
        os.kill(server.pid, signal.SIGSTOP)
        try:
            count = 5
            while not log.at_least(logging.ERROR):
                await publish(squall, topic, 10)
                count += 10
                await asyncio.sleep(0.01)
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until(has(server.url, topic, count))
    assert len(log.at_least(logging.ERROR)) == 1


async def test_a_commit_whose_answer_is_lost_counts_once(server: servers.Server) -> None:
    """It is sent again, for nobody knows that it is there; the batch's number tells."""
    topic = own()
    async with Cutting(server.url, COMMIT) as way, router(way.url.replace("redis", "bolt"), timeout=2.0) as squall:
        await squall.subscriber(f"{topic}-billing").subscribe(topic, Heard())
        await publish(squall, topic, 1)
        await until(has(server.url, topic, 1))
        way.swallow = True
        await publish(squall, topic, 10)
        await until(lambda: asyncio.sleep(0, way.swallowed >= 2))
        way.swallow = False
        await publish(squall, topic, 5)
        await until(has(server.url, topic, 16))
    assert await has(server.url, topic, 16)()


async def test_what_always_outlasts_the_timeout_is_cut_in_half_and_given_up_alone(server: servers.Server) -> None:
    """Somebody holds a lock on one topic for ever: all others of its batch are written, its own row is given up with
    an error that names it, and counted; what is counted of it afterwards is written again."""
    topic, log = own(), Log()
    held, free = f"{topic}.held", [f"{topic}.free{number}" for number in range(5)]
    async with router(server.url, log=log, timeout=1.0) as squall:
        await publish(squall, held, 1)
        await until(lambda: _knows(server.url, held, 1))
        async with AsyncGraphDatabase.driver(server.url) as driver, driver.session() as session:
            locking = await session.begin_transaction()
            text: LiteralString = (
                "MATCH (:Service)-[p:PUBLISHES]->(t:Topic {name: $held}) SET p.locked = 1, t.locked = 1"
            )
            await (await locking.run(text, held=held)).consume()
            for one in (*free[:2], held, *free[2:]):
                await publish(squall, one, 3)
            await until(lambda: asyncio.sleep(0, "given up" in log.text))
            for one in free:
                await until(lambda one=one: _knows(server.url, one, 3))  # type: ignore[misc]
            await locking.rollback()
        await publish(squall, held, 2)
        await until(lambda: _knows(server.url, held, 3))
    (given_up,) = (line for line in log.at_least(logging.ERROR) if "given up" in line)
    assert given_up.startswith("neo4j: a row of publishes outlasted the timeout 5 times, and is given up: ")
    assert f"'topic': '{held}', 'count': 3" in given_up
    assert "it works again, and what was counted is written; rows dropped so far: 1" in log.text


async def _knows(url: str, topic: str, count: int) -> bool:
    return await published(url, topic) == {f"{topic}-shop": count}


async def test_a_router_starts_and_stops_without_its_graph() -> None:
    """One error when it starts, one that says what was not written when it stops, and nothing else."""
    url, log, heard = f"bolt://127.0.0.1:{servers.free_port()}", Log(), Heard()
    async with router(url, log=log, timeout=20.0) as squall:
        await squall.subscriber("billing").subscribe("a", heard)
        await publish(squall, "a", 3)
        await until(lambda: asyncio.sleep(0, log.at_least(logging.ERROR)))
        await until(lambda: asyncio.sleep(0, heard.types == ["a"] * 3))
    unreachable, lost = log.at_least(logging.ERROR)
    assert unreachable.startswith(f"neo4j: Neo4j at {url}: it cannot be reached: ")
    assert unreachable.endswith("; events go on, and what is counted meanwhile is written later")
    # The subscription, a flow in and one out, and four audit rows but that of the publishes.
    assert lost.startswith("neo4j: the router stops, and the last 6 rows were not written: ")


async def test_a_required_graph_that_is_not_there_keeps_the_router_from_starting() -> None:
    """With what is wrong, and why that matters."""
    url = f"bolt://127.0.0.1:{servers.free_port()}"
    squall = EventRouter([MemoryPlugin(), options(url, required=True, timeout=20.0)])
    with pytest.raises(ServerError) as told:
        await squall.start()
    assert str(told.value) == (
        f"Neo4j at {url}: it cannot be reached: Connection refused; see that it runs, and that neo4j.url is its "
        "address (neo4j.required: the router does not start without it)"
    )
    await squall.stop()


def test_a_command_that_needs_a_graph_which_is_not_there_ends_as_for_any_server(tmp_path: Path) -> None:
    """Nothing in the file is wrong: 4, as `squall flow` and as for a store's server."""
    config = tmp_path / "squall.yaml"
    neo4j = f"neo4j: {{url: 'bolt://127.0.0.1:{servers.free_port()}', required: true, timeout: 20s}}"
    config.write_text(f"version: 1\nplugins: [memory, {neo4j}, serve: {{port: 0}}]\n", encoding="utf-8")
    ended = CliRunner().invoke(app, ["serve", "--config", str(config)])
    assert ended.exit_code == 4, ended.output
    assert "cannot be reached: Connection refused; see that it runs" in ended.output


async def test_a_graph_of_another_schema_is_left_alone(server: servers.Server) -> None:
    """It is told once, and nothing is written over it."""
    topic, log = own(), Log()
    async with router(server.url):
        pass
    await ask(server.url, "MATCH (n:SquallSchema) SET n.version = 99")
    try:
        async with router(server.url, log=log, timeout=1.0) as squall:
            await publish(squall, topic, 3)
            await until(lambda: asyncio.sleep(0, log.at_least(logging.ERROR)))
        assert "has schema version 99, this squall writes 1" in log.at_least(logging.ERROR)[0]
        assert await published(server.url, topic) == {}
    finally:
        await ask(server.url, "MATCH (n:SquallSchema) SET n.version = 1")


async def test_a_refused_login_is_one_error(tmp_path: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a password, with a wrong one: the router runs, and tries seldom enough to lock nobody out. With the
    right one it is counted."""
    topic = own()
    monkeypatch.setenv("GRAPH_PASSWORD", "wrong-password")
    with contextlib.ExitStack() as stack:
        server = servers.neo4j_server(tmp_path, login=True)  # type: ignore[arg-type]
        await asyncio.to_thread(stack.enter_context, server)
        for more in ({}, {"password": "env:GRAPH_PASSWORD"}):
            log = Log()
            async with router(server.url, log=log, timeout=20.0, **more) as squall:
                await publish(squall, topic, 3)
                await until(lambda log=log: asyncio.sleep(0, log.at_least(logging.ERROR)))  # type: ignore[misc]
            refused, lost = log.at_least(logging.ERROR)
            assert "it refuses the login (Neo.ClientError.Security." in refused
            assert "set user and password (password: env:NAME)" in refused
            assert "wrong-password" not in log.text
            assert "rows were not written" in lost
        await _locks_out(server.url)


async def _locks_out(url: str) -> None:
    """After so many wrong logins it takes none for a while: that is one as well, with what to do."""
    graph = Graph(options(url, password="env:GRAPH_PASSWORD").options)
    said = ""
    for _ in range(10):
        with pytest.raises(GraphError) as told:
            await graph.query("RETURN 1")
        assert told.value.kind == "login"
        said = str(told.value)
        if "RateLimit" in said:
            break
    await graph.close()
    assert said == (
        f"Neo4j at {url}: it refuses the login (Neo.ClientError.Security.AuthenticationRateLimit): too many logins "
        "were wrong: set user and password (password: env:NAME), and wait a few seconds"
    )


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"url": "env:NO_SUCH_VARIABLE"}, "url: the environment variable NO_SUCH_VARIABLE is not set"),
        ({"password": "file:/no/such/file"}, "password: the file that is to hold it cannot be read"),
        ({"url": "file:/dev/null"}, "neo4j: url: "),
    ],
)
async def test_options_that_cannot_be_meant_are_the_operators_mistake(more: dict[str, str], says: str) -> None:
    """They keep the router from starting, whether the graph is required or not."""
    squall = EventRouter([MemoryPlugin(), options(**({"url": "bolt://localhost:7687"} | more))])
    with pytest.raises(ConfigError, match=says):
        await squall.start()
