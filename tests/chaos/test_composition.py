"""What a run's router is made of, as it is written down."""

from __future__ import annotations

from pathlib import Path

import pytest

from squall.chaos.catalogue import load_catalogue
from squall.chaos.composition import composed
from squall.chaos.scenario import load_scenario
from squall.core.config import Config

SCENARIOS = Path(__file__).resolve().parents[2] / "scenarios"


@pytest.mark.parametrize(
    ("scenario", "plugin", "url"),
    [
        ("redis-latency", "redis", "the run's own redis, by net:redis"),
        ("neo4j-gone", "neo4j", "the run's own neo4j"),
    ],
)
def test_a_server_of_the_run_is_told_as_that(scenario: str, plugin: str, url: str) -> None:
    """Not as the address that the plugin would have without the bench; through a proxy only where there is one."""
    config, catalogue = Config(), load_catalogue()
    read = load_scenario(SCENARIOS / f"{scenario}.yaml", known=catalogue.known(config))
    made = composed(read, config, catalogue)
    assert made is not None
    (options,) = [one.options for one in made.plugins if one.name == plugin]
    assert options["url"] == url
