"""Routing rules: re-target, drop with a count, copy, change priority; what is stored is what is delivered."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.test_patterns import matches
from tests.core.world import Drops, Heard, World

from squall import (
    ConfigError,
    Event,
    EventData,
    Filter,
    InvalidEvent,
    Priority,
    Query,
    RoutingRule,
    SubscriptionError,
)
from squall.core.config import Backlog
from squall.core.errors import Overflow


async def stored(world: World) -> list[Event]:
    return [*(await world.router.store.read(Query())).events]


@pytest.mark.parametrize("where", ["target", "copy_to"])
def test_no_rule_makes_an_event_squalls_own(where: str) -> None:
    """What cannot be published cannot be made of what is published either."""
    with pytest.raises(InvalidEvent, match=r"not begin with '\$'"):
        RoutingRule("order.*", **{where: "$order"})  # type: ignore[arg-type]


async def test_an_event_is_sent_elsewhere() -> None:
    """Under its new type it finds other subscribers, and is stored so."""
    old, new = Heard(), Heard()
    async with World() as world:
        await world.subscriber.subscribe("order.*", old)
        await world.subscriber.subscribe("sale.*", new)
        rule = RoutingRule("order.*", target="sale.made")
        world.router.add_routing_rule(rule)
        (own,) = await world.publish("order.created")
        await world.clock.settle()
        assert (old.types, new.types, new.ids, rule.count) == ([], ["sale.made"], [own], 1)
        assert [one.type for one in await stored(world)] == ["sale.made"]


async def test_the_receipt_of_a_dropped_event_claims_nothing() -> None:
    """It was taken, and nothing was stored."""
    async with World() as world:
        world.router.add_routing_rule(RoutingRule("debug.>", drop=True))
        receipt = await world.publisher.publish_with_receipt("debug.a", b"")
        assert (receipt.seq, receipt.durability) == (0, None)
        assert (await world.publisher.publish_with_receipt("order.a", b"")).durability == "memory"


async def test_a_dropped_event_is_counted_and_told() -> None:
    """It is neither stored nor delivered, the publish succeeds, and both the rule and observers know."""
    heard, drops = Heard(), Drops()
    async with World(drops) as world:
        await world.subscriber.subscribe(">", heard)
        rule = RoutingRule("debug.>", drop=True)
        world.router.add_routing_rule(rule)
        await world.publish("debug.a", "order.a", "debug.b.c")
        await world.clock.settle()
        assert heard.types == ["order.a"]
        assert [one.type for one in await stored(world)] == ["order.a"]
        assert rule.count == 2
        assert drops.told == [("debug.a", None, "routing rule"), ("debug.b.c", None, "routing rule")]


async def test_a_copy_has_an_id_of_its_own() -> None:
    """Original and copy are both stored and delivered; they share no metadata, so that nothing can leak."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        world.router.add_routing_rule(RoutingRule("order.*", copy_to="audit.order"))
        own = await world.publisher.publish("order.created", b"p", correlation_id="c", key="k", metadata={"a": 1})
        await world.clock.settle()
        original, copy = heard.events
        assert (original.type, original.id, copy.type) == ("order.created", own, "audit.order")
        assert copy.id != original.id
        assert (copy.payload, copy.correlation_id, copy.key, copy.metadata) == (b"p", "c", "k", {"a": 1})
        assert copy.metadata is not original.metadata
        assert [one.seq for one in await stored(world)] == [original.seq, copy.seq] == [1, 2]


async def test_a_priority_is_changed_before_the_event_waits() -> None:
    """A raised event overtakes; it is stored with its new priority."""
    heard = Heard()
    async with World() as world:
        own = await world.subscriber.subscribe(">", heard)
        await world.subscriber.pause_subscription(own)
        world.router.add_routing_rule(RoutingRule("alarm.*", priority=Priority.CRITICAL))
        await world.publish("order.a", "alarm.fire", priority=Priority.LOW)
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert heard.types == ["alarm.fire", "order.a"]
        assert [one.priority for one in await stored(world)] == [Priority.LOW, Priority.CRITICAL]


async def test_rules_act_in_their_order_and_copies_meet_none() -> None:
    """Each sees what the ones before it made; a drop ends an event, but not the copies made of it."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        rules = [
            RoutingRule("a", target="b"),
            RoutingRule("b", copy_to="b.copy"),
            RoutingRule("b.copy", drop=True),
            RoutingRule("b", drop=True),
            RoutingRule("b", target="never"),
        ]
        for rule in rules:
            world.router.add_routing_rule(rule)
        await world.publish("a")
        await world.clock.settle()
        assert heard.types == ["b.copy"]
        assert [rule.count for rule in rules] == [1, 1, 0, 1, 0]


async def test_a_rule_may_ask_for_more_than_a_type() -> None:
    """Filters as data; all must hold."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        world.router.add_routing_rule(
            RoutingRule("order.*", target="order.big", filters=[Filter(min_bytes=3), Filter(source="shop")])
        )
        for payload in (b"12", b"123"):
            await world.publisher.publish("order.a", payload)
        await world.router.publisher("bank").publish("order.a", b"123")
        await world.clock.settle()
        assert heard.types == ["order.a", "order.big", "order.a"]


