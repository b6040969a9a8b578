"""Settlements that the store refuses are given again until it takes them: nothing that they say is lost."""

from __future__ import annotations

import logging

from tests.core.world import FromAnswers, Heard, KeptMemory, Policy, SlowToSettle, World

from squall import Context, Event, Nak, Observer, Plugin, Subscription, hookimpl
from squall.core.delivery import Attempts


async def test_settlements_that_the_store_refuses_are_given_again() -> None:
    """Nothing is lost and one warning says so; a durable subscription resumes behind them."""
    kept, heard = KeptMemory(SlowToSettle), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        kept.store.refuse = True
        heard.fail = ValueError("broken")
        await world.publish("a")
        await world.clock.advance(5)
        heard.fail = None
        await world.publish("b")
        await world.clock.advance(5)
        assert await world.reasons() == []
        failed, refused = world.log.at_least(logging.WARNING)
        assert "failed: ValueError" in failed
        assert "its settlements are not stored yet" in refused
        kept.store.refuse = False
        await world.clock.advance(5)
        assert await world.reasons() == ["delivery_limit"]
    async with World(store=kept) as world:
        again = Heard()
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.advance(5)
        assert again.events == []


async def test_a_retry_whose_settlement_was_refused_keeps_its_delay_and_its_attempts() -> None:
    """Once the store has it: after a restart the event comes at its time, and its attempts go on being counted."""
    kept = KeptMemory(SlowToSettle)
    async with World(Policy(lambda delivery, error: Nak(30.0)), store=kept) as world:
        await world.subscriber.subscribe(">", Heard(ValueError("broken")), name="billing")
        kept.store.refuse = True
        await world.publish("a")
        await world.clock.advance(0.5)
        kept.store.refuse = False
        await world.clock.advance(2)
        clock = world.clock
    again = Heard(ValueError("still broken"))
    async with World(Policy(), store=kept, clock=clock) as world:
        await world.subscriber.subscribe(">", again, name="billing")
        await clock.advance(20)
        assert again.types == []
        await clock.advance(20)
        assert again.types == ["a", "a"]
        assert [one.attempts for one in await world.dead()] == [3]


async def test_a_retry_that_succeeded_while_the_store_refused_settlements_is_done_for_good() -> None:
    """Its attempt row goes when the store takes settlements again: after a restart nothing comes."""
    kept, again = KeptMemory(SlowToSettle), Heard()
    handler = FromAnswers(ValueError("broken"))
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", handler, name="billing")
        await world.publish("a")
        await world.clock.advance(0.5)
        kept.store.refuse = True
        await world.clock.advance(2)
        assert len(handler.events) == 2
        kept.store.refuse = False
        await world.clock.advance(2)
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.advance(5)
    assert again.events == []


class Settled(Observer, Plugin):
    """Remembers which settlements it was told that the store has."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self

    def settled(self, subscription: Subscription, attempts: Attempts, ok_ns: int, answer: str) -> None:
        if answer == "ok":
            self.told += [attempt.event.type for attempt in attempts]


async def test_observers_are_told_of_a_settlement_once_the_store_has_it() -> None:
    """Not before, not twice, and of every one that was refused meanwhile."""
    kept, settled = KeptMemory(SlowToSettle), Settled()
    async with World(settled, store=kept) as world:
        await world.subscriber.subscribe(">", Heard(), name="billing")
        kept.store.refuse = True
        await world.publish("a")
        await world.clock.advance(0.5)
        await world.publish("b")
        await world.clock.advance(3)
        assert settled.told == []
        kept.store.refuse = False
        await world.clock.advance(3)
        assert settled.told == ["a", "b"]


async def test_failures_that_cannot_be_stored_hold_the_next_ones() -> None:
    """What waits to be stored does not grow without end; once the store takes it, deliveries go on by themselves."""
    kept, calls = KeptMemory(SlowToSettle), 0

    async def handle(event: Event) -> None:
        nonlocal calls
        calls += 1
        raise ValueError("broken")

    async with World(store=kept) as world:
        await world.publish(*["a"] * 3000)
        kept.store.refuse = True
        await world.subscriber.subscribe(">", handle, name="billing", start="earliest", in_flight=50)
        await world.clock.advance(3)
        assert 1000 <= calls <= 1100
        kept.store.refuse = False
        await world.clock.advance(5)
        assert calls == 3000
        assert (await world.router.store.counts()).dead_letters == 3000


async def test_a_store_that_fails_every_now_and_then_is_told_of_once_in_a_while() -> None:
    """Not at each of its failures, nor only once for ever."""
    kept = KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", Heard(), name="billing")
        for _ in range(8):  # every second second of twenty-four
            kept.store.refuse = True
            await world.publish("a")
            await world.clock.advance(1.5)
            kept.store.refuse = False
            await world.clock.advance(1.5)
        assert len(world.log.at_least(logging.WARNING)) == 2
