"""The end of a run: how long it is waited for what is still on its way, in virtual time."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from squall import VirtualClock
from squall.chaos.catalogue import load_catalogue
from squall.chaos.check.facts import RunFacts, load_facts
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import load_scenario
from squall.chaos.targets.in_process import InProcessTarget
from squall.chaos.watch import Progress
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


async def run(
    folder: Path,
    target: type[InProcessTarget],
    sections: Mapping[str, object] = SLOW,
    on_progress: Callable[[Progress], None] | None = None,
) -> tuple[RunResult, RunFacts]:
    """A scenario against a target; its time is as long as it takes to wake who sleeps."""
    path = folder / "slow.yaml"
    path.write_text(json.dumps(sections), encoding="utf-8")
    catalogue = replace(load_catalogue(), targets={"in-process": target})
    config, clock = Config(folder=folder, handlers={"swallow": "tests.chaos.planted_handling:swallow"}), VirtualClock()
    scenario = load_scenario(path, config=config, known=catalogue.known(config))
    running = asyncio.ensure_future(run_scenario(scenario, config, catalogue, clock=clock, on_progress=on_progress))
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


@pytest.mark.parametrize("attempts", [1, 8], ids=["given up", "given back"])
async def test_slots_that_abandoned_handlers_hold_are_told_as_what_they_are(
    attempts: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each abandoned handler is progress, whatever becomes of its event: whose handler swallows its cancellation stands
    still from when all its slots are gone, and no earlier. Who watches sees them; audit goes on."""
    caplog.set_level(logging.CRITICAL)
    stubborn = {"pattern": "order.>", "concurrency": 2, "timeout": "3s", "handler": {"call": "swallow"}}
    retry = {"retry": {"attempts": attempts, "base": "10ms", "cap": "30ms"}}
    sections = SLOW | {
        "plugins": [retry, {"breaker": {"open_for": "50ms"}}],
        "subscribers": {"billing": stubborn, "audit": {"pattern": "order.>", "timeout": "3s"}},
    }
    seen = set[int]()
    result, facts = await run(tmp_path, InProcessTarget, sections, lambda progress: seen.add(progress.abandoned))
    abandoned = [task for task in asyncio.all_tasks() if task.get_name().startswith("squall:billing:")]
    for task in abandoned:
        task.cancel()  # let through this time
    await asyncio.gather(*abandoned, return_exceptions=True)
    assert {finding.name for finding in result.verdict.findings if finding.state == "invalid"} == {"recovery"}
    (cause,) = result.verdict.causes
    assert cause.sentence.endswith(
        ": all its slots are held by 4 abandoned handlers, which ignore their cancellation"
    ), cause
    assert cause.advice.startswith("Let CancelledError through")
    assert facts.drained is False
    assert max(seen) == 4
