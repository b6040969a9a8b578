"""A plugin that raises in a hook stops the wiring, with its own name and the hook's; nothing is half done."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
from tests.core.world import Heard, KeptMemory, World

from squall import (
    ConfigError,
    Context,
    EventRouter,
    EventStore,
    Plugin,
    ServerError,
    Subscription,
    WiringError,
    hookimpl,
)
from squall.core import hookspecs
from squall.core.wiring import Registry

HOOKS = [name for name in vars(hookspecs) if name.startswith("squall_")]
AT_START = [
    "squall_event_store",
    "squall_store_wrapper",
    "squall_publish_middleware",
    "squall_observer",
    "squall_startup",
]
AT_STOP = ["squall_shutdown"]
AT_SUBSCRIBE = ["squall_gate", "squall_deliver_middleware", "squall_settle_policy"]
AT_LOADING = ["squall_targets", "squall_load_drivers", "squall_faults", "squall_proxies", "squall_invariants"]
WHEN_ASKED = ["squall_metrics_text", "squall_cli_commands", "squall_dashboard_pages"]


class Unlucky(Plugin):
    """Raises in one hook, some calls deep, and has nothing to give in the others."""

    def __init__(self, hook: str, error: Exception | None = None) -> None:
        super().__init__()
        self.hook, self.error = hook, error or ValueError("no luck")

    def raise_in(self, hook: str) -> None:
        if hook == self.hook:
            raise self.error

    @hookimpl
    def squall_event_store(self, ctx: Context) -> None:
        self.raise_in("squall_event_store")

    @hookimpl
    def squall_store_wrapper(self, ctx: Context, store: EventStore) -> None:
        self.raise_in("squall_store_wrapper")

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> None:
        self.raise_in("squall_publish_middleware")

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> None:
        self.raise_in("squall_gate")

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> None:
        self.raise_in("squall_deliver_middleware")

    @hookimpl
    def squall_settle_policy(self, ctx: Context, subscription: Subscription) -> None:
        self.raise_in("squall_settle_policy")

    @hookimpl
    def squall_observer(self, ctx: Context) -> None:
        self.raise_in("squall_observer")

    @hookimpl
    async def squall_startup(self, ctx: Context) -> None:
        self.raise_in("squall_startup")

    @hookimpl
    async def squall_shutdown(self, ctx: Context) -> None:
        self.raise_in("squall_shutdown")

    @hookimpl
    def squall_targets(self) -> None:
        self.raise_in("squall_targets")

    @hookimpl
    def squall_load_drivers(self) -> None:
        self.raise_in("squall_load_drivers")

    @hookimpl
    def squall_faults(self) -> None:
        self.raise_in("squall_faults")

    @hookimpl
    def squall_proxies(self) -> None:
        self.raise_in("squall_proxies")

    @hookimpl
    def squall_invariants(self) -> None:
        self.raise_in("squall_invariants")

    @hookimpl
    def squall_metrics_text(self) -> None:
        self.raise_in("squall_metrics_text")

    @hookimpl
    def squall_cli_commands(self) -> None:
        self.raise_in("squall_cli_commands")

    @hookimpl
    def squall_dashboard_pages(self) -> None:
        self.raise_in("squall_dashboard_pages")


class Innocent(Plugin):
    """Does nothing wrong, in every hook."""

    @hookimpl
    def squall_observer(self, ctx: Context) -> None:
        return None

    @hookimpl
    def squall_gate(self, ctx: Context) -> None:
        return None


def test_every_hook_is_raised_in_here() -> None:
    """One that is added must be held too."""
    assert sorted(HOOKS) == sorted(AT_START + AT_STOP + AT_SUBSCRIBE + AT_LOADING + WHEN_ASKED)


@pytest.mark.parametrize("hook", AT_START)
async def test_a_raise_at_start_stops_it(hook: str) -> None:
    """The error names plugin and hook and carries the cause; the router is as if it had not been started."""
    router = EventRouter([Innocent(), Unlucky(hook), Innocent()])
    for _ in range(2):
        with pytest.raises(WiringError, match=rf"plugin Unlucky#\d raised in {hook}: ValueError: no luck") as caught:
            await router.start()
        assert isinstance(caught.value.__cause__, ValueError)
    await router.stop()
    with pytest.raises(Exception, match="not running"):
        router.get_metrics()


async def test_a_raise_at_start_leaves_no_store_open() -> None:
    """Whatever was begun before it is ended again: the file is not locked by a router that does not run."""
    kept = KeptMemory()
    world = World(Unlucky("squall_observer"), Unlucky("squall_store_wrapper"), store=kept)
    with pytest.raises(WiringError):
        await world.router.start()
    other = World(store=kept)
    async with other:
        await other.publish("a")


@pytest.mark.parametrize("hook", AT_STOP)
async def test_a_raise_at_stop_is_logged(hook: str) -> None:
    """In a line, with the plugin's name, the hook's, the error and its place, the traceback at level DEBUG; the router
    has stopped all the same, and may be started again."""
    world = World(Innocent(), Unlucky(hook))
    world.log.logger.setLevel(logging.DEBUG)
    async with world:
        await world.publish("a")
    told = [one for one in world.log.records if one.levelno >= logging.ERROR]
    assert len(told) == 1
    line = rf"plugin Unlucky#3 raised in {hook}: ValueError: no luck \(.*{__file__}:\d+, in raise_in\)"
    assert re.fullmatch(line, told[0].getMessage())
    assert not told[0].exc_info
    traces = [one.exc_info[1] for one in world.log.records if one.levelno == logging.DEBUG and one.exc_info]
    assert [(type(trace), str(trace)) for trace in traces] == [(ValueError, "no luck")]
    async with world:
        await world.publish("a")


@pytest.mark.parametrize("hook", AT_SUBSCRIBE)
async def test_a_raise_at_subscribe_refuses_the_subscription_alone(hook: str) -> None:
    """The router runs on, and so do the others."""
    heard = Heard()

    async with World(Innocent(), Unlucky(hook), Innocent()) as world:
        with pytest.raises(WiringError, match=f"plugin Unlucky#3 raised in {hook}: ValueError: no luck"):
            await world.subscriber.subscribe(">", heard)
        assert world.router.get_metrics().subscriptions == 0
        await world.publish("a")
        await world.clock.settle()
        assert heard.types == []


@pytest.mark.parametrize("hook", AT_LOADING)
def test_a_raise_while_a_run_is_loaded_names_plugin_and_hook(hook: str) -> None:
    """As everywhere."""
    with pytest.raises(WiringError, match=f"plugin Unlucky#2 raised in {hook}: ValueError: no luck"):
        Registry([Innocent(), Unlucky(hook)]).ask(hook, **({"ctx": None} if hook == "squall_proxies" else {}))


async def test_a_plugins_own_word_on_its_configuration_is_passed_on() -> None:
    """A ConfigError says already what is wrong and where."""
    router = EventRouter([Unlucky("squall_observer", ConfigError("metrics: no such port"))])
    with pytest.raises(ConfigError, match=r"^metrics: no such port"):
        await router.start()


async def test_a_plugins_word_on_a_server_that_it_needs_is_passed_on() -> None:
    """Nothing is wrong with the plugin or its options."""
    router = EventRouter([Unlucky("squall_observer", ServerError("the graph is gone"))])
    with pytest.raises(ServerError, match=r"^the graph is gone$"):
        await router.start()


def test_a_hook_that_does_not_exist_is_refused_when_the_plugin_is_enabled() -> None:
    """A misspelt hook is not silently never called."""

    class Misspelt(Plugin):
        @hookimpl
        def squall_obsrever(self, ctx: object) -> None: ...

    with pytest.raises(WiringError, match=r"plugin Misspelt#1: .*squall_obsrever"):
        EventRouter([Misspelt()])


def test_a_hook_without_its_mark_is_refused() -> None:
    """It would silently never be called, in a subclass of a plugin that has it too."""

    class Forgetful(Plugin):
        def squall_observer(self, ctx: object) -> None: ...

    class Heir(Innocent):
        def squall_gate(self, ctx: Context) -> None: ...

    for kind, method in ((Forgetful, "Forgetful.squall_observer"), (Heir, "Heir.squall_gate")):
        with pytest.raises(
            WiringError, match=rf"plugin {kind.__name__}#1: .*{method} .*put @squall\.hookimpl before it"
        ):
            EventRouter([kind()])


def test_a_method_that_is_called_like_a_hook_is_one() -> None:
    """Marked or not, with the nearest right name; what is no method may be called as it likes."""

    class Misspelt(Plugin):
        def squall_obsrever(self, ctx: object) -> None: ...

    class Marked(Plugin):
        @hookimpl
        def squall_settle_polcy(self, ctx: object) -> None: ...

    class Named(Plugin):
        squall_version = "1"

    with pytest.raises(WiringError, match=r"Misspelt\.squall_obsrever: .*did you mean 'squall_observer'\?"):
        EventRouter([Misspelt()])
    with pytest.raises(WiringError, match=r"Marked\.squall_settle_polcy: .*did you mean 'squall_settle_policy'\?"):
        EventRouter([Marked()])
    EventRouter([Named()])


def test_a_hook_with_an_argument_that_it_is_not_given_is_refused() -> None:
    """With the plugin's name and the argument's."""

    class Greedy(Plugin):
        @hookimpl
        def squall_observer(self, ctx: object, more: object) -> None: ...

    with pytest.raises(WiringError, match=r"(?s)plugin Greedy#1: .*squall_observer.*more"):
        EventRouter([Greedy()])


@pytest.mark.parametrize("bad", [Innocent, "retry", None])
def test_what_is_no_plugin_is_refused(bad: Any) -> None:
    """A class instead of an instance, a name: with its place in the list."""
    with pytest.raises(WiringError, match=r"plugins\[1\]: expected an instance of a squall\.Plugin, got "):
        EventRouter([Innocent(), bad])
