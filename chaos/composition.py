"""What a router of these plugins is composed of: asked of the plugins' own hooks, as when a router is wired."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from pydantic import BeforeValidator, TypeAdapter

from squall.chaos.answers import context, example
from squall.chaos.catalogue import Catalogue
from squall.chaos.scenario import Scenario
from squall.chaos.whole_file import read_document, write_document
from squall.core.compose import compose, is_store, outside
from squall.core.config import Config, PluginSection
from squall.core.delivery import Gate, SettlePolicy
from squall.core.errors import ConfigError, Problem, WiringError
from squall.core.fault import Network
from squall.core.middleware import DELIVER_STAGES, PUBLISH_STAGES
from squall.core.plugin import Plugin
from squall.core.subscription import Subscription
from squall.core.units import format_bytes, format_seconds, parse_bytes, parse_seconds
from squall.core.wiring import DEFAULTS, FALLBACK_STORE, Registry, installed, load_class

ROLES: Mapping[str, str] = {
    "squall_event_store": "store",
    "squall_store_wrapper": "store wrapper",
    "squall_publish_middleware": "publish middleware",
    "squall_gate": "gate",
    "squall_deliver_middleware": "deliver middleware",
    "squall_settle_policy": "settle policy",
    "squall_observer": "observer",
    "squall_targets": "targets",
    "squall_load_drivers": "load drivers",
    "squall_faults": "faults",
    "squall_proxies": "network proxies",
    "squall_invariants": "invariants",
    "squall_dashboard_pages": "dashboard pages",
}
"""What a plugin is, by the hooks that it has."""

COMPOSED = ("in-process", "squall")
"""Kinds of targets that are a router of the operator's plugins with the scenario's over them."""


@dataclass(frozen=True)
class Entry:
    """One plugin. roles: by its hooks. options: as text, the defaults too, and in words what the bench supplies; empty
    where it is not enabled. missing: why it cannot be imported."""

    name: str
    roles: tuple[str, ...]
    summary: str
    options: Mapping[str, str]
    missing: str = ""


@dataclass(frozen=True)
class Composition:
    """publish and deliver: the steps of an event in order, `stage: plugin` for middleware. `by_default`: the
    configuration names no plugins. `fallback`: it names no store, so this one is taken."""

    enabled: tuple[Entry, ...]
    available: tuple[Entry, ...]
    by_default: bool
    fallback: str | None
    publish: tuple[str, ...]
    deliver: tuple[str, ...]


@dataclass(frozen=True)
class Composed:
    """What a run's router is made of: the operator's plugins (or the default ones) with the scenario's over them, its
    store in the run's folder. `deliver`: the way of a delivery at each subscriber, by its name. `longest_wait_s`: how
    long a delivery may legally stand still: the longest backoff, a gate that holds, a handler until its timeout."""

    plugins: tuple[Entry, ...]
    publish: tuple[str, ...]
    deliver: Mapping[str, tuple[str, ...]]
    longest_wait_s: float


def composed(scenario: Scenario, config: Config, catalogue: Catalogue) -> Composed | None:
    """Asked of the hooks, about the scenario's own subscribers. None where it is not the bench that composes: other
    targets say themselves what they are. Raises ConfigError at the sections of plugins whose hooks are wrong, or that
    would write to what is not the run's own, else WiringError."""
    section = config.targets.get(scenario.target)
    if (section.kind if section else scenario.target) not in COMPOSED:
        return None
    names = {kind: name for name, kind in catalogue.plugins.items()}
    made = compose(config.plugins, scenario.plugins, Path())
    chosen = {names.get(type(plugin), type(plugin).__name__): plugin for plugin in made}
    longest_s, deliver, sections = 0.0, {}, [*scenario.plugins, *(config.plugins or ())]
    servers = [name for name, one in scenario.servers if one is not None]
    if others := outside(made, servers, config.bench.allow_servers):
        raise ConfigError([one.problem(others.pop(one.name)) for one in sections if one.name in others])
    for name, one in scenario.subscribers.items():
        way = _way(chosen, example(name, one.pattern), sections)
        deliver[name] = _told(way)
        longest_s = max(longest_s, one.timeout + way.longest_wait_s)
    plugins = tuple(_led(_entry(name, type(plugin), plugin), servers, scenario) for name, plugin in chosen.items())
    return Composed(plugins, (*_publish(chosen), _store(chosen)), deliver, longest_s)


