"""A verdict as people read it, in five seconds."""

from __future__ import annotations

from squall.chaos.check.verdict import Finding
from squall.chaos.run import RunResult

_MARKS = {"valid": "✓", "invalid": "✗", "unknown": "?", "not judged": "·"}
SHOWN_VIOLATIONS = 3


def verdict_lines(result: RunResult) -> list[str]:
    """Headline, one line per invariant, the first violations of each, why it is unknown, and where to look."""
    verdict = result.verdict
    lines = ["", f"{verdict.state.upper()}   {verdict.headline}   {result.duration_s:.0f} s", ""]
    for finding in verdict.findings:
        lines.append(f"  {finding.name:14s} {_MARKS[finding.state]} {finding.summary}")
        if finding.why_unknown:
            lines.append(f"  {'':14s}   {finding.why_unknown}")
        lines += _examples(finding)
    lines += [f"  {reason.text}" for reason in verdict.reasons]
    return [*lines, "", f"run      {result.folder}"]


def _examples(finding: Finding) -> list[str]:
    if finding.state != "invalid":
        return []
    return [
        f"  {'':14s}   event {one.event} · {one.subscription or 'no subscription'} · {one.form}"
        + (f" · key {one.key}" if one.key else "")
        for one in finding.violations[:SHOWN_VIOLATIONS]
    ]
