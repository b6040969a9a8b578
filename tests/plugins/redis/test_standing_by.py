"""What a router says of named subscriptions that another delivers, and of those that nobody does."""

from __future__ import annotations

import asyncio

import pytest
from tests.plugins.redis.operator import Operator
from tests.plugins.redis.routers import Seen, publish, router, until
from tests.servers import Server

from squall import Event


async def test_what_waits_is_counted_where_it_is_delivered(redis_server: Server) -> None:
    """Sums over all routers are true, therefore; the store's own sums are the same everywhere."""
    held = asyncio.Event()

    async def handle(event: Event) -> None:
        await held.wait()

    async with router(redis_server.url) as one, router(redis_server.url) as two:
        named = await one.subscriber("billing").subscribe("order.>", handle, name="billing", in_flight=10)
        await publish(one, 0)
        await until(lambda: one.get_metrics().pending == 1)
        assert await two.subscriber("billing").subscribe("order.>", handle, name="billing") == named
        await publish(one, *range(1, 50))
        assert (await one.subscriptions.meter(named).read()).pending == 50
        assert (await two.subscriptions.meter(named).read()).pending == 0
        assert two.get_metrics().pending == 0
        assert await one.store.counts() == await two.store.counts() == (50, 0, 50, ())
        held.set()


async def test_a_subscription_that_no_router_handles_is_reported(
    redis_server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    """By every router, once it was so long enough; one that stands by for it is enough to have it handled."""
    async with router(redis_server.url, inactive_after=1.0) as watching:
        async with router(redis_server.url, lease=3.0) as one:
            await one.subscriber("billing").subscribe("order.>", Seen(), name="billing")
            async with router(redis_server.url, lease=3.0) as two:
                seen = Seen()
                await two.subscriber("billing").subscribe("order.>", seen, name="billing")
                await one.stop()
                await publish(two, 1)
                await seen.has(1)
                assert (await watching.store.counts()).unattended == ()
        async with asyncio.timeout(20):
            while not (await watching.store.counts()).unattended:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert (await watching.store.counts()).unattended == ("billing",)
        assert "has handled subscription" not in caplog.text
        async with router(redis_server.url, inactive_after=1.0) as late:
            assert "no router has handled subscription billing for a long time" in caplog.text
            assert (await late.store.counts()).unattended == ("billing",)
            taken = Seen()
            await late.subscriber("billing").subscribe("order.>", taken, name="billing")
            await publish(late, 2)
            await taken.has(1)
            assert (await watching.store.counts()).unattended == ()
    assert taken.payloads == [2]


async def test_one_that_is_held_for_long_is_not_unattended(redis_server: Server) -> None:
    """While a router has the turn, it does not matter when that was last written down; and it is, with each renewal."""
    operator = Operator(redis_server.url)

    async def attended_ago_s(of: str) -> int:
        (now_s, _), attended_s = await operator.say("TIME", f"HGET squall:{{squall}}:subscription:{of} attended")
        return int(now_s) - int(attended_s)

    for lease_s in (3600.0, 3.0):
        async with router(redis_server.url, lease=lease_s, inactive_after=0.5) as one:
            seen = Seen()
            named = await one.subscriber("billing").subscribe("order.>", seen, name="billing", start="earliest")
            await publish(one, 1)
            await seen.has(1)
            async with asyncio.timeout(20):
                while not await attended_ago_s(named):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                assert (await one.store.counts()).unattended == ()
                while lease_s < 10 and await attended_ago_s(named):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
    await operator.close()
