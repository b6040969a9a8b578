"""What is checked of a subscription before anything is done for it."""

from __future__ import annotations

import inspect
from typing import Literal, get_args

from squall.core.argument_checks import is_async, is_whole
from squall.core.errors import SubscriptionError
from squall.core.event import MAX_TEXT, Priority
from squall.core.filters import Filter
from squall.core.patterns import check_pattern
from squall.core.subscription import DROPS, OverflowPolicy, Subscription

Start = int | Literal["new", "earliest"]

_RANGES = {"concurrency": (1, 10_000), "in_flight": (1, 1_000_000), "timeout_s": (0.001, 86_400)}
_CHOICES = {
    "delivery": ("at-least-once", "at-most-once"),
    "overflow": get_args(OverflowPolicy),
    "on_retry": ("skip", "block_key"),
}


def check_subscription(subscription: Subscription, start: Start) -> None:
    """Raises SubscriptionError that names the option, what is expected and what was given."""
    check_pattern(subscription.pattern)
    takes_delivery(subscription.handler)
    for option, (low, high) in _RANGES.items():
        value = getattr(subscription, option)
        number = is_whole(value) or (isinstance(value, float) and option == "timeout_s")
        _expect(number and low <= value <= high, option, f"{low} to {high}", value)
    for option, allowed in _CHOICES.items():
        value = getattr(subscription, option)
        _expect(value in allowed, option, f"one of {', '.join(allowed)}", value)
    for option in ("priority_min", "priority_filter"):
        value = getattr(subscription, option)
        _expect(value is None or isinstance(value, Priority), option, "a squall.Priority", value)
    for one in subscription.filters:
        plain = isinstance(one, Filter) or (callable(one) and not is_async(one))
        _expect(plain, "filters", "squall.Filter(…) or a plain function of an event, not an async one", one)
    _expect(start in ("new", "earliest") or (is_whole(start) and start >= 1), "start", "new, earliest or a seq", start)
    name = subscription.name
    _expect(
        name is None or (isinstance(name, str) and 0 < len(name) <= MAX_TEXT),
        "name",
        f"text of 1 to {MAX_TEXT} characters",
        name,
    )
    if subscription.durable:
        _check_durable(subscription)


def takes_delivery(handler: object) -> bool:
    """Does the handler take (event, delivery)? Raises SubscriptionError when it is no async function of one or two."""
    if not is_async(handler):
        raise SubscriptionError(
            f"handler: expected an async function of (event) or (event, delivery), got {handler!r:.80}"
        )
    assert callable(handler)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [one for one in inspect.signature(handler).parameters.values() if one.kind in kinds]
    needed = sum(one.default is inspect.Parameter.empty for one in positional)
    if not positional or needed > 2:
        raise SubscriptionError(
            f"handler: expected to be called with (event) or (event, delivery), got {handler!r:.80}"
        )
    return needed == 2 or (len(positional) > 1 and positional[1].name == "delivery")


def _check_durable(subscription: Subscription) -> None:
    if subscription.overflow in DROPS:
        raise SubscriptionError(
            f"overflow: {subscription.overflow} is for subscriptions without a name: what a durable one is owed is kept"
        )
    for one in subscription.filters:
        if not isinstance(one, Filter):
            raise SubscriptionError(
                f"subscription {subscription.name!r}: the filters of a durable subscription are data, because they are "
                f"stored with it: expected squall.Filter(…), got {one!r:.80}"
            )


def _expect(ok: bool, option: str, expected: str, got: object) -> None:
    if not ok:
        raise SubscriptionError(f"{option}: expected {expected}, got {got!r:.80}")
