"""The same router, used in its own process and from elsewhere: what holds for one must hold for the other."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import urllib.request
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tests.plugins.serve.served import Served, until
from tests.servers import Server, free_port

import squall
from squall import EventPublisher, EventRouter, EventSubscriber
from squall.plugins.memory import MemoryPlugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin

Where = Literal["local", "remote"]
TOKEN = "a-token-of-tests-alone"


@dataclass
class Bus:
    """A publisher and a subscriber, and the router that serves them, to look at."""

    publisher: EventPublisher
    subscriber: EventSubscriber
    router: EventRouter

    async def idle(self) -> None:
        """Nothing is owed any more."""
        await until(lambda: self.router.get_metrics().pending == 0)

    async def died(self, *expected: tuple[str, str]) -> None:
        """These are the dead letters, soon: event type and the error's class."""
        for _ in range(400):
            letters = await self.router.store.dead_letters()
            found = [(one.event.type, one.error_type or "") for one in letters]
            if found == [*expected]:
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"expected {expected}, got {found}")


@contextlib.asynccontextmanager
async def bus(where: Where, **options: Any) -> AsyncIterator[Bus]:
    """A running bus, with three attempts that follow each other quickly."""
    plugins = (MemoryPlugin(), RetryPlugin(attempts=3, base=0.01, cap=0.01))
    if where == "local":
        async with EventRouter(plugins) as router:
            yield Bus(router.publisher("shop"), router.subscriber("billing"), router)
        return
    async with Served(*plugins) as served, squall.connect(served.server.url, **options) as remote:
        yield Bus(remote.publisher("shop"), remote.subscriber("billing"), served.router)


def squall_server(folder: Path, *, port: int = 0, **serve: Any) -> Server:
    """A `squall serve` of its own process, with a store in the folder that survives it."""
    folder.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    config = folder / "squall.yaml"
    plugins = [{"sqlite": {"path": "bus.db"}}, {"retry": {"attempts": 5, "base": "10ms", "cap": "50ms"}}]
    options = {"port": port, **serve}
    config.write_text(json.dumps({"version": 1, "plugins": [*plugins, {"serve": options}]}), encoding="utf-8")

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    command = [sys.executable, "-m", "squall", "serve", "--config", str(config)]
    return Server(folder, command, answers, port=port, scheme="http")


async def stored(folder: Path) -> list[str]:
    """The ids that a stopped server's store holds, in their order."""
    async with EventRouter([SqlitePlugin(path=folder / "bus.db")]) as router:
        return [event.id async for event in router.replay()]
