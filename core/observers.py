"""All observers of a router as one: each called only for what it overrides, and disabled when it raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from logging import Logger

from squall.core.delivery import Attempts, Observer, SubscriptionChange
from squall.core.event import Event
from squall.core.store import DeadLetter
from squall.core.subscription import Subscription

METHODS = ("published", "dropped", "attempted", "settled", "redriven", "subscription_changed", "gate_changed")


class Observers:
    """What the kernel tells, fanned out."""

    def __init__(self, observers: Sequence[Observer], logger: Logger) -> None:
        self.logger = logger
        self._observers = list(observers)
        self._wire()

    def _wire(self) -> None:
        self._by_method: dict[str, list[Observer]] = {
            name: [one for one in self._observers if getattr(type(one), name) is not getattr(Observer, name)]
            for name in METHODS
        }
        self.wants_published = bool(self._by_method["published"])
        self.wants_attempted = bool(self._by_method["attempted"])
        self.wants_settled = bool(self._by_method["settled"])

    def _tell(self, method: str, *what: object) -> None:
        for observer in tuple(self._by_method[method]):
            try:
                getattr(observer, method)(*what)
            except Exception:
                self.logger.exception("observer %s raised in %s and is disabled", type(observer).__name__, method)
                self._observers.remove(observer)
                self._wire()

    def published(self, events: Sequence[Event]) -> None:
        self._tell("published", events)

    def dropped(self, event: Event, subscription_id: str | None, why: str) -> None:
        self._tell("dropped", event, subscription_id, why)

    def attempted(self, subscription: Subscription, batch: Attempts, invoked_ns: int) -> None:
        if self.wants_attempted:
            self._tell("attempted", subscription, batch, invoked_ns)

    def settled(self, subscription: Subscription, batch: Attempts, now: Callable[[], int], answer: str = "ok") -> None:
        if self.wants_settled:
            self._tell("settled", subscription, batch, now(), answer)

    def redriven(self, subscription_id: str, letters: Sequence[DeadLetter], origin: str) -> None:
        self._tell("redriven", subscription_id, letters, origin)

    def subscription_changed(self, subscription: Subscription, change: SubscriptionChange) -> None:
        self._tell("subscription_changed", subscription, change)

    def gate_changed(self, subscription: Subscription, gate: str, state: str) -> None:
        self._tell("gate_changed", subscription, gate, state)
