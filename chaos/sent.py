"""What each event was published with, by its number: what its deliveries are compared with."""

from __future__ import annotations

from array import array
from typing import NamedTuple

from squall.chaos.history import NULL
from squall.core.event import Priority
from squall.core.target import Message, Received

NO_KEY = -1


class Names:
    """Small integers for names, given in the order in which they come."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}
        self.names: list[str] = []

    def id(self, name: str) -> int:
        found = self.ids.get(name)
        if found is None:
            found = self.ids[name] = len(self.names)
            self.names.append(name)
        return found


class Told(NamedTuple):
    """Ids of the type and the key, and the priority, that a delivery came with; NULL: as published, or not told."""

    type: int
    key: int
    priority: int


class Sent:
    """Types, keys and priorities as published, two small integers an event; the bench numbers its events from 1."""

    def __init__(self) -> None:
        self.types, self.keys = Names(), Names()
        self._key_of, self._kind_of = array("i", [NO_KEY]), array("i", [0])  # a kind is a type and a priority

    def add(self, message: Message, event: int) -> tuple[int, int]:
        """An event that is about to be published; returns the ids of its type and key, NULL for no key."""
        type_id = self.types.id(message.type)
        kind = type_id << 2 | message.priority
        key = NO_KEY if message.key is None else self.keys.id(message.key)
        if event == len(self._key_of):
            self._key_of.append(key)
            self._kind_of.append(kind)
        else:
            missing = event + 1 - len(self._key_of)
            self._key_of.extend([NO_KEY] * missing)
            self._kind_of.extend([0] * missing)
            self._key_of[event], self._kind_of[event] = key, kind
        return type_id, NULL if key == NO_KEY else key

    @property
    def held_bytes(self) -> int:
        """What it keeps: a few bytes of each event."""
        return len(self._key_of) * (self._key_of.itemsize + self._kind_of.itemsize)

    def compare(self, received: Received, event: int) -> tuple[int, int, Told | None]:
        """The id of the key (NULL: none) and the priority that the event was published with, whatever the target says
        now; and what it says otherwise, if it does. Of an event that is not the bench's, its word is all there is."""
        if not 0 < event < len(self._key_of):
            return NULL, int(Priority.NORMAL) if received.priority is None else received.priority, None
        key, kind = self._key_of[event], self._kind_of[event]
        name = None if key == NO_KEY else self.keys.names[key]
        topic, priority = self.types.names[kind >> 2], kind & 3
        told = None
        if (
            (received.type is not None and received.type != topic)
            or (received.priority is not None and received.priority != priority)
            or (received.key is not None and received.key != name)
        ):
            told = Told(
                NULL if received.type in (None, topic) else self.types.id(received.type),
                NULL if received.key in (None, name) else self.keys.id(received.key),
                NULL if received.priority in (None, priority) else received.priority,
            )
        return NULL if key == NO_KEY else key, priority, told
