"""What a scenario asks of the router in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from squall.chaos.catalogue import load_catalogue
from squall.chaos.run import run_scenario
from squall.chaos.scenario import load_scenario
from squall.core.config import Backlog, Config, make_config
from squall.core.yaml_source import parse_document

pytestmark = pytest.mark.slow  # whole runs

DROPS = """
version: 1
name: drops
subscribers:
  slow: {pattern: order.>, overflow: drop_new, handler: {latency: 20ms}}
load:
  stages: [{for: 500ms, rate: 200}]
  events: [{type: order.created}]
expect: [no_loss]
"""


async def test_a_subscriber_that_drops_holds_no_publisher_and_its_drops_are_told(tmp_path: Path) -> None:
    """Every publish is acknowledged though only ten events may wait; what was dropped has come to an end, by name."""
    path = tmp_path / "drops.yaml"
    path.write_text(DROPS, encoding="utf-8")
    config = replace(Config(), folder=tmp_path, backlog=Backlog(max_events=10, timeout=0.0))
    catalogue = load_catalogue()
    result = await run_scenario(load_scenario(path, known=catalogue.known(config)), config, catalogue)
    assert result.verdict.state == "valid", result.verdict
    (no_loss,) = (one for one in result.verdict.findings if one.name == "no_loss")
    assert no_loss.figures["owed"] == 100
    assert no_loss.figures["cancelled"] > 50


CALM = """
version: 1
name: calm
target: mine
subscribers: {billing: {pattern: order.>}}
load:
  stages: [{for: 200ms, rate: 100}]
  events: [{type: order.created, key: {count: 5}}]
"""


@pytest.mark.parametrize(("order", "judged"), [("none", False), ("key", True)])
async def test_what_the_operator_says_that_a_target_claims_is_judged(tmp_path: Path, order: str, judged: bool) -> None:
    """Its own word counts where squall.yaml has none."""
    path = tmp_path / "calm.yaml"
    path.write_text(CALM, encoding="utf-8")
    text = f"version: 1\ntargets: {{mine: {{kind: in-process, claims: {{order: {order}}}}}}}\n"
    config = make_config(parse_document(text, "squall.yaml"), tmp_path)
    catalogue = load_catalogue()
    scenario = load_scenario(path, config=config, known=catalogue.known(config))
    result = await run_scenario(scenario, config, catalogue)
    assert result.verdict.state == "valid"
    states = {finding.name: finding.state for finding in result.verdict.findings}
    assert (states.get("order") == "valid") == judged, states
