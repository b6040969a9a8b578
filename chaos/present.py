"""A verdict as people read it, in five seconds: what it is, what was judged, and on a loss its cause."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from squall.chaos.check.verdict import OF_FINDINGS, Finding, FindingState, State, Verdict
from squall.chaos.figures import latency
from squall.chaos.layout import LABEL, field, headline
from squall.chaos.present_why import cause_lines, note_lines, tells
from squall.chaos.remedies import advised
from squall.chaos.run import RunResult
from squall.chaos.run_folder import LOG, PROFILE, REPORT, run_name
from squall.core.config import Bench
from squall.core.units import format_count

MARKS: dict[FindingState, tuple[str, str]] = {
    "valid": ("✓", "green"),
    "invalid": ("✗", "bold red"),
    "unknown": ("?", "yellow"),
    "not judged": ("·", "dim"),
}
COLOURS: dict[State, str] = {"valid": "bold green", "invalid": "bold red", "unknown": "bold yellow"}
ALWAYS = ("no_loss", "order", "duplicates", "recovery", "latency", "throughput", "error_budget")
"""What has a line of its own even where it holds; the rest then shares one."""

SHOWN_CAUSES = 3
DEFAULT_RUNS = Bench().runs


def verdict_lines(verdict: Verdict, run: str, width: int, *, note: str = "", took_s: float = 0.0) -> list[Text]:
    """Headline, a line per invariant, causes, reasons. `run` is the name by which `squall why` finds it; `note` goes
    after the headline, such as under what it was."""
    text = verdict.headline + (f", {note}" if note else "")
    lines = [*headline(verdict.state.upper(), COLOURS[verdict.state], text, duration(took_s), width), Text()]
    own = [one for one in verdict.findings if one.state in ("invalid", "unknown") or one.name in ALWAYS]
    column = max((len(one.title or one.name) for one in own), default=0)
    for finding in own:
        lines += _finding_lines(finding, width, max(LABEL, column))
    lines += _rest(verdict.findings, own, width, max(LABEL, column))
    lines += note_lines(verdict, width, max(LABEL, column))
    causes = [cause for cause in verdict.causes if cause.invariant in {one.name for one in own} and tells(cause)]
    for cause in causes[:SHOWN_CAUSES]:
        alone = sum(one.invariant == cause.invariant for one in causes) == 1
        lines += [Text(), *cause_lines(cause, run, width, alone=alone)]
    if len(causes) > SHOWN_CAUSES:
        more = len(causes) - SHOWN_CAUSES
        lines += [Text(), *field("", f"and {more} more cause{'s' if more > 1 else ''}: squall why {run}", width)]
    return [*lines, *_reason_lines(verdict, width)]


def _finding_lines(finding: Finding, width: int, column: int) -> list[Text]:
    mark, style = MARKS[finding.state]
    summary = finding.summary
    owed = finding.figures.get("owed", 0)
    if finding.name == "no_loss" and finding.state == "valid" and owed:
        # No loss among n independent events: the rate is below 3/n with 95 % confidence (the rule of three).
        summary += f" · loss rate below {300 / owed:.2g} % (95 %)"
    lines = field(finding.title or finding.name, summary, width, mark=(mark, style), label_width=column)
    if finding.why_unknown and not finding.failed and finding.why_unknown != summary:
        lines += field("", finding.why_unknown, width, mark=(" ", ""), label_width=column)
    return lines


def _rest(findings: Sequence[Finding], own: Sequence[Finding], width: int, column: int) -> list[Text]:
    """The others, by name: those that hold, and those that could not be judged here."""
    lines = []
    states: tuple[tuple[FindingState, str], ...] = (("valid", "also held"), ("not judged", "not judged"))
    for state, label in states:
        names = [one.title or one.name for one in findings if one.state == state and one not in own]
        if names:
            lines += field(label, " · ".join(names), width, mark=MARKS[state], label_width=column)
    return lines


def _reason_lines(verdict: Verdict, width: int) -> list[Text]:
    unknown = verdict.state == "unknown"
    lines = list[Text]()
    for reason in verdict.reasons:
        if reason.code not in OF_FINDINGS and reason.text != verdict.headline:
            lines += field("why unknown" if unknown else "besides", reason.text, width, style="yellow")
    todos = [todo for _, todo in advised(verdict.reasons) if todo] if unknown else []
    advice = [line for todo in todos for line in field("advice", todo, width)]
    return [Text(), *lines, *advice] if lines or advice else []


def result_lines(result: RunResult, width: int) -> list[Text]:
    """A run that is over: its verdict, and where to look on."""
    name = reachable(result.folder)
    faulty = duration(result.faulty_s) if result.faulty_s >= 0.95 else latency(result.faulty_s)
    note = f"under {faulty} of faults" if result.faulty_s and result.verdict.state == "valid" else ""
    lines = [Text(), *verdict_lines(result.verdict, name, width, note=note, took_s=result.duration_s), Text()]
    report = result.folder / REPORT
    where = [("report", nearby(report))] if report.exists() else [("run", nearby(result.folder))]
    if (profile := result.folder / PROFILE).exists():
        where.append(("profile", nearby(profile)))
    logged = [(result.errors, "error"), (result.warnings, "warning")]
    if told := ", ".join(counted(count, noun) for count, noun in logged if count):
        where.append(("log", f"{nearby(result.folder / LOG)} ({told})"))
    where.append(("look", f"squall dashboard{_elsewhere(result.folder)} --run {run_name(result.folder)}"))
    return [*lines, *(Text.assemble((f"{label:<8} ", "bold"), path) for label, path in where)]


def summary_lines(runs: Sequence[tuple[str, int, State]], width: int) -> list[Text]:
    """Several runs (scenario, seed, state) in a line, and the seeds of those that are not valid."""
    counts = Counter(state for _, _, state in runs)
    line = Text.assemble("\n", (f"{len(runs)} runs   ", "bold"))
    told = [(f"{counts[state]} {state}", COLOURS[state]) for state in ("valid", "invalid", "unknown") if counts[state]]
    line.append_text(Text(" · ").join(Text(text, style) for text, style in told))
    lines = [line]
    for name, seed, state in runs:
        if state != "valid":
            lines.append(Text.assemble("  ", (f"{state:<8}", COLOURS[state]), f" {name} --seed {seed}"))
    return lines


def reachable(folder: Path) -> str:
    """What to give `squall why` for this run: its name where runs are where they are by default, else its path."""
    return nearby(folder) if _elsewhere(folder) else run_name(folder)


def _elsewhere(folder: Path) -> str:
    """How a command is told where this run's folder is, if that is not where runs are by default."""
    runs = nearby(folder.parent.parent)
    return "" if runs == DEFAULT_RUNS else f" --runs {runs}"


def nearby(path: Path) -> str:
    """The path, from the working directory where it is below it."""
    try:
        return str(path.resolve().relative_to(Path.cwd().resolve()))
    except ValueError:
        return str(path)


def counted(count: int, noun: str) -> str:
    """`1 event`, `41 events`."""
    return f"{format_count(count)} {noun}{'' if count == 1 else 's'}"


def state_style(state: str) -> str:
    """The colour of a verdict's state; none for what is not one."""
    return next((style for known, style in COLOURS.items() if known == state), "dim")


def duration(seconds: float) -> str:
    """`31 s`, `1 min 04 s`; nothing for nothing."""
    if seconds <= 0:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
