"""An event loop that ends although tasks on it do not: handlers under test may swallow their cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE_S = 1.0


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """As asyncio.run, which would wait for ever: what has not ended PATIENCE_S after it was cancelled is left."""
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        if tasks := asyncio.all_tasks(loop):
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.wait(tasks, timeout=PATIENCE_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.set_exception_handler(lambda loop, context: None)  # that a task is left is known
        loop.close()
