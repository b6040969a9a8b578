"""What a scenario asks of the router in this process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from squall.chaos.catalogue import load_catalogue
from squall.chaos.run import run_scenario
from squall.chaos.scenario import load_scenario
from squall.core.config import Backlog, Config

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
