"""Routers that write to a real Neo4j, and questions to it."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, LiteralString

from neo4j import AsyncGraphDatabase
from neo4j import NotificationMinimumSeverity as Severity
from tests.core.world import Log

from squall import EventRouter, Plugin
from squall.plugins.memory import MemoryPlugin
from squall.plugins.neo4j import Neo4jPlugin

TIMEOUT_S = 40.0
QUIET = Severity.OFF


def own() -> str:
    """A word for the names of a test, in a graph that it shares with others."""
    return f"t{uuid.uuid4().hex[:12]}"


def options(url: str, **more: object) -> Neo4jPlugin:
    """The plugin, writing 20 times a second."""
    return Neo4jPlugin(Neo4jPlugin.Options.of("neo4j", {"url": url, "flush": 0.05} | more))


@contextlib.asynccontextmanager
async def router(url: str, *plugins: Plugin, log: Log | None = None, **more: object) -> AsyncIterator[EventRouter]:
    """A router with the memory store that writes to this graph."""
    logger = (log or Log()).logger
    async with EventRouter([MemoryPlugin(), *plugins, options(url, **more)], logger=logger) as made:
        yield made


async def ask(url: str, query: LiteralString, **parameters: object) -> list[list[Any]]:
    """The records of a query, as lists of values."""
    async with AsyncGraphDatabase.driver(url, notifications_min_severity=QUIET) as driver:
        found = await driver.execute_query(query, parameters, database_="neo4j")
        return [list(record.values()) for record in found.records]


async def until(condition: Callable[[], Awaitable[object]], timeout_s: float = TIMEOUT_S) -> None:
    """Wait for a condition. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not await condition():  # noqa: ASYNC110  conditions are of any kind
            await asyncio.sleep(0.02)


async def published(url: str, topic: str) -> dict[str, int]:
    """How many events of a topic the graph knows, by source."""
    query: LiteralString = "MATCH (v:Service)-[p:PUBLISHES]->(:Topic {name: $topic}) RETURN v.name, p.count"
    return dict(await ask(url, query, topic=topic))


async def delivered(url: str, topic: str) -> dict[str, list[int]]:
    """How deliveries of a topic ended, by service: delivered, failed, dead-lettered."""
    query: LiteralString = """
        MATCH (:Topic {name: $topic})-[d:DELIVERED_TO]->(v:Service)
        RETURN v.name, d.count, d.failed, d.dead_lettered
        """
    return {name: counts for name, *counts in await ask(url, query, topic=topic)}
