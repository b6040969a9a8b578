"""Workers of other machines, as real processes here: they join a run, publish for it, and are lost, refused or missed.

On a real other machine the clock and the way are its own; the clock's part is test_bench_clock.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest
from tests.chaos.cli.command import await_line, squall
from tests.plugins.locust.left import GONE_S, all_gone, processes
from tests.plugins.locust.test_runs import ALONE, LONG_S, facts, judged, rows, sections

from squall.chaos.server import HOST
from squall.chaos.watch import Progress
from squall.core.errors import SquallError

pytestmark = pytest.mark.slow

JOIN_S = "120s"
PORTS = range(12_000, 20_000)
"""Below those of servers: whoever else draws one meanwhile does not take it."""


@pytest.fixture
def port() -> int:
    """Of two free ports next to each other, the first."""
    random = Random()
    while True:
        first = random.choice(PORTS)
        with socket.socket() as one, socket.socket() as next_one:
            try:
                one.bind((HOST, first))
                next_one.bind((HOST, first + 1))
            except OSError:
                continue
            return first


@contextmanager
def worker(folder: Path, port: int, *options: str) -> Iterator[subprocess.Popen[str]]:
    """`squall load-worker`, killed when left if it has not ended."""
    command = [sys.executable, "-m", "squall", "load-worker", f"{HOST}:{port}", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, cwd=folder) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: subprocess.Popen[str]) -> str:
    """What it printed, once it has ended."""
    _, err = process.communicate(timeout=GONE_S)
    return err


def children(port: int) -> dict[int, str]:
    """The processes of workers that join at this port."""
    return processes(Path(f'"port":{port}'), "Errand")


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + GONE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def joined(port: int, count: int = 1, *, workers: int = 0, users: int = 4) -> dict[str, object]:
    return {"users": users, "workers": workers, "join": count, "port": port, "join_within": JOIN_S}


@ALONE
async def test_they_publish_run_after_run(tmp_path: Path, port: int) -> None:
    """All that is due, recorded as ever: begun no sooner than due, ended later, nothing lost, nobody blamed. Who they
    are, and how well they know the time, is in the run's folder."""
    with worker(tmp_path, port) as first, worker(tmp_path, port) as second:
        for rate in (100, 40):
            result = await judged(tmp_path, sections(joined(port, 2), {"for": "1s", "rate": rate}))
            assert result.verdict.state == "valid", result.verdict
            generated = facts(result.folder)["generated"]
            assert (generated["requests"], generated["failures"], generated["processes"]) == (rate, 0, 2)
            counts = rows(
                result.folder,
                "SELECT count(*), count(*) FILTER (outcome = 'ok' AND seq > 0), "
                "count(*) FILTER (intended <= invoked AND invoked < ended) FROM publish",
            )
            assert counts == [(rate, rate, rate)]
            known = json.loads((result.folder / "driver" / "workers.json").read_text("utf-8"))
            assert [one["name"] for one in known] == ["locust-1", "locust-2"]
            assert {one["host"] for one in known} == {socket.gethostname()}
            assert all(0 < one["clock_error_ns"] < 10**9 for one in known)
            for process in (first, second):
                assert "joined as locust-" in await_line(process, "the run is over")
        first.send_signal(signal.SIGINT)
        second.send_signal(signal.SIGTERM)
        for process in (first, second):
            assert "Traceback" not in said(process)
        assert first.returncode == 130
    until(lambda: not children(port))
    assert all_gone(tmp_path)


@ALONE
async def test_they_share_the_users_with_workers_here(tmp_path: Path, port: int) -> None:
    """And end after one run where they are asked to."""
    with worker(tmp_path, port, "--once") as process:
        told: set[str] = set()
        asked = sections(joined(port, workers=1), {"for": "2s", "rate": 60})
        result = await judged(tmp_path, asked, lambda progress: told.add(progress.target))
        assert result.verdict.state == "valid", result.verdict
        generated = facts(result.folder)["generated"]
        assert (generated["requests"], generated["processes"]) == (120, 2)
        assert "joined as locust-2" in said(process)
        assert any(f"4 users in 1 process and 1 process elsewhere ({socket.gethostname()})" in one for one in told), (
            told
        )
    assert process.returncode == 0


