"""Faults in processes: only what the run has started, really gone, and there again; and what is told of the rest."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
from pathlib import Path
from random import Random

import pytest
from redis import Redis
from tests.chaos.whole_run import Section, run
from tests.needed import needed
from tests.servers import Server, redis_server, until

from squall.chaos import server_kinds
from squall.chaos.catalogue import load_catalogue
from squall.chaos.history import open_history
from squall.chaos.processes import Processes, StartedProcess
from squall.chaos.scenario import load_scenario
from squall.chaos.scenario_models import ServersSection
from squall.chaos.server import START_TIMEOUT_S
from squall.core.clock import SystemClock
from squall.core.config import Config
from squall.core.errors import ConfigError, SquallError
from squall.core.fault import Fault, FaultContext
from squall.core.target import Program
from squall.plugins.processes import Kill, ProcessFault, Restart, Stop

pytestmark = pytest.mark.slow  # each has a process


def lives(pid: int) -> bool:
    """Whether the process is there and has not ended."""
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]


def scenario(*faults: Section, **others: object) -> dict[str, object]:
    return {
        "version": 1,
        "name": "processes",
        "target": "redis-streams",
        "servers": {"redis": {}},
        "subscribers": {"billing": {"pattern": "order.>", "durable": True, "timeout": "1s"}},
        "load": {"stages": [{"for": "2s", "rate": 50}], "events": [{"type": "order.created", "key": {"count": 5}}]},
        "faults": list(faults),
        "drain": {"limit": "60s", "stall": "20s"},
        "expect": ["no_loss"],
    } | others


@pytest.fixture
def redis(tmp_path: Path) -> StartedProcess:
    return StartedProcess("redis", redis_server(tmp_path / "redis"), SystemClock())


async def test_a_killed_process_is_gone_until_it_is_started(redis: StartedProcess) -> None:
    """Each of its lives is noted, with how it ended."""
    await redis.start()
    try:
        first = redis.pid
        assert first is not None
        assert await redis.answers()
        await redis.kill()
        assert (redis.pid, lives(first), await redis.answers()) == (None, False, False)
        with pytest.raises(SquallError, match="redis-server is not running"):
            await redis.kill()
        await redis.start()
        assert await redis.answers()
        assert [(life.pid, life.exit_code) for life in redis.lives] == [(first, -9), (redis.pid, None)]
    finally:
        await redis.stop()


async def test_a_suspended_process_stands_still_and_goes_on(redis: StartedProcess) -> None:
    """The same process, with its connections."""
    await redis.start()
    try:
        pid = redis.pid
        assert pid is not None
        await redis.suspend()
        assert state(pid) == "T"
        assert not await redis.answers()
        await redis.resume()
        assert (redis.pid, await redis.answers()) == (pid, True)
    finally:
        await redis.stop()
    assert not lives(pid)


async def test_a_process_that_is_told_to_end_ends_well(redis: StartedProcess) -> None:
    await redis.start()
    try:
        await redis.end(20.0)
        assert redis.lives[-1].exit_code == 0
    finally:
        await redis.stop()


def context(hits: list[bytes | None]) -> FaultContext:
    def hit(payload: bytes | None = None) -> None:
        hits.append(payload)

    return FaultContext(SystemClock(), Random(0), lambda: True, hit)


FAULTS = (Kill(), Stop(), Restart())


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_what_a_process_did_by_itself_no_fault_has_done(redis: StartedProcess, fault: Fault) -> None:
    """The fault cannot begin, and says why; the process is there again, and its death is remembered."""
    await redis.start()
    try:
        first, hits = redis.pid, list[bytes | None]()
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await asyncio.to_thread(until, "it has ended", redis.server.ended)
        with pytest.raises(SquallError, match=rf"process:redis \(pid {first}\) had ended by itself before"):
            async with fault.inject(redis, context(hits)):
                pass
        assert (hits, redis.died, await redis.answers()) == ([], [first], True)
        assert [(life.pid, life.exit_code) for life in redis.lives] == [(first, -9), (redis.pid, None)]
    finally:
        await redis.stop()


async def test_a_death_is_told_though_a_fault_came_upon_it(tmp_path: Path) -> None:
    """And so is one that nobody came upon; with when each was noticed."""
    needed("redis-server", "make services")
    processes = Processes(ServersSection.model_validate({"redis": {}}), tmp_path, SystemClock())
    await processes.start()
    try:
        redis = processes.seams["process:redis"]
        assert isinstance(redis, StartedProcess)
        pids = []
        for _ in range(2):
            assert redis.pid is not None
            pids.append(redis.pid)
            os.kill(redis.pid, signal.SIGKILL)
            await asyncio.to_thread(until, "it has ended", redis.server.ended)
            if len(pids) == 1:
                with pytest.raises(SquallError):
                    await redis.kill()
                await redis.start()
        told = [f"process:redis (pid {pid}) ended by itself: see servers/redis.log" for pid in pids]
        assert await processes.ended_by_themselves() == told
        assert [life.exit_code for life in redis.lives] == [-9, -9]
    finally:
        await processes.close()


async def test_a_process_that_does_not_end_in_time_is_killed_and_started_again(redis: StartedProcess) -> None:
    """It stands still, so that it does not see that it is to end; the fault says that it was not as asked."""
    await redis.start()
    try:
        await redis.suspend()
        first, hits = redis.pid, list[bytes | None]()
        with pytest.raises(SquallError, match=rf"pid {first}\) did not end within 0.2 s of SIGTERM: killed"):
            async with Restart(within=0.2).inject(redis, context(hits)):
                pass
        assert (hits, redis.died, await redis.answers()) == ([], [], True)
        assert [(life.pid, life.exit_code) for life in redis.lives] == [(first, -9), (redis.pid, None)]
    finally:
        await redis.stop()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
async def test_a_fault_waits_until_the_one_before_it_has_brought_the_process_back(
    redis: StartedProcess, fault: Fault
) -> None:
    """A database takes its time to start: by then the next fault may be due."""
    done, taken, over = list[str](), asyncio.Event(), asyncio.Event()

    async def stand() -> None:
        async with fault.inject(redis, context([])):
            done.append("taken")
            taken.set()
            await over.wait()
        done.append("back")

    await redis.start()
    try:
        both = [asyncio.create_task(stand()) for _ in range(2)]
        await taken.wait()
        assert redis.turn.locked()
        over.set()
        await asyncio.gather(*both)
        assert done == ["taken", "back", "taken", "back"]
        assert await redis.answers()
    finally:
        await redis.stop()


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_a_start_that_is_cancelled_leaves_no_process(redis: StartedProcess, turns: int) -> None:
    """Whether it was spawned by then or not."""
    starting = asyncio.create_task(redis.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    with pytest.raises(SquallError, match="is not running"):
        _ = redis.server.pid
    await redis.stop()


async def test_a_cancelled_suspension_is_noted_as_the_end_that_it_is(redis: StartedProcess) -> None:
    """The process is killed, so that it does not stand still for ever."""
    await redis.start()
    try:
        suspending = asyncio.create_task(redis.suspend())
        await asyncio.sleep(0)
        suspending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await suspending
        assert (redis.pid is None) == (redis.lives[0].exit_code is not None)
    finally:
        await redis.stop()


async def test_one_that_cannot_be_ended_does_not_keep_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they kept is gone, too."""
    redis = str(needed("redis-server", "make services"))
    processes = Processes(ServersSection.model_validate({"redis": {}}), tmp_path, SystemClock())
    await processes.start()

    def answers(port: int) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
        return False

    def command(port: int) -> list[str]:
        return [redis, "--bind", "127.0.0.1", "--port", str(port), "--save", ""]

    await processes.launch(Program("other", command, answers, {}))
    first, other = processes.seams.values()
    assert isinstance(first, StartedProcess)
    pid, kept, stop = other.pid, first.server.folder, first.server.stop
    assert pid is not None

    def refuse() -> None:
        stop()
        raise ZeroDivisionError

    monkeypatch.setattr(first.server, "stop", refuse)
    with pytest.raises(ZeroDivisionError):
        await processes.close()
    assert not lives(pid)
    assert not kept.parent.exists()


