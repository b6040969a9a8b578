"""What the hooks of enabled plugins answer, asked before anything starts: right things, and one store."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from random import Random

from squall.core.clock import SystemClock
from squall.core.config import PluginSection
from squall.core.errors import Problem, WiringError
from squall.core.event import Event
from squall.core.plugin import Context, Plugin
from squall.core.store import EventStore
from squall.core.subscription import Subscription
from squall.core.wiring import Registry


def context() -> Context:
    """What hooks may use while they are only asked."""
    return Context(SystemClock(), Random, logging.Logger("silent", logging.CRITICAL + 1), lambda *change: None)


async def _handler(event: Event) -> None:
    """Stands for a subscription's own."""


def example(name: str = "example", pattern: str = ">") -> Subscription:
    """A subscription for hooks to be asked with."""
    return Subscription(name, name, pattern, _handler, [], None, datetime.fromtimestamp(0, UTC))


def answer_problems(sections: Sequence[PluginSection], installed: Mapping[str, type[Plugin] | str]) -> list[Problem]:
    """What is wrong with the answers of these plugins' hooks about the router, each at its plugin's place. They can be
    made. About subscriptions `composition` asks, once it is known which there are."""
    problems: list[Problem] = []
    stores: list[str] = []
    for section in sections:
        kind = installed[section.name]
        assert not isinstance(kind, str)  # told by check_plugins
        registry = Registry([kind(section.options(kind.Options))])
        try:
            found = [type(store).__name__ for store in _asked(registry)]
        except WiringError as error:
            problems.append(section.problem(str(error)))
            continue
        if stores and found:
            names = " and ".join((*stores, *found))
            message = f"two stores are configured ({names}); a router has one: remove the others"
            problems.append(section.problem(message))
        stores = stores or found
    return problems


def _asked(registry: Registry) -> Sequence[EventStore]:
    """Ask everything that a router would when it starts; returns the stores. Raises WiringError."""
    ctx = context()
    registry.publish_layers(ctx)
    registry.ask("squall_observer", ctx=ctx)
    registry.ask("squall_store_wrapper", ctx=ctx, store=Registry(()).store(ctx))
    return registry.ask("squall_event_store", ctx=ctx)
