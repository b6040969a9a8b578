"""Break your event system on purpose, and know what it lost."""

from squall.core.api import EventPublisher, EventSubscriber
from squall.core.clock import Clock, SystemClock, VirtualClock
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
    ConfigError,
    InvalidEvent,
    NotRunning,
    Overflow,
    PublishError,
    Refused,
    Reject,
    Retry,
    SquallError,
    StoreError,
    StoreFileError,
    SubscriptionError,
    WiringError,
    WrongThread,
)
from squall.core.event import Event, EventData, Priority, Receipt
from squall.core.filters import Filter
from squall.core.middleware import around, guard
from squall.core.options import Options
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.queue import PriorityEventQueue
from squall.core.router import EventRouter, RouterMetrics
from squall.core.rules import RoutingRule
from squall.core.settle import Delivery
from squall.core.store import Capabilities, DeadLetter, EventStore, Page, Query
from squall.core.subscription import Subscription

__all__ = [
    "Ack",
    "Attempt",
    "Capabilities",
    "Clock",
    "ConfigError",
    "Context",
    "DeadLetter",
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
    "Overflow",
    "Page",
    "Permits",
    "Plugin",
    "Priority",
    "PriorityEventQueue",
    "PublishError",
    "Query",
    "Receipt",
    "Refused",
    "Reject",
    "Retry",
    "RouterMetrics",
    "RoutingRule",
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
    "guard",
    "hookimpl",
]
