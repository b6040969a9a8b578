"""What was measured as rows, and the rows as a table for a terminal or for a page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Literal

from tests.benchmarks.rounds import Sample, median, ratio

HEADING = ("job", "squall", "compared with", "its figure", "ratio", "bar", "")
BEGIN, END = "<!-- measured -->", "<!-- end of what was measured -->"


@dataclass(frozen=True)
class Bar:
    """What must be reached: by the ratio, or by squall's own figure where there is a `unit`."""

    sign: Literal["≥", "≤", "<"]
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.sign} {self.value:,} {self.unit}".rstrip()

    def holds(self, found: float) -> bool:
        """Is it met?"""
        return {"≥": found >= self.value, "≤": found <= self.value, "<": found < self.value}[self.sign]


@dataclass(frozen=True)
class Row:
    """Medians over the rounds: squall's figure, and that of what it is compared with. `ratio` is the median of the
    ratios within each round; `added` is what came on top of the other figure, for costs that add up."""

    group: str
    job: str
    figure: float
    unit: str
    other: str = ""
    theirs: float | None = None
    ratio: float | None = None
    bar: Bar | None = None
    added: float | None = None

    @property
    def met(self) -> bool | None:
        """Is the bar met? None where there is none."""
        if self.bar is None:
            return None
        found = self.figure if self.bar.unit else self.ratio
        return found is not None and self.bar.holds(found)

    def cells(self) -> tuple[str, ...]:
        """What HEADING names, as text."""
        factor = "" if self.ratio is None else f"{self.ratio:,.2f}"
        if self.added is not None:
            factor = f"{self.added:+,.0f} {self.unit}"
        return (
            self.job,
            f"{_number(self.figure)} {self.unit}",
            self.other,
            "" if self.theirs is None else f"{_number(self.theirs)} {self.unit}",
            factor,
            "" if self.bar is None else str(self.bar),
            {True: "met", False: "MISSED", None: ""}[self.met],
        )


def compare(
    group: str,
    job: str,
    unit: str,
    figure: str,
    ours: Sequence[Sample],
    theirs: Sequence[Sample],
    other: str,
    bar: Bar | None = None,
) -> Row:
    """A row of one figure out of alternating rounds."""
    return Row(group, job, median(ours, figure), unit, other, median(theirs, figure), ratio(ours, theirs, figure), bar)


def _number(value: float) -> str:
    """Four digits at least, and no decimals that mean nothing."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:,.1f}" if value >= 10 else f"{value:.3g}"


def summary(rows: Sequence[Row]) -> str:
    """How many bars are met; which are not, and what there is instead."""
    judged = [row for row in rows if row.met is not None]
    missed = [row for row in judged if not row.met]
    lines = [f"{len(judged) - len(missed)} of {len(judged)} bars met{', missed:' if missed else ''}"]
    for row in missed:
        _, figure, other, _, factor, bar, _ = row.cells()
        found = figure if row.bar and row.bar.unit else f"{factor} of {other}"
        lines.append(f"  {row.group}, {row.job}: {found}, the bar is {bar}")
    return "\n".join(lines)


def as_text(rows: Sequence[Row]) -> str:
    """A table for a terminal."""
    cells = [HEADING, *(row.cells() for row in rows)]
    widths = [max(len(cell) for cell in column) for column in zip(*cells, strict=True)]

    def line(texts: Iterable[str]) -> str:
        padded = (
            text.ljust(width) if index in (0, 2, 6) else text.rjust(width)
            for index, (text, width) in enumerate(zip(texts, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    parts = [line(HEADING)]
    for group, own in groupby(rows, key=lambda row: row.group):
        parts += ["", group, *(line(row.cells()) for row in own)]
    return "\n".join([*parts, "", summary(rows)])


def as_markdown(rows: Sequence[Row], description: Sequence[tuple[str, str]]) -> str:
    """The machine's description, and a table a group."""
    parts = ["| machine | |", "|---|---|", *(f"| {name} | {value} |" for name, value in description), ""]
    for group, own in groupby(rows, key=lambda row: row.group):
        parts += [f"### {group[0].upper()}{group[1:]}", "", _markdown_row(HEADING), "|---|---:|---|---:|---:|---|---|"]
        parts += [*(_markdown_row(row.cells()) for row in own), ""]
    return "\n".join(parts)


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |".replace("MISSED", "**missed**")


def write(page: Path, measured: str) -> None:
    """Put what was measured between the page's two markers. Raises ValueError where it does not have them."""
    before, begin, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{page.name}: expected the lines {BEGIN} and {END}, one after the other")
    page.write_text(f"{before}{begin}\n\n{measured}\n{end}{after}", encoding="utf-8")
