"""Groups: what is stored by one call of a script, and who waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from squall.core.errors import Outcome, SquallError, StoreError
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
    settlements: list[tuple[Progress, Settlement, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.works or self.settlements)

    def tell(self, error: StoreError | None, outdated: Collection[Settlement]) -> None:
        """Answer publishers and settlements, but for those of turns that are over."""
        for future, _ in self.appends:
            answer(future, None, error)
        for progress, settlement, _ in self.settlements:
            if not any(settlement is one for one in outdated):
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
            except Exception as error:  # noqa: BLE001  told to who asked
                answer(future, None, error)


def answer(future: asyncio.Future[Any], result: Any, error: Exception | None) -> None:
    """Give a future its result or error, unless who waited was cancelled."""
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


def not_stored(error: SquallError, sent: bool) -> StoreError:
    """What publishers are told: once it was sent, nobody knows."""
    outcome: Outcome = "info" if sent else "fail"
    known = "whether it was stored is not known" if sent else "nothing was stored"
    return StoreError(f"{known}: {error}", outcome)
