"""A run while it goes on, as lines for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from squall.chaos.fault_run import FaultProgress
from squall.chaos.layout import field, headline
from squall.chaos.scenario import Scenario
from squall.chaos.watch import Progress
from squall.core.units import format_count, format_rate

LABEL = 8
MAX_FAULTS = 6
SHOWN_LAG_S = 0.02
NAMES = {"setup": "set up", "steady": "steady", "load": "load", "heal": "heal", "drain": "drain", "check": "check"}


class Frames:
    """Makes one frame after the other, and remembers how each phase ended."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._last: Progress | None = None
        self._done: list[tuple[str, str]] = []

    def head(self, width: int) -> list[Text]:
        """What is run: before anything starts."""
        one = self._scenario
        return headline(one.name, "bold", one.about, f"seed {one.seed}", width)

    def lines(self, progress: Progress, width: int) -> list[Text]:
        """The frame of this moment."""
        last, self._last = self._last, progress
        if last is not None and last.phase != progress.phase:
            self._finish(last)
        lines = [Text(progress.target, "dim"), Text(), *self._finished(width)]
        lines += _phase_line(progress, width)
        if progress.phase in ("load", "heal"):
            lines += fault_lines(progress.faults, width)
        if progress.phase != "check":  # nothing is counted any more
            lines += field("", _counts(progress), width, label_width=LABEL)
        for line in lines:  # one that the terminal wraps would push the next frame down
            line.truncate(width, overflow="ellipsis")
        return lines

    def over(self, width: int) -> list[Text]:
        """The last frame: what every phase came to."""
        if self._last is None:
            return []
        self._finish(self._last)
        return [Text(self._last.target, "dim"), Text(), *self._finished(width)]

    def _finished(self, width: int) -> list[Text]:
        mark = ("✓", "green")
        return [line for name, text in self._done for line in field(name, text, width, label_width=LABEL, mark=mark)]

    def _finish(self, last: Progress) -> None:
        took = f"{last.phase_s:.1f} s"
        if last.phase == "steady":
            p99 = "" if last.p99_s is None else f", p99 {_short(last.p99_s)}"
            self._done.append(("steady", f"{took} at {format_rate(round(self._scenario.steady_rate))}{p99}"))
        elif last.phase == "load":
            failed = f", {format_count(last.refused)} refused or unknown" if last.refused else ""
            self._done.append(("load", f"{took}, {format_count(last.acknowledged)} acknowledged{failed}"))
        elif last.phase == "heal":
            acted = [f"{one.id} {format_count(one.hits)} hits" for one in last.faults if one.state != "planned"]
            self._done.append(("faults", f"healed: {' · '.join(acted)}" if acted else "none acted"))
        elif last.phase == "drain":
            self._done.append(("drain", took))


def _phase_line(progress: Progress, width: int) -> list[Text]:
    phase_s, total_s = progress.phase_s, progress.total_s
    line = Text(f"  {NAMES[progress.phase]:<{LABEL + 1}}", "bold")
    if progress.phase in ("steady", "load") and total_s:
        line.append(bar(phase_s / total_s, max(8, min(40, width - 58)), "green"))
        line.append(f" {min(phase_s, total_s):3.0f}/{total_s:.0f} s   ")
        line.append(
            f"{format_rate(round(progress.asked))} asked, {format_count(round(progress.achieved))} acknowledged"
        )
    elif progress.phase == "drain" and total_s:
        line.append(f"{phase_s:.0f} s of at most {total_s:.0f} s")
    elif progress.phase == "check":
        line.append("judging the history")
    return [line]


def fault_lines(faults: Sequence[FaultProgress], width: int) -> list[Text]:
    """A line for each fault, in the order of time; where there are too many, those that are over give way first."""
    keep = sorted(faults, key=lambda one: ("active", "planned", "healed").index(one.state))[:MAX_FAULTS]
    shown = [one for one in faults if one in keep]
    names = [_fault_name(one) for one in shown]
    column = min(max(map(len, names), default=0), width - 40)
    lines = []
    for number, (one, name) in enumerate(zip(shown, names, strict=True)):
        line = Text(f"  {'faults' if number == 0 else '':<{LABEL + 1}}", "bold")
        line.append(f"{name[:column]:<{column}}  ", "" if one.state == "active" else "dim")
        if one.state == "active":
            line.append(bar(-one.in_s / one.for_s if one.for_s else 1.0, 10, "yellow"))
            line.append(f" {_so_far(one)}", "yellow")
        elif one.state == "planned":
            line.append(f"in {one.in_s:.0f} s", "dim")
        else:
            line.append(f"✓ {format_count(one.hits)} hits", "dim")
        lines.append(line)
    if len(faults) > len(shown):
        lines.append(Text(f"{'':<{LABEL + 3}}and {len(faults) - len(shown)} more", "dim"))
    return lines


def _so_far(fault: FaultProgress) -> str:
    """Of one that acts: that it is on, where it has told of no hit yet."""
    return f"{format_count(fault.hits)} hits" if fault.hits else "on"


def _fault_name(fault: FaultProgress) -> str:
    share = f" ({100 * fault.probability:g} %)" if fault.probability < 1 else ""
    return f"{fault.do} on {fault.on}{share}"


def bar(share: float, width: int, style: str) -> Text:
    """`━━━━╸────`."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    full, half = divmod(halves, 2)
    text = Text("━" * full + "╸" * half, style)
    text.append("─" * (width - full - half), "dim")
    return text


def _counts(progress: Progress) -> str:
    parts = [f"in flight {format_count(progress.in_flight)}"]
    if progress.pending is not None:
        parts.append(f"pending {format_count(progress.pending)}")
    if progress.refused:
        parts.append(f"refused {format_count(progress.refused)}")
    if progress.dead_lettered is not None:
        parts.append(f"dead letters {format_count(progress.dead_lettered)}")
    if progress.abandoned:
        parts.append(f"abandoned {format_count(progress.abandoned)}")
    if progress.p99_s is not None:
        parts.append(f"p99 {_short(progress.p99_s)}")
    if progress.lag_s >= SHOWN_LAG_S:
        parts.append(f"loop lag {_short(progress.lag_s)}")
    return " · ".join(parts)


def plain_line(progress: Progress) -> str:
    """One line, where nothing can be redrawn."""
    total = "" if progress.total_s is None else f"/{progress.total_s:.0f}"
    active = [f"{one.id} {_so_far(one)}" for one in progress.faults if one.state == "active"]
    rates = f"{format_rate(round(progress.asked))} asked, {format_count(round(progress.achieved))} acknowledged"
    parts = [f"  {NAMES[progress.phase]:<6} {progress.phase_s:4.0f}{total} s"]
    if progress.phase == "check":  # nothing is counted any more
        return f"{parts[0]} · judging the history"
    parts += [rates] if progress.phase in ("steady", "load") else []
    return " · ".join([*parts, _counts(progress), *active])


def _short(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"
