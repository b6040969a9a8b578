"""Middleware: plain functions where nothing is awaited, async `around` where something is, composed once by stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from squall.core.argument_checks import check_async
from squall.core.event import Event

PUBLISH_STAGES = ("observe", "validate", "limit", "fault")
DELIVER_STAGES = ("observe", "dedupe", "fault", "handler")
Stage = Literal["observe", "validate", "limit", "fault", "dedupe", "handler"]
Guard = Callable[[Event], None]
Next = Callable[[Event], Awaitable[None]]
Around = Callable[[Event, Next], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Middleware:
    """One layer, as `guard` or `around` made it; `plugin` is whose it is, once it is wired."""

    stage: Stage
    guard: Guard | None = None
    around: Around | None = None
    plugin: str = ""


def guard(function: Guard, *, stage: Stage = "validate") -> Middleware:
    """A plain function called with each event; at publish it may change event.metadata, and nothing else of it. It
    raises to refuse. Raises WiringError for an async one, which would never run."""
    check_async("guard", function, wanted=False)
    return Middleware(stage, guard=function)


def around(function: Around, *, stage: Stage = "validate") -> Middleware:
    """An async function(event, next) that awaits next(event) to go on. The general form, and the dearer one.

    At publish it may change event.metadata, and nothing else; and it goes on once: again only where next(event) raised.
    Around a handler, each next(event) calls the handler. Raises WiringError for a plain function.
    """
    check_async("around", function, wanted=True)
    return Middleware(stage, around=function)


def guards_only(layers: Sequence[Middleware]) -> Guard | Literal[False] | None:
    """The layers as one plain function: None when there are none, False when one of them is async."""
    if not layers:
        return None
    functions = tuple(layer.guard for layer in layers if layer.guard is not None)
    if len(functions) < len(layers):
        return False
    if len(functions) == 1:
        return functions[0]

    def run(event: Event) -> None:
        for function in functions:
            function(event)

    return run


def compose(layers: Sequence[Middleware], last: Next) -> Next:
    """The whole chain as one async function of the event, ending in `last`."""
    chain = last
    for layer in reversed(layers):
        chain = _bind(layer, chain)
    return chain


def _bind(layer: Middleware, following: Next) -> Next:
    if (function := layer.around) is not None:
        return lambda event: function(event, following)
    check = layer.guard
    assert check is not None

    def run(event: Event) -> Awaitable[None]:  # no coroutine of its own: it would cost more than most guards
        check(event)
        return following(event)

    return run
