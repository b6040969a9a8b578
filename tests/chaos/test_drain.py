"""The end of a run: how long it is waited for what is still on its way, in virtual time."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest

from squall import VirtualClock
from squall.chaos.catalogue import load_catalogue
from squall.chaos.check.facts import RunFacts, load_facts
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import load_scenario
from squall.chaos.targets.in_process import InProcessTarget
from squall.core.config import Config
from squall.core.target import Counters, SubscriberCounts

pytestmark = pytest.mark.slow  # whole runs

HANDLER_S, EVENTS, STALL_S = 2.0, 5, 6.0
SLOW = {
    "version": 1,
    "name": "slow",
    "plugins": [{"retry": {"attempts": 1}}, {"breaker": {"open_for": "50ms"}}],
    "subscribers": {"billing": {"pattern": "order.>", "timeout": "3s", "handler": {"latency": f"{HANDLER_S}s"}}},
    "load": {"stages": [{"for": "500ms", "rate": 2 * EVENTS}], "events": [{"type": "order.created"}]},
    "drain": {"limit": "1h", "stall": f"{STALL_S}s"},
    "expect": ["no_loss"],
}


class Uncounted(InProcessTarget):
    """Keeps no sums of its subscribers: what is pending with it, nobody knows."""

    async def counters(self) -> Counters:
        counters = await super().counters()
        nothing = SubscriberCounts(None, None, None, None, None, None)
        return counters._replace(subscribers=dict.fromkeys(counters.subscribers, nothing))


async def run(folder: Path, target: type[InProcessTarget]) -> tuple[RunResult, RunFacts]:
    """The slow scenario against a target; its time is as long as it takes to wake who sleeps."""
    path = folder / "slow.yaml"
    path.write_text(json.dumps(SLOW), encoding="utf-8")
    catalogue = replace(load_catalogue(), targets={"in-process": target})
    scenario, clock = load_scenario(path, known=catalogue.known(Config())), VirtualClock()
    running = asyncio.ensure_future(run_scenario(scenario, replace(Config(), folder=folder), catalogue, clock=clock))
    while not running.done():
        await clock.advance(0.1)
    result = await running
    return result, load_facts(result.folder)


async def test_a_target_that_does_not_count_is_waited_for_until_it_is_quiet(tmp_path: Path) -> None:
    """Its last handler ends long after the load: nothing is lost, and the drain ends one stall later."""
    result, facts = await run(tmp_path, Uncounted)
    assert result.verdict.state == "valid", result.verdict
    assert facts.drained
    assert facts.drain is not None
    work_s = EVENTS * HANDLER_S
    assert work_s - 1 + STALL_S <= (facts.drain.ended - facts.drain.begun) / 1e9 <= work_s + STALL_S + 1


async def test_a_target_that_counts_is_not_waited_for_once_nothing_is_pending(tmp_path: Path) -> None:
    """The drain ends with its last delivery."""
    result, facts = await run(tmp_path, InProcessTarget)
    assert result.verdict.state == "valid", result.verdict
    assert facts.drained
    assert facts.drain is not None
    assert (facts.drain.ended - facts.drain.begun) / 1e9 <= EVENTS * HANDLER_S + 1
