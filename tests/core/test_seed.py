"""The seed's page, line by line: every class, method, parameter, order and default exists, and is used here."""

from __future__ import annotations

import ast
import asyncio
import importlib
import importlib.metadata
import inspect
import subprocess
import sys
import typing
import uuid
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from tests.core.world import World, until

import squall
from squall import (
    Event,
    EventData,
    EventPublisher,
    EventRouter,
    EventSubscriber,
    Filter,
    Priority,
    PriorityEventQueue,
    RouterMetrics,
    RoutingRule,
    Subscription,
)

REQUIRED = inspect.Parameter.empty

EVENT_FIELDS = [
    ("id", str),
    ("type", str),
    ("source", str),
    ("timestamp", datetime),
    ("priority", Priority),
    ("correlation_id", str),
    ("metadata", dict),
    ("payload", bytes),
    ("version", str),
]
SUBSCRIPTION_FIELDS = [
    "id",
    "subscriber_id",
    "pattern",
    "handler",
    "filters",
    "priority_filter",
    "created_at",
    "last_delivered",
    "delivery_count",
    "error_count",
]
METHODS = [
    (
        EventPublisher,
        "publish",
        [
            ("event_type", REQUIRED),
            ("payload", REQUIRED),
            ("priority", Priority.NORMAL),
            ("correlation_id", None),
        ],
        True,
        str,
    ),
    (EventPublisher, "publish_batch", [("events", REQUIRED)], True, list[str]),
    (EventPublisher, "publish_sync", [("event_type", REQUIRED), ("payload", REQUIRED)], False, str),
    (
        EventSubscriber,
        "subscribe",
        [("pattern", REQUIRED), ("handler", REQUIRED), ("filters", None), ("priority_min", None)],
        True,
        str,
    ),
    (EventSubscriber, "unsubscribe", [("subscription_id", REQUIRED)], True, type(None)),
    (EventSubscriber, "pause_subscription", [("subscription_id", REQUIRED)], True, type(None)),
    (EventSubscriber, "resume_subscription", [("subscription_id", REQUIRED)], True, type(None)),
    (EventRouter, "start", [], True, type(None)),
    (EventRouter, "stop", [], True, type(None)),
    (EventRouter, "route_event", [("event", REQUIRED)], True, type(None)),
    (EventRouter, "add_routing_rule", [("rule", REQUIRED)], False, type(None)),
    (EventRouter, "get_metrics", [], False, RouterMetrics),
]


