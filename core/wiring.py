"""Plugins: found by entry point, made from their sections, and asked for what they contribute."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

import pluggy

from squall.core import hookspecs
from squall.core.config import PluginSection
from squall.core.delivery import Gate, SettlePolicy
from squall.core.errors import ConfigError, Problem, PublishError, Refused, ServerError, WiringError
from squall.core.event import Event, Priority
from squall.core.failures import described
from squall.core.gates import AllGates
from squall.core.middleware import DELIVER_STAGES, PUBLISH_STAGES, Middleware, Next
from squall.core.observers import METHODS
from squall.core.options import did_you_mean
from squall.core.plugin import Context, Plugin
from squall.core.secret import without_passwords
from squall.core.store import EventStore
from squall.core.subscription import Subscription

GROUP = "squall.plugins"
DEFAULTS = "squall.defaults"
FALLBACK_STORE = "squall.fallback_store"
P = TypeVar("P", bound=Plugin)

_STORE = ("a store such as squall.EventStore describes", ("capabilities", "open", "append", "settle", "attach", "read"))
ANSWERS: Mapping[str, tuple[str, Sequence[str]]] = {
    "squall_event_store": _STORE,
    "squall_store_wrapper": _STORE,
    "squall_gate": ("a gate such as squall.Gate describes", ("longest_wait_s", "try_acquire", "record", "release")),
    "squall_settle_policy": (
        "a policy such as squall.SettlePolicy describes",
        ("longest_delay_s", "max_attempts", "decide"),
    ),
    "squall_observer": ("a squall.Observer", METHODS),
    "squall_proxies": ("who puts proxies between, as squall.core.fault.Proxies describes", ("between", "close")),
}
"""What a hook's answer is, in words and by the names that it must have."""


def installed(group: str = GROUP) -> dict[str, EntryPoint]:
    """What is installed, by name, in the order of names."""
    return {point.name: point for point in sorted(entry_points(group=group), key=lambda point: point.name)}


def load_class(point: EntryPoint) -> type[Plugin]:
    """The plugin class behind an entry point. Raises ConfigError when it cannot be imported or is no plugin."""
    try:
        found = point.load()
    except ImportError as error:
        extra = f"; install squall[{point.extras[0]}]" if point.extras else ""
        raise ConfigError(f"plugin {point.name}: cannot be imported: {error}{extra}") from error
    if not (isinstance(found, type) and issubclass(found, Plugin)):
        raise ConfigError(
            f"plugin {point.name}: expected a subclass of squall.Plugin at {point.value}, got {found!r:.80}"
        )
    return found


