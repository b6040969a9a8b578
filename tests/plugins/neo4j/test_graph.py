"""What a router does stands in the graph: flows with exact counts, subscriptions, an audit trail."""

from __future__ import annotations

from tests.core.world import FromAnswers, Heard
from tests.plugins.neo4j.graphs import ask, delivered, own, published, router, until

from squall import Reject
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
