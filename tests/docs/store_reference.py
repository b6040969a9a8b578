"""What each store promises, from the capabilities that it declares: a table of the documentation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from random import Random
from typing import Any

from squall.core import units
from squall.core.clock import SystemClock
from squall.core.plugin import Context, Plugin
from squall.core.store import Capabilities
from squall.plugins.memory import MemoryPlugin
from squall.plugins.redis import RedisPlugin
from squall.plugins.sqlite import SqlitePlugin

STORES: Mapping[str, Plugin] = {
    "`memory`": MemoryPlugin(),
    "`sqlite: {durability: process}`": SqlitePlugin(durability="process"),
    "`sqlite: {durability: disk}`, its default": SqlitePlugin(),
    "`redis: {durability: memory}`": RedisPlugin(durability="memory"),
    "`redis: {durability: disk}`, its default": RedisPlugin(),
}
_SURVIVES = {
    "memory": "`memory`: nothing, once the process that holds it is gone",
    "process": "`process`: `kill -9`",
    "disk": "`disk`: `kill -9` and a power cut",
}
COLUMNS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "durability": ("what is acknowledged survives", lambda level: _SURVIVES[level]),
    "dedupe_window_s": (
        "ids of publishers' own are known again for",
        lambda window_s: units.format_seconds(window_s) if window_s else "no time: stored again",
    ),
    "turns": (
        "several routers",
        lambda turns: "no: one at a time" if turns is None else "yes: each named subscription is in one's hands",
    ),
    "dedupes": (
        "publishers' ids are recognised by",
        lambda dedupes: "the store, over all routers" if dedupes else "the router",
    ),
    "max_events": (
        "is full with",
        lambda most: "no number of events" if most is None else f"{units.format_count(most)} events",
    ),
}
"""What a capability is called in the table, and says there."""


def headings() -> Sequence[str]:
    """Raises KeyError for a capability that the table does not know yet."""
    return ("store", *(COLUMNS[one.name][0] for one in fields(Capabilities)), "more")


def rows() -> list[tuple[str | None, ...]]:
    """A row for each store as it is enabled; what it declares is known before it is opened."""
    context = Context(SystemClock(), Random, logging.getLogger("squall"), lambda *changed: None)
    found: list[tuple[str | None, ...]] = []
    for name, plugin in STORES.items():
        declared: Capabilities = plugin.squall_event_store(context).capabilities  # type: ignore[attr-defined]
        told = (COLUMNS[one.name][1](getattr(declared, one.name)) for one in fields(Capabilities))
        found.append((name, *told, None))
    return found
