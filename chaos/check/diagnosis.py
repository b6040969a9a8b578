"""What blame says of one violation."""

from __future__ import annotations

from dataclasses import dataclass

from squall.chaos.check.evidence import Evidence, Window


@dataclass(frozen=True)
class Diagnosis:
    """`sentence` names the cause without what is particular to the event, so that equal causes read alike; `detail`
    says it with the particulars; `advice` what to do."""

    sentence: str
    detail: str = ""
    advice: str = ""


def named(evidence: Evidence, window: Window) -> str:
    """`fault crash, 30.000 s`: when it began."""
    return f"fault {window.name}, {evidence.at(window.begun)}"
