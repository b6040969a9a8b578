"""What is given in Python is checked when it is made or handed over, and told with what was expected."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from tests.core.world import Heard, World

from squall import (
    Backlog,
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
from squall.core.config import Backlog as BacklogModel
from squall.plugins.retry import RetryOptions


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"priority": "HIGH"}, r"RoutingRule: priority: expected a squall\.Priority, such as .*, got 'HIGH'"),
        ({"priority": 1}, "RoutingRule: priority: expected a squall.Priority, such as .*, got 1"),
        ({"drop": "yes"}, "RoutingRule: drop: expected True or False, got 'yes'"),
        (
            {"drop": True, "filters": [lambda event: True]},
            "RoutingRule: filters: expected a list of squall.Filter, got",
        ),
        ({"drop": True, "filters": Filter(source="shop")}, "RoutingRule: filters: expected a list of squall.Filter"),
        ({"drop": True, "filters": None}, "RoutingRule: filters: expected a list of squall.Filter, got None"),
        ({}, "RoutingRule: expected one of target, drop, copy_to, priority for 'order.*', got none of them"),
        ({"target": ""}, "RoutingRule: target: expected tokens separated by dots, .* got ''"),
        ({"copy_to": 7}, "RoutingRule: copy_to: expected tokens separated by dots, .* got 7"),
    ],
)
def test_a_rule_is_checked_when_it_is_made(options: dict[str, Any], told: str) -> None:
    """A wrong one would fail with each publish, or hold its room for ever."""
    with pytest.raises((ConfigError, InvalidEvent), match=told):
        RoutingRule("order.*", **options)


def test_all_that_is_wrong_with_a_rule_is_told_at_once() -> None:
    """A line for each problem."""
    with pytest.raises(ConfigError) as caught:
        RoutingRule("order.*", drop=1, priority="HIGH")  # type: ignore[arg-type]
    assert len(str(caught.value).splitlines()) == len(caught.value.problems) == 2


@pytest.mark.parametrize("pattern", [None, 5, b"order.>", "order..x"])
def test_a_rules_pattern_is_one(pattern: Any) -> None:
    with pytest.raises(SubscriptionError, match=r"pattern: .*, got"):
        RoutingRule(pattern, drop=True)


async def test_what_is_no_rule_is_refused_when_it_is_added() -> None:
    """And publishes go on as before."""
    async with World() as world:
        with pytest.raises(ConfigError, match=r"add_routing_rule: expected a squall\.RoutingRule, got 'drop'"):
            world.router.add_routing_rule("drop")  # type: ignore[arg-type]
        await world.publish("a")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"source": 5}, "Query: source: expected text, got 5"),
        ({"correlation_id": b"c"}, "Query: correlation_id: expected text, got b'c'"),
        ({"priority": "HIGH"}, r"Query: priority: expected a squall\.Priority, such as Priority.HIGH, got 'HIGH'"),
        ({"since_ns": 1.5}, r"Query: since_ns: expected a whole number, got 1\.5"),
        ({"until_ns": "now"}, "Query: until_ns: expected a whole number, got 'now'"),
        ({"after_seq": None}, "Query: after_seq: expected a whole number, got None"),
        ({"before_seq": 2**70}, "Query: before_seq: expected a whole number, got 118"),
        ({"seqs": 7}, "Query: seqs: expected a tuple of whole numbers, got 7"),
        ({"seqs": ("7",)}, r"Query: seqs: expected a tuple of whole numbers, got \('7',\)"),
        ({"own_id": 1}, "Query: own_id: expected True or False, got 1"),
        ({"newest_first": None}, "Query: newest_first: expected True or False, got None"),
        ({"limit": 0}, "Query: limit: expected a whole number of at least 1, got 0"),
        ({"limit": True}, "Query: limit: expected a whole number of at least 1, got True"),
    ],
)
def test_a_query_is_checked_when_it_is_made(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        Query(**options)


@pytest.mark.parametrize("pattern", [5, "order..x", ""])
def test_a_querys_pattern_is_one(pattern: Any) -> None:
    with pytest.raises(SubscriptionError, match=r"pattern: .*, got"):
        Query(pattern=pattern)


@pytest.mark.parametrize("query", ["order.>", 0, ""])
async def test_a_replay_wants_a_query(query: Any) -> None:
    """What says nothing is not taken for everything."""
    async with World() as world:
        with pytest.raises(ConfigError, match=r"replay: expected a squall\.Query, got"):
            world.router.replay(query)


@pytest.mark.parametrize(
    ("metadata", "told"),
    [
        ([("region", "eu")], r"metadata: expected a mapping of text to plain data, got \[\('region', 'eu'\)\]"),
        ("region", "metadata: expected a mapping of text to plain data, got 'region'"),
        (5, "metadata: expected a mapping of text to plain data, got 5"),
        ({1: "eu"}, "metadata: expected a mapping of text to plain data, got {1: 'eu'}"),
        ({"content-type": 5}, r"metadata\['content-type'\]: expected text, got 5"),
        ({"share": float("nan")}, "metadata: expected what JSON can hold"),
        ({"region": object()}, "metadata: expected what JSON can hold"),
    ],
)
async def test_metadata_is_plain_data_by_name(metadata: Any, told: str) -> None:
    """Of all ways to publish; nothing is stored."""
    async with World() as world:
        with pytest.raises(InvalidEvent, match=told):
            await world.publisher.publish("a", b"", metadata=metadata)
        with pytest.raises(InvalidEvent, match=rf"events\[1\]\.{told}.*; nothing of the batch was stored"):
            await world.publisher.publish_batch([EventData("a", b""), EventData("a", b"", metadata=metadata)])
        assert (await world.router.store.counts()).events == 0


@pytest.mark.parametrize("event_type", [["a"], {"a": 1}, None, 5, b"a"])
async def test_a_type_is_text(event_type: Any) -> None:
    """What cannot even be looked for, too."""
    async with World() as world:
        with pytest.raises(InvalidEvent, match="event_type: expected tokens separated by dots"):
            await world.publisher.publish(event_type, b"")
        with pytest.raises(InvalidEvent, match=r"events\[0\]\.event_type: expected tokens"):
            await world.publisher.publish_batch([EventData(event_type, b"")])


@pytest.mark.parametrize("entry", [{"event_type": "a", "payload": b""}, ("a", b""), "a", None])
async def test_a_batch_is_made_of_events(entry: Any) -> None:
    """The first that is none is named, and nothing is stored."""
    async with World() as world:
        for publish in (world.publisher.publish_batch, world.publisher.publish_batch_with_receipts):
            with pytest.raises(InvalidEvent, match=r"events\[1\]: expected a squall\.EventData, got .*nothing of the"):
                await publish([EventData("a", b""), entry])
        assert (await world.router.store.counts()).events == 0


@pytest.mark.parametrize("events", [EventData("a", b""), None, 5])
async def test_a_batch_is_a_list(events: Any) -> None:
    async with World() as world:
        with pytest.raises(InvalidEvent, match=r"events: expected a list of squall\.EventData, got"):
            await world.publisher.publish_batch(events)


@pytest.mark.parametrize("event", [EventData("a", b""), {"type": "a"}, None])
async def test_only_an_event_is_routed(event: Any) -> None:
    async with World() as world:
        with pytest.raises(InvalidEvent, match=r"route_event: expected a squall\.Event, got"):
            await world.router.route_event(event)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (
            lambda: Filter(sorce="shop", priority="URGENT", min_bytes="4"),  # type: ignore[call-arg, arg-type]
            [
                "Filter: priority: expected 'CRITICAL' or 'HIGH' or 'NORMAL' or 'LOW', got 'URGENT'",
                "Filter: min_bytes: expected a whole number, got the text '4'",
                "Filter: 'sorce' is not an option of a filter (did you mean 'source'?)",
            ],
        ),
        (lambda: Filter(not_="a"), ["Filter: not_: expected a mapping, got 'a'"]),  # type: ignore[arg-type]
        (
            lambda: Backlog(max_events=0, overflow="drop"),  # type: ignore[arg-type]
            [
                "Backlog: max_events: expected at least 1, got 0",
                "Backlog: overflow: expected 'block', 'reject', 'drop_new', 'dead_letter_new', 'drop_old' or "
                "'drop_lowest', got 'drop' (did you mean 'drop_old'?)",
            ],
        ),
        (lambda: RetryOptions(attempts=0), ["RetryOptions: attempts: expected at least 1, got 0"]),
    ],
)
def test_options_made_in_python_tell_their_problems_as_squalls(make: Callable[[], object], told: list[str]) -> None:
    """A line for each, with the nearest right name, and nothing of the library that found them."""
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value).splitlines() == told


def test_options_within_a_file_keep_their_places() -> None:
    """A filter inside of a filter, and one that is given whole."""
    with pytest.raises(ConfigError, match=r"^here: any\[1\]\.type: expected text, got 5"):
        Filter.of("here", {"any": [{"type": "a"}, {"type": 5}]})
    assert Filter(any=[Filter(source="a")]) == Filter.of("here", {"any": [{"source": "a"}]})  # type: ignore[arg-type]
    assert Backlog is BacklogModel


class Calls:
    """An object that is called like a function, and is async."""

    async def __call__(self, event: Event) -> bool:
        return False


async def filters(event: Event) -> bool:
    """An async function where a plain one is meant."""
    return False


@pytest.mark.parametrize("test", [filters, Calls()])
async def test_an_async_filter_is_refused(test: Any) -> None:
    """What it returns is true whatever it says: everything would be delivered."""
    async with World() as world:
        with pytest.raises(SubscriptionError, match=r"filters: expected .* a plain function of an event, not an async"):
            await world.subscriber.subscribe(">", Heard(), [test])


async def test_an_object_with_an_async_call_handles_events() -> None:
    """Where async is meant it is as good as a function."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        await world.publisher.publish("a", b"", Priority.HIGH)
        await world.clock.settle()
        assert heard.types == ["a"]
        assert world.log.at_least(logging.WARNING) == []
