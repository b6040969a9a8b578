"""The verdict's files, read by what reads such files."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from squall.chaos.check.output import save_junit
from squall.chaos.check.verdict import Finding, Reason, Verdict

HOSTILE = "broken \x1b[31m \x00 <script> & ]]> \ud800"


def test_whatever_errors_say_the_junit_file_can_be_read(tmp_path: Path) -> None:
    """Characters that XML cannot hold, of a handler's error or an event's type, are shown as signs."""
    findings = (
        Finding("no_loss", "invalid", HOSTILE),
        Finding("order", "unknown", "", why_unknown=HOSTILE),
        Finding("latency", "not judged", HOSTILE),
    )
    verdict = Verdict("invalid", "lost", findings=findings, reasons=(Reason("checker_failed", HOSTILE),))
    save_junit(verdict, "shop", tmp_path / "junit.xml")
    told = [case[0].get("message") or "" for case in ElementTree.parse(tmp_path / "junit.xml").iter("testcase")]
    assert len(told) == 4
    assert all("<script> & ]]>" in text and "\u241b[31m" in text for text in told), told
