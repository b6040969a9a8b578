"""Other libraries for events in Python, each with `fan` async subscribers that call the handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from tests.benchmarks.load import TYPE, Case

Handler = Callable[[bytes], Awaitable[None]]


def _blinker(fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    import blinker

    signal = blinker.Signal()
    receivers = []
    for _ in range(fan):

        async def receive(sender: object, payload: bytes) -> None:
            await handler(payload)

        receivers.append(receive)  # the signal holds them weakly
        signal.connect(receive)

    async def publish(payload: bytes, kept: object = receivers) -> None:
        await signal.send_async(TYPE, payload=payload)

    return Case(publish, awaited=True)


def _psygnal(fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    import psygnal

    class Bus:
        published = psygnal.Signal(bytes)

    bus = Bus()
    backend = psygnal.set_async_backend("asyncio")
    task = asyncio.get_running_loop().create_task(backend.run())
    stack.callback(task.cancel)
    receivers = []
    for _ in range(fan):

        async def receive(payload: bytes) -> None:
            await handler(payload)

        receivers.append(receive)
        bus.published.connect(receive)

    def publish(payload: bytes, kept: object = receivers) -> None:
        bus.published.emit(payload)

    return Case(publish, awaited=False)


def _pyee(fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    from pyee.asyncio import AsyncIOEventEmitter

    emitter = AsyncIOEventEmitter()
    for _ in range(fan):

        async def receive(payload: bytes) -> None:
            await handler(payload)

        emitter.add_listener(TYPE, receive)

    def publish(payload: bytes) -> None:
        emitter.emit(TYPE, payload)

    return Case(publish, awaited=False)


def _bubus(fan: int, handler: Handler, stack: AsyncExitStack) -> Case:
    import bubus  # type: ignore[import-untyped]

    logging.getLogger("bubus").setLevel(logging.CRITICAL)

    class Created(bubus.BaseEvent[None]):  # type: ignore[misc]
        payload: bytes

    bus = bubus.EventBus(max_history_size=50)
    stack.push_async_callback(bus.stop)
    for number in range(fan):

        async def receive(event: Created) -> None:
            await handler(event.payload)

        receive.__name__ = f"receive{number}"
        bus.on(Created, receive)

    async def publish(payload: bytes) -> None:
        await bus.dispatch(Created(payload=payload))

    return Case(publish, awaited=True)


PEERS: dict[str, Callable[[int, Handler, AsyncExitStack], Case]] = {
    "blinker": _blinker,
    "psygnal": _psygnal,
    "pyee": _pyee,
    "bubus": _bubus,
}
