"""Turns: of the routers that share a store, one at a time delivers a named subscription, under a lease that it renews.

A turn has a token. The settlements of a router whose lease ran out carry the old one, and do not count: it may have
slept through the end of its turn, and cannot know.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from logging import Logger
from random import Random
from typing import Any

from squall.core.clock import Clock
from squall.core.errors import StoreError, SubscriptionError
from squall.core.store import Attached
from squall.plugins.redis import scripts
from squall.plugins.redis.keys import Keys
from squall.plugins.redis.server import Interrupted, Link, Links, Rejected, Unreachable
from squall.plugins.redis.subscriptions import attached_from

RENEWALS = 3
"""How often a lease is renewed while it lasts."""


@dataclass
class Turn:
    """The turn that this router has with a subscription. until_ns: monotonic; over when it passes without renewal."""

    token: str
    until_ns: int
    over: asyncio.Future[None]

    def end(self) -> None:
        """It is over: tell who delivers."""
        if not self.over.done():
            self.over.set_result(None)


class Leases:
    """The Turns of core/store.py. `tokens` are those of the turns that this router has."""

    def __init__(
        self, links: Links, keys: Keys, router_id: str, lease_s: float, clock: Clock, random: Random, logger: Logger
    ) -> None:
        self._links, self._keys, self._router_id, self._lease_s = links, keys, router_id, lease_s
        self._clock, self._random, self._logger = clock, random, logger
        self._turns: dict[str, Turn] = {}
        self._asked: dict[str, str] = {}
        self._number = 0

    def token(self, subscription_id: str) -> str:
        """Of the turn that this router has; empty when it has none."""
        turn = self._turns.get(subscription_id)
        return "" if turn is None else turn.token

    async def reclaim(self, link: Link, subscription_id: str) -> None:
        """The server came back without the turn that this router has. Raises as Link.run."""
        token = self.token(subscription_id)
        if token and not isinstance(await self._run_on(link, scripts.TURN, subscription_id, token), list):
            self.lost(subscription_id, token)

    def lost(self, subscription_id: str, token: str) -> None:
        """Another router has the turn, if it is still that of this token."""
        turn = self._turns.get(subscription_id)
        if turn is not None and turn.token == token:
            del self._turns[subscription_id]
            turn.end()

    async def take(self, subscription_id: str) -> tuple[Attached, asyncio.Future[None]]:
        """As Turns.take."""
        self._number += 1
        token = self._asked[subscription_id] = f"{self._router_id}:{self._number}"
        while True:
            asked_ns = self._clock.monotonic_ns()
            answer = await self._run(scripts.TURN, subscription_id, token)
            if answer == b"ended":
                raise SubscriptionError("it was ended by another router; it is owed nothing any more")
            if isinstance(answer, list):
                turn = Turn(token, asked_ns + round(self._lease_s * 1e9), asyncio.get_running_loop().create_future())
                self._turns[subscription_id] = turn
                return attached_from(subscription_id, answer), turn.over
            await self._clock.sleep(min(answer / 1000, self._lease_s / RENEWALS) * self._random.uniform(0.8, 1.2))

    async def renew_all(self) -> None:
        """Keep all turns, by renewing them in time; those that cannot be kept end in time."""
        while True:
            await self._clock.sleep(self._lease_s / RENEWALS)
            for subscription_id, turn in list(self._turns.items()):
                asked_ns = self._clock.monotonic_ns()
                try:
                    kept = await self._run(scripts.RENEW, subscription_id, turn.token)
                except StoreError as error:
                    kept = self._clock.monotonic_ns() < turn.until_ns - round(self._lease_s / RENEWALS * 1e9)
                    log = self._logger.debug if kept else self._logger.warning
                    log("the turn of subscription %s is not renewed: %s", subscription_id, error)
                else:
                    turn.until_ns = asked_ns + round(self._lease_s * 1e9)
                if not kept:
                    self.lost(subscription_id, turn.token)

    async def release_all(self) -> None:
        """Let others take over at once; also what was asked for when it was cancelled, and may have been given."""
        for subscription_id in list(self._asked):
            await self.give_up(subscription_id)

    async def give_up(self, subscription_id: str) -> None:
        """As Turns.give_up."""
        token = self._asked.pop(subscription_id, None)
        if token is None:
            return
        self.lost(subscription_id, token)
        try:
            await self._run(scripts.RELEASE, subscription_id, token)
        except StoreError as error:
            self._logger.debug("the turn of subscription %s ends by itself: %s", subscription_id, error)

    async def _run(self, script: scripts.Script, subscription_id: str, token: str) -> Any:
        try:
            async with self._links.use() as link:
                return await self._run_on(link, script, subscription_id, token)
        except (Unreachable, Interrupted, Rejected) as error:
            raise StoreError(str(error)) from error

    async def _run_on(self, link: Link, script: scripts.Script, subscription_id: str, token: str) -> Any:
        names = (self._keys.lease(subscription_id), self._keys.subscription(subscription_id))
        return await link.run(script, names, (token, round(self._lease_s * 1000)))
