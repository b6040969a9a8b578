"""Soaks of a router in this process: what is planted is found, what is clean is not accused, and loads last."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos import short_run
from tests.chaos.planted_leaks import KeepsBytes, KeepsFiles, KeepsMuch, KeepsTasks, KeepsThreads
from tests.core.stores import StoreWrapper

from squall import ConfigError, EventStore, Plugin, hookimpl
from squall.chaos.catalogue import load_catalogue
from squall.chaos.check.verdict import Finding
from squall.chaos.footprint import footprint
from squall.chaos.history import open_history
from squall.chaos.report.page import read_run
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import load_scenario
from squall.chaos.scenario_models import Load
from squall.chaos.scenario_soak import MAX_STAGES, soaked
from squall.core.config import Config
from squall.core.plugin import Context
from squall.core.store import Capabilities
from squall.plugins.memory import MemoryOptions, MemoryStore

LOADED = pytest.mark.slow  # whole runs, of some seconds
FULL_SOON = {"memory": {"max_events": 500}}


async def soak(
    folder: Path, stage: short_run.Section, planted: Sequence[type[Plugin]] = (), seed: int = 1, **others: object
) -> RunResult:
    """A run that expects nothing to grow, without faults; its store is full soon."""
    load = {"stages": [stage], "events": [{"type": "order.created", "key": {"count": 50}}]}
    subscribers = {"billing": {"pattern": "order.>", "concurrency": 8}}
    given: short_run.Section = {"plugins": [FULL_SOON], "load": load, "subscribers": subscribers, "faults": []}
    scenario = short_run.scenario(seed=seed, expect=["no_loss", "growth"], drain={}, **{**given, **others})
    return await short_run.run(folder, scenario, planted)


def findings(result: RunResult) -> dict[str, Finding]:
    """Of growth, by what grows or does not."""
    return {one.title.split()[2]: one for one in result.verdict.findings if one.name == "growth"}


@LOADED
@pytest.mark.own_core  # where the rate is not kept, a backlog explains what grows
async def test_a_hundred_bytes_of_each_event_are_found(tmp_path: Path) -> None:
    """Within seconds, as an object of each event: the verdict, its cause, and what to do."""
    result = await soak(tmp_path, {"for": "8s", "rate": 1500}, [KeepsBytes])
    found = findings(result)
    assert found["objects"].state == "invalid", found["objects"].summary
    assert 0.7 < found["objects"].figures["per_event_count"] < 3
    assert result.verdict.state == "invalid"
    (cause,) = [one for one in result.verdict.causes if one.sentence.startswith("objects")]
    assert (cause.invariant, cause.sentence) == ("growth", "objects grew with the load, to its end")
    assert "gc.get_objects" in cause.advice
    kept = json.loads((result.folder / "verdict.json").read_text("utf-8"))["verdict"]["findings"]
    (memory,) = [one for one in kept if one["title"] == "growth of memory"]
    assert {"per_event_bytes", "limit_per_event_bytes", "limit_per_hour_bytes"} <= memory["figures"].keys()


@LOADED
@pytest.mark.own_core
async def test_memory_that_is_kept_is_found(tmp_path: Path) -> None:
    """Much of each event, since a few seconds are short: what the allocator takes and gives comes by the megabyte."""
    result = await soak(tmp_path, {"for": "5s", "rate": 600}, [KeepsMuch])
    memory = findings(result)["memory"]
    assert memory.state == "invalid", memory.summary
    assert memory.figures["per_event_bytes"] == pytest.approx(20_000, rel=0.4)
    assert f"growth of memory: {memory.summary}" == result.verdict.headline


@LOADED
async def test_handles_threads_and_tasks_that_are_left_behind_are_found(tmp_path: Path) -> None:
    """Each under its own name."""
    result = await soak(tmp_path, {"for": "4s", "rate": 500}, [KeepsFiles, KeepsThreads, KeepsTasks])
    found = findings(result)
    for held in ("handles", "threads", "tasks"):
        assert found[held].state == "invalid", (held, found[held].summary)
        assert found[held].figures["grew_count"] == pytest.approx(500 * 4 * 0.8 / 40, rel=0.5)


@LOADED
@pytest.mark.own_core
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("store", [FULL_SOON, {"sqlite": {"durability": "process"}}], ids=lambda one: next(iter(one)))
async def test_a_clean_run_is_not_accused(tmp_path: Path, seed: int, store: short_run.Section) -> None:
    """Whatever the seed and the store. A few seconds prove little of memory, and are not said to."""
    result = await soak(tmp_path, {"for": "3s", "rate": 800}, seed=seed, plugins=[store])
    assert not [one for one in result.verdict.findings if one.state == "invalid"], result.verdict.headline
    found = findings(result)
    assert {found[held].state for held in ("memory", "objects", "handles", "threads", "tasks")} <= {"valid", "unknown"}


class NamesItsBound(Plugin):
    """A store of somebody's own, in memory, with a bound of its own."""

    @hookimpl
    def squall_event_store(self, ctx: Context) -> EventStore:
        store = StoreWrapper(MemoryStore(MemoryOptions()))
        store.capabilities = Capabilities("memory", max_events=123_456)
        return store