def _led(entry: Entry, servers: Sequence[str], scenario: Scenario) -> Entry:
    """The plugin with its url in words where the bench leads it to a server that the run itself starts, and through a
    proxy where there are faults on the way."""
    if "url" not in entry.options:
        return entry
    seam = f"{Network.prefix}:{entry.name}"
    by = f", by {seam}" if any(one.on == seam for one in scenario.faults) else ""
    where = f"the run's own {entry.name}" if entry.name in servers else entry.options["url"]
    return replace(entry, options={**entry.options, "url": f"{where}{by}"})


_COMPOSED = TypeAdapter(Composed)


def save_composed(made: Composed, path: Path) -> None:
    """Write it as JSON. Raises StoreFileError."""
    write_document(path, _COMPOSED, made)


def load_composed(path: Path) -> Composed:
    """Read what `save_composed` wrote. Raises StoreFileError."""
    return read_document(path, _COMPOSED, "what squall wrote")


def composition(config: Config, catalogue: Catalogue) -> Composition:
    """What the configuration enables, what else is installed, and both chains. Nothing is opened or started.

    Raises ConfigError placed at the plugin whose hook raises, WiringError where two stores are enabled.
    """
    chosen = _enabled(config, catalogue)
    store = _store(chosen)
    fallback = None if any(map(is_store, chosen.values())) else next(iter(installed(FALLBACK_STORE)))
    enabled = tuple(_entry(name, type(plugin), plugin) for name, plugin in chosen.items())
    others = {name: kind for name, kind in catalogue.plugins.items() if name not in (*chosen, fallback)}
    return Composition(
        enabled=enabled,
        available=tuple(_entry(name, kind, None) for name, kind in others.items()),
        by_default=config.plugins is None,
        fallback=fallback,
        publish=(*_publish(chosen), store),
        deliver=_told(_way(chosen, example(), config.plugins or ()), rare=True),
    )


def _store(chosen: Mapping[str, Plugin]) -> str:
    """`sqlite (disk)`: the store, and what it promises."""
    durability = Registry(tuple(chosen.values())).store(context()).capabilities.durability
    stores = [name for name, plugin in chosen.items() if is_store(plugin)]
    return f"{stores[0] if stores else next(iter(installed(FALLBACK_STORE)))} ({durability})"


def _enabled(config: Config, catalogue: Catalogue) -> dict[str, Plugin]:
    if config.plugins is None:
        return {name: load_class(point)() for name, point in installed(DEFAULTS).items()}
    return {section.name: _made(section, catalogue) for section in config.plugins}


def _made(section: PluginSection, catalogue: Catalogue) -> Plugin:
    kind = catalogue.plugins[section.name]
    assert not isinstance(kind, str)  # `Catalogue.problems` told
    return kind(section.options(kind.Options))


def _entry(name: str, kind: type[Plugin] | str, plugin: Plugin | None) -> Entry:
    if isinstance(kind, str):
        return Entry(name, (), "", {}, kind)
    roles = tuple(role for hook, role in ROLES.items() if hasattr(kind, hook))
    summary = kind.summary or (kind.__doc__ or "").partition("\n")[0]
    return Entry(name, roles, summary, _options(plugin) if plugin is not None else {})


def _options(plugin: Plugin) -> dict[str, str]:
    """Each option as a file would say it; what is not set is left out."""
    fields = type(plugin.options).model_fields
    data = plugin.options.model_dump(mode="json")
    found = {}
    for name, info in fields.items():
        value = getattr(plugin.options, name)
        parsers = _parsers(info.annotation, info.metadata)
        if value is None or value == ():
            continue
        if parse_seconds in parsers:
            text = format_seconds(value)
        elif parse_bytes in parsers:
            text = format_bytes(value)
        elif isinstance(value, str | float):
            text = f"{value:g}" if isinstance(value, float) else value
        else:
            text = json.dumps(data[name]).replace('"', "")
        found[info.serialization_alias or name] = text
    return found


