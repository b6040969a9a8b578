"""Whatever becomes of an attempt has its words and its colour on the pages of traces."""

from __future__ import annotations

from squall.chaos.check.diagnosis import HOW
from squall.chaos.check.path import ENDED
from squall.dashboards.trace_data import RESULTS, TONES


def test_every_result_that_the_checker_tells_can_be_shown() -> None:
    """A run with a handler that ignored its cancellation is looked at like any other."""
    assert "abandoned" in HOW
    assert set(HOW) == set(ENDED) == set(RESULTS) == set(TONES)
