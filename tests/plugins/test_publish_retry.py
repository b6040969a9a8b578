"""Publishes that surely stored nothing are tried again, under the same id, and never stored twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Sequence
from random import Random

import pytest
from tests.core.world import Heard, Held, KeptMemory, ManualStore, StoreWrapper, World

from squall import (
    Event,
    EventStore,
    NotRunning,
    Overflow,
    Plugin,
    Priority,
    PublishError,
    Query,
    Refused,
    RoutingRule,
    StoreError,
)
from squall.core.config import Backlog
from squall.core.middleware import Middleware, guard
from squall.core.plugin import Context, hookimpl
from squall.plugins.retry import RetryPlugin

RETRY: dict[str, object] = {"attempts": 4, "base": "1s", "cap": "1s", "publish_deadline": "10s"}


async def test_a_write_that_failed_is_tried_again_under_the_same_id() -> None:
    """And acknowledged when it is stored: once."""
    kept, heard = KeptMemory(ManualStore), Heard()
    async with World(RetryPlugin(None, **RETRY), store=kept) as world:
        await world.subscriber.subscribe(">", heard)
        publishing = world.publishing("a")
        ids = []
        for _ in range(3):
            await world.clock.advance(1)
            ((event,), _) = kept.store.waiting[0]
            ids.append(event.id)
            kept.store.fail()
        await world.clock.advance(1)
        kept.store.commit()
        assert [await publishing] * 3 == ids
        await world.clock.settle()
        assert heard.ids == ids[:1]


async def test_an_unknown_outcome_is_not_tried_again() -> None:
    """It may have been stored: tried again, it could be there twice."""
    kept = KeptMemory(ManualStore)
    async with World(RetryPlugin(None, **RETRY), store=kept) as world:
        publishing = world.publishing("a")
        await world.clock.settle()
        kept.store.fail(StoreError("the disk is gone", "info"))
        await world.clock.advance(20)
        assert kept.store.waiting == []
        with pytest.raises(StoreError) as told:
            await publishing
        assert told.value.outcome == "info"


async def test_no_room_is_tried_again_until_there_is_some() -> None:
    """As the backlog's own blocking does, for longer."""
    held = Held()
    async with World(RetryPlugin(None, **RETRY), backlog=Backlog(max_events=1, overflow="reject")) as world:
        await world.subscriber.subscribe(">", held)
        await world.publish("a")
        publishing = world.publishing("b")
        await world.clock.advance(0.01)
        held.finish_all()
        await world.clock.advance(5)
        await publishing
        assert [call.event.type for call in held.calls] == ["a", "b"]
        held.finish_all()


@pytest.mark.parametrize(
    ("options", "least_s", "most_s"),
    [({"publish_deadline": "10s"}, 0, 3), ({"attempts": 1000, "publish_deadline": "5s"}, 3, 5)],
)
async def test_in_the_end_it_is_told_that_nothing_was_stored(
    options: dict[str, object], least_s: float, most_s: float
) -> None:
    """When the attempts are spent, or the deadline would be over before the next."""
    backlog = Backlog(max_events=1, overflow="reject")
    async with World(RetryPlugin(None, **RETRY | options), backlog=backlog) as world:
        own = await world.subscriber.subscribe(">", Heard())
        await world.subscriber.pause_subscription(own)
        await world.publish("a")
        begun_ns, publishing = world.clock.monotonic_ns(), world.publishing("b")
        while not publishing.done():
            await world.clock.advance(0.05)
        with pytest.raises(Overflow) as told:
            await publishing
        assert told.value.outcome == "fail"
        assert least_s <= (world.clock.monotonic_ns() - begun_ns) / 1e9 <= most_s + 0.1
        assert (await world.router.store.counts()).events == 1


class Wrong(Plugin):
    """Refuses everything."""

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        def refuse(event: Event) -> None:
            self.asked += 1
            raise Refused("not today")

        self.asked = 0
        return guard(refuse, stage="fault")


async def test_what_the_operators_rules_refuse_is_not_tried_again() -> None:
    """They said no; whoever publishes may ask later."""
    wrong = Wrong()
    async with World(RetryPlugin(None, **RETRY), wrong) as world:
        with pytest.raises(Refused):
            await world.publish("a")
        assert wrong.asked == 1


async def test_without_the_option_nothing_is_tried_again() -> None:
    """It is off unless asked for."""
    kept = KeptMemory(ManualStore)
    async with World(RetryPlugin(), store=kept) as world:
        publishing = world.publishing("a")
        await world.clock.settle()
        kept.store.fail()
        await world.clock.settle()
        assert isinstance(publishing.exception(), StoreError)


async def test_routing_rules_see_the_event_as_it_was_published() -> None:
    """Each time anew: a rule that would act on what another made of it does not, when it did not the first time."""
    kept, heard = KeptMemory(ManualStore), Heard()
    async with World(RetryPlugin(None, **RETRY), store=kept) as world:
        world.router.add_routing_rule(RoutingRule("b", target="c"))
        world.router.add_routing_rule(RoutingRule("a", target="b", priority=Priority.LOW))
        await world.subscriber.subscribe(">", heard)
        publishing = world.publishing("a")
        await world.clock.settle()
        kept.store.fail()
        await world.clock.advance(1)
        kept.store.commit()
        await publishing
        await world.clock.settle()
        assert heard.types == ["b"]


class Moody(StoreWrapper):
    """Stores, or does not, or does and says that it does not know: as chance will have it."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self._chance = Random(5)

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        mood = self._chance.random()
        if mood < 0.4:
            raise StoreError("nothing was stored")
        done = self.inner.append(events)
        if mood < 0.6:
            raise StoreError("no answer", "info")
        return done


async def test_nothing_is_ever_stored_twice() -> None:
    """Whatever the store does; and what is told as failed is not there, what is acknowledged is."""
    kept = KeptMemory(Moody)
    async with World(RetryPlugin(None, **RETRY), store=kept) as world:
        publishing = {number: world.publishing("a", key=str(number)) for number in range(300)}
        await world.clock.advance(10)
        answers = dict(zip(publishing, await asyncio.gather(*publishing.values(), return_exceptions=True), strict=True))
        stored = [event.key async for event in world.router.replay(Query())]
    assert len(stored) == len(set(stored))
    for number, answer in answers.items():
        if not isinstance(answer, BaseException):
            assert str(number) in stored
        elif isinstance(answer, PublishError) and answer.outcome == "fail":
            assert str(number) not in stored
    assert sum(isinstance(answer, str) for answer in answers.values()) > 150


async def test_what_waits_for_its_next_try_is_not_taken_in_when_the_router_stops() -> None:
    """The stop finishes what it found, and nobody is acknowledged behind its back."""
    kept, held = KeptMemory(ManualStore), Held()
    async with World(RetryPlugin(None, **RETRY), store=kept) as world:
        await world.subscriber.subscribe(">", held)
        kept.store.auto = True
        await world.publish("a")
        kept.store.error_at_append = StoreError("the disk is gone")
        publishing = world.publishing("b")
        await world.clock.settle()
        stopping = asyncio.ensure_future(world.router.stop())
        await world.clock.settle()
        kept.store.error_at_append = None
        await world.clock.advance(2)
        with pytest.raises(NotRunning):
            await publishing
        held.finish_all()
        await world.finish(stopping, 1)
        assert [call.event.type for call in held.calls] == ["a"]
