"""What a router under test is made of: the operator's plugins with a scenario's over them, away from their data."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import JsonValue, TypeAdapter

from squall.core import wiring
from squall.core.config import PluginSection
from squall.core.errors import ConfigError
from squall.core.fault import Network, Process
from squall.core.plugin import Plugin
from squall.core.secret import Secret
from squall.core.target import RunContext


def compose(operator: Sequence[PluginSection] | None, scenario: Sequence[PluginSection], folder: Path) -> list[Plugin]:
    """The operator's plugins (or the default ones) with the scenario's over them, each in the place of its like.

    A store that keeps a file keeps it in folder: no scenario touches the operator's data. Raises ConfigError.
    """
    base = wiring.default_plugins() if operator is None else wiring.from_sections(operator)
    over = {type(plugin): plugin for plugin in wiring.from_sections(scenario)}
    if any(is_store(plugin) for plugin in over.values()):
        base = [plugin for plugin in base if type(plugin) in over or not is_store(plugin)]
    plugins = [over.pop(type(plugin), plugin) for plugin in base]
    plugins += over.values()
    return [(_moved(plugin, folder) if is_store(plugin) else plugin).in_run(folder) for plugin in plugins]


def is_store(plugin: Plugin) -> bool:
    """Whether it brings the store."""
    return hasattr(plugin, "squall_event_store")


def _moved(plugin: Plugin, folder: Path) -> Plugin:
    if "path" not in type(plugin.options).model_fields:
        return plugin
    return _with(plugin, "path", str(folder / "store" / "events.db"))


def outside(plugins: Sequence[Plugin], servers: Collection[str], allowed: Collection[str]) -> dict[str, str]:
    """Plugins, by name, that would write to a server of the operator's own, and what to do about it: those with a `url`
    where no server of their name is the run's, and that the operator has not allowed."""
    found = {name_of(one): one.options for one in plugins if "url" in type(one.options).model_fields}
    return {
        name: f"plugin {name} would write to {vars(options)['url']}, which is not the run's own: have one started in "
        f"the scenario (servers: {{{name}: {{}}}}), or allow it in squall.yaml (bench: {{allow_servers: [{name}]}})"
        for name, options in found.items()
        if name not in (*servers, *allowed)
    }


async def located(plugins: Sequence[Plugin], ctx: RunContext) -> list[Plugin]:
    """The plugins, with a `url` that leads to the server of their name which the run has started, if it has, else to
    their own; through the detour of that name. Raises ConfigError where one would write to a server that the operator
    does not allow."""
    for message in outside(plugins, ctx.servers, ctx.config.bench.allow_servers).values():
        raise ConfigError(message)
    return [await _located(plugin, ctx) for plugin in plugins]


async def _located(plugin: Plugin, ctx: RunContext) -> Plugin:
    fields = type(plugin.options).model_fields
    if "url" not in fields:
        return plugin
    name, default = name_of(plugin), urlsplit(str(fields["url"].default))
    if name in ctx.servers:
        host, port = await ctx.detour(name, *ctx.servers[name])
        return _with(plugin, "url", f"{default.scheme}://{host}:{port}")
    url = vars(plugin.options)["url"]
    try:
        own = urlsplit(url.read(f"{name}: url") if isinstance(url, Secret) else str(url))
        real = own.hostname or "", own.port or default.port or 0
    except ValueError:
        return plugin  # it says itself, and better, what is wrong with its url
    plain = own.scheme == default.scheme and own.hostname  # a proxy has no certificate, and is no socket's file
    if not plain or (there := await ctx.detour(name, *real)) == real:
        return plugin
    login, at, _ = own.netloc.rpartition("@")
    return _with(plugin, "url", own._replace(netloc=f"{login}{at}{there[0]}:{there[1]}").geturl())


def keeper(plugins: Sequence[Plugin]) -> str | None:
    """Which server keeps the events, the run's or the operator's own; None where it is none."""
    return next((name_of(one) for one in plugins if is_store(one) and "url" in type(one.options).model_fields), None)


def publish_path(plugins: Sequence[Plugin]) -> tuple[str, ...]:
    """The seams that a router made of these passes until it has stored an event: those of the server that keeps it."""
    name = keeper(plugins)
    return () if name is None else (f"{Network.prefix}:{name}", f"{Process.prefix}:{name}")


def _with(plugin: Plugin, option: str, value: str) -> Plugin:
    """The plugin with this option as squall.yaml would say it."""
    kind = TypeAdapter(type(plugin.options).model_fields[option].rebuild_annotation())
    return type(plugin)(plugin.options.model_copy(update={option: kind.validate_python(value)}))


def name_of(plugin: Plugin) -> str:
    """By which it is enabled. Raises ConfigError where it is not installed under any."""
    kind = type(plugin)
    for name, point in wiring.installed().items():
        if (point.module, point.attr) == (kind.__module__, kind.__qualname__):
            return name
        if point.attr == kind.__qualname__ and wiring.load_class(point) is kind:
            return name  # its package gives it away from elsewhere
    raise ConfigError(f"{kind.__name__} is no installed plugin")


def as_sections(plugins: Sequence[Plugin], environment: dict[str, str]) -> list[Mapping[str, JsonValue]]:
    """As the `plugins:` of a squall.yaml that enables them all says it, for another process. Secrets that must not be
    written down are put into that one's environment."""
    return [
        {
            name_of(plugin): plugin.options.model_dump(
                mode="json", by_alias=True, exclude_unset=True, context=environment
            )
        }
        for plugin in plugins
    ]
