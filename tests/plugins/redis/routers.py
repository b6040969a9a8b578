"""Routers on a Redis of the test's own, and handlers that remember."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from squall import Event, EventRouter, Plugin
from squall.plugins.redis import RedisPlugin
from squall.plugins.retry import RetryPlugin


@contextlib.asynccontextmanager
async def router(url: str, *plugins: Plugin, **options: object) -> AsyncIterator[EventRouter]:
    """A router with Redis as its store, by default with retries of 50 ms."""
    store = RedisPlugin(RedisPlugin.Options.of("redis", {"url": url, "timeout": 5.0} | options))
    async with EventRouter([store, *(plugins or [RetryPlugin(attempts=3, base=0.05, cap=0.05)])]) as made:
        yield made


class Seen:
    """A handler that remembers the payloads it was given, in order."""

    def __init__(self) -> None:
        self.payloads: list[int] = []

    async def __call__(self, event: Event) -> None:
        self.payloads.append(int(event.payload))

    async def has(self, number: int) -> None:
        """Returns when it was given so many."""
        await until(lambda: len(self.payloads) >= number)


async def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait for a condition. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110  conditions are of any kind
            await asyncio.sleep(0.005)


async def publish(of: EventRouter, *numbers: int, event_type: str = "order.created", key: str | None = None) -> None:
    """Publish these numbers as payloads, one after the other."""
    publisher = of.publisher("shop")
    for number in numbers:
        await publisher.publish(event_type, b"%d" % number, key=key)
