"""What a terminal is told of a verdict."""

from __future__ import annotations

from dataclasses import replace

from tests.chaos.check.runs import clean, verdict_of

from squall.chaos.check.verdict import Reason
from squall.chaos.present import verdict_lines


def test_advice_that_mends_several_reasons_is_told_once() -> None:
    """A soak that was too short leaves memory and objects open, for one reason and with one remedy."""
    reasons = [Reason("soaked_too_little", f"growth of {what}: it fills") for what in ("memory", "objects")]
    verdict = replace(verdict_of(clean()), state="unknown", reasons=(*reasons, Reason("drain_limit", "it ended")))
    text = "\n".join(line.plain for line in verdict_lines(verdict, "calm/1", 200))
    assert text.count("Soak longer (--soak)") == 1
    assert text.count("Raise drain.limit") == 1
