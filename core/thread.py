"""A router in a thread of its own, for programs without an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from squall.core.router import EventRouter

R = TypeVar("R", bound="EventRouter")


@contextlib.contextmanager
def running(router: R) -> Iterator[R]:
    """The router, started in a daemon thread and stopped at the end of `with`."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="squall", daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(router.start(), loop).result()
        yield router
    finally:
        asyncio.run_coroutine_threadsafe(router.stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
