"""Subscriptions with a name go on where they stood: after a stop, a crash of their router, and for late comers."""

from __future__ import annotations

from tests.plugins.redis.routers import Seen, publish, router
from tests.servers import Server

from squall import Event


async def test_a_named_subscription_goes_on_where_it_stood(redis_server: Server) -> None:
    """What was handled is not given again, what was published meanwhile is."""
    first, second = Seen(), Seen()
    async with router(redis_server.url) as one:
        await one.subscriber("billing").subscribe("order.>", first, name="billing")
        await publish(one, *range(10))
        await first.has(10)
    async with router(redis_server.url) as away:
        await publish(away, *range(10, 20))
    async with router(redis_server.url) as again:
        await again.subscriber("billing").subscribe("order.>", second, name="billing")
        await publish(again, *range(20, 25))
        await second.has(15)
    assert first.payloads == list(range(10))
    assert second.payloads == list(range(10, 25))


async def test_a_failed_delivery_is_tried_again_after_a_restart_and_dead_lettered(redis_server: Server) -> None:
    async def fails(event: Event) -> None:
        raise ValueError("no such order")

    async with router(redis_server.url) as one:
        await one.subscriber("billing").subscribe("order.>", fails, name="billing")
        await publish(one, 1)
    async with router(redis_server.url) as again:
        await again.subscriber("billing").subscribe("order.>", fails, name="billing")
        letters = await again.store.dead_letters("billing")
        while not letters:
            letters = await again.store.dead_letters("billing")
    assert [(letter.reason, letter.attempts, letter.event.payload) for letter in letters] == [
        ("delivery_limit", 3, b"1")
    ]
