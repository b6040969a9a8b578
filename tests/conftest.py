"""What every test gets: coroutine tests, a guard against leftovers, repeatable hypothesis runs, a browser, servers."""

import asyncio
import inspect
import signal
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from tests import servers
from tests.needed import NOT_INSTALLED, fuzzing_s, is_strict, needed

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ASYNC_TEST_TIMEOUT_S = 60.0
LEFTOVER_GRACE_S = 2.0
SERVERS = {"neo4j_url", "redis_cluster", "redis_server", "redis_without_aof", "toxiproxy_server"}
"""Fixtures that start one."""

# Without a deadline: two cores shared with other work make single examples slow now and then. `make check` explores
# anew each time; a strict run takes the same examples every time, so that a red one is red again.
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("repeatable", settings.get_profile("explore"), derandomize=True, database=None)
settings.load_profile("repeatable" if is_strict() else "explore")


async def _bounded(test: Callable[..., Awaitable[None]], arguments: dict[str, object]) -> None:
    """Await the test, at most a minute of it and what fuzzing takes, then expect that it left no task behind."""
    async with asyncio.timeout(ASYNC_TEST_TIMEOUT_S + fuzzing_s()):
        await test(**arguments)
    own = asyncio.current_task()
    leftovers = [task for task in asyncio.all_tasks() if task is not own]
    if leftovers:  # a task that was cancelled needs a moment to end
        await asyncio.wait(leftovers, timeout=LEFTOVER_GRACE_S)
    alive = [repr(task) for task in leftovers if not task.done()]
    assert not alive, f"the test left {len(alive)} tasks behind: {'; '.join(alive)}"


def pytest_configure() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and so would every process that a test starts."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What needs a server is slow, whoever asks for it: of Neo4j, that takes ten seconds of a core to start."""
    for item in items:
        if SERVERS & {*getattr(item, "fixturenames", ())}:
            item.add_marker(pytest.mark.slow)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say last and loudly what was not tested for want of a program, and how to get that."""
    yield
    wanting = Counter[str]()
    for report in terminalreporter.stats.get("skipped", ()):
        _, _, reason = report.longrepr
        if NOT_INSTALLED in reason:
            wanting[reason.removeprefix("Skipped: ")] += 1
    if not wanting:
        return
    terminalreporter.section("NOT TESTED", sep="!", red=True, bold=True)
    for reason, tests in sorted(wanting.items()):
        terminalreporter.line(f"tests skipped: {tests}. {reason}", red=True)
    terminalreporter.line("What is there, and what is missing: .venv/bin/squall doctor", red=True)


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
def own_main() -> Iterator[None]:
    """Streamlit's AppTest leaves its script as `__main__`, which every process spawned later would run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main


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
    return needed("chromium", "apt-get install chromium")


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator["Browser"]:
    """One headless chromium for all tests of a module."""
    from tests.browser import headless  # playwright is heavy, and most tests look at no page

    with headless(chromium) as browser:
        yield browser


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[servers.Server]:
    """A Redis of the test's own, whose writes are on disk when they are acknowledged; to be killed at will."""
    with servers.redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def redis_without_aof(tmp_path: Path) -> Iterator[servers.Server]:
    """A Redis of the test's own that keeps nothing when it is killed."""
    with servers.redis_server(tmp_path / "redis-without-aof", aof=False) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[servers.Server]]:
    """Three masters, for all tests of a worker: each test has keys of its own, and leaves the servers running."""
    with servers.redis_cluster(tmp_path_factory.mktemp("cluster")) as nodes:
        yield nodes


@pytest.fixture
def toxiproxy_server(tmp_path: Path) -> Iterator[servers.Server]:
    """A Toxiproxy of the test's own, without any proxy."""
    with servers.toxiproxy_server(tmp_path / "toxiproxy") as server:
        yield server


@pytest.fixture(scope="session")
def common(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A folder that all workers have in common."""
    base = tmp_path_factory.getbasetemp()
    return base if worker_id == "master" else base.parent


@pytest.fixture(scope="session")
def neo4j_url(common: Path) -> Iterator[str]:
    """One Neo4j for all tests and workers, which has one database: each test has labels or ids of its own in it."""
    with servers.shared(common / "neo4j", servers.neo4j_server) as url:
        yield url
