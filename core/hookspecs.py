"""Every hook of squall, in the order of the way of an event.

Hooks are called when a router, a subscription or a run is wired, never per event. What they return is composed once.
A raise while wiring stops it with a WiringError that names the plugin and the hook; a ServerError passes as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from squall.core.dashboard import DashboardPage
from squall.core.delivery import Gate, Observer, SettlePolicy
from squall.core.fault import Fault, Proxies
from squall.core.invariant import Expectation
from squall.core.load_driver import LoadDriverKind
from squall.core.middleware import Middleware
from squall.core.plugin import Context, hookspec
from squall.core.store import EventStore
from squall.core.subscription import Subscription
from squall.core.target import Target


@hookspec
def squall_event_store(ctx: Context) -> EventStore | None:
    """Called at router start. Returns the store; two plugins that return one are an error."""


@hookspec
def squall_store_wrapper(ctx: Context, store: EventStore) -> EventStore | None:
    """Called at router start with the store so far. Returns a store that stands before it, for faults or audits."""


@hookspec
def squall_publish_middleware(ctx: Context) -> Middleware | Sequence[Middleware] | None:
    """Called at wiring. Returns layers that each event passes before it is routed and stored; a raise there refuses it.
    Stages: observe, validate, limit, fault."""


@hookspec
def squall_gate(ctx: Context, subscription: Subscription) -> Gate | None:
    """Called when a subscription is wired. Returns a gate; all gates must permit a delivery."""


@hookspec
def squall_deliver_middleware(ctx: Context, subscription: Subscription) -> Middleware | Sequence[Middleware] | None:
    """Called when a subscription is wired. Returns layers around its handler; a raise there is a failed attempt.
    Stages: observe, dedupe, fault, handler."""


@hookspec
def squall_settle_policy(ctx: Context, subscription: Subscription) -> SettlePolicy | None:
    """Called when a subscription is wired. Returns who decides about failed deliveries; the first in the
    configuration's order counts. Without one a failed delivery is dead-lettered at once."""


@hookspec
def squall_observer(ctx: Context) -> Observer | None:
    """Called at router start. Returns an observer; one that raises later is logged and disabled."""


@hookspec
def squall_startup(ctx: Context) -> Awaitable[None] | None:
    """Called at router start, when its store is open; in the configuration's order, one after the other. It may be
    async. Returns nothing. A raise stops the start, and shuts down what was started before."""


@hookspec
def squall_shutdown(ctx: Context) -> Awaitable[None] | None:
    """Called when the router has stopped and observers were told everything; in the reverse order. It may be async.
    Returns nothing. A raise is logged, and the others are shut down all the same."""


@hookspec
def squall_metrics_text() -> str | None:
    """Called when a server is asked for the router's numbers. Returns samples in Prometheus' text format; those of all
    plugins are joined."""


@hookspec
def squall_targets() -> Mapping[str, type[Target]] | None:
    """Called when a run is loaded. Returns kinds of systems under test by name; a name given twice is an error."""


@hookspec
def squall_load_drivers() -> Mapping[str, LoadDriverKind] | None:
    """Called when a run is loaded. Returns kinds of load drivers by the name that a scenario gives as `load.driver`; a
    name given twice is an error."""


@hookspec
def squall_faults() -> Sequence[type[Fault]] | None:
    """Called when a run is loaded. Returns kinds of faults; a name given twice for one kind of seam is an error."""


@hookspec
def squall_proxies(ctx: Context) -> Proxies | None:
    """Called before a run whose faults act on a network, with the operator's options. Returns who puts proxies there;
    the first plugin that answers counts."""


@hookspec
def squall_invariants() -> Sequence[type[Expectation]] | None:
    """Called when a run is loaded. Returns kinds of invariants, for scenarios to expect; a name given twice is an
    error."""


@hookspec
def squall_cli_commands() -> Mapping[str, Callable[..., int]] | None:
    """Called when a command of the plugin's is launched. Returns functions by name, with typer's annotations, that
    return the exit code. An entry point of the group squall.commands has the command's name and names the plugin."""


@hookspec
def squall_dashboard_pages() -> Mapping[str, DashboardPage] | None:
    """Called when a browser opens the dashboard. Returns pages by the name that they have in its URLs; a name given
    twice is an error."""