def positional(owner: object, name: str) -> list[tuple[str, object]]:
    """The parameters that can be given by position, with their defaults, without self."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [*inspect.signature(getattr(owner, name)).parameters.values()][1:]
    return [(one.name, one.default) for one in parameters if one.kind in kinds]


@pytest.mark.parametrize(("owner", "name", "parameters", "is_async", "returns"), METHODS)
def test_method_is_as_the_seed_writes_it(
    owner: type, name: str, parameters: list[tuple[str, object]], is_async: bool, returns: object
) -> None:
    """Names, order, defaults, async or not, and the answer's type; what was added is keyword-only with a default."""
    method = getattr(owner, name)
    assert positional(owner, name) == parameters
    assert inspect.iscoroutinefunction(method) is is_async
    assert typing.get_type_hints(method)["return"] == returns
    added = [p for p in inspect.signature(method).parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    assert all(one.default is not REQUIRED for one in added)


def test_a_signature_that_differs_is_noticed() -> None:
    """The check above compares order, names and defaults."""

    class Wrong:
        async def publish(self, event_type: str, payload: object, correlation_id: str | None = None) -> str:
            raise NotImplementedError

    assert positional(Wrong, "publish") != METHODS[0][2]


def test_event_has_the_seeds_fields_in_order() -> None:
    """Nine fields, by position and by name, of the seed's types; the rest is keyword-only."""
    own = msgspec.structs.fields(Event)
    assert [field.name for field in own][: len(EVENT_FIELDS)] == [name for name, _ in EVENT_FIELDS]
    for field, (_, kind) in zip(own, EVENT_FIELDS, strict=False):
        assert (typing.get_origin(field.type) or field.type) is kind
        assert field.required
    assert not any(field.required for field in own[len(EVENT_FIELDS) :])
    values = ("i", "agent.started", "agent-1", datetime.now(UTC), Priority.LOW, "c", {"a": 1}, b"p", "1")
    made = Event(*values)
    assert tuple(getattr(made, name) for name, _ in EVENT_FIELDS) == values


def test_priorities_are_the_four_of_the_seed() -> None:
    """Most urgent first."""
    assert [one.name for one in Priority] == ["CRITICAL", "HIGH", "NORMAL", "LOW"]
    assert sorted(Priority) == [*Priority]


def test_subscription_has_the_seeds_fields_in_order() -> None:
    """Ten fields by position; what was added is keyword-only."""
    own = fields(Subscription)
    assert [field.name for field in own if not field.kw_only] == SUBSCRIPTION_FIELDS


def test_queue_has_the_seeds_attributes() -> None:
    """Four queues with a queue's non-blocking methods, depths and rates."""
    queue = PriorityEventQueue()
    levels = (queue.critical_queue, queue.high_queue, queue.normal_queue, queue.low_queue)
    for level in levels:
        assert level.empty()
        assert not level.full()
        assert level.qsize() == 0
        with pytest.raises(asyncio.QueueEmpty):
            level.get_nowait()
    one = Event("i", "a", "s", datetime.now(UTC), Priority.LOW, "c", {}, b"", "1")
    queue.low_queue.put_nowait(one)
    assert (queue.low_queue.qsize(), queue.low_queue.empty()) == (1, False)
    assert queue.queue_depths == {Priority.CRITICAL: 0, Priority.HIGH: 0, Priority.NORMAL: 0, Priority.LOW: 1}
    assert queue.processing_rates == dict.fromkeys(Priority, 0.0)
    assert queue.low_queue.get_nowait() is one


async def test_every_call_of_the_seed_works_as_written() -> None:
    """One walk through the page: publish three ways, subscribe, pause, resume, unsubscribe, rule, route, measure."""
    world = World()
    heard: list[Event] = []

    async def handler(event: Event) -> None:
        heard.append(event)

    router = world.router
    assert await router.start() is None  # type: ignore[func-returns-value]
    publisher, subscriber = EventPublisher(router), EventSubscriber(router)
    subscription_id = await subscriber.subscribe("agent.*", handler, [Filter(source="squall")], Priority.NORMAL)
    assert uuid.UUID(subscription_id).version == 4

    event_id = await publisher.publish("agent.started", {"n": 1}, Priority.HIGH, "request-1")
    await publisher.publish("agent.started", b"", Priority.LOW)
    batch = await publisher.publish_batch([EventData("agent.a", b"1"), EventData("agent.b", b"2", Priority.CRITICAL)])
    await until(lambda: len(heard) == 3)
    first = next(one for one in heard if one.type == "agent.started")
    assert (first.id, first.type, first.source, first.priority) == (event_id, "agent.started", "squall", Priority.HIGH)
    assert (first.correlation_id, first.data, first.version) == ("request-1", {"n": 1}, "1")
    assert uuid.UUID(first.id).version == 4
    assert first.timestamp.utcoffset() == timedelta(0)
    assert {one.id for one in heard} == {event_id, *batch}

    assert await subscriber.pause_subscription(subscription_id) is None  # type: ignore[func-returns-value]
    assert uuid.UUID(await asyncio.to_thread(publisher.publish_sync, "agent.sync", b"s")).version == 4
    await world.clock.settle()
    assert len(heard) == 3
    assert await subscriber.resume_subscription(subscription_id) is None  # type: ignore[func-returns-value]
    await until(lambda: len(heard) == 4)

    router.add_routing_rule(RoutingRule("agent.old", target="agent.new"))
    ready = Event("7", "agent.old", "squall", datetime(2026, 1, 1, tzinfo=UTC), Priority.NORMAL, "c", {}, b"x", "3")
    assert await router.route_event(ready) is None  # type: ignore[func-returns-value]
    await until(lambda: len(heard) == 5)
    assert (heard[4].id, heard[4].type, heard[4].version) == ("7", "agent.new", "3")
    assert heard[4].timestamp == ready.timestamp

    await world.clock.settle()
    metrics = router.get_metrics()
    assert isinstance(metrics, RouterMetrics)
    assert (metrics.published, metrics.delivered, metrics.subscriptions) == (6, 5, 1)
    await subscriber.unsubscribe(subscription_id)
    await publisher.publish("agent.late", b"")
    await world.clock.settle()
    assert len(heard) == 5
    await world.stop()


async def test_what_a_plugin_sees_is_the_seeds_subscription() -> None:
    """A handler that settles by hand is shown its subscription, whose counts have moved."""
    seen: list[Subscription] = []

    async def handler(event: Event, delivery: squall.Delivery) -> None:
        seen.append(delivery.subscription)

    async with World() as world:
        before = datetime.fromtimestamp(world.clock.time_ns() / 1e9, UTC)
        own = await world.subscriber.subscribe("agent.>", handler, priority_filter=Priority.HIGH)
        await world.publish("agent.a", priority=Priority.HIGH)
        await world.publish("agent.b", priority=Priority.CRITICAL)
        await world.clock.advance(0.1)
        (one,) = seen
        assert (one.id, one.subscriber_id, one.pattern, one.handler) == (own, "billing", "agent.>", handler)
        assert (one.filters, one.priority_filter, one.created_at) == ([], Priority.HIGH, before)
        assert (one.delivery_count, one.error_count) == (1, 0)
        assert one.last_delivered is not None
        assert before <= one.last_delivered <= before + timedelta(seconds=0.1)


def homes() -> dict[str, str]:
    """The module that each public name is said to come from, for readers and type checkers."""
    assert squall.__file__ is not None
    tree = ast.parse(Path(squall.__file__).read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    return {
        alias.name: node.module or ""
        for node in imports
        for alias in node.names
        if (node.module or "").startswith("squall.")
    }


def test_the_public_names_are_all_there() -> None:
    """`from squall import …` gives what the page names; what is exported is what is said to be."""
    named = {owner.__name__ for owner, *_ in METHODS} | {"Event", "Priority", "Subscription", "Filter", "EventData"}
    assert named | {"PriorityEventQueue", "RoutingRule", "RouterMetrics"} <= set(squall.__all__) == set(homes())


def test_the_public_names_can_be_looked_for() -> None:
    """Before any of them was imported, as in an interactive session; the version too."""
    program = "import squall; print(*dir(squall)); print(squall.__version__)"
    names, told = subprocess.check_output([sys.executable, "-c", program], text=True).splitlines()
    assert {*squall.__all__, "__version__", "__doc__"} <= set(names.split())
    assert told == squall.__version__ == importlib.metadata.version("squall")
    with pytest.raises(AttributeError, match="'squall' has no attribute 'EventRuoter'"):
        _ = vars(squall)["__getattr__"]("EventRuoter")


@pytest.mark.parametrize("name", squall.__all__)
def test_every_public_name_is_the_one_of_its_home(name: str) -> None:
    """No other module's thing of the same name is given instead."""
    assert getattr(squall, name) is getattr(importlib.import_module(homes()[name]), name)