async def test_rules_act_on_batches_and_ready_events_alike() -> None:
    """Every way in meets the rules; a batch whose every event is dropped stores nothing and succeeds."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        world.router.add_routing_rule(RoutingRule("debug.*", drop=True))
        world.router.add_routing_rule(RoutingRule("old", target="new"))
        ids = await world.publisher.publish_batch([EventData("debug.a", b""), EventData("old", b"")])
        assert len(ids) == 2
        await world.publisher.publish_batch([EventData("debug.a", b"")])
        await world.router.route_event(heard_event("old"))
        await world.clock.settle()
        assert heard.types == ["new", "new"]
        assert (await world.router.store.counts()).events == 2


def heard_event(event_type: str) -> Event:
    """A ready-made event, as another system would hand it over."""
    return Event("own-id", event_type, "bridge", 0, Priority.NORMAL, "c", {}, b"", "1")  # type: ignore[arg-type]


async def test_rules_survive_a_restart() -> None:
    """They belong to the router, not to its run."""
    world, heard = World(), Heard()
    world.router.add_routing_rule(RoutingRule("a", target="b"))
    async with world:
        pass
    async with world:
        await world.subscriber.subscribe("b", heard)
        await world.publish("a")
        await world.clock.settle()
    assert heard.types == ["b"]


async def test_a_copy_without_room_holds_the_original_too() -> None:
    """What one publish becomes is stored as a whole or not at all."""
    heard = Heard()
    async with World(backlog=Backlog(max_events=1, overflow="reject")) as world:
        own = await world.subscriber.subscribe("audit.*", heard)
        await world.subscriber.pause_subscription(own)
        world.router.add_routing_rule(RoutingRule("order.*", copy_to="audit.order"))
        await world.publish("order.a")
        with pytest.raises(Overflow):
            await world.publish("order.b")
        assert [one.type for one in await stored(world)] == ["order.a", "audit.order"]


def test_a_rule_that_says_nothing_or_nonsense_is_refused() -> None:
    """At its making, with what was expected."""
    with pytest.raises(ConfigError, match="expected one of target, drop, copy_to, priority"):
        RoutingRule("order.*")
    with pytest.raises(SubscriptionError, match="pattern"):
        RoutingRule("order.>.x", drop=True)
    with pytest.raises(InvalidEvent, match="target: token 2"):
        RoutingRule("order.*", target="order.*")
    with pytest.raises(InvalidEvent, match="copy_to: token 1"):
        RoutingRule("order.*", copy_to="a b")


names = st.sampled_from(["a", "b", "a.b", "a.c", "b.c"])
rule_trees = st.fixed_dictionaries(
    {"pattern": st.sampled_from(["a", "a.*", ">", "*", "b.>"])},
    optional={
        "target": names,
        "drop": st.just(True),
        "copy_to": names,
        "priority": st.sampled_from([*Priority]),
        "min_bytes": st.integers(0, 2),
    },
).filter(lambda tree: bool(tree.keys() & {"target", "drop", "copy_to", "priority"}))


def expected(rules: list[dict[str, object]], kind: str, size: int) -> list[tuple[str, Priority]]:
    """(type, priority) of what one NORMAL event becomes, by the plain meaning of the rules, the original first."""
    priority, copies, dropped = Priority.NORMAL, list[tuple[str, Priority]](), False
    for rule in rules:
        least = rule.get("min_bytes", 0)
        assert isinstance(least, int)
        if dropped or not matches(str(rule["pattern"]), kind) or size < least:
            continue
        if rule.get("drop"):
            dropped = True
            continue
        if "copy_to" in rule:
            copies.append((str(rule["copy_to"]), priority))
        kind = str(rule.get("target", kind))
        changed = rule.get("priority", priority)
        assert isinstance(changed, Priority)
        priority = changed
    return copies if dropped else [(kind, priority), *copies]


@given(st.lists(rule_trees, max_size=4), st.lists(st.tuples(names, st.integers(0, 2)), min_size=1, max_size=5))
@settings(max_examples=50)
def test_rules_agree_with_their_plain_meaning(rules: list[dict[str, object]], published: list[tuple[str, int]]) -> None:
    """Any rules on any events: what is stored is what is delivered, and both are what the rules say."""

    async def run() -> None:
        heard = Heard()
        async with World() as world:
            await world.subscriber.subscribe(">", heard)
            for tree in rules:
                own = {**tree, "filters": [Filter.of("filter", {"min_bytes": tree.get("min_bytes")})]}
                own.pop("min_bytes", None)
                world.router.add_routing_rule(RoutingRule(**own))  # type: ignore[arg-type]
            for kind, size in published:
                await world.publisher.publish(kind, b"." * size)
            await world.clock.settle()
            wanted = [one for kind, size in published for one in expected(rules, kind, size)]
            found = await stored(world)
            assert [(one.type, one.priority) for one in found] == wanted
            assert sorted(heard.seqs) == [one.seq for one in found]
            assert {one.seq: (one.type, one.priority) for one in heard.events} == {
                one.seq: (one.type, one.priority) for one in found
            }

    asyncio.run(run())
