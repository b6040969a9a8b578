"""A hundred short runs in which nothing of squall is broken: whatever the seed and the settings, no false alarm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import get_args

import pytest

from squall.chaos.catalogue import Catalogue, load_catalogue
from squall.chaos.check.verdict import Verdict
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import Scenario, load_scenario
from squall.core.config import Backlog, Config
from squall.core.subscription import OverflowPolicy

pytestmark = pytest.mark.slow

MAY_BE_TRUE = ("fault_never_bit", "rate_not_kept", "no_keys")
BATCHES, RUNS_A_BATCH, AT_ONCE = 20, 5, 3
PRIORITIES = ("CRITICAL", "HIGH", "NORMAL", "LOW")
PATTERNS = ("order.>", "*.created", ">", "order.paid", "stock.*")
Section = dict[str, object]


class Draw:
    """One scenario's settings, drawn from a seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = Random(f"clean:{seed}")
        self.on_disk = self._maybe(0.4)

    def _maybe(self, probability: float) -> bool:
        return self._random.random() < probability

    def scenario(self) -> Section:
        """The whole file. The load lasts 0.3 s; nothing waits or is tried again for longer than half a second."""
        names = ["billing", "audit", "stock"][: self._random.randint(1, 3)]
        subscribers = {name: self._subscriber(number) for number, name in enumerate(names)}
        promised = all(one.get("delivery") != "at-most-once" for one in subscribers.values())
        expect: list[object] = ["no_phantom", "no_ghost", "no_stray", "intact", "overlap", "conservation"]
        expect += [{"order": {"by": "key"}}, {"duplicates": {"max_ratio": 0}}, *(["no_loss"] if promised else [])]
        found: Section = {
            "version": 1,
            "name": "clean",
            "seed": self.seed,
            "plugins": list(self._plugins()),
            "subscribers": subscribers,
            "load": {"stages": self._stages(), "events": self._events()},
            "faults": list(self._faults()),
        }
        return found if promised and self._maybe(0.3) else {**found, "expect": expect}

    def _plugins(self) -> Iterator[object]:
        if self.on_disk:
            yield {"sqlite": {"durability": self._random.choice(["disk", "process"])}}
        attempts, base = self._random.choice([1, 2, 5, 20]), self._random.choice(["1ms", "10ms"])
        yield {"retry": {"attempts": attempts, "base": base, "cap": self._random.choice(["20ms", "100ms"])}}
        yield {
            "breaker": {"open_for": "50ms", "half_open_for": "300ms", "min_calls": self._random.choice([5, 20, 100])}
        }
        if self._maybe(0.15):
            mode = self._random.choice(["reject", "queue"])
            yield {"rate_limit": {"rate": 300, "burst": 50, "mode": mode, "timeout": "300ms"}}
        if Random(f"dedupe:{self.seed}").random() < 0.3:  # drawn by itself: the other draws are what they were
            yield {"dedupe": {"window": "1m"}}

    def _subscriber(self, number: int) -> Section:
        concurrency = self._random.choice([1, 1, 2, 8, 32])
        one: Section = {
            "pattern": "order.>" if number == 0 else self._random.choice(PATTERNS),
            "concurrency": concurrency,
            "timeout": "200ms",
            "in_flight": self._random.choice([1, 7, 100, 1000]),
            "on_retry": self._random.choice(["skip", "block_key"]),
        }
        if self._maybe(0.5):
            one["handler"] = {"latency": "10ms" if concurrency > 8 else "1ms"}
        if self._maybe(0.2):
            one["delivery"] = "at-most-once"
        if self._maybe(0.6 if self.on_disk else 0.2):
            one["durable"] = True
        elif self._maybe(0.2):
            one["overflow"] = self._random.choice(get_args(OverflowPolicy))
        if number and self._maybe(0.2):
            one["priority_min"] = self._random.choice(PRIORITIES)
        if number and self._maybe(0.2):
            one["filters"] = [{"type": "*.created"}, {"not": {"priority": "LOW"}}][: self._random.randint(1, 2)]
        if number and self._maybe(0.25):
            one["join"] = "100ms"
            one["start"] = self._random.choice(["new", "earliest", 1, 20, 10_000])
        if number and self._maybe(0.2):
            one["leave"] = "200ms"
        return one

    def config(self, folder: Path) -> Config:
        """The operator's: now and then with little room for what waits."""
        room = self._random.choice([5, 50]) if self._maybe(0.2) else 100_000
        return replace(Config(), folder=folder, backlog=Backlog(max_events=room, timeout=0.1))

    def _stages(self) -> list[Section]:
        rate = self._random.choice([200, 400, 800])
        stages: list[Section] = [{"for": "300ms", "rate": rate}]
        if self._maybe(0.3):
            stages = [{"for": "150ms", "rate": 50, "to": rate}, {"for": "150ms", "rate": rate}]
        if self._maybe(0.3):
            stages.insert(1, {"burst": self._random.choice([1, 100, 400])})
        return stages

    def _events(self) -> list[Section]:
        kinds: list[Section] = []
        for kind in ("order.created", "order.paid", "stock.low")[: self._random.randint(1, 3)]:
            one: Section = {
                "type": kind,
                "weight": self._random.choice([1, 3]),
                "priority": self._random.choice(PRIORITIES),
                "size": self._random.choice([24, 60, 2000]),
            }
            if self._maybe(0.7):
                one["key"] = {"count": self._random.choice([1, 5, 100])}
            kinds.append(one)
        return kinds

    def _faults(self) -> Iterator[Section]:
        """None, one or two, for half of the load."""
        kinds: list[Section] = [
            {"do": "exception", "on": "handler:billing", "probability": 0.4},
            {"do": "hang", "on": "handler:billing", "probability": 0.5},
            {"do": "slow", "on": "handler:billing", "by": "20ms", "probability": 0.5},
            {"do": "crash", "on": "handler:billing", "probability": 0.3},
            {"do": "write-error", "on": "storage:events", "every": 2},
            {"do": "refuse", "on": "storage:events"},
            {"do": "slow", "on": "storage:events", "by": "10ms"},
        ]
        for number, fault in enumerate(self._random.sample(kinds, self._random.choice([0, 0, 1, 1, 2]))):
            yield {"id": f"fault-{number}", "at": f"{50 + 60 * number}ms", "for": "150ms", **fault}