@pytest.mark.slow  # whole runs
@pytest.mark.parametrize(("do", "lives_after"), [("kill", 2), ("stop", 1), ("restart", 2)])
async def test_each_fault_bites_is_healed_and_leaves_no_process(tmp_path: Path, do: str, lives_after: int) -> None:
    """With an append-only file nothing is lost by any."""
    needed("redis-server", "make services")
    fault = {"id": "gone", "at": "500ms", "for": "500ms", "do": do, "on": "process:redis"}
    result = await run(tmp_path, scenario(fault))
    assert result.verdict.state == "valid", result.verdict
    with open_history(result.folder / "history") as db:
        assert db.execute("SELECT kind, seam, hits, healed FROM fault").fetchall() == [(do, "process:redis", 1, True)]
        pids = [pid for (pid,) in db.execute("SELECT pid FROM process WHERE role = 'target'").fetchall()]
    assert len(set(pids)) == lives_after
    assert not any(map(lives, pids))
    assert (result.folder / "servers" / "redis.log").exists()


@pytest.mark.slow  # whole runs
async def test_what_memory_does_not_keep_is_told_and_not_condemned(tmp_path: Path) -> None:
    """Without an append-only file, and without `no_loss`: the claim is what is judged."""
    needed("redis-server", "make services")
    slow = {"pattern": "order.>", "durable": True, "timeout": "1s", "handler": {"latency": "50ms"}}
    fault = {"id": "gone", "at": "1s", "for": "300ms", "do": "kill", "on": "process:redis"}
    sections = scenario(fault, servers={"redis": {"appendonly": False}}, subscribers={"billing": slow})
    del sections["expect"]
    result = await run(tmp_path, sections)
    loss = next(one for one in result.verdict.findings if one.name == "no_loss")
    assert loss.figures["forgotten"] > 0
    assert (result.verdict.state, loss.figures["lost"]) == ("valid", 0), result.verdict
    assert "lost as a claim of memory allows" in result.verdict.headline


