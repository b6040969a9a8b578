"""Questions to the graph: who receives what, what depends on a service, what has changed, dead ends, cycles."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, LiteralString

if TYPE_CHECKING:
    from squall.plugins.neo4j.graph import Graph

MAX_STEPS = 20
"""How far dependencies and cycles are followed: from service to topic to service is one step."""


@dataclass(frozen=True)
class Receives:
    """A service that was given events of a topic: how many it took, and the last time (None: it never took any)."""

    topic: str
    service: str
    count: int
    failed: int
    dead_lettered: int
    last: datetime | None


@dataclass(frozen=True)
class Depends:
    """A service that receives what another publishes, or what follows from it. `path` leads from that one to it:
    service, topic, service, and so on."""

    service: str
    path: tuple[str, ...]

    @property
    def steps(self) -> int:
        """1: directly."""
        return len(self.path) // 2


@dataclass(frozen=True)
class Change:
    """Something that is not as it was: an act of the audit trail, or a flow that was seen for the first time."""

    at: datetime
    what: str
    service: str | None
    about: str | None
    router: str | None = None


@dataclass(frozen=True)
class DeadEnd:
    """A topic whose events nobody takes, or a subscription that never got anything; `since` when."""

    kind: str
    name: str
    of: str | None
    count: int
    since: datetime | None


RECEIVERS: LiteralString = """
MATCH (t:Topic)-[d:DELIVERED_TO]->(v:Service)
WHERE $topic IS NULL OR t.name = $topic
RETURN t.name AS topic, v.name AS service, d.count AS count, d.failed AS failed, d.dead_lettered AS dead_lettered,
    d.last AS last
ORDER BY topic, service
"""

DEPENDENTS: LiteralString = f"""
MATCH (from:Service {{name: $service}}), (to:Service)
WHERE from <> to
MATCH path = shortestPath((from)-[:PUBLISHES|DELIVERED_TO*..{2 * MAX_STEPS}]->(to))
WHERE all(flow IN relationships(path) WHERE flow.count > 0)
RETURN to.name AS service, [node IN nodes(path) | node.name] AS path
ORDER BY size(path), service
"""

CHANGES: LiteralString = """
CALL () {
    MATCH (e:AuditEvent)
    WHERE e.ts >= $since AND e.action <> 'published'
    OPTIONAL MATCH (r:Router {id: e.router})
    OPTIONAL MATCH (e)-[:BY]->(v:Service)
    RETURN e.ts AS at, e.action AS what, v.name AS service,
        CASE WHEN e.name IS NULL THEN e.pattern ELSE e.name + ' (' + e.pattern + ')' END AS about, r.name AS router
    UNION ALL
    MATCH (v:Service)-[p:PUBLISHES]->(t:Topic)
    WHERE p.first >= $since
    RETURN p.first AS at, 'published for the first time' AS what, v.name AS service, t.name AS about, null AS router
    UNION ALL
    MATCH (t:Topic)-[d:DELIVERED_TO]->(v:Service)
    WHERE d.first >= $since
    RETURN d.first AS at, 'received for the first time' AS what, v.name AS service, t.name AS about, null AS router
}
RETURN at, what, service, about, router
ORDER BY at
"""

DEAD_ENDS: LiteralString = """
CALL () {
    MATCH (t:Topic)
    WHERE NOT EXISTS { MATCH (t)-[d:DELIVERED_TO]->() WHERE d.count > 0 }
    OPTIONAL MATCH (:Service)-[p:PUBLISHES]->(t)
    RETURN 'topic' AS kind, t.name AS name, null AS of, coalesce(sum(p.count), 0) AS count, min(p.first) AS since
    UNION ALL
    MATCH (s:Subscription)
    WHERE s.ended IS NULL AND coalesce(s.delivered, 0) = 0
    OPTIONAL MATCH (v:Service)-[:SUBSCRIBES]->(s)
    RETURN 'subscription' AS kind, coalesce(s.name, s.pattern) AS name, v.name AS of, 0 AS count, s.created AS since
}
RETURN kind, name, of, count, since
ORDER BY kind DESC, name
"""

CYCLES: LiteralString = f"""
MATCH (s:Service)-[p:PUBLISHES]->(t:Topic)
WHERE p.count > 0
MATCH path = shortestPath((t)-[:DELIVERED_TO|PUBLISHES*..{2 * MAX_STEPS - 1}]->(s))
WHERE all(flow IN relationships(path) WHERE flow.count > 0)
RETURN [s.name] + [node IN nodes(path) | node.name] AS path
"""


async def receivers(graph: Graph, topic: str | None = None) -> list[Receives]:
    """Who receives what: of one topic, or of all."""
    return [Receives(**row) for row in await graph.query(RECEIVERS, topic=topic)]


async def dependents(graph: Graph, service: str) -> list[Depends]:
    """What depends on this service, the nearest first, each by its shortest path."""
    return [Depends(row["service"], tuple(row["path"])) for row in await graph.query(DEPENDENTS, service=service)]


async def changes(graph: Graph, since: datetime) -> list[Change]:
    """What has changed since then, in the order of time: what was done, and flows that were not there before."""
    return [Change(**row) for row in await graph.query(CHANGES, since=since)]


async def dead_ends(graph: Graph) -> list[DeadEnd]:
    """Topics nobody receives, then subscriptions that never got anything."""
    return [DeadEnd(**row) for row in await graph.query(DEAD_ENDS)]


async def cycles(graph: Graph) -> list[tuple[str, ...]]:
    """Ways that events can go round, shortest first: service, topic, service, …, as it begins.

    Of each publish on a cycle the shortest way back is told, and each way once.
    """
    found: dict[tuple[str, ...], None] = {}
    for row in await graph.query(CYCLES):
        around: tuple[str, ...] = tuple(row["path"][:-1])
        ring = min(around[place:] + around[:place] for place in range(0, len(around), 2))
        found[(*ring, ring[0])] = None
    return sorted(found, key=lambda ring: (len(ring), ring))
