"""What a router does stands in the graph: flows with exact counts, subscriptions, an audit trail."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import LiteralString

from tests.core.world import FromAnswers, Heard
from tests.plugins.neo4j.graphs import ask, delivered, options, own, published, router, until
from tests.plugins.serve.served import Served

from squall import Event, Filter, Priority, Reject
from squall.plugins.memory import MemoryPlugin
from squall.plugins.neo4j.batches import Batch
from squall.plugins.neo4j.graph import Graph, Who
from squall.plugins.retry import RetryPlugin


async def test_flows_are_counted(neo4j_url: str) -> None:
    """Events by source and topic, deliveries by topic and service: acknowledged, failed, dead-lettered."""
    a = own()
    async with router(neo4j_url, RetryPlugin(attempts=3, base=0.01, cap=0.01)) as squall:
        billing, mailer = squall.subscriber(f"{a}-billing"), squall.subscriber(f"{a}-mailer")
        await billing.subscribe(f"{a}.order.*", Heard())
        await mailer.subscribe(f"{a}.>", FromAnswers(ValueError("once"), Reject("never")))
        for source, topic, count in (("shop", "created", 5), ("shop", "paid", 2), ("till", "paid", 3)):
            for _ in range(count):
                await squall.publisher(f"{a}-{source}").publish(f"{a}.order.{topic}", b"")

        async def retried() -> bool:
            counts = await delivered(neo4j_url, f"{a}.order.created")
            return sum(counts.get(f"{a}-mailer", ())) == 6

        await until(retried)
    assert await published(neo4j_url, f"{a}.order.created") == {f"{a}-shop": 5}
    assert await published(neo4j_url, f"{a}.order.paid") == {f"{a}-shop": 2, f"{a}-till": 3}
    assert await delivered(neo4j_url, f"{a}.order.created") == {f"{a}-billing": [5, 0, 0], f"{a}-mailer": [4, 1, 1]}
    assert await delivered(neo4j_url, f"{a}.order.paid") == {f"{a}-billing": [5, 0, 0], f"{a}-mailer": [5, 0, 0]}
    query = "MATCH (:Service {name: $name})-[:SUBSCRIBES]->(s) RETURN s.delivered, s.failed, s.dead_lettered"
    assert await ask(neo4j_url, query, name=f"{a}-mailer") == [[9, 1, 1]]


async def test_counts_go_on_where_they_were(neo4j_url: str) -> None:
    """Over a restart of the router; at most once is counted as well; the first time and the last are kept."""
    a = own()
    for count in (3, 4):
        async with router(neo4j_url) as squall:
            await squall.subscriber(f"{a}-audit").subscribe(a, Heard(), delivery="at-most-once")
            for _ in range(count):
                await squall.publisher(f"{a}-shop").publish(a, b"")
    assert await published(neo4j_url, a) == {f"{a}-shop": 7}
    assert await delivered(neo4j_url, a) == {f"{a}-audit": [7, 0, 0]}
    times = "MATCH ()-[p]->(:Topic {name: $topic}) WHERE type(p) = 'PUBLISHES' RETURN p.first < p.last"
    assert await ask(neo4j_url, times, topic=a) == [[True]]


async def test_routers_that_write_at_once_add_up(neo4j_url: str) -> None:
    """Three of them, the same topics and services in one graph, each with ten transactions at least."""
    a = own()

    async def batches(number: int) -> int:
        query: LiteralString = "MATCH (r:Router {name: $name}) RETURN r.batch"
        return max([0, *(int(batch) for (batch,) in await ask(neo4j_url, query, name=f"{a}-{number}"))])

    async def work(number: int) -> None:
        async with router(neo4j_url, flush=0.01, router=f"{a}-{number}") as squall:
            await squall.subscriber(f"{a}-billing").subscribe(f"{a}.>", Heard())
            for turn in range(100):
                for topic in range(5):
                    await squall.publisher(f"{a}-shop").publish(f"{a}.{(topic + number) % 5}", b"")
                if turn % 10 == 9:

                    async def written(so_many: int = turn // 10) -> bool:
                        return await batches(number) > so_many

                    await until(written)

    await asyncio.gather(*map(work, range(3)))
    for topic in range(5):
        assert await published(neo4j_url, f"{a}.{topic}") == {f"{a}-shop": 300}
        assert await delivered(neo4j_url, f"{a}.{topic}") == {f"{a}-billing": [300, 0, 0]}
    written = "MATCH (r:Router) WHERE r.name STARTS WITH $own RETURN r.batch >= 10, r.stopped IS NOT NULL, r.dropped"
    assert await ask(neo4j_url, written, own=a) == [[True, True, 0]] * 3


async def test_a_batch_that_is_sent_twice_at_once_counts_once(neo4j_url: str) -> None:
    """As where the first sending was given up here, and is still under way there."""
    a = own()
    graph = Graph(options(neo4j_url).options)
    now = datetime(2026, 1, 1, tzinfo=UTC)
    who = Who(a, a, "here", 1, now)
    row = {"service": a, "topic": a, "count": 1, "first": now, "last": now, "audit": a}
    try:
        await graph.prepare()
        for number in range(1, 31):
            batch = Batch(number, {"publishes": [row]})
            await asyncio.gather(*(graph.write(batch, who, now, 0) for _ in range(4)))
    finally:
        await graph.close()
    assert await published(neo4j_url, a) == {a: 30}


async def test_subscriptions_stand_in_the_graph_as_they_are(neo4j_url: str) -> None:
    """Whose they are, what they ask for, where they are attached; and when they are over."""
    a = own()
    query: LiteralString = """
        MATCH (v:Service {name: $name})-[:SUBSCRIBES]->(s:Subscription)
        OPTIONAL MATCH (s)-[a:ATTACHED_TO]->(r:Router)
        RETURN s.pattern, s.name, s.filters, s.priority_min, s.delivery, r.name, a.paused, s.ended IS NOT NULL
        ORDER BY s.pattern
        """

    async def standing() -> list[list[object]]:
        return await ask(neo4j_url, query, name=f"{a}-billing")

    def is_so(*rows: list[object]) -> Callable[[], Awaitable[object]]:
        async def check() -> bool:
            return await standing() == list(rows)

        return check

    async with router(neo4j_url, router=f"{a}-router") as squall:
        billing = squall.subscriber(f"{a}-billing")
        conditions: list[Filter | Callable[[Event], bool]] = [Filter(source="shop"), lambda event: True]
        plain = await billing.subscribe("a.*", Heard(), conditions, Priority.HIGH)
        named = await billing.subscribe("b", Heard(), name="invoices", delivery="at-most-once")
        await billing.pause_subscription(named)
        first = ["a.*", None, '[{"source":"shop"},"a function"]', "HIGH", "at-least-once", f"{a}-router"]
        second: list[object] = ["b", "invoices", "[]", None, "at-most-once"]
        await until(is_so([*first, False, False], [*second, f"{a}-router", True, False]))
        await billing.resume_subscription(named)
        await billing.unsubscribe(plain)
        await until(is_so([*first[:-1], None, None, True], [*second, f"{a}-router", False, False]))
        await billing.detach(named)
        await until(is_so([*first[:-1], None, None, True], [*second, None, None, False]))
        await billing.subscribe("b", Heard(), name="invoices", delivery="at-most-once")
        await billing.subscribe("c", Heard())
    third = ["c", None, "[]", None, "at-least-once", None, None, True]
    assert await standing() == [[*first[:-1], None, None, True], [*second, None, None, False], third]


async def test_the_audit_trail_says_who_did_what_where(neo4j_url: str) -> None:
    """Each act is a row; publishes are one row for each source and topic and hour, however many there are."""
    a = own()
    async with router(neo4j_url, router=f"{a}-router") as squall:
        mailer = squall.subscriber(f"{a}-mailer")
        mine = await mailer.subscribe(f"{a}.>", Heard())
        await mailer.pause_subscription(mine)
        await mailer.resume_subscription(mine)
        for _ in range(3):
            await squall.publisher(f"{a}-shop").publish(f"{a}.created", b"")
            await asyncio.sleep(0.06)
        await mailer.unsubscribe(mine)
    query: LiteralString = """
        MATCH (r:Router {name: $router}), (e:AuditEvent {router: r.id})
        OPTIONAL MATCH (e)-[:BY]->(v)
        OPTIONAL MATCH (e)-[:ABOUT]->(what)
        RETURN e.action, v.name, coalesce(e.pattern, what.name), e.host = r.host AND e.pid = r.pid, e.count
        ORDER BY e.count IS NOT NULL, toInteger(split(e.id, '/')[1])
        """
    by = f"{a}-mailer"
    assert await ask(neo4j_url, query, router=f"{a}-router") == [
        ["started", None, None, True, None],
        ["subscribed", by, f"{a}.>", True, None],
        ["paused", by, f"{a}.>", True, None],
        ["resumed", by, f"{a}.>", True, None],
        ["unsubscribed", by, f"{a}.>", True, None],
        ["stopped", None, None, True, None],
        ["published", f"{a}-shop", f"{a}.created", True, 3],
    ]


async def test_the_audit_trail_says_from_where_a_client_published_and_redrove(neo4j_url: str) -> None:
    """Through `squall serve`: its address; nothing where it was done in the router's own process."""
    a = own()
    query: LiteralString = """
        MATCH (r:Router {name: $router}), (e:AuditEvent {router: r.id})-[:ABOUT]->(what)
        WHERE e.action = $action
        RETURN e.origin, e.count, e.detail, coalesce(e.name, what.name), what.id
        ORDER BY e.origin IS NOT NULL
        """

    async def rows(action: str) -> list[list[object]]:
        return await ask(neo4j_url, query, router=f"{a}-router", action=action)

    broken = Heard(Reject("no"))
    async with Served(MemoryPlugin(), options(neo4j_url, router=f"{a}-router")) as served:
        squall = served.router
        mine = await squall.subscriber(f"{a}-mailer").subscribe(f"{a}.>", broken, name=f"{a}-mails")
        await squall.publisher(f"{a}-shop").publish(f"{a}.created", b"")
        sent = await served.post(b"", id="1", source=f"{a}-shop", type=f"{a}.created", specversion="1.0")
        assert sent.status == 200

        async def buried() -> bool:
            return len(await served.dead()) == 2

        await until(buried)
        broken.fail = None
        path = "/v1/dead-letters/redrive"
        token = (await served.http("POST", path, b'{"seqs": [1]}')).json["token"]
        body = json.dumps({"seqs": [1], "token": token}).encode()
        assert len((await served.http("POST", path, body)).json["given_back"]) == 1
        await squall.redrive((await squall.plan_redrive()).token)

        async def written() -> bool:
            return len([*await rows("redrove"), *await rows("published")]) == 4

        await until(written)
    name, told = f"{a}-mails", "dead letters of 1 events:"
    assert await rows("redrove") == [
        [None, None, f"{told} 2", name, mine],
        ["127.0.0.1", None, f"{told} 1", name, mine],
    ]
    assert await rows("published") == [
        [None, 1, None, f"{a}.created", None],
        ["127.0.0.1", 1, None, f"{a}.created", None],
    ]
    assert await published(neo4j_url, f"{a}.created") == {f"{a}-shop": 2}


async def test_what_keeps_the_graph_in_order_is_set_up(neo4j_url: str) -> None:
    """Each node is there once, audit rows are found by time, and the schema has a version."""
    async with router(neo4j_url):
        pass
    constraints = await ask(neo4j_url, "SHOW CONSTRAINTS YIELD labelsOrTypes, properties, type RETURN *")
    found = {(*labels, *properties) for labels, properties, kind in constraints if kind == "UNIQUENESS"}
    for label, name in (("Router", "id"), ("Service", "name"), ("Topic", "name"), ("Subscription", "id")):
        assert (label, name) in found
    assert ("AuditEvent", "id") in found
    assert [["AuditEvent"], ["ts"]] in await ask(neo4j_url, "SHOW INDEXES YIELD labelsOrTypes, properties RETURN *")
    assert await ask(neo4j_url, "MATCH (n:SquallSchema) RETURN n.version") == [[1]]
