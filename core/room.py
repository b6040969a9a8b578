"""Room: what publishers may still reserve with a subscription, before what they publish is stored."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from squall.core.clock import Clock
from squall.core.event import Event
from squall.core.subscription import DROPS_NEW, OverflowPolicy


class Room:
    """`room` is how many events more may wait. A subscription that does not take all of its type (`choosy`) remembers
    in `expected` for what it was reserved."""

    def __init__(
        self, size: int, overflow: OverflowPolicy, wants: Callable[[Event], bool] | None, clock: Clock
    ) -> None:
        self.room = self._size = size
        self.wants = wants
        self.choosy = wants is not None or overflow in DROPS_NEW
        self.expected: dict[str, int] | None = {} if self.choosy else None
        self._drops_new, self._clock = overflow in DROPS_NEW, clock
        self._waiters: deque[asyncio.Future[None]] = deque()

    def expects(self, event: Event) -> bool:
        """Is event wanted? Then it is remembered that room is reserved for it."""
        if self.wants is not None and not self.wants(event):
            return False
        self.remember(event)
        return True

    def remember(self, event: Event) -> None:
        """Room was reserved for event."""
        if self.expected is not None:
            self.expected[event.id] = self.expected.get(event.id, 0) + 1

    def forget(self, event: Event) -> bool:
        """Was room reserved for event? Then it is no more."""
        assert self.expected is not None
        left = self.expected.pop(event.id, 0) - 1
        if left > 0:
            self.expected[event.id] = left
        return left >= 0

    def return_room(self, event: Event) -> None:
        """What was reserved for event is not needed: it was not stored."""
        if self.expected is not None:
            self.room += self.forget(event)
        elif self.wants is None or self.wants(event):
            self.room += 1

    def reserve(self, events: list[Event]) -> list[Event]:
        """Reserve room for events; takes out of them, and returns, the last for which there is none where such are
        dropped."""
        late: list[Event] = []
        if self._drops_new:
            room = max(0, self.room)
            late = events[room:]
            del events[room:]
        self.room -= len(events)
        for event in events:
            self.remember(event)
        return late

    async def wait_for_room(self, timeout_s: float) -> None:
        """Returns when room was given back, or after timeout_s."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        timer = self._clock.call_later(timeout_s, lambda: None if waiter.done() else waiter.set_result(None))
        try:
            await waiter
        finally:
            timer.cancel()

    def give_room(self, n: int) -> None:
        """n events less are waiting: publishers that wait for room look again."""
        self.room = min(self._size, self.room + n)
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
