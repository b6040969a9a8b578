"""What backends other than stores promise, from what their code declares: a table of the documentation.

A target declares what it claims by `Claims`; what it learns at its start only, such as the durability of a server, is
the page's own word. Who is no target and no store must watch, and do nothing to an event.
"""

from __future__ import annotations

from collections.abc import Mapping

from squall.chaos.builtin import BenchPlugin
from squall.core import hookspecs, units
from squall.core.plugin import Plugin
from squall.core.target import Claims, Target
from squall.plugins.neo4j import Neo4jPlugin
from squall.plugins.redis_streams import RedisStreamsPlugin
from squall.plugins.remote.plugin import RemotePlugin

OFFERING: tuple[BenchPlugin | RemotePlugin | RedisStreamsPlugin, ...] = (
    BenchPlugin(),
    RemotePlugin(),
    RedisStreamsPlugin(),
)
WATCHING: Mapping[str, type[Plugin]] = {"`neo4j`": Neo4jPlugin}
WATCHES = {"squall_observer", "squall_startup", "squall_shutdown", "squall_cli_commands", "squall_metrics_text"}
NAMES: Mapping[str, str] = {
    "in-process": "a router in a program, target `in-process`",
    "squall": "`squall serve` and its remote clients, target `squall`",
    "redis-streams": "Redis streams without a router, target `redis-streams`",
}
_DELIVERS = {"at-least-once": "at least once", "at-most-once": "at most once"}
_ORDER = {"key": "by key", "none": "none"}
HEADINGS = (
    "backend",
    "delivers",
    "keeps order",
    "lease of a delivery",
    "numbers events",
    "what is acknowledged survives",
    "when it is slow or gone",
)


def targets() -> dict[str, type[Target]]:
    """The kinds of targets that squall brings along, by name."""
    return {name: kind for plugin in OFFERING for name, kind in plugin.squall_targets().items()}


def rows() -> list[tuple[str | None, ...]]:
    """A row for each. Raises KeyError for a target without a name in the table, and for a plugin that does more than
    watch."""
    found: list[tuple[str | None, ...]] = []
    for name, kind in targets().items():
        found.append((NAMES[name], *_claimed(kind().claims), None, None))
    for name, plugin in WATCHING.items():
        hooks = {hook for hook in vars(hookspecs) if hook.startswith("squall_") and hasattr(plugin, hook)}
        if beyond := hooks - WATCHES:
            raise KeyError(f"{name} does more than watch: {', '.join(sorted(beyond))}")
        found.append((name, "nothing: it watches", "none", "none", "no", None, None))
    return found


def _claimed(claims: Claims) -> tuple[str, ...]:
    """What it claims from the beginning on."""
    return (
        _DELIVERS[claims.delivery],
        _ORDER[claims.order],
        "none" if claims.lease_s is None else units.format_seconds(claims.lease_s),
        "no" if claims.seq_scope is None else f"within a {claims.seq_scope}",
    )
