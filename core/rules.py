"""Routing rules: change where events go, before they are stored, so that what is stored is what is delivered."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from squall.core.argument_checks import check_rule
from squall.core.event import Event, Priority
from squall.core.filters import Filter
from squall.core.patterns import compile_pattern


@dataclass
class RoutingRule:
    """For events that match `pattern` and all `filters`: drop, or give another type or priority, or copy.

    `copy_to` adds a copy under another type, with an id of its own, and lets the event itself go on unchanged by it.
    `count` says how many events the rule has acted on. Raises SubscriptionError for a malformed pattern, InvalidEvent
    for a malformed type, and ConfigError for all else that is wrong.
    """

    pattern: str
    target: str | None = None
    drop: bool = False
    copy_to: str | None = None
    priority: Priority | None = None
    filters: Sequence[Filter] = ()
    count: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        check_rule(self)
        self._matches = compile_pattern(self.pattern)
        self._filters = [wanted.compile() for wanted in self.filters]

    def applies(self, event: Event) -> bool:
        return self._matches(event.type) and all(wanted(event) for wanted in self._filters)


def apply(rules: Sequence[RoutingRule], event: Event, new_id: Callable[[], str]) -> list[Event]:
    """What becomes of one event: none when dropped, itself (changed in place), and its copies. Copies meet no rules."""
    events = [event]
    for rule in rules:
        if not rule.applies(event):
            continue
        rule.count += 1
        if rule.drop:
            return events[1:]
        if rule.copy_to is not None:
            own = {"id": new_id(), "type": rule.copy_to, "metadata": dict(event.metadata)}
            events.append(msgspec.structs.replace(event, own_id=False, given=b"", **own))
        if rule.target is not None:
            event.type = rule.target
        if rule.priority is not None:
            event.priority = rule.priority
    return events
