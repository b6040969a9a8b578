"""The scenarios on real servers: each comes to the verdict that its comment promises, for the reason that it promises.

The bench starts the servers, breaks them or the way to them, and ends them; nothing of them is left.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.chaos.test_scenarios import WITH_SERVERS, Ran, run
from tests.needed import needed

from squall.chaos.history import open_history

pytestmark = [pytest.mark.slow, pytest.mark.alone]

FAULTS = {
    "redis-latency": {"slow": "latency", "slower": "latency"},
    "redis-cut": {"blink": "down", "cut": "down"},
    "redis-killed": {"killed": "kill"},
    "redis-killed-no-aof": {"killed": "kill"},
    "neo4j-gone": {"gone": "kill"},
    "remote-partitioned": {"short": "partition", "long": "partition"},
    "slow-network-half": {"slow-1": "latency", "slow-2": "latency"},
    "serve-killed": {"killed": "kill", "restarted": "restart"},
}
AT_ONCE = 4  # they come with servers, which need the processor too
HUNGRY = "neo4j-gone"
"""Alone: Neo4j takes ten seconds of a core to start, twice, and who shares it with that cannot keep a rate."""
VALID = [name for name in WITH_SERVERS if name != "redis-killed-no-aof"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ran]]:
    """Every scenario, run once by the command line."""
    for program in ("redis-server", "neo4j"):
        needed(program, "make services")
    runs = tmp_path_factory.mktemp("runs")
    first = {HUNGRY: run(HUNGRY, runs)}
    others = [name for name in WITH_SERVERS if name != HUNGRY]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield first | dict(zip(others, pool.map(lambda name: run(name, runs), others), strict=True))


def facts(one: Ran) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((one.folder / "facts.json").read_text("utf-8"))
    return found


def rows(one: Ran, sql: str) -> list[tuple[Any, ...]]:
    with open_history(one.folder / "history") as db:
        return db.execute(sql).fetchall()


def notes(one: Ran, code: str) -> list[str]:
    found = one.verdict["notes"]
    assert isinstance(found, list)
    return [note["text"] for note in found if note["code"] == code]


@pytest.mark.parametrize("name", VALID)
def test_it_is_valid(ran: dict[str, Ran], name: str) -> None:
    """Nothing acknowledged is lost, in order, and whatever came twice has a reason."""
    one = ran[name]
    assert one.exit_code == 0, (one.verdict["headline"], one.states(), one.verdict["reasons"])
    assert {one.states()[kind] for kind in ("no_loss", "duplicates", "order (key)")} == {"valid"}


@pytest.mark.parametrize("name", list(WITH_SERVERS))
def test_its_faults_bite_and_are_healed(ran: dict[str, Ran], name: str) -> None:
    found = rows(ran[name], "SELECT name, kind, hits > 0, healed FROM fault")
    assert {fault: kind for fault, kind, _, _ in found} == FAULTS[name]
    assert all(bitten and healed for _, _, bitten, healed in found), found


@pytest.mark.parametrize("name", list(WITH_SERVERS))
def test_no_process_outlives_it(ran: dict[str, Ran], name: str) -> None:
    """Those that were killed are gone, and so is the last of each."""
    for (pid,) in rows(ran[name], "SELECT pid FROM process"):
        assert not _is_server(pid), pid


def _is_server(pid: int) -> bool:
    """Whether that is the pid of a server now, of a kind that scenarios start; one that has ended is none."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return any(words in command for words in (b"redis-server", b"neo4j", b"squall\0serve"))


@pytest.mark.parametrize("words", [["redis-server"], ["org.neo4j.server.Neo4jCommunity"], ["squall", "serve"]])
def test_one_that_is_left_over_would_be_seen(words: list[str]) -> None:
    """Of each kind that scenarios start."""
    command = [sys.executable, "-c", "print(flush=True); input()", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it is itself: before, it may have no command yet
        assert _is_server(process.pid)
        process.communicate(b"\n")
    assert not _is_server(process.pid)


def test_with_its_file_redis_claims_disk_and_loses_nothing(ran: dict[str, Ran]) -> None:
    """It was really gone: killed by signal 9, and another process answered later."""
    one = ran["redis-killed"]
    assert (facts(one)["durability"], facts(one)["kept_by"]) == ("disk", "redis")
    lives = rows(one, "SELECT name, pid, exit_code, answered - started >= 0 FROM process ORDER BY started")
    assert [life[::2] for life in lives] == [("redis", -9), ("redis", None)]
    assert lives[0][1] != lives[1][1]
    (note,) = notes(one, "process_ended")
    assert f"redis (pid {lives[0][1]}) ended by signal 9" in note
    assert f"pid {lives[1][1]} answered at" in note


def test_without_it_the_verdict_says_what_the_claim_was_and_what_was_lost(ran: dict[str, Ran]) -> None:
    """Invalid under no_loss alone, with one cause: nothing else is blamed for what memory does not keep."""
    one = ran["redis-killed-no-aof"]
    assert one.exit_code == 1
    assert facts(one)["durability"] == "memory"
    assert [name for name, state in one.states().items() if state == "invalid"] == ["no_loss"]
    causes = one.verdict["causes"]
    assert isinstance(causes, list)
    assert causes
    for cause in causes:
        assert cause["sentence"].startswith("acknowledged with durability memory, then redis ended (fault killed, ")
        assert "appendfsync always" in cause["advice"]


def test_events_do_not_wait_for_the_graph(ran: dict[str, Ran]) -> None:
    """While Neo4j was gone they kept their latency; and what was counted then was written when it was back."""
    one = ran["neo4j-gone"]
    assert one.states()["latency p99"] == "valid"  # inside the fault's window: it is expected of no other
    log = (one.folder / "log.txt").read_text("utf-8")
    assert "events go on, and what is counted meanwhile is written later" in log
    assert "were not written" not in log
    (error,) = (line for line in log.splitlines() if " ERROR " in line)  # not the driver's own as well
    assert "cannot be reached" in error


def test_the_near_ones_do_not_notice_who_is_far(ran: dict[str, Ran]) -> None:
    """In the faults' window those that are far take longer, by what the network adds."""
    one = ran["slow-network-half"]
    found = dict(
        rows(
            one,
            "SELECT s.name, quantile_disc((a.ended - p.invoked) / 1e6, 0.5) FROM attempt a "
            "JOIN subscription s USING (subscription) JOIN publish p USING (event), fault f "
            "WHERE f.name = 'slow-1' AND a.begun BETWEEN f.begun + 1000000000 AND f.ended GROUP BY s.name",
        )
    )
    assert min(found["far-1"], found["far-2"]) > 150 > max(found["near-1"], found["near-2"]), found


def test_a_partition_is_answered_by_new_connections(ran: dict[str, Ran]) -> None:
    """Silence for longer than two heartbeats; what was in hand comes again, with that as its reason."""
    log = (ran["remote-partitioned"].folder / "log.txt").read_text("utf-8")
    assert "the server has said nothing for" in log


def test_a_killed_serve_is_another_process_with_the_same_store(ran: dict[str, Ran]) -> None:
    """Once by signal 9, once by SIGTERM and with exit code 0."""
    one = ran["serve-killed"]
    lives = rows(one, "SELECT name, exit_code FROM process ORDER BY started")
    assert lives == [("serve", -9), ("serve", 0), ("serve", None)]
    assert (facts(one)["durability"], facts(one)["kept_by"]) == ("disk", "serve")
