"""Handlers: how many run at once, what they may be, and that returning acknowledges."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

import pytest
from tests.core.world import Heard, Held, World

from squall import (
    Delivery,
    Event,
    SubscriptionError,
)


async def test_as_many_handlers_run_at_once_as_asked() -> None:
    """Concurrency is there as soon as there is work for it, not once the first handler has ended."""
    held = Held()
    async with World() as world:
        await world.subscriber.subscribe(">", held, concurrency=3)
        await world.publish(*"abcd")
        await world.clock.settle()
        running = len(held.running)
        held.finish_all()
        await world.clock.settle()
        held.finish_all()
        assert running == 3


async def test_one_handler_at_a_time_is_the_default() -> None:
    """The next begins when the one before has ended."""
    held = Held()
    async with World() as world:
        await world.subscriber.subscribe(">", held)
        await world.publish("a", "b")
        await world.clock.settle()
        assert held.seqs == [1]
        held.finish_all()
        await world.clock.settle()
        assert held.seqs == [1, 2]
        held.finish_all()


async def test_a_slow_subscriber_delays_nobody_else() -> None:
    """Each subscription has its own queue and workers."""
    held, heard = Held(), Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", held)
        await world.subscriber.subscribe(">", heard)
        await world.publish(*"abc")
        await world.clock.settle()
        assert (len(held.running), heard.types) == (1, ["a", "b", "c"])
        for _ in range(3):
            held.finish_all()
            await world.clock.settle()


async def test_returning_is_an_acknowledgement() -> None:
    """Counted on the subscription and in the router's metrics; nothing is left."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        await world.publish(*"abc")
        await world.clock.settle()
        metrics = world.router.get_metrics()
        assert (metrics.delivered, metrics.failed, metrics.dead_lettered, metrics.pending) == (3, 0, 0, 0)


async def test_handlers_of_every_shape_are_called_as_they_ask() -> None:
    """Functions, methods, callable objects and partials, of one or two parameters."""
    heard = list[str]()

    async def plain(event: Event) -> None:
        heard.append("plain")

    async def by_hand(event: Event, own: Delivery) -> None:
        own.ack()
        heard.append("by_hand")

    async def optional(event: Event, delivery: Delivery | None = None) -> None:
        assert delivery is not None
        heard.append("optional")

    async def other(event: Event, times: int = 2) -> None:
        assert times == 2
        heard.append("other")

    async def bound(first: int, event: Event) -> None:
        heard.append("bound")

    async with World() as world:
        for handler in (plain, by_hand, optional, other, functools.partial(bound, 1), Heard(), Heard().__call__):
            await world.subscriber.subscribe(">", handler)
        await world.publish("a")
        await world.clock.settle()
        assert await world.reasons() == []
        assert sorted(heard) == ["bound", "by_hand", "optional", "other", "plain"]


def not_async(event: Event) -> None:
    """A plain function: it would block everybody."""


async def of_none() -> None:
    """Takes nothing."""


async def of_three(event: Event, delivery: Delivery, more: int) -> None:
    """Asks for more than there is."""


@pytest.mark.parametrize("handler", [not_async, of_none, of_three, print, None, "handler", lambda event: None])
async def test_what_is_no_handler_is_refused(handler: Any) -> None:
    """At subscribe, with what is expected."""
    async with World() as world:
        with pytest.raises(SubscriptionError, match=r"handler: expected .* got "):
            await world.subscriber.subscribe(">", handler)
        assert world.router.get_metrics().subscriptions == 0


async def test_a_subscription_says_when_it_was_last_given_something() -> None:
    """And not when it was last looked at."""
    async with World() as world:
        own = await world.subscriber.subscribe(">", Heard())
        subscription = world.router.subscriptions.get(own).subscription
        assert subscription.last_delivered is None
        await world.publish("a")
        then_s = world.clock.time_ns() / 1e9
        await world.clock.advance(10)
        assert subscription.last_delivered is not None
        assert 0 <= subscription.last_delivered.timestamp() - then_s <= 0.1


async def test_a_publish_is_counted_at_once() -> None:
    """Before anybody who observes it is told of the batch that it is in."""
    async with World() as world:
        await world.publish("a", "b")
        assert world.router.get_metrics().published == 2


async def test_handlers_that_never_wait_leave_the_loop_to_others_now_and_then() -> None:
    """A thousand of them in a row are no thousand without a turn for anybody else."""
    heard, turns = Heard(), 0
    async with World() as world:
        own = await world.subscriber.subscribe(">", heard)
        await world.subscriber.pause_subscription(own)
        await world.publish(*["a"] * 1000)
        await world.subscriber.resume_subscription(own)
        while len(heard.events) < 1000:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 10
