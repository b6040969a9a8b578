"""The names of a store's keys: all of them in one slot of a cluster, by the hash tag in braces."""

from __future__ import annotations

from dataclasses import dataclass, field

from squall.core.event import Priority


@dataclass(frozen=True)
class Keys:
    """The keys of the store `name`."""

    name: str
    head: str = field(init=False)
    streams: tuple[str, ...] = field(init=False)
    dead: str = field(init=False)
    died: str = field(init=False)
    redriven: str = field(init=False)
    given_back: str = field(init=False)
    names: str = field(init=False)
    epoch: str = field(init=False)

    def __post_init__(self) -> None:
        for field_name in ("head", "dead", "died", "redriven", "given_back", "names", "epoch"):
            object.__setattr__(self, field_name, self._key(field_name))
        object.__setattr__(self, "streams", tuple(self._key(f"events:{level.name.lower()}") for level in Priority))

    def subscription(self, subscription_id: str) -> str:
        """What is stored of a named subscription: its definition, cursors and attempts."""
        return self._key(f"subscription:{subscription_id}")

    def lease(self, subscription_id: str) -> str:
        """Whose turn it is to deliver, while that router renews it."""
        return self._key(f"lease:{subscription_id}")

    def writer(self, router_id: str) -> str:
        """What the latest groups of this router came to."""
        return self._key(f"writer:{router_id}")

    def own_id(self, event_id: str) -> str:
        """What was stored under an id that its publisher gave, while that is remembered."""
        return self._key(f"id:{event_id}")

    def _key(self, rest: str) -> str:
        return f"squall:{{{self.name}}}:{rest}"