@pytest.mark.slow  # whole runs
async def test_a_process_that_ends_by_itself_is_told(tmp_path: Path) -> None:
    """Nobody's fault stood: the verdict is unknown, and names it."""
    needed("redis-server", "make services")
    killing = asyncio.create_task(asyncio.to_thread(_kill_when_it_runs, tmp_path))
    result = await run(tmp_path, scenario(drain={"limit": "12s", "stall": "11s"}))
    pid = await killing
    assert result.verdict.state != "valid"
    texts = [one.text for one in result.verdict.reasons]
    assert any(f"process:redis (pid {pid}) ended by itself" in text for text in texts), texts


def _kill_when_it_runs(folder: Path) -> int:
    """End the server that the run in this folder has started, once its load has begun."""
    found: list[int] = []

    def printed() -> bool:
        for log in folder.glob("runs/processes/latest/servers/redis.log"):
            found.extend(map(int, re.findall(r"pid=(\d+)", log.read_text(encoding="utf-8"))))
        return bool(found)

    until("the server has printed its pid", printed)
    os.kill(found[0], signal.SIGKILL)
    return found[0]


async def test_a_server_that_is_not_installed_is_one_error_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything runs; no run folder is left."""
    monkeypatch.setattr(server_kinds, "where", lambda name: None)
    with pytest.raises(SquallError, match=r"redis-server is not installed.*make services.*squall doctor redis"):
        await run(tmp_path, scenario())
    assert [path for path in (tmp_path / "runs").rglob("*") if path.is_file()] == []


async def test_a_process_that_the_run_did_not_start_is_no_seam(tmp_path: Path, redis_server: Server) -> None:
    """An operator's Redis is used and never signalled."""
    yaml = f"targets: {{mine: {{kind: redis-streams, url: '{redis_server.url}'}}}}\n"
    fault = {"id": "gone", "at": "500ms", "for": "500ms", "do": "kill", "on": "process:redis"}
    with pytest.raises(ConfigError, match="the target has no seam 'process:redis' for kill"):
        await run(tmp_path, scenario(fault, target="mine", servers={}), yaml)
    assert lives(redis_server.pid)


