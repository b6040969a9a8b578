"""What every test gets: coroutine tests, a guard against leftovers, repeatable hypothesis runs, a browser."""

import asyncio
import inspect
import os
import shutil
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ASYNC_TEST_TIMEOUT_S = 60.0
LEFTOVER_GRACE_S = 2.0

# Without a deadline: two cores shared with other work make single examples slow now and then. `make check` explores
# anew each time; a strict run takes the same examples every time, so that a red one is red again.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True, database=None)


def is_strict() -> bool:
    """Whether something missing on this machine is an error (continuous integration) instead of a skip."""
    return os.environ.get("SQUALL_STRICT") == "1"


settings.load_profile("repeatable" if is_strict() else "explore")


async def _bounded(test: Callable[..., Awaitable[None]], arguments: dict[str, object]) -> None:
    """Await the test, at most a minute of it, then expect that it left no task behind."""
    async with asyncio.timeout(ASYNC_TEST_TIMEOUT_S):
        await test(**arguments)
    own = asyncio.current_task()
    leftovers = [task for task in asyncio.all_tasks() if task is not own]
    if leftovers:  # a task that was cancelled needs a moment to end
        await asyncio.wait(leftovers, timeout=0.2)
    alive = [repr(task) for task in leftovers if not task.done()]
    assert not alive, f"the test left {len(alive)} tasks behind: {'; '.join(alive)}"


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine test in an event loop of its own."""
    test = pyfuncitem.obj
    if not inspect.iscoroutinefunction(test):
        return None
    names = inspect.signature(test).parameters
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in names}
    asyncio.run(_bounded(test, arguments), debug=False)
    return True


@pytest.fixture(autouse=True)
def no_thread_outlives_its_test() -> Iterator[None]:
    """Fail a test whose threads are still running after it, save for those that a wider fixture started before it."""
    before = set(threading.enumerate())
    yield
    started = [thread for thread in threading.enumerate() if thread not in before]
    for thread in started:
        thread.join(LEFTOVER_GRACE_S)
    alive = [thread.name for thread in started if thread.is_alive()]
    assert not alive, f"the test left threads behind: {', '.join(alive)}"


@pytest.fixture(scope="session")
def chromium() -> Path:
    """Debian's chromium, for playwright's `launch(executable_path=…)`; without it a skip, or an error when strict."""
    path = shutil.which("chromium")
    if path is None:
        reason = "chromium is not installed: apt-get install chromium"
        if is_strict():
            pytest.fail(reason)
        pytest.skip(reason)
    return Path(path)
