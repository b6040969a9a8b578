"""Somebody at the server who is no router."""

from __future__ import annotations

from typing import Any

from squall.plugins.redis import RedisUrl
from squall.plugins.redis import server as redis


class Operator:
    """Somebody with a connection to the server of their own."""

    def __init__(self, url: str) -> None:
        self._link = redis.Link(redis.Server(RedisUrl(url), 5.0))

    async def say(self, *commands: str) -> list[Any]:
        return [
            await self._link.call(*("" if word == "''" else word for word in command.split(" ")))
            for command in commands
        ]

    async def close(self) -> None:
        await self._link.close()
