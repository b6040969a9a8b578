"""Settlements that the store refuses are given again until it takes them: nothing that they say is lost."""

from __future__ import annotations

import logging

from tests.core.world import Heard, KeptMemory, SlowToSettle, World


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
        assert len(world.log.at_least(logging.WARNING)) == 1
        kept.store.refuse = False
        await world.clock.advance(5)
        assert await world.reasons() == ["delivery_limit"]
    async with World(store=kept) as world:
        again = Heard()
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.advance(5)
        assert again.events == []
