"""The end of a subscription with many handlers at work holds up nobody else."""

from __future__ import annotations

import asyncio

from tests.core.world import Held, Policy, World, until

from squall.core.workers import BATCH


async def test_a_thousand_handlers_are_cancelled_in_portions() -> None:
    """Between two turns of the loop no more end than a batch has; all have ended when it returns."""
    held = Held()
    async with World(Policy()) as world:
        own = await world.subscriber.subscribe(">", held, concurrency=1000, in_flight=1000)
        await world.publish(*["a"] * 1000)
        await until(lambda: len(held.running) == 1000)
        leaving = asyncio.ensure_future(world.subscriber.detach(own))
        ended, most = 0, 0
        while not leaving.done():
            await asyncio.sleep(0)
            ended, most = held.cancelled, max(most, held.cancelled - ended)
        assert held.cancelled == 1000
        assert most == BATCH


async def test_nothing_is_begun_while_they_are_cancelled() -> None:
    """What waited when it was left waits still: the slots that become free are not filled."""
    held = Held()
    async with World(Policy()) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", concurrency=200, in_flight=200)
        await world.publish(*["a"] * 400)
        await until(lambda: len(held.running) == 200)
        leaving = asyncio.ensure_future(world.subscriber.detach(own))
        await asyncio.sleep(0)
        for one in held.running[BATCH:]:
            one.finish()
        await leaving
        assert len(held.calls) == 200
