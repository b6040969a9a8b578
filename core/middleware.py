"""Middleware: plain functions where nothing is awaited, async `around` where something is, composed once by stage."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from squall.core.errors import WiringError
from squall.core.event import Event

PUBLISH_STAGES = ("observe", "validate", "limit", "fault")
DELIVER_STAGES = ("observe", "dedupe", "fault", "handler")
Stage = Literal["observe", "validate", "limit", "fault", "dedupe", "handler"]
Guard = Callable[[Event], None]
Next = Callable[[Event], Awaitable[None]]
Around = Callable[[Event, Next], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Middleware:
    """One layer, as `guard` or `around` made it."""

    stage: Stage
    guard: Guard | None = None
    around: Around | None = None


def guard(function: Guard, *, stage: Stage = "validate") -> Middleware:
    """A plain function called with each event; it may change event.metadata at publish, and raises to refuse. Raises
    WiringError for an async one, which would never run."""
    if inspect.iscoroutinefunction(function):
        raise WiringError(f"guard: expected a plain function, got the async {function!r:.80}: use squall.around(…)")
    return Middleware(stage, guard=function)


def around(function: Around, *, stage: Stage = "validate") -> Middleware:
    """An async function(event, next) that awaits next(event) to go on. The general form, and the dearer one."""
    return Middleware(stage, around=function)


def ordered(layers: Sequence[Any], stages: Sequence[str], what: str) -> list[Middleware]:
    """Layers in the order they run: by stage, within a stage as configured. Raises WiringError on a foreign stage."""
    for layer in layers:
        if not isinstance(layer, Middleware) or layer.stage not in stages:
            raise WiringError(
                f"{what}: expected squall.guard(…) or squall.around(…) with stage {', '.join(stages)}, "
                f"got {layer!r:.120}"
            )
    return sorted(layers, key=lambda layer: stages.index(layer.stage))


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