def read(found: Section, folder: Path, catalogue: Catalogue) -> Scenario:
    folder.mkdir()
    path = folder / "clean.yaml"
    path.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return load_scenario(path, known=catalogue.known(Config()))


def alarms_of(verdict: Verdict) -> Iterator[str]:
    """Whatever is not valid. A fault that never bit, a late load, or no key to judge an order by is no alarm, for it
    may be true."""
    for finding in verdict.findings:
        if finding.state == "invalid":
            yield f"{finding.title or finding.name}: {finding.summary}"
    yield from (cause.sentence for cause in verdict.causes)
    for reason in verdict.reasons:
        if reason.code not in MAY_BE_TRUE:
            yield f"{reason.code}: {reason.text}"


@pytest.mark.own_core
@pytest.mark.parametrize("batch", range(BATCHES))
async def test_nothing_is_found_where_nothing_is_broken(batch: int, tmp_path: Path) -> None:
    """No run is blamed: stores, retries, breakers, faults, priorities, keys and deliveries of every kind."""
    catalogue, room = load_catalogue(), asyncio.Semaphore(AT_ONCE)

    async def one(seed: int) -> RunResult:
        folder = tmp_path / str(seed)
        async with room:
            draw = Draw(seed)
            scenario = read(draw.scenario(), folder, catalogue)
            return await run_scenario(scenario, draw.config(folder), catalogue)

    seeds = range(batch * RUNS_A_BATCH, (batch + 1) * RUNS_A_BATCH)
    results = await asyncio.gather(*(one(seed) for seed in seeds))
    alarms = {
        seed: found for seed, result in zip(seeds, results, strict=True) if (found := list(alarms_of(result.verdict)))
    }
    assert alarms == {}


async def test_who_leaves_at_work_leaves_nothing_behind(tmp_path: Path) -> None:
    """Handlers that run when their subscriber leaves may end, and so do their tasks."""
    leaving = {"pattern": ">", "concurrency": 8, "leave": "200ms", "handler": {"latency": "20ms"}}
    found = plain({"billing": {"pattern": ">"}, "audit": leaving})
    assert await alarms_in(found, tmp_path) == []


def plain(subscribers: Section) -> Section:
    """A scenario with these subscribers, and nothing else of note."""
    load = {"stages": [{"for": "300ms", "rate": 400}], "events": [{"type": "order.created"}]}
    return {"version": 1, "name": "plain", "subscribers": subscribers, "load": load, "expect": ["conservation"]}


async def alarms_in(found: Section, folder: Path) -> list[str]:
    catalogue = load_catalogue()
    scenario = read(found, folder / "one", catalogue)
    result = await run_scenario(scenario, replace(Config(), folder=folder / "one"), catalogue)
    return list(alarms_of(result.verdict))


def test_the_settings_cover_what_there_is() -> None:
    """A hundred draws hold every option at least once: a setting that is never drawn proves nothing."""
    drawn = json.dumps([Draw(seed).scenario() for seed in range(BATCHES * RUNS_A_BATCH)])
    words = ["at-most-once", "block_key", "durable", "priority_min", "filters", "join", "leave", "burst", "to", "key"]
    words += ["earliest", *(one for one in get_args(OverflowPolicy) if one != "block")]  # which is what others have
    words += ["rate_limit", "dedupe", "sqlite", "disk", "process", "reject", "queue", *PRIORITIES]
    words += ["exception", "hang", "slow", "crash", "write-error", "refuse"]
    assert [word for word in words if f'"{word}"' not in drawn] == []
