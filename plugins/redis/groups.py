"""Groups: what is stored by one call of a script, and who waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from squall.core.errors import SquallError, StoreError
from squall.core.event import Event
from squall.core.store import Progress, Settlement
from squall.plugins.redis.server import Interrupted, Link, Rejected, Unreachable

Work = Callable[[Link], Awaitable[Any]]


@dataclass
class Group:
    """What is stored by one call of the commit script, and who waits for it."""

    events: list[Event] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    appends: list[tuple[asyncio.Future[None], Sequence[Event]]] = field(default_factory=list)
    works: list[tuple[asyncio.Future[Any], Work]] = field(default_factory=list)
    settlements: list[tuple[Progress, Settlement]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.works or self.settlements)

    def tell(self, error: StoreError | None, taken: Collection[str]) -> None:
        """Answer publishers and settlements, but for subscriptions that were taken from this router meanwhile."""
        for future, _ in self.appends:
            answer(future, None, error)
        for progress, settlement in self.settlements:
            if not (settlement.durable and settlement.subscription_id in taken):
                progress.committed(settlement, error)

    async def do(self, ready: Callable[[], Awaitable[None]], link: Link) -> None:
        """Do what was asked for besides, and answer who waits for that."""
        for future, work in self.works:
            try:
                await ready()
                answer(future, await work(link), None)
            except (Unreachable, Rejected) as error:
                answer(future, None, StoreError(f"nothing was changed: {error}"))
            except Interrupted as error:
                answer(future, None, StoreError(f"whether it was changed is not known: {error}", "info"))
            except SquallError as error:
                answer(future, None, error)


def answer(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    """Give a future its result or error, unless who waited was cancelled."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
