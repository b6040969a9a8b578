"""Groups: what is stored by one call of a script, and who waits for that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from squall.core.dedupe import conflict
from squall.core.errors import Outcome, PublishError, SquallError, StoreError
from squall.core.event import Event
from squall.core.store import Progress, Repeated, Settlement
from squall.plugins.redis.server import Interrupted, Link, Rejected, Unreachable

Work = Callable[[Link], Awaitable[Any]]


@dataclass
class Group:
    """What is stored by one call of the commit script, and who waits for it. `ids` are those that publishers gave, each
    with the positions of the first and the last event of its append, and its own, counted from one; `numbered` events
    are given a seq, unless the whole fails."""

    events: list[Event] = field(default_factory=list)
    packed: list[bytes] = field(default_factory=list)
    size_bytes: int = 0
    numbered: int = 0
    appends: list[tuple[asyncio.Future[None], Sequence[Event]]] = field(default_factory=list)
    ids: list[tuple[int, int, int]] = field(default_factory=list)
    refused: list[tuple[asyncio.Future[None], PublishError]] = field(default_factory=list)
    works: list[tuple[asyncio.Future[Any], Work]] = field(default_factory=list)
    settlements: list[tuple[Progress, Settlement, str]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.events or self.works or self.settlements)

    def add(
        self, events: Sequence[Event], packed: Sequence[bytes], size_bytes: int, future: asyncio.Future[None]
    ) -> int:
        """Store these too, all or none. Returns how many are `numbered` for that: none where ids may be known."""
        first, last = len(self.events) + 1, len(self.events) + len(events)
        ids = [(first, last, own) for own, event in enumerate(events, first) if event.given]
        self.ids += ids
        self.events += events
        self.packed += packed
        self.size_bytes += size_bytes
        self.appends.append((future, events))
        numbered = 0 if ids else len(events)
        self.numbered += numbered
        return numbered

    def id_arguments(self) -> list[int | str]:
        """What the commit script is given of the ids, after their number."""
        return [one for positions in self.ids for one in (*positions, self.events[positions[-1] - 1].given.hex())]

    def take_out(self, found: Sequence[bytes], window_s: float) -> None:
        """Nothing was stored of appends with these ids, `number:seq` each: they are `refused`, the others kept."""
        seqs: dict[int, dict[str, int]] = {}
        for number, _, seq in (one.partition(b":") for one in found):
            first, _, own = self.ids[int(number) - 1]
            seqs.setdefault(first, {})[self.events[own - 1].id] = int(seq)
        first, kept = 1, []
        for future, events in self.appends:
            if (again := seqs.get(first)) is None:
                kept.append((future, events))
            else:
                others = (conflict(event_id, window_s) for event_id, seq in again.items() if not seq)
                self.refused.append((future, next(others, Repeated(again))))
            first += len(events)
        self.appends = kept
        self.events = [event for _, events in kept for event in events]

    def tell(self, error: PublishError | None, outdated: Collection[Settlement]) -> None:
        """Answer publishers and settlements, but for those of turns that are over."""
        for future, _ in self.appends:
            answer(future, None, error)
        for future, refusal in self.refused:
            answer(future, None, refusal)
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
