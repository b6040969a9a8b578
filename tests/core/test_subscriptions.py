"""Subscribing: which events a subscription gets, and what is refused when it is made."""

from __future__ import annotations

from typing import Any

import pytest
from tests.core.world import Heard, World

from squall import (
    Filter,
    Gate,
    Plugin,
    Priority,
    Subscription,
    SubscriptionError,
    hookimpl,
)
from squall.core.plugin import Context


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "abcd"),
        ({"priority_min": Priority.HIGH}, "ab"),
        ({"priority_filter": Priority.HIGH}, "b"),
        ({"priority_filter": Priority.LOW, "priority_min": Priority.HIGH}, ""),
        ({"filters": [Filter(min_bytes=1)]}, "c"),
        ({"filters": [lambda event: event.type in "ad"]}, "ad"),
        ({"filters": [Filter(max_bytes=0), lambda event: event.type in "acd"], "priority_min": Priority.NORMAL}, "a"),
    ],
)
@pytest.mark.parametrize("name", [None, "durable"])
async def test_a_subscription_gets_what_pattern_priority_and_filters_agree_on(
    options: dict[str, Any], wanted: str, name: str | None
) -> None:
    """All must hold; the others are settled without being delivered."""
    heard = Heard()
    if name and any(not isinstance(one, Filter) for one in options.get("filters", [])):
        options = {**options, "filters": [Filter(any=tuple(Filter(type=one) for one in wanted))]}
    async with World() as world:
        await world.subscriber.subscribe("*", heard, name=name, **options)
        for kind, priority in zip("abcd", Priority, strict=True):
            await world.publisher.publish(kind, b"1" if kind == "c" else b"", priority)
        await world.clock.settle()
        assert sorted(heard.types) == [*wanted]
        assert world.router.get_metrics().pending == 0


async def test_a_filter_that_raises_is_not_the_publishers_problem() -> None:
    """The event is delivered rather than lost, and the mistake is logged."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard, filters=[lambda event: bool(1 // 0)])
        await world.publish("a")
        await world.clock.settle()
        assert heard.types == ["a"]
        assert "a filter raised" in world.log.text


async def test_filters_of_a_durable_subscription_are_data() -> None:
    """They are stored with it: a function is refused, and nothing is left of the attempt."""
    async with World() as world:
        with pytest.raises(SubscriptionError, match=r"are data.*expected squall\.Filter"):
            await world.subscriber.subscribe(">", Heard(), filters=[lambda event: True], name="billing")
        assert world.router.get_metrics().subscriptions == 0
        await world.subscriber.subscribe("a", Heard(), name="billing")


WRONG_OPTIONS: list[Any] = [
    ({"concurrency": 0}, "concurrency: expected 1 to 10000, got 0"),
    ({"concurrency": True}, "concurrency: expected"),
    ({"in_flight": 0}, "in_flight: expected"),
    ({"timeout_s": 0}, r"timeout_s: expected 0\.001 to"),
    ({"timeout_s": "5"}, "timeout_s: expected"),
    ({"delivery": "exactly-once"}, "delivery: expected one of at-least-once, at-most-once"),
    ({"overflow": "drop_all"}, "overflow: expected one of"),
    ({"on_retry": "stop"}, "on_retry: expected one of"),
    ({"pattern": "a..b"}, "pattern: "),
    pytest.param({"concurrency": 1.5}, "concurrency: expected"),
    pytest.param({"start": "latest"}, "start: expected"),
    pytest.param({"start": -1}, "start: expected"),
    pytest.param({"name": ""}, "name: expected"),
    pytest.param({"name": "x" * 257}, "name: expected"),
    pytest.param({"name": 7}, "name: expected"),
    pytest.param({"priority_min": "HIGH"}, "priority_min: expected"),
    pytest.param({"priority_filter": "HIGH"}, "priority_filter: expected"),
    pytest.param({"filters": ["a"]}, "filters: expected"),
]


@pytest.mark.parametrize(("options", "complaint"), WRONG_OPTIONS)
async def test_a_wrong_option_is_refused_at_subscribe(options: dict[str, Any], complaint: str) -> None:
    """By name, with what is expected and what was given; nothing is subscribed."""
    async with World() as world:
        with pytest.raises(SubscriptionError, match=complaint):
            await world.subscriber.subscribe(**{"pattern": ">", "handler": Heard(), **options})
        assert world.router.get_metrics().subscriptions == 0


class NoGate(Plugin):
    """Raises for some subscriptions."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate | None:
        if subscription.pattern == "bad":
            raise ValueError("no gate today")
        return None


@pytest.mark.parametrize("name", [None, "billing"])
async def test_a_subscribe_that_fails_leaves_nothing_behind(name: str | None) -> None:
    """A plugin that raises for it: the name is as free as before."""
    heard = Heard()
    async with World(NoGate()) as world:
        with pytest.raises(Exception, match="squall_gate"):
            await world.subscriber.subscribe("bad", Heard(), name=name)
        assert world.router.get_metrics().subscriptions == 0
        await world.subscriber.subscribe("good", heard, name=name)
        await world.publish("good")
        await world.clock.settle()
        assert heard.types == ["good"]
