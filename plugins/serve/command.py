"""`squall serve`: a router of squall.yaml's, for remote clients, until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import logging
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from squall.core import wiring
from squall.core.config import Config, load_config
from squall.core.drivers import is_told_elsewhere
from squall.core.errors import ConfigError
from squall.core.heap import heap_set_aside
from squall.core.plugin import Plugin
from squall.core.router import EventRouter
from squall.plugins.serve import ServePlugin
from squall.plugins.serve.options import ServeOptions

CONFIG = Path("squall.yaml")
NEEDED = ("google.protobuf", "httptools", "starlette", "uvicorn", "websockets")


def serve(
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="the operator's file, instead of ./squall.yaml")
    ] = None,
    host: Annotated[str | None, typer.Option(help="instead of serve.host: the address to listen on")] = None,
    port: Annotated[int | None, typer.Option(help="instead of serve.port; 0: any free one")] = None,
) -> int:
    """Serve a router to remote clients.

    Publishing by HTTP (CloudEvents) and WebSocket, subscribing by WebSocket. SIGTERM and Ctrl-C drain: nothing new is
    taken, clients may settle what they have in hand, the rest is kept for later.

    \b
    Example:
      squall serve
      squall serve --config shop/squall.yaml --port 0
    """
    missing = [name for name in NEEDED if not _found(name)]
    if missing:
        raise ConfigError(f"serve needs {', '.join(missing)}: pip install 'squall[serve]'")
    settings = Config() if config is None and not os.path.lexists(CONFIG) else load_config(config or CONFIG)
    plugins, options = with_serve(settings, host, port)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", handlers=[log()])
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_run(EventRouter(plugins, backlog=settings.backlog), options))
    return 0


def log() -> logging.Handler:
    """What is logged goes to stderr, once: without what drivers say of what a plugin tells."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: not is_told_elsewhere(record))
    return handler


def with_serve(settings: Config, host: str | None, port: int | None) -> tuple[list[Plugin], ServeOptions]:
    """The router's plugins, serve among them, and its options, host and port instead of what they say if given.
    Raises ConfigError."""
    plugins = wiring.default_plugins() if settings.plugins is None else wiring.from_sections(settings.plugins)
    place = next((number for number, one in enumerate(plugins) if isinstance(one, ServePlugin)), len(plugins))
    told = plugins[place].options if place < len(plugins) else ServeOptions()
    instead = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    options = ServeOptions.of("serve", {**dict(told), **instead})
    plugins[place : place + 1] = [ServePlugin(options)]
    return plugins, options


async def _run(router: EventRouter, options: ServeOptions) -> None:
    from squall.plugins.serve.server import Server

    asked = asyncio.Event()
    server = Server(router, options)

    def stop() -> None:
        if asked.is_set():
            server.hurry()
        asked.set()

    async with router:
        with _on_signals(stop):
            await server.start()
            needs = "a token" if options.token else "no token"
            with heap_set_aside():
                print(f"squall serves {server.url} ({router.durability} durability, {needs} needed)", flush=True)  # noqa: T201  what was asked for
                await asked.wait()
                await server.stop()


@contextlib.contextmanager
def _on_signals(stop: Callable[[], None]):  # type: ignore[no-untyped-def]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


def _found(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if not _found("uvloop"):
        return None
    import uvloop

    return uvloop.new_event_loop