@LOADED
@pytest.mark.own_core  # where the rate is not kept, a backlog explains what grows
@pytest.mark.parametrize("most", [123_456, 7_000])
async def test_a_store_that_was_never_full_says_with_how_many_events_it_is(tmp_path: Path, most: int) -> None:
    """Whose ever it is: in the reason, with what to do, and once in the report."""
    own = [{"memory": {"max_events": most}}] if most == 7_000 else []
    result = await soak(tmp_path, {"for": "3s", "rate": 800}, [] if own else [NamesItsBound], plugins=own)
    reasons = [one for one in result.verdict.reasons if one.code == "soaked_too_little"]
    assert [one for one in reasons if f"of {most:,} events; full after about " in one.text], result.verdict
    assert {one.advice.partition("--soak ")[0] for one in reasons} == {"Soak for longer ("}
    assert (result.folder / "report.html").read_text("utf-8").count("or bound the store to") == 1


@LOADED
async def test_what_was_sampled_is_in_the_history_and_in_the_report(tmp_path: Path) -> None:
    """Of the process that the target is in, which is the bench's own, all over the load."""
    result = await soak(tmp_path, {"for": "1s", "rate": 400}, plugins=[{"sqlite": {}}])
    with open_history(result.folder / "history") as db:
        rows = db.execute("SELECT pid, events, memory, objects, tasks, store FROM sample ORDER BY time").fetchall()
    assert len(rows) > 8
    pids, events, memory, objects, tasks, store = zip(*rows, strict=True)
    assert set(pids) == {os.getpid()}
    assert list(events) == sorted(events)
    assert events[-1] > events[0]
    assert min(memory) > 10_000_000
    assert min(objects) > 10_000
    assert min(tasks) > 0
    assert store[-1] > 0
    measured = read_run(result.folder).measured
    assert measured is not None
    (held,) = measured.held
    assert held.process == "bench"
    assert any(held.memory)
    report = (result.folder / "report.html").read_text("utf-8")
    assert "Memory" in report
    assert "Handles, threads, tasks" in report


@LOADED
async def test_of_a_served_router_its_own_process_is_watched(tmp_path: Path) -> None:
    """The child's memory, and not that of the bench, in which the clients are; of its tasks nobody knows."""
    load = {"stages": [{"for": "2s", "rate": 200}], "events": [{"type": "order.created"}]}
    scenario = short_run.scenario(
        target="squall", load=load, plugins=[FULL_SOON], faults=[], drain={}, expect=["growth"],
        subscribers={"billing": {"pattern": "order.>"}},
    )  # fmt: skip
    path = tmp_path / "served.yaml"
    path.write_text(json.dumps(scenario), encoding="utf-8")
    config, catalogue = replace(Config(), folder=tmp_path), load_catalogue()
    result = await run_scenario(load_scenario(path, known=catalogue.known(config)), config, catalogue)
    with open_history(result.folder / "history") as db:
        served = db.execute("SELECT DISTINCT pid FROM process WHERE name = 'serve'").fetchall()
        assert db.execute("SELECT DISTINCT pid FROM sample").fetchall() == served
    found = {one.title: one for one in result.verdict.findings if one.name == "growth"}
    for held in ("memory", "handles", "threads"):
        assert found[f"growth of {held} in serve"].state in ("valid", "unknown"), found
    assert found["growth of tasks in serve"].state == "not judged"


