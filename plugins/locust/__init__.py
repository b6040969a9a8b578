"""Locust as the driver of a load: in processes of its own, which publish CloudEvents over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from squall.core.load_driver import LoadDriverKind
from squall.core.plugin import Plugin, hookimpl
from squall.plugins.locust.driver import LocustDriver
from squall.plugins.locust.options import LocustOptions

KIND = LoadDriverKind(LocustOptions, LocustDriver)


class LocustPlugin(Plugin):
    """Offers Locust to scenarios as who publishes their load. Locust itself is never imported in squall's process."""

    summary: ClassVar[str] = "load drivers: locust (users over HTTP, in processes of their own; squall[locust])"

    @hookimpl
    def squall_load_drivers(self) -> Mapping[str, LoadDriverKind]:
        return {"locust": KIND}

    @hookimpl
    def squall_cli_commands(self) -> Mapping[str, Callable[..., int]]:
        from squall.plugins.locust.command import load_worker

        return {"load-worker": load_worker}
