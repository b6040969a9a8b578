"""Break your event system on purpose, and know what it lost."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    __version__: str
    from squall.core.api import EventPublisher, EventSubscriber
    from squall.core.clock import Clock, SystemClock, VirtualClock
    from squall.core.config import Backlog
    from squall.core.delivery import (
        Ack,
        Attempt,
        Decision,
        FailedDelivery,
        Gate,
        Nak,
        Observer,
        Permits,
        SettlePolicy,
        Term,
        WaitUntil,
    )
    from squall.core.errors import (
        AlreadyRunning,
        ConfigError,
        Conflict,
        InvalidEvent,
        NotRunning,
        OutdatedToken,
        Overflow,
        PublishError,
        Refused,
        Reject,
        Retry,
        ServerError,
        SquallError,
        StoreError,
        StoreFileError,
        SubscriptionError,
        WiringError,
        WrongThread,
    )
    from squall.core.event import Event, EventData, Priority, Receipt
    from squall.core.filters import Filter
    from squall.core.metrics import RouterMetrics
    from squall.core.middleware import around, guard
    from squall.core.options import Options
    from squall.core.plugin import Context, Plugin, hookimpl
    from squall.core.queue import PriorityEventQueue
    from squall.core.redrive import DeadLetterQuery, Redriven, RedrivePlan
    from squall.core.router import EventRouter
    from squall.core.rules import RoutingRule
    from squall.core.settle import Delivery
    from squall.core.store import Capabilities, DeadLetter, EventStore, Page, Query
    from squall.core.subscription import Subscription
    from squall.plugins.remote import connect

__all__ = [
    "Ack",
    "AlreadyRunning",
    "Attempt",
    "Backlog",
    "Capabilities",
    "Clock",
    "ConfigError",
    "Conflict",
    "Context",
    "DeadLetter",
    "DeadLetterQuery",
    "Decision",
    "Delivery",
    "Event",
    "EventData",
    "EventPublisher",
    "EventRouter",
    "EventStore",
    "EventSubscriber",
    "FailedDelivery",
    "Filter",
    "Gate",
    "InvalidEvent",
    "Nak",
    "NotRunning",
    "Observer",
    "Options",
    "OutdatedToken",
    "Overflow",
    "Page",
    "Permits",
    "Plugin",
    "Priority",
    "PriorityEventQueue",
    "PublishError",
    "Query",
    "Receipt",
    "RedrivePlan",
    "Redriven",
    "Refused",
    "Reject",
    "Retry",
    "RouterMetrics",
    "RoutingRule",
    "ServerError",
    "SettlePolicy",
    "SquallError",
    "StoreError",
    "StoreFileError",
    "Subscription",
    "SubscriptionError",
    "SystemClock",
    "Term",
    "VirtualClock",
    "WaitUntil",
    "WiringError",
    "WrongThread",
    "around",
    "connect",
    "guard",
    "hookimpl",
]

_HOMES = (
    "core.api",
    "core.clock",
    "core.config",
    "core.delivery",
    "core.errors",
    "core.event",
    "core.filters",
    "core.middleware",
    "core.options",
    "core.plugin",
    "core.queue",
    "core.redrive",
    "core.router",
    "core.rules",
    "core.settle",
    "core.store",
    "core.subscription",
    "plugins.remote",
)

if not TYPE_CHECKING:  # a name that is not public stays an error for type checkers

    def __getattr__(name: str) -> object:
        """A public name, imported when the first of them is asked for: `squall --help` must not wait for the kernel."""
        if name == "__version__":
            globals()[name] = import_module("importlib.metadata").version("squall")
            return globals()[name]
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        for home in _HOMES:
            found = vars(import_module(f"squall.{home}"))
            globals().update({public: found[public] for public in __all__ if public in found})
        return globals()[name]

    def __dir__() -> list[str]:
        """The public names too, which are not imported before they are asked for."""
        return sorted({*globals(), *__all__, "__version__"})