@LOADED
async def test_a_run_that_expects_nothing_of_growth_is_not_sampled(tmp_path: Path) -> None:
    """It costs such a run nothing, and its verdict has not a line of it."""
    result = await short_run.run(tmp_path, short_run.scenario(faults=[]))
    assert findings(result) == {}
    with open_history(result.folder / "history") as db:
        assert db.execute("SELECT count(*) FROM sample").fetchall() == [(0,)]


def test_nobody_has_the_footprint_of_a_process_that_is_gone() -> None:
    """It may end between two samples."""
    own = footprint(os.getpid())
    assert own is not None
    assert own.memory > 1_000_000
    assert own.handles > 2
    assert own.threads >= 1
    child = subprocess.Popen([sys.executable, "-S", "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # ended, and not waited for yet
    assert footprint(child.pid) is None
    child.wait()
    assert footprint(child.pid) is None


def test_a_thread_that_another_one_keeps_from_running_waits() -> None:
    """On one processor two threads that would both run wait for each other; one that sleeps waits for nothing."""
    program = """if True:
        import os, subprocess, sys, time
        from squall.core.processor import waited_ns
        os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
        other = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
        while waited_ns() < 100_000_000:
            pass
        other.kill()
    """
    assert subprocess.run([sys.executable, "-c", program], timeout=60, check=False).returncode == 0


def test_a_footprint_is_that_of_its_process() -> None:
    """What it takes shows, and what it closes is gone; another process's is not in it."""
    program = """if True:
        import os, sys
        held, files = [], []
        for line in sys.stdin:
            if line == "more\\n":
                held.append(b"x" * 30_000_000)
                files += [os.open(os.devnull, os.O_RDONLY) for _ in range(7)]
            else:
                held.clear()
                [os.close(files.pop()) for _ in range(7)]
            print("done", flush=True)
    """
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        found = []
        for word in ("more", "less", "more", "more"):
            child.stdin.write(f"{word}\n")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"
            now = footprint(child.pid)
            assert now is not None
            found.append(now)
        child.stdin.close()
    first, less, again, twice = found
    assert first.memory - less.memory == pytest.approx(30_000_000, rel=0.05)
    assert twice.memory - again.memory == pytest.approx(30_000_000, rel=0.05)
    assert [one.handles - less.handles for one in found] == [7, 0, 7, 14]
    assert {one.threads for one in found} == {1}


def load(*stages: dict[str, object]) -> Load:
    """A load of these stages."""
    return Load.model_validate_json(json.dumps({"stages": stages, "events": [{"type": "order.created"}]}))


def test_an_even_load_lasts_longer() -> None:
    """It is one stage, whatever the time."""
    (stage,) = soaked(load({"for": "3s", "rate": 500, "batch": 5}), 1800.0).stages
    assert (stage.duration, stage.rate, stage.batch) == (1800.0, 500, 5)


def test_a_load_of_stages_is_repeated_and_its_end_cut() -> None:
    """Bursts too; a stage that grows is cut where it then is."""
    made = soaked(load({"for": "2s", "rate": 100, "to": 300}, {"burst": 50}, {"for": "1s", "rate": 300}), 7.0)
    assert made.seconds == 7.0
    assert [(one.duration, one.rate, one.to, one.burst) for one in made.stages] == [
        (2.0, 100, 300, None), (None, None, None, 50), (1.0, 300, None, None),
        (2.0, 100, 300, None), (None, None, None, 50), (1.0, 300, None, None),
        (1.0, 100, 200, None),
    ]  # fmt: skip
    assert made.total == 2 * (400 + 50 + 300) + 150


@pytest.mark.parametrize(
    ("stages", "seconds", "told"),
    [
        ([{"burst": 5}], 60.0, "the load takes no time"),
        ([{"for": "2m", "rate": 5}], 60.0, "the load alone takes 2m"),
        ([{"for": "1ms", "rate": 5}, {"burst": 1}], MAX_STAGES / 1e3, "repeated 100,000 times"),
    ],
)
def test_a_load_that_cannot_be_soaked_is_refused(stages: list[dict[str, object]], seconds: float, told: str) -> None:
    """With what to do instead."""
    with pytest.raises(ConfigError, match=told) as error:
        soaked(load(*stages), seconds)
    assert error.value.problems[0].hint
