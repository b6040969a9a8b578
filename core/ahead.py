"""At most once, durable: events are settled before they are handled, several with one commit."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from squall.core.event import Event
from squall.core.workers import BATCH

if TYPE_CHECKING:
    from squall.core.dispatch import Dispatcher


class Ahead:
    """What was settled and has not begun, never more than may begin. When the process dies it is not delivered again;
    when the subscription is left in order it is owed as before."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.settled: deque[Event] = deque()
        self._settling = 0
        self._dispatcher = dispatcher

    def __len__(self) -> int:
        return len(self.settled) + self._settling

    async def settle(self) -> bool:
        """Settle what is next; whether anything was."""
        own = self._dispatcher
        batch: list[Event] = []
        most = min(BATCH, own.credit.left) - len(self)
        while len(batch) < most and (event := own.next()) is not None:
            batch.append(event)
        if batch:
            self._settling += len(batch)
            try:
                await own.progress.settle_first(batch)
            finally:
                self._settling -= len(batch)
                if not own.closed:  # else it was given up
                    self.settled.extend(batch)
            own.more_workers()
        return bool(batch)

    def take_back(self) -> None:
        """Nothing more begins: with its next settlement it is owed again."""
        while self.settled:
            event = self.settled.pop()
            self._dispatcher.progress.returned[event.seq] = event.priority
            self._dispatcher.queue.levels[event.priority].put_back(event)

    def give_up(self, *, kept: bool) -> int:
        """It cannot be owed again, and is not handled either: how much that is, of a subscription that is `kept`."""
        if lost := len(self) if kept else 0:
            self._dispatcher.wiring.observers.logger.warning(
                "subscription %s: %d events were settled before they were handled, as it delivers at most once; nobody "
                "handles them now, they are cancelled",
                self._dispatcher.subscription.label,
                lost,
            )
        self.settled.clear()
        return lost
