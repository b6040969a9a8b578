"""A router in a thread of its own, for programs without an event loop; and waiting, in one, for what a loop answers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from squall.core.errors import PublishError, WrongThread

if TYPE_CHECKING:
    from squall.core.router import EventRouter

R = TypeVar("R", bound="EventRouter")
T = TypeVar("T")


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


def check_loop(loop: asyncio.AbstractEventLoop | None) -> None:
    """Raises WrongThread where what is awaited now would be answered in this other loop, and never here."""
    if asyncio.get_running_loop() is not loop:
        raise WrongThread(
            "awaited in another event loop or thread than the router's, and would never be answered: nothing was done. "
            "Await it where the router was started, or hand it over: asyncio.run_coroutine_threadsafe(…, router.loop); "
            "publish_sync publishes from any other thread"
        )


def answer_in_thread(
    publishing: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop, timeout_s: float, grace_s: float = 0.0
) -> T:
    """What a publish on another thread's loop returns; waits timeout_s and grace_s. Raises what it raises, and
    PublishError, outcome `info`, where there is no answer by then."""
    future = asyncio.run_coroutine_threadsafe(publishing, loop)
    try:
        return future.result(timeout_s + grace_s)
    except (TimeoutError, concurrent.futures.CancelledError) as error:
        future.cancel()
        raise PublishError(f"publish_sync: no answer within {timeout_s} s; it may have been stored", "info") from error