async def test_workers_that_do_not_come_are_not_waited_for_for_ever(tmp_path: Path, port: int) -> None:
    """How many came, where they were awaited, and what to do; nothing is left of the run."""
    driver = joined(port, 2) | {"join_within": "1s"}
    with pytest.raises(SquallError) as caught:
        await judged(tmp_path, sections(driver, {"for": "1s", "rate": 10}))
    address = f"{HOST}:{port}"
    assert f"0 of 2 workers joined within 1s at {address}" in str(caught.value)
    assert f"squall load-worker {address}" in str(caught.value)
    assert all_gone(tmp_path)


async def test_a_worker_too_many_is_told_so(tmp_path: Path, port: int) -> None:
    """And the run goes on with those that it asked for."""
    stop, others = asyncio.Event(), []

    async def one_more() -> None:
        command = [sys.executable, "-m", "squall", "load-worker", f"{HOST}:{port}"]
        other = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, err = await other.communicate()
        others.append((other.returncode, err.decode()))
        stop.set()

    def on_progress(progress: Progress) -> None:
        if progress.phase == "load" and progress.acknowledged and not tasks:
            tasks.append(asyncio.ensure_future(one_more()))

    tasks: list[asyncio.Future[None]] = []
    with worker(tmp_path, port, "--once") as process:
        asked = sections(joined(port), {"for": f"{LONG_S}s", "rate": 20})
        result = await judged(tmp_path, asked, on_progress, stop)
        said(process)
    ((code, err),) = others
    assert code == 2, err
    assert "not let in: the run asked for 1 (join), and has as many" in err
    assert process.returncode == 0
    assert result.interrupted
    assert "invalid" not in {finding.state for finding in result.verdict.findings}, result.verdict


async def test_a_worker_that_is_lost_makes_the_verdict_unknown(tmp_path: Path, port: int) -> None:
    """It is named, and was the generator's: what it may have begun is of unknown outcome, and nobody is blamed."""
    killed: list[int] = []

    def on_progress(progress: Progress) -> None:
        if progress.phase == "load" and progress.acknowledged > 20 and not killed:
            killed.extend(children(port))
            os.kill(killed[0], signal.SIGKILL)

    with worker(tmp_path, port, "--once") as process:
        asked = sections(joined(port, workers=1), {"for": f"{LONG_S}s", "rate": 50})
        result = await judged(tmp_path, asked, on_progress)
        said(process)
    assert process.returncode == 4
    assert len(killed) == 1
    assert result.verdict.state == "unknown", result.verdict
    lost = f"the generator was lost: locust-2, a worker on {socket.gethostname()}, does not answer"
    assert lost in [reason.text for reason in result.verdict.reasons]
    assert result.duration_s < LONG_S / 2
    assert "invalid" not in {finding.state for finding in result.verdict.findings}, result.verdict
    ((unanswered, known),) = rows(
        result.folder, "SELECT count(*) FILTER (ended IS NULL), count(*) FILTER (outcome = 'ok') FROM publish"
    )
    assert unanswered > 0
    assert known > 20
    assert all_gone(tmp_path)


def test_a_worker_ends_with_the_command_that_started_it(tmp_path: Path, port: int) -> None:
    """Killed or not; it waits for a run meanwhile."""
    with worker(tmp_path, port) as process:
        until(lambda: children(port))
        process.kill()
        until(lambda: not children(port))


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:", ":5557", "127.0.0.1:65535", "127.0.0.1:x"])
def test_an_address_that_is_none_is_told(address: str) -> None:
    """The next port is needed too, so the last one will not do."""
    told = squall("load-worker", address)
    assert told.code == 2
    assert f"HOST:PORT: expected an address such as 127.0.0.1:5557, got '{address}'" in told.err
