"""What a terminal is told of a verdict."""

from __future__ import annotations

from dataclasses import replace

from tests.chaos.check.runs import clean, verdict_of

from squall.chaos.check.verdict import Reason
from squall.chaos.present import verdict_lines
from squall.chaos.remedies import advised
from squall.chaos.report.page import reasons_of as report_reasons


def test_advice_that_mends_several_reasons_is_told_once() -> None:
    """A soak that was too short leaves memory and objects open, for one reason and with one remedy."""
    reasons = [Reason("soaked_too_little", f"growth of {what}: it fills") for what in ("memory", "objects")]
    verdict = replace(verdict_of(clean()), state="unknown", reasons=(*reasons, Reason("drain_limit", "it ended")))
    text = "\n".join(line.plain for line in verdict_lines(verdict, "calm/1", 200))
    assert text.count("Soak longer (--soak)") == 1
    assert text.count("Raise drain.limit") == 1


def test_advice_of_a_kind_is_told_once_in_the_report_too() -> None:
    """Below the last of its reasons; where one of the kind knows better what to do, it speaks for all."""
    better = Reason("soaked_too_little", "growth of memory: the store fills", "Soak for an hour.")
    reasons = [better, Reason("soaked_too_little", "growth of objects: it wavers"), Reason("drain_limit", "it ended")]
    assert advised(reasons) == [
        (better.text, ""),
        ("growth of objects: it wavers", "Soak for an hour."),
        ("it ended", "Raise drain.limit: it still made progress."),
    ]
    for headline, texts in ((better.text, ["it ended", better.text]), ("none of them", ["it wavers", "it ended"])):
        shown = report_reasons(replace(verdict_of(clean()), state="unknown", headline=headline, reasons=tuple(reasons)))
        told = [text for text, advice in shown if advice]
        assert [one.rpartition(": ")[2] for one in told] == [one.rpartition(": ")[2] for one in texts]


def test_a_headline_without_advice_is_not_told_again() -> None:
    """What only repeats it is no entry."""
    verdict = replace(verdict_of(clean()), headline="odd", reasons=(Reason("runner", "odd"), Reason("gap", "a gap")))
    assert report_reasons(verdict) == [("a gap", "")]
