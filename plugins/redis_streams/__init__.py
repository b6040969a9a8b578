"""Somebody's own Redis streams as the system under test."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from squall.core.plugin import Plugin, hookimpl
from squall.core.target import Target
from squall.plugins.redis_streams.target import RedisStreamsTarget


class RedisStreamsPlugin(Plugin):
    """Offers a program that uses Redis streams by itself, without any router, as a target."""

    summary: ClassVar[str] = "targets: redis-streams (streams and consumer groups by redis-py alone; squall[redis])"

    @hookimpl
    def squall_targets(self) -> Mapping[str, type[Target]]:
        return {"redis-streams": RedisStreamsTarget}
