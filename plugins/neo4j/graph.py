"""The graph on its server: what it is made of, how a batch gets in, and what its errors mean.

    (:Service)-[:PUBLISHES {count, first, last}]->(:Topic)
    (:Topic)-[:DELIVERED_TO {count, failed, dead_lettered, first, last}]->(:Service)
    (:Service)-[:SUBSCRIBES]->(:Subscription)-[:ATTACHED_TO {since, paused}]->(:Router)
    (:AuditEvent)-[:BY]->(:Service), (:AuditEvent)-[:ABOUT]->(:Subscription or :Topic)

A Service is a source of publishes, or a subscriber.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, LiteralString

from neo4j import AsyncDriver, AsyncGraphDatabase, AsyncManagedTransaction, NotificationMinimumSeverity
from neo4j.exceptions import ConfigurationError, DriverError, Neo4jError, ServiceUnavailable, TransientError
from neo4j.time import DateTime

from squall.core.errors import ConfigError, SquallError
from squall.core.reaching import unreachable
from squall.core.secret import without_passwords
from squall.plugins.neo4j.batches import Batch, Kind
from squall.plugins.neo4j.options import Neo4jOptions

SCHEMA_VERSION = 1
CONNECT_S = 5.0
MAX_DEADLOCKS = 5

SCHEMA: tuple[LiteralString, ...] = (
    "CREATE CONSTRAINT squall_schema IF NOT EXISTS FOR (n:SquallSchema) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT squall_router IF NOT EXISTS FOR (n:Router) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT squall_service IF NOT EXISTS FOR (n:Service) REQUIRE n.name IS UNIQUE",
    "CREATE CONSTRAINT squall_topic IF NOT EXISTS FOR (n:Topic) REQUIRE n.name IS UNIQUE",
    "CREATE CONSTRAINT squall_subscription IF NOT EXISTS FOR (n:Subscription) REQUIRE n.id IS UNIQUE",
    "CREATE CONSTRAINT squall_audit IF NOT EXISTS FOR (n:AuditEvent) REQUIRE n.id IS UNIQUE",
    "CREATE INDEX squall_audit_ts IF NOT EXISTS FOR (n:AuditEvent) ON (n.ts)",
)

VERSION: LiteralString = """
MERGE (n:SquallSchema {id: 'squall'})
ON CREATE SET n.version = $version
RETURN n.version AS version
"""

# Setting a property first takes the lock on the router's node: a transaction that was given up here, and still runs
# there, is over before its number is read.
BEGIN: LiteralString = """
MERGE (r:Router {id: $router.id})
ON CREATE SET r += $router
SET r.seen = $now, r.dropped = $dropped
RETURN coalesce(r.batch, 0) AS batch
"""

END: LiteralString = "MATCH (r:Router {id: $router.id}) SET r.batch = $batch"

STOPPED: LiteralString = """
MATCH (r:Router {id: $router.id})
SET r.stopped = $now
WITH r
MATCH (s:Subscription)-[a:ATTACHED_TO]->(r)
DELETE a
SET s.ended = CASE WHEN s.name IS NULL THEN $now ELSE s.ended END
"""

WRITES: Mapping[Kind, LiteralString] = {
    "subscriptions": """
        MATCH (r:Router {id: $router.id})
        UNWIND $rows AS row
        MERGE (v:Service {name: row.service})
        MERGE (s:Subscription {id: row.id})
        ON CREATE SET s.created = row.created, s.delivered = 0, s.failed = 0, s.dead_lettered = 0
        SET s += row.definition
        MERGE (v)-[:SUBSCRIBES]->(s)
        FOREACH (_ IN CASE WHEN row.attached THEN [1] ELSE [] END |
            MERGE (s)-[a:ATTACHED_TO]->(r)
            ON CREATE SET a.since = row.at
            SET a.paused = row.paused
            REMOVE s.ended)
        FOREACH (_ IN CASE WHEN row.ended THEN [1] ELSE [] END | SET s.ended = row.at)
        WITH s, row, r WHERE NOT row.attached
        MATCH (s)-[a:ATTACHED_TO]->(other) WHERE other = r OR row.ended
        DELETE a
        """,
    "publishes": """
        UNWIND $rows AS row
        MERGE (v:Service {name: row.service})
        MERGE (t:Topic {name: row.topic})
        MERGE (v)-[p:PUBLISHES]->(t)
        ON CREATE SET p.count = 0, p.first = row.first
        SET p.count = p.count + row.count, p.last = CASE WHEN p.last > row.last THEN p.last ELSE row.last END
        MERGE (e:AuditEvent {id: row.audit})
        ON CREATE SET e.action = 'published', e.ts = row.first, e.count = 0, e.origin = row.origin,
            e.router = $router.id, e.host = $router.host, e.pid = $router.pid
        SET e.count = e.count + row.count, e.until = row.last
        MERGE (e)-[:BY]->(v)
        MERGE (e)-[:ABOUT]->(t)
        """,
    "deliveries": """
        UNWIND $rows AS row
        MERGE (t:Topic {name: row.topic})
        MERGE (v:Service {name: row.service})
        MERGE (t)-[d:DELIVERED_TO]->(v)
        ON CREATE SET d.count = 0, d.failed = 0, d.dead_lettered = 0, d.first = row.first
        SET d.count = d.count + row.delivered, d.failed = d.failed + row.failed,
            d.dead_lettered = d.dead_lettered + row.dead_lettered,
            d.last = CASE WHEN row.last IS NULL OR d.last > row.last THEN d.last ELSE row.last END
        WITH row WHERE row.subscription IS NOT NULL
        MERGE (s:Subscription {id: row.subscription})
        SET s.delivered = coalesce(s.delivered, 0) + row.delivered, s.failed = coalesce(s.failed, 0) + row.failed,
            s.dead_lettered = coalesce(s.dead_lettered, 0) + row.dead_lettered,
            s.last = CASE WHEN row.last IS NULL OR s.last > row.last THEN s.last ELSE row.last END
        """,
    "audit": """
        UNWIND $rows AS row
        CREATE (e:AuditEvent {id: row.id})
        SET e.ts = row.ts, e.action = row.action, e.name = row.name, e.pattern = row.pattern, e.detail = row.detail,
            e.origin = row.origin, e.router = $router.id, e.host = $router.host, e.pid = $router.pid
        FOREACH (name IN CASE WHEN row.service IS NULL THEN [] ELSE [row.service] END |
            MERGE (v:Service {name: name})
            MERGE (e)-[:BY]->(v))
        FOREACH (id IN CASE WHEN row.subscription IS NULL THEN [] ELSE [row.subscription] END |
            MERGE (s:Subscription {id: id})
            MERGE (e)-[:ABOUT]->(s))
        """,
}


class GraphError(SquallError):
    """The server could not be reached, refused the login, refused what was asked, or is there and too slow with it."""

    def __init__(self, text: str, kind: Literal["unreachable", "login", "refused", "slow"] = "refused") -> None:
        super().__init__(text)
        self.kind = kind


@dataclass(frozen=True)
class Who:
    """The router that writes: an id that no other run of a router has, what it is called, and where it runs."""

    id: str
    name: str
    host: str
    pid: int
    started: datetime


class Graph:
    """One database, through one driver. All calls raise GraphError."""

    def __init__(self, options: Neo4jOptions) -> None:
        """Connects to nothing yet. Raises ConfigError where the url or password cannot be read, or make no sense."""
        self._timeout_s, self._database = options.timeout, options.database
        url = options.url.read("neo4j: url")
        self.url = without_passwords(url)
        password = None if options.password is None else options.password.read("neo4j: password")
        try:
            self._driver: AsyncDriver = AsyncGraphDatabase.driver(
                url,
                auth=None if password is None else (options.user, password),
                connection_timeout=min(CONNECT_S, options.timeout),
                connection_acquisition_timeout=options.timeout,
                max_transaction_retry_time=0,  # the writer tries again, and logs once
                notifications_min_severity=NotificationMinimumSeverity.OFF,
                telemetry_disabled=True,
                user_agent="squall",
            )
        except (ConfigurationError, ValueError) as error:
            raise ConfigError(f"neo4j: url: {without_passwords(str(error))}") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._driver.close()

    async def prepare(self) -> None:
        """Set up constraints, indexes and the schema's version."""
        for statement in SCHEMA:
            await self.query(statement)
        (found,) = await self.query(VERSION, version=SCHEMA_VERSION)
        if found["version"] != SCHEMA_VERSION:
            raise GraphError(
                f"Neo4j at {self.url}: the graph has schema version {found['version']}, this squall writes "
                f"{SCHEMA_VERSION}: use a squall that fits, or another database"
            )

    async def query(self, query: LiteralString, **parameters: object) -> list[dict[str, Any]]:
        """The records of a query that may be run again."""

        async def run(tx: AsyncManagedTransaction) -> list[dict[str, Any]]:
            rows = await (await tx.run(query, parameters)).data()
            return [{name: _native(value) for name, value in row.items()} for row in rows]

        found: list[dict[str, Any]] = await self._execute(run)
        return found

    async def write(self, batch: Batch, who: Who, now: datetime, dropped: int) -> None:
        """Bring a batch in, once: if its number is known there, it is there already. A GraphError is `slow` where the
        server answers, but not to this."""
        common = {"router": vars(who), "now": now, "dropped": dropped, "batch": batch.number}

        async def run(tx: AsyncManagedTransaction) -> None:
            begun = await (await tx.run(BEGIN, common)).single(strict=True)
            if begun["batch"] >= batch.number:
                return
            for kind, rows in batch.rows.items():
                await (await tx.run(WRITES[kind], common, rows=rows)).consume()
            await (await tx.run(END, common)).consume()

        try:
            await self._execute(run)
        except GraphError as error:
            if isinstance(error.__cause__, TimeoutError):
                await self.query("RETURN 1")
                text = f"a transaction of {batch.size} rows took longer than {self._timeout_s:g} s (neo4j.timeout)"
                raise GraphError(f"Neo4j at {self.url}: {text}", "slow") from error
            raise

    async def stopped(self, who: Who, now: datetime) -> None:
        """The router runs no more: nothing is attached to it."""
        await self.query(STOPPED, router=vars(who), now=now)

    async def _execute(self, work: Any) -> Any:
        try:
            async with asyncio.timeout(self._timeout_s), self._driver.session(database=self._database) as session:
                for _ in range(MAX_DEADLOCKS):
                    with contextlib.suppress(TransientError):
                        return await session.execute_write(work)
                return await session.execute_write(work)
        except TimeoutError as error:
            raise GraphError(f"Neo4j at {self.url}: no answer within {self._timeout_s:g} s", "unreachable") from error
        except (ServiceUnavailable, OSError) as error:
            raise GraphError(
                f"Neo4j at {self.url}: it cannot be reached: {unreachable(error)}; see that it runs, and that "
                "neo4j.url is its address",
                "unreachable",
            ) from error
        except (DriverError, Neo4jError) as error:
            raise self._refusal(error) from error

    def _refusal(self, error: DriverError | Neo4jError) -> GraphError:
        code = (error.code or "") if isinstance(error, Neo4jError) else ""
        if code.startswith("Neo.ClientError.Security."):
            advice = "set user and password (password: env:NAME)"
            if code.endswith(".AuthenticationRateLimit"):
                advice = f"too many logins were wrong: {advice}, and wait a few seconds"
            return GraphError(f"Neo4j at {self.url}: it refuses the login ({code}): {advice}", "login")
        passing = isinstance(error, DriverError) or error.is_retryable()
        return GraphError(
            f"Neo4j at {self.url}: {type(error).__name__}: {error}", "unreachable" if passing else "refused"
        )


def _native(value: Any) -> Any:
    return value.to_native() if isinstance(value, DateTime) else value
