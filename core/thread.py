"""A router in a thread of its own, for programs without an event loop; and waiting, in one, for what a loop answers."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from squall.core.errors import PublishError

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
