"""A subscription that sends nearly everything to the dead letters is paused, until somebody resumes it."""

from __future__ import annotations

import logging

import pytest
from tests.core.world import World

from squall import Event, Plugin, Reject
from squall.core.workers import BATCH
from squall.plugins.breaker import BreakerPlugin
from squall.plugins.metrics import MetricsPlugin
from squall.plugins.retry import RetryPlugin

SMALL: dict[str, object] = {"dead_letter_window": 20, "dead_letter_rate": 0.9}


class Picky:
    """A handler that rejects every so many-th event; with 0 none."""

    def __init__(self, every: int = 1) -> None:
        self.calls, self.every = 0, every

    async def __call__(self, event: Event) -> None:
        self.calls += 1
        if self.every and self.calls % self.every == 0:
            raise Reject("cannot be read")


def world(**options: object) -> World:
    plugins: list[Plugin] = [RetryPlugin(attempts=2, base="10ms"), BreakerPlugin(None, **options), MetricsPlugin()]
    return World(*plugins)


async def publish(world: World, events: int) -> None:
    for _ in range(events):
        await world.publish("a")
        await world.clock.settle()


@pytest.mark.parametrize("name", [None, "billing"])
async def test_it_is_paused_when_nearly_everything_is_given_up(name: str | None) -> None:
    """One error says so and what to do; metrics show it; what comes then is kept, and handled after a resume."""
    handler = Picky()
    async with world(**SMALL) as here:
        own = await here.subscriber.subscribe(">", handler, name=name)
        await publish(here, 30)
        await here.clock.advance(1)
        assert handler.calls == len(await here.dead()) == 20
        (told,) = here.log.at_least(logging.ERROR)
        assert "20 of the last 20 events that ended went to the dead letters (the last one as rejected)" in told
        assert f"resume_subscription('{own}')" in told
        metrics = here.router.plugin(MetricsPlugin)
        assert metrics.snapshot().subscriptions[own].gates == {"dead_letters": "open"}
        handler.every = 0
        await here.subscriber.resume_subscription(own)
        await here.clock.advance(1)
        assert handler.calls == 30
        assert metrics.snapshot().subscriptions[own].gates == {"dead_letters": "closed"}


async def test_a_handler_that_is_not_mended_pauses_it_again() -> None:
    """After as many as the first time, but for what a batch has in hand by then: it counts anew."""
    handler = Picky()
    async with world(**SMALL) as here:
        own = await here.subscriber.subscribe(">", handler)
        await publish(here, 20)
        assert here.router.subscriptions.get(own).subscription.paused
        await here.subscriber.resume_subscription(own)
        await publish(here, 19)
        assert not here.router.subscriptions.get(own).subscription.paused
        await publish(here, 200)
        assert handler.calls == 40
        await here.subscriber.resume_subscription(own)
        await here.clock.advance(1)
        assert 60 <= handler.calls < 60 + BATCH


@pytest.mark.parametrize("every", [2, 3, 10])
async def test_it_goes_on_while_some_are_handled(every: int) -> None:
    """However many dead letters there are by then."""
    handler = Picky(every)
    async with world(**SMALL) as here:
        await here.subscriber.subscribe(">", handler)
        await publish(here, 200)
        assert handler.calls == 200


@pytest.mark.parametrize(("options", "events"), [({}, 900), (SMALL, 19), (SMALL | {"dead_letter_rate": None}, 200)])
async def test_a_few_failures_do_not_pause_it(options: dict[str, object], events: int) -> None:
    """Fewer than the window, by default a thousand; or none where it is switched off."""
    handler = Picky()
    async with world(**options) as here:
        await here.subscriber.subscribe(">", handler)
        await publish(here, events)
        assert handler.calls == events


@pytest.mark.parametrize(("every", "paused"), [(2, False), (1, True)])
async def test_attempts_that_are_made_again_do_not_count(every: int, paused: bool) -> None:
    """They are no end: a handler whose every second attempt fails acks everything, one that always fails nothing."""
    calls: list[Event] = []

    async def handle(event: Event) -> None:
        calls.append(event)
        if len(calls) % every == every - 1:
            raise ValueError("broken")

    async with world(dead_letter_window=20, dead_letter_rate=0.9, min_calls=100) as here:
        own = await here.subscriber.subscribe(">", handle)
        for _ in range(20):
            await here.publish("a")
            await here.clock.advance(0.1)
        assert here.router.subscriptions.get(own).subscription.paused is paused
        assert len(await here.dead()) == (20 if paused else 0)


async def test_a_pause_of_ones_own_stays_ones_own() -> None:
    """What ends while it is paused is told as no pause of another's."""

    async def handle(event: Event) -> None:
        if event.seq == 20:
            await here.subscriber.pause_subscription(own)
        raise Reject("cannot be read")

    async with world(**SMALL) as here:
        own = await here.subscriber.subscribe(">", handle)
        await publish(here, 21)
        assert len(await here.dead()) == 20
        assert here.log.at_least(logging.ERROR) == []
        await here.subscriber.resume_subscription(own)
        await here.clock.settle()
        assert len(await here.dead()) == 21
        assert len(here.log.at_least(logging.ERROR)) == 1