@pytest.mark.parametrize("target", ["in-process", "squall"])
async def test_a_run_that_nobody_validated_writes_to_no_server_of_the_operators(
    tmp_path: Path, redis_server: Server, target: str
) -> None:
    """Whoever composes the router refuses, before it is started."""
    yaml = f"plugins: [retry, {{redis: {{url: '{redis_server.url}'}}}}]\n"
    with pytest.raises(ConfigError, match="plugin redis would write to redis://127"):
        await run(tmp_path, scenario(target=target, servers={}), yaml)
    with Redis(port=redis_server.port) as client:
        assert client.dbsize() == 0


async def test_the_operator_may_refuse_faults_in_processes(tmp_path: Path) -> None:
    fault = {"id": "gone", "at": "500ms", "for": "500ms", "do": "kill", "on": "process:redis"}
    with pytest.raises(ConfigError, match=r"faults in process are not allowed here"):
        await run(tmp_path, scenario(fault), "bench: {allow_faults: [handler]}\n")


async def test_faults_that_would_have_one_process_at_once_are_a_mistake(tmp_path: Path) -> None:
    """What one has ended the other can neither end nor start; one after the other is right."""
    first = {"id": "first", "at": "200ms", "for": "500ms", "do": "kill", "on": "process:redis"}
    second = {"id": "second", "at": "600ms", "for": "200ms", "do": "stop", "on": "process:redis"}
    said = r"second \(600ms to 800ms\) and first \(200ms to 700ms\) act on process:redis at once.*let one end before"
    with pytest.raises(ConfigError, match=f"(?s)faults\\[1\\]: {said}"):
        await run(tmp_path, scenario(first, second))
    drawn = {"id": "drawn", "between": ["0s", "1s"], "count": 9, "for": ["300ms", "400ms"], "of": [
        {"do": "kill", "on": "process:redis"}]}  # fmt: skip
    with pytest.raises(ConfigError, match=r"drawn-\d .* act on process:redis at once.*try another seed"):
        await run(tmp_path, scenario({"random": drawn}))
    known = load_catalogue().known(Config())
    for well in (
        scenario({**first, "for": "800ms"}, {**second, "at": "1s"}),
        scenario({**second, "at": "1s"}, {**first, "for": "800ms"}),
        scenario(first, {**second, "on": "process:serve"}, target="squall"),
    ):
        (tmp_path / "well.yaml").write_text(json.dumps(well), encoding="utf-8")
        assert len(load_scenario(tmp_path / "well.yaml", known=known).faults) == 2


def test_a_process_may_take_as_long_to_be_healed_as_to_start() -> None:
    """Else a fault would count as not healed while its server is still on its way up."""
    assert ProcessFault.heal_s >= START_TIMEOUT_S


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"servers": {"redis": {"appendonly": "yes"}}}, "appendonly: expected true or false"),
        ({"servers": {"redis": {"appendfsync": "sometimes"}}}, "appendfsync: expected 'always', 'everysec' or 'no'"),
        ({"servers": {"reddis": {}}}, "'reddis' is not an option of the servers.*did you mean 'redis'"),
        ({"servers": {}}, r"target redis-streams needs a Redis: .*servers: \{redis: \{\}\}"),
    ],
)
async def test_mistakes_are_told(tmp_path: Path, part: Section, said: str) -> None:
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        await run(tmp_path, scenario(**part))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("strem: mine", "'strem' is not an option of the target mine.*did you mean 'stream'"),
        ("url: 'http://localhost'", "url: expected text that matches"),
        ("url: 'env:SQUALL_NOT_THERE'", "the environment variable SQUALL_NOT_THERE is not set"),
    ],
)
async def test_mistakes_of_a_targets_own_options_are_told(tmp_path: Path, options: str, said: str) -> None:
    """Where they stand in squall.yaml."""
    yaml = f"targets: {{mine: {{kind: redis-streams, {options}}}}}\n"
    with pytest.raises(ConfigError, match=f"(?s){said}"):
        await run(tmp_path, scenario(target="mine"), yaml)
