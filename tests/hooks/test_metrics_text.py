"""squall_metrics_text: the router's numbers for Prometheus."""

from __future__ import annotations

import re

import pytest
from tests.core.world import FromAnswers, Policy, World

from squall import Plugin, WiringError, hookimpl
from squall.plugins.metrics import MetricsPlugin

SAMPLE = re.compile(r'squall_[a-z_]+(\{[a-z]+="(?:[^"\\\n]|\\.)*"(,[a-z]+="(?:[^"\\\n]|\\.)*")*\})? [0-9.e+-]+')


class Counts(Plugin):
    """Adds a number of its own."""

    @hookimpl
    def squall_metrics_text(self) -> str:
        return "own_total 5\n"


class Breaks(Plugin):
    """Has none."""

    @hookimpl
    def squall_metrics_text(self) -> str:
        raise ValueError("no numbers today")


async def test_each_plugins_numbers_are_asked_for() -> None:
    """In the configuration's order."""
    async with World(Counts(), MetricsPlugin()) as world:
        own, metrics = world.router.ask("squall_metrics_text")
        assert own == "own_total 5\n"
        assert "squall_published_total 0\n" in metrics


async def test_what_the_metrics_plugin_counts_is_in_it() -> None:
    """Every line is a sample or a comment, each family's head stands once and before it, and text is escaped."""
    async with World(Policy(), MetricsPlugin()) as world:
        name = 'odd "name"\\\n'
        await world.subscriber.subscribe(">", FromAnswers(ValueError("broken"), None), name=name)
        await world.publish("a", "b")
        await world.clock.settle()
        await world.clock.advance(2)
        (text,) = world.router.ask("squall_metrics_text")
    lines = text.splitlines()
    heads = [line for line in lines if line.startswith("# TYPE")]
    assert len(heads) == len(set(heads)) > 3
    assert all(line.startswith("# ") or SAMPLE.fullmatch(line) for line in lines), text
    assert "squall_published_total 2" in lines
    assert re.search(
        r'squall_attempts_total\{subscription="odd \\"name\\"\\\\\\n",id="[^"]+",outcome="error"\} 1\n', text
    )
    assert re.search(r'squall_settlements_total\{.*how="acked"\} 2\n', text)
    assert re.search(r"squall_handler_seconds_count\{.*\} 3\n", text)


async def test_one_that_raises_is_named() -> None:
    """With its hook."""
    async with World(Breaks()) as world:
        with pytest.raises(
            WiringError, match=r"plugin Breaks#\d raised in squall_metrics_text: ValueError: no numbers"
        ):
            world.router.ask("squall_metrics_text")