def _parsers(annotation: object, metadata: Sequence[object]) -> set[object]:
    """What reads the values of a field: in its own metadata, or in that of an alternative such as `Seconds | None`."""
    found: set[object] = {one.func for one in metadata if isinstance(one, BeforeValidator)}
    for part in get_args(annotation):
        found |= _parsers(part, getattr(part, "__metadata__", ()))
    return found


def _publish(chosen: Mapping[str, Plugin]) -> tuple[str, ...]:
    ctx = context()
    layers = [
        (layer.stage, name) for name, plugin in chosen.items() for layer in Registry([plugin]).publish_layers(ctx)
    ]
    layers.sort(key=lambda layer: PUBLISH_STAGES.index(layer[0]))
    wrappers = [name for name, plugin in chosen.items() if hasattr(plugin, "squall_store_wrapper")]
    steps = ["kernel's checks", *(f"{stage}: {name}" for stage, name in layers), "route"]
    return (*steps, *reversed(wrappers))


@dataclass
class _Way:
    """What plugins, by name, have for a subscription; None of those that could have and do not."""

    gates: dict[str, Gate | None] = field(default_factory=dict)
    layers: list[tuple[str, str]] = field(default_factory=list)
    policies: dict[str, SettlePolicy | None] = field(default_factory=dict)
    observers: list[str] = field(default_factory=list)

    @property
    def longest_wait_s(self) -> float:
        """The longest backoff and the time that all gates may hold, together."""
        policy = next((one for one in self.policies.values() if one is not None), None)
        gates_s = sum(gate.longest_wait_s for gate in self.gates.values() if gate is not None)
        return gates_s + (policy.longest_delay_s if policy is not None else 0.0)


def _way(chosen: Mapping[str, Plugin], subscription: Subscription, sections: Sequence[PluginSection]) -> _Way:
    """Ask each hook once. Raises ConfigError with all that is wrong, at its plugin's section, else WiringError."""
    way, problems = _Way(), list[Problem]()
    for name, plugin in chosen.items():
        try:
            _ask(way, name, plugin, subscription)
        except WiringError as error:
            section = next((one for one in sections if one.name == name), None)
            if section is None:
                raise
            problems.append(section.problem(str(error)))
    if problems:
        raise ConfigError(problems)
    return way


def _ask(way: _Way, name: str, plugin: Plugin, subscription: Subscription) -> None:
    ctx, registry = context(), Registry([plugin])
    if hasattr(plugin, "squall_gate"):
        way.gates[name] = registry.gate(ctx, subscription)
    way.layers += [(layer.stage, name) for layer in registry.deliver_layers(ctx, subscription)]
    if hasattr(plugin, "squall_settle_policy"):
        way.policies[name] = registry.settle_policy(ctx, subscription)
    way.observers += [name] if registry.ask("squall_observer", ctx=ctx) else []


def _told(way: _Way, *, rare: bool = False) -> tuple[str, ...]:
    """The way of a delivery. `rare`: plugins that have nothing for this subscription, and may for others, are named
    too."""
    layers = sorted(way.layers, key=lambda layer: DELIVER_STAGES.index(layer[0]))
    steps = [*_named(way.gates, rare=rare), *(f"{stage}: {name}" for stage, name in layers), "handler"]
    first = next((place for place, policy in enumerate(way.policies.values()) if policy is not None), None)
    counting = dict(list(way.policies.items())[: None if first is None else first + 1])  # the first that answers counts
    steps += [*_named(counting, rare=rare), *(["dead letters at the first failure"] if first is None else [])]
    return (*steps, *([f"observe: {', '.join(way.observers)}"] if way.observers else []))


def _named(found: Mapping[str, object], *, rare: bool) -> list[str]:
    named = [name if one is not None else f"{name} (for some subscriptions)" for name, one in found.items()]
    return [text for text, one in zip(named, found.values(), strict=True) if rare or one is not None]
