"""Serve a router to remote clients, by HTTP and WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from squall.core.delivery import Attempts, Gate, Observer
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.subscription import Subscription
from squall.plugins.serve.options import ServeOptions
from squall.plugins.serve.remote import RemoteHandler


class _Stored(Observer):
    """Tells remote subscriptions what the store has of what their clients settled."""

    def settled(self, subscription: Subscription, attempts: Attempts, ok_ns: int, answer: str) -> None:
        if answer == "ok" and isinstance(subscription.handler, RemoteHandler):
            subscription.handler.stored(attempt.event.seq for attempt in attempts)


class ServePlugin(Plugin):
    """Enabled, it says how `squall serve` serves; a router in a program of one's own is not served by it."""

    summary: ClassVar[str] = "commands serve, dlq: a router for remote clients, by HTTP and WebSocket; its dead letters"
    Options = ServeOptions
    options: ServeOptions

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate | None:
        handler = subscription.handler
        return handler.gate(ctx, subscription) if isinstance(handler, RemoteHandler) else None

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return _Stored()

    @hookimpl
    def squall_cli_commands(self) -> Mapping[str, Callable[..., int]]:
        from squall.plugins.serve.command import serve
        from squall.plugins.serve.dlq import dlq

        return {"serve": serve, "dlq": dlq}
