"""Turns at named subscriptions, where several routers share a store: one at a time delivers, the others stand by."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from squall.core.errors import SquallError, SubscriptionError
from squall.core.plugin import Context
from squall.core.store import Attached, Turns
from squall.core.subscription import Subscription

RETRY_TURN_S = 1.0


class TakingTurns:
    """Delivers named subscriptions whenever it is this router's turn: `begin` with what the store has of one, `yield_`
    when the turn is over, `end` when another router has ended it."""

    def __init__(
        self,
        turns: Turns | None,
        ctx: Context,
        begin: Callable[[Subscription, bool, Attached], Awaitable[object]],
        yield_: Callable[[Subscription], Awaitable[None]],
        end: Callable[[str], object],
    ) -> None:
        self._turns, self._ctx = turns, ctx
        self._begin, self._yield, self._end = begin, yield_, end
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self, subscription: Subscription) -> None:
        """Take turns at it from now on."""
        assert self._turns is not None, "the store is this router's alone"
        taking = self._take(self._turns, subscription)
        self._tasks[subscription.id] = asyncio.get_running_loop().create_task(taking)

    def stop(self, subscription_id: str) -> None:
        """Take no more turns at it, if there were any."""
        task = self._tasks.pop(subscription_id, None)
        if task is not None:
            task.cancel()

    async def give_up(self, subscription_id: str) -> None:
        """It is left here: another router may take it up at once."""
        if self._turns is not None:
            await self._turns.give_up(subscription_id)

    async def halt(self) -> None:
        """Take no more turns at all."""
        tasks = list(self._tasks.values())
        for subscription_id in list(self._tasks):
            self.stop(subscription_id)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, turns: Turns, subscription: Subscription) -> None:
        label, logger = subscription.label, self._ctx.logger
        while True:
            try:
                attached, over = await turns.take(subscription.id)
                await self._begin(subscription, True, attached)
            except SubscriptionError as error:
                logger.warning("subscription %s: %s", label, error)
                self._end(subscription.id)
                return
            except SquallError as error:
                logger.warning("subscription %s: not taken up (%s); tried again", label, error)
                await self._ctx.clock.sleep(RETRY_TURN_S)
                continue
            await over
            logger.warning("subscription %s: another router may deliver it from now on", label)
            await self._yield(subscription)