def from_sections(sections: Sequence[PluginSection]) -> list[Plugin]:
    """The plugins that a file enables, in its order. Raises ConfigError with all that is wrong, placed in the file."""
    points, plugins, problems = installed(), [], list[Problem]()
    for section in sections:
        point = points.get(section.name)
        if point is None:
            near = difflib.get_close_matches(section.name, points, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"installed: {', '.join(points)}"
            problems.append(section.problem(f"there is no plugin '{section.name}'", hint))
            continue
        try:
            kind = load_class(point)
            plugins.append(kind(section.options(kind.Options)))
        except ConfigError as error:
            problems.extend(problem if problem.line else section.problem(problem.message) for problem in error.problems)
    if problems:
        raise ConfigError(problems)
    return plugins


def default_plugins() -> list[Plugin]:
    """What a router without configuration enables."""
    return [load_class(point)() for point in installed(DEFAULTS).values()]


class Registry:
    """The plugins of one router or run, and their hooks' answers in the configuration's order."""

    def __init__(self, plugins: Sequence[Plugin]) -> None:
        self.plugins = tuple(plugins)
        self._manager = pluggy.PluginManager("squall")
        self._manager.add_hookspecs(hookspecs)
        for number, plugin in enumerate(plugins):
            if not isinstance(plugin, Plugin):
                raise WiringError(f"plugins[{number}]: expected an instance of a squall.Plugin, got {plugin!r:.80}")
            name = f"{type(plugin).__name__}#{number + 1}"
            _check_hooks(type(plugin), name)
            try:
                self._manager.register(plugin, name)
                self._manager.check_pending()
            except pluggy.PluginValidationError as error:
                raise WiringError(f"plugin {name}: {error}") from error

    def find(self, kind: type[P]) -> P:
        """The enabled plugin of this class. Raises KeyError."""
        for plugin in self.plugins:
            if isinstance(plugin, kind):
                return plugin
        raise KeyError(f"no {kind.__name__} is enabled")

    def ask(self, hook: str, **arguments: object) -> list[Any]:
        """Every answer other than None, in the configuration's order. Raises WiringError that names the plugin which
        raised, or which answered with something that has not what the hook's answer must have."""
        answers = []
        for plugin in self.plugins:
            found = self._ask_one(plugin, hook, **arguments)
            words, parts = ANSWERS.get(hook, ("", ()))
            for answer in found:
                if parts and (isinstance(answer, type) or not all(hasattr(answer, part) for part in parts)):
                    name = self._manager.get_name(plugin)
                    raise WiringError(f"plugin {name}: {hook} returned {answer!r:.80}, expected {words}")
            answers += found
        return answers

    def _ask_one(self, plugin: Plugin, hook: str, **arguments: object) -> list[Any]:
        if not hasattr(plugin, hook):
            return []
        caller = self._manager.subset_hook_caller(hook, [other for other in self.plugins if other is not plugin])
        with self._named(plugin, hook):
            found: list[Any] = caller(**arguments)
            return found

    @contextlib.contextmanager
    def _named(self, plugin: Plugin, hook: str) -> Iterator[None]:
        """What a plugin raises names it and the hook, unless it is the plugin's own word on its configuration, or on
        a server that it needs."""
        try:
            yield
        except (ConfigError, ServerError, WiringError):
            raise
        except Exception as error:
            name = self._manager.get_name(plugin)
            raise WiringError(f"plugin {name} raised in {hook}: {type(error).__name__}: {error}") from error

    async def startup(self, ctx: Context) -> None:
        """Start what plugins do beside the router. Raises WiringError or ServerError; what was started before is shut
        down then."""
        for number, plugin in enumerate(self.plugins):
            try:
                await self._await_one(plugin, "squall_startup", ctx)
            except BaseException:
                await self.shutdown(ctx, number)
                raise

    async def shutdown(self, ctx: Context, started: int | None = None) -> None:
        """Shut down what plugins do beside the router, those that were started: the first so many, or all."""
        for plugin in reversed(self.plugins[:started]):
            try:
                await self._await_one(plugin, "squall_shutdown", ctx)
            except Exception as error:
                name, raised = self._manager.get_name(plugin), error.__cause__ or error
                ctx.logger.error(  # in a line: the router has stopped all the same
                    "plugin %s raised in squall_shutdown: %s", name, described(raised, without_passwords)
                )
                ctx.logger.debug("plugin %s: where squall_shutdown raised", name, exc_info=raised)

    async def _await_one(self, plugin: Plugin, hook: str, ctx: Context) -> None:
        for answer in self._ask_one(plugin, hook, ctx=ctx):
            with self._named(plugin, hook):
                await answer

    def publish_layers(self, ctx: Context) -> list[Middleware]:
        """What each event passes before it is stored, in this order."""
        layers = self._layers("squall_publish_middleware", PUBLISH_STAGES, ctx=ctx)
        return [_held_to_its_part(layer) for layer in layers]

    def deliver_layers(self, ctx: Context, subscription: Subscription) -> list[Middleware]:
        """What stands around the handler, from the outside in."""
        return self._layers("squall_deliver_middleware", DELIVER_STAGES, ctx=ctx, subscription=subscription)

    def _layers(self, hook: str, stages: Sequence[str], **arguments: object) -> list[Middleware]:
        """Layers in the order they run: by stage, within a stage as configured. Raises WiringError on a foreign stage
        and on what is no layer."""
        layers, what = [], hook.removeprefix("squall_").replace("_", " ")
        for plugin in self.plugins:
            name = self._manager.get_name(plugin) or ""
            for layer in _flat(self._ask_one(plugin, hook, **arguments)):
                if not isinstance(layer, Middleware) or layer.stage not in stages:
                    raise WiringError(
                        f"plugin {name}: {what}: expected squall.guard(…) or squall.around(…) with stage "
                        f"{', '.join(stages)}, got {layer!r:.120}"
                    )
                layers.append(replace(layer, plugin=name))
        return sorted(layers, key=lambda layer: stages.index(layer.stage))

    def gate(self, ctx: Context, subscription: Subscription) -> Gate | None:
        gates = self.ask("squall_gate", ctx=ctx, subscription=subscription)
        return None if not gates else gates[0] if len(gates) == 1 else AllGates(gates)

    def settle_policy(self, ctx: Context, subscription: Subscription) -> SettlePolicy | None:
        policies = self.ask("squall_settle_policy", ctx=ctx, subscription=subscription)
        return policies[0] if policies else None

    def store(self, ctx: Context) -> EventStore:
        """The one store, or the fallback, behind all that wraps it. Raises WiringError where two are configured."""
        stores = self.ask("squall_event_store", ctx=ctx)
        if len(stores) > 1:
            names = " and ".join(type(store).__name__ for store in stores)
            raise WiringError(f"two stores are configured ({names}); a router has one: remove the others")
        if not stores:
            fallback = Registry([load_class(point)() for point in installed(FALLBACK_STORE).values()])
            stores = fallback.ask("squall_event_store", ctx=ctx)
        if not stores:
            raise WiringError("no store is configured and none is installed to fall back on")
        store: EventStore = stores[0]
        for plugin in self.plugins:
            if hasattr(plugin, "squall_store_wrapper"):
                store = next(iter(Registry([plugin]).ask("squall_store_wrapper", ctx=ctx, store=store)), store)
        return store


def _check_hooks(kind: type[Plugin], name: str) -> None:
    """Raises WiringError for a method that looks like a hook and would never be called."""
    hooks = [hook for hook in vars(hookspecs) if hook.startswith("squall_")]
    for method in dir(kind):
        if not method.startswith("squall_") or not callable(getattr(kind, method)):
            continue
        if method not in hooks:
            hint = did_you_mean(method, hooks, "hooks")
            raise WiringError(
                f"plugin {name}: {kind.__qualname__}.{method}: there is no such hook, and the prefix is for hooks; "
                f"{hint}"
            )
        if not hasattr(getattr(kind, method), "squall_impl"):
            raise WiringError(
                f"plugin {name}: {kind.__qualname__}.{method} would never be called: put @squall.hookimpl before it"
            )


def _held_to_its_part(layer: Middleware) -> Middleware:
    """A layer that may change an event's metadata but neither type nor priority, and goes on with each event once:
    again only where what follows raised, as a retry does. One that goes on twice would store twice under one id."""
    function, check = layer.around, layer.guard

    def unchanged(event: Event, given: tuple[str, Priority]) -> None:
        if (event.type, event.priority) != given:
            raise Refused(
                f"plugin {layer.plugin}: its publish middleware made {event.type!r:.80}, {event.priority!r:.80} of an "
                f"event of {given[0]!r}, {given[1]!r}; expected metadata to be changed and nothing else: add a "
                "squall.RoutingRule to change types and priorities"
            )

    def guarded(event: Event) -> None:
        event_type, priority = event.type, event.priority
        check(event)  # type: ignore[misc]  # a layer has the one or the other
        if event.type is not event_type or event.priority is not priority:
            unchanged(event, (event_type, priority))

    def run(event: Event, following: Next) -> Coroutine[Any, Any, None]:
        gone_on, given = False, (event.type, event.priority)

        async def go_on(passed: Event) -> None:
            nonlocal gone_on
            if gone_on:
                raise PublishError(
                    f"plugin {layer.plugin}: its publish middleware called next twice for event {event.id} "
                    f"({event.type}), expected once, and again only where next raised; the event went on once",
                    "info",
                )
            unchanged(event, given)
            gone_on = True
            try:
                await following(passed)
            except BaseException:
                gone_on = False
                raise

        return function(event, go_on)  # type: ignore[misc]

    return replace(layer, guard=check and guarded, around=function and run)


def _flat(answers: Sequence[Any]) -> list[Any]:
    return [layer for answer in answers for layer in (answer if isinstance(answer, list | tuple) else (answer,))]
