"""Retention: past a number of events the oldest go, but for those that a named subscription is still owed."""

from __future__ import annotations

from collections.abc import Callable
from logging import Logger

from squall.core.clock import Clock
from squall.plugins.redis import scripts
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.server import Interrupted, Links, Rejected, Unreachable

LOOK_EVERY_S = 1.0
SLACK = 20
"""Trimmed when a twentieth more than max_events is there: once for many appends."""


class Retention:
    """Trims the streams of a store. `head` is the greatest seq; `ask` makes subscriptions say how far they are: one
    that is given nothing settles nothing, and would hold back everything."""

    def __init__(
        self,
        links: Links,
        keys: Keys,
        max_events: int,
        head: Callable[[], int],
        ask: Callable[[], None],
        clock: Clock,
        logger: Logger,
    ) -> None:
        self._links, self._keys, self._max_events = links, keys, max_events
        self._head, self._ask, self._clock, self._logger = head, ask, clock, logger
        self._trimmed_to = 0
        self._held_by = ""

    async def run(self) -> None:
        """Look every now and then."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            over = self._head() - self._trimmed_to - self._max_events
            if over > self._max_events // SLACK:
                self._ask()
                try:
                    await self.trim()
                except (Unreachable, Interrupted, Rejected) as error:
                    self._logger.warning("old events cannot be trimmed: %s; tried again", error)

    async def trim(self) -> None:
        """Remove what is past max_events and owed to nobody. Raises as Link.run."""
        async with self._links.use() as link:
            ids = await link.call("HVALS", self._keys.names)
            names = [self._keys.head, *self._keys.streams, *(self._keys.subscription(one.decode()) for one in ids)]
            first, holder = await link.run(scripts.TRIM, names, (self._max_events,))
        self._trimmed_to = int(first) - 1
        name = holder.decode()
        if name and name != self._held_by:
            self._logger.warning(
                "subscription %r is owed events from seq %d on: more than max_events (%d) are kept for it; attend to "
                "it, or end it",
                name,
                first,
                self._max_events,
            )
        self._held_by = name
