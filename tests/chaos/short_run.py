"""One short run against a router in this process, with whatever plugins a test plants in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from squall import Plugin
from squall.chaos.catalogue import load_catalogue
from squall.chaos.run import RunResult, run_scenario
from squall.chaos.scenario import load_scenario
from squall.chaos.targets.in_process import InProcessTarget
from squall.core.config import Config
from squall.core.target import RunContext

Section = dict[str, object]

AUDIT: Section = {"pattern": "*.created", "timeout": "400ms"}
BILLING: Section = {"pattern": "order.>", "concurrency": 4, "timeout": "400ms"}
BREAKER: Section = {"breaker": {"open_for": "50ms", "half_open_for": "200ms"}}
ERRORS: Section = {"id": "errors", "at": "80ms", "for": "200ms", "do": "exception", "on": "handler:billing"}
REFUSE: Section = {"id": "refuse", "at": "100ms", "for": "100ms", "do": "refuse", "on": "storage:events"}
SLOW_STORE: Section = {"id": "slow", "at": "100ms", "for": "150ms", "do": "slow", "by": "8ms", "on": "storage:events"}


def retry(attempts: int) -> list[Section]:
    """The plugins of a scenario: deliveries are tried so often, soon after each other."""
    return [{"retry": {"attempts": attempts, "base": "10ms", "cap": "30ms"}}, BREAKER]


def scenario(**others: object) -> Section:
    """Four hundred events of two types, five keys and two priorities; a tenth of billing's handlers fail meanwhile."""
    found: Section = {
        "version": 1,
        "name": "short",
        "seed": 5,
        "plugins": retry(8),
        "subscribers": {"billing": BILLING, "audit": AUDIT},
        "load": {
            "stages": [{"for": "400ms", "rate": 1000}],
            "events": [
                {"type": "order.created", "weight": 3, "key": {"count": 5}},
                {"type": "order.paid", "priority": "HIGH", "key": {"count": 5}},
            ],
        },
        "faults": [{**ERRORS, "probability": 0.1}],
        "drain": {"limit": "10s", "stall": "1s"},
        "expect": ["no_loss", "no_phantom", "no_ghost", {"order": {"by": "key"}}, {"duplicates": {"max_ratio": 0}}],
    }
    return {**found, **others}


async def run(
    folder: Path,
    sections: Mapping[str, object],
    planted: Sequence[type[Plugin]] = (),
    *,
    target: type[InProcessTarget] = InProcessTarget,
    profile: bool = False,
    config: Config | None = None,
) -> RunResult:
    """Run a scenario, by `config` or none; `planted` are plugins of the router under test, after the scenario's own."""

    class Target(target):  # type: ignore[misc, valid-type]  # a class that a test gives
        def plugins(self, ctx: RunContext) -> list[Plugin]:
            return [*super().plugins(ctx), *(kind() for kind in planted)]

    path = folder / "short.yaml"
    path.write_text(json.dumps(sections), encoding="utf-8")
    catalogue = replace(load_catalogue(), targets={"in-process": Target})
    config = replace(config or Config(), folder=folder)
    read = load_scenario(path, config=config, known=catalogue.known(config))
    return await run_scenario(read, config, catalogue, profile=profile)
