"""What blame says of one violation."""

from __future__ import annotations

from dataclasses import dataclass

from squall.chaos.check.evidence import Evidence, Window

HOW = {
    "ok": "ended well",
    "error": "failed",
    "timeout": "was cut off at its timeout",
    "died": "crashed",
    None: "never ended",
}
"""How a handler ended, by its result."""

ALTERED = "Look for what shares or rewrites events between publish and handler."


@dataclass(frozen=True)
class Diagnosis:
    """`sentence` names the cause without what is particular to the event, so that equal causes read alike; `detail`
    says it with the particulars; `advice` what to do. `traits` go after the sentence where all events of a cause share
    them: that they differ in these is no other cause."""

    sentence: str
    detail: str = ""
    advice: str = ""
    traits: tuple[str, ...] = ()


def named(evidence: Evidence, window: Window) -> str:
    """`fault crash, 30.000 s`: when it began."""
    return f"fault {window.name}, {evidence.at(window.begun)}"
