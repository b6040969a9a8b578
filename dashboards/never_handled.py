"""What was never handled: latencies are of what was, and a run that loses is no faster for it."""

from __future__ import annotations

from squall.chaos.check.verdict import Verdict


def never_handled(verdict: Verdict | None) -> int | None:
    """How many deliveries that were owed no handler ended well, as the checker counts them for latencies; None where
    that was not measured."""
    if verdict is None:
        return None
    counted = [
        sum(value for name, value in one.figures.items() if name.startswith("unhandled"))
        for one in verdict.findings
        if one.name == "latency"
    ]
    return round(max(counted)) if counted else None
