"""One delivery in flight per key."""

from __future__ import annotations

from collections import deque

from squall.core.event import Event


class KeyLocks:
    """Which event holds each key, and which wait for it, in the order in which they had their turn. `waiting` are
    those that were taken from the queue and wait for their key, by seq."""

    def __init__(self) -> None:
        self._holders: dict[str, Event] = {}
        self._waiting: dict[str, deque[Event]] = {}
        self.waiting: dict[int, Event] = {}

    def claim(self, event: Event) -> bool:
        """Whether event may be delivered now; otherwise it is kept until its key is handed to it."""
        if event.key is None:
            return True
        holder = self._holders.setdefault(event.key, event)
        if holder is event:
            return True
        self._waiting.setdefault(event.key, deque()).append(event)
        self.waiting[event.seq] = event
        return False

    def hold(self, event: Event) -> None:
        """Give event's key to it, if nobody has it: others wait from now on."""
        if event.key is not None:
            self._holders.setdefault(event.key, event)

    def release(self, event: Event) -> Event | None:
        """Give up event's key; returns the event that holds it now and is to be queued in front, if one waited."""
        if event.key is None or self._holders.get(event.key) is not event:
            return None
        waiting = self._waiting.get(event.key)
        if not waiting:
            del self._holders[event.key]
            return None
        following = waiting.popleft()
        if not waiting:
            del self._waiting[event.key]
        del self.waiting[following.seq]
        self._holders[event.key] = following
        return following

    def withdraw(self, seq: int) -> Event:
        """An event that waits for its key does so no more."""
        event = self.waiting.pop(seq)
        assert event.key is not None
        self._waiting[event.key].remove(event)
        if not self._waiting[event.key]:
            del self._waiting[event.key]
        return event

    def in_hand(self) -> list[Event]:
        """All events that hold a key or wait for one."""
        return [*self._holders.values(), *self.waiting.values()]
