"""What a load driver counted itself, as a table: its answers by kind of request, and all of them."""

from __future__ import annotations

from dataclasses import dataclass

from squall.chaos.figures import latency
from squall.chaos.report.words import rate
from squall.core.load_driver import Answers, Generated
from squall.core.units import format_count

SHOWN = 20
ALL = "all"


@dataclass(frozen=True)
class AnswersRow:
    """A row of the table: a kind of request, and its figures by label."""

    name: str
    cells: tuple[tuple[str, str], ...]


def answer_rows(generated: Generated) -> tuple[AnswersRow, ...]:
    """All requests together, then the kinds of which there were most."""
    one = generated
    total = Answers(ALL, one.requests, one.failures, one.rate, one.p50_s, one.p95_s, one.p99_s)
    most = sorted(one.kinds, key=lambda kind: (-kind.requests, kind.name))[:SHOWN]
    return tuple(AnswersRow(kind.name, _cells(kind)) for kind in (total, *most))


def _cells(one: Answers) -> tuple[tuple[str, str], ...]:
    return (
        ("Answered", format_count(one.requests)),
        ("Failed", format_count(one.failures) if one.failures else "none"),
        ("Rate", rate(one.rate)),
        ("p50", latency(one.p50_s)),
        ("p95", latency(one.p95_s)),
        ("p99", latency(one.p99_s)),
    )
