"""Whatever becomes of an attempt has its words."""

from __future__ import annotations

from squall.chaos.check.evidence import HOW
from squall.chaos.history.tables import WORDS


def test_every_result_that_can_be_recorded_can_be_told() -> None:
    """A run with a handler that ignored its cancellation is looked at like any other."""
    assert HOW.keys() == {*WORDS["result"], "abandoned", None}
