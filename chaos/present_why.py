"""A cause, and an event's story, as people read them."""

from __future__ import annotations

from rich.text import Text

from squall.chaos.check.blame import Story
from squall.chaos.check.path import Step
from squall.chaos.check.verdict import Cause, Verdict
from squall.chaos.layout import LABEL as COLUMN
from squall.chaos.layout import field, hanging, wrapped
from squall.core.units import format_count

LABEL = 7
INDENT = 4
_NOTED = ("·", "yellow")
_STYLES = {
    **dict.fromkeys(("fault", "gate"), "yellow"),
    **dict.fromkeys(("terminal", "control", "process"), "magenta"),
    "publish": "cyan",
    "lost": "bold red",
}


def tells(cause: Cause) -> bool:
    """Whether a cause says more than the line of its invariant: of a threshold there is neither an event nor advice."""
    return bool(cause.steps or cause.advice)


def cause_lines(cause: Cause, run: str, width: int, *, alone: bool) -> list[Text]:
    """One paragraph: how many and why, the first one's path, what to do, where to look. alone: the invariant's only
    cause."""
    count = f"{format_count(cause.count)} event{'s' if cause.count != 1 else ''}"
    many = f"{count}, one cause" if alone and cause.count > 1 else count
    told = f"{many}: {cause.sentence}" if cause.first.event is not None else cause.sentence
    lines = hanging(told, width, style="bold")

    def add(label: str, text: str) -> None:
        lines.extend(field(label, text, width, indent=INDENT, label_width=LABEL))

    for number, step in enumerate(cause.steps):
        add("first" if number == 0 else "", step)
    if cause.advice:
        add("advice", cause.advice)
    if cause.first.event is not None:
        add("look", f"squall why {run} {cause.first.event}")
    return lines


def story_lines(story: Story, width: int) -> list[Text]:
    """A sentence, the whole path in the order of time, advice."""
    head = Text()
    head.append(f"{story.topic or 'event'} {story.event}", "bold")
    if story.key is not None:
        head.append(f"   key {story.key}")
    lines = [head, Text()]
    for sentence in story.sentences:
        lines += hanging(sentence, width, style="bold")
    lines.append(Text())
    for step in story.steps:
        lines += _step_lines(step, story.origin_ns, width)
    for advice in story.advice:
        lines += [Text(), *field("advice", advice, width, label_width=LABEL)]
    return lines


def _step_lines(step: Step, origin_ns: int, width: int) -> list[Text]:
    at = f"{(step.time_ns - origin_ns) / 1e9:11.3f} s  "
    under = f"   (under {', '.join(step.faults)})" if step.faults and step.kind != "fault" else ""
    lines = []
    for number, part in enumerate(wrapped(step.text + under, width - len(at))):
        line = Text(at if number == 0 else " " * len(at), "dim")
        line.append(part, _STYLES.get(step.kind, ""))
        lines.append(line)
    return lines


def note_lines(verdict: Verdict, width: int, column: int = COLUMN) -> list[Text]:
    """What is worth knowing besides, a paragraph each."""
    return [line for note in verdict.notes for line in field("note", note.text, width, label_width=column, mark=_NOTED)]


def verdict_causes(verdict: Verdict | None, run: str, width: int) -> list[Text]:
    """Every cause of a verdict, its reasons and notes; None: the run has none."""
    if verdict is None:
        return hanging(
            f"{run} has no verdict: it was ended, or goes on; `squall why {run} EVENT` tells one event", width
        )
    lines = [Text.assemble((verdict.state.upper(), "bold"), f"   {verdict.headline}")]
    for cause in verdict.causes:
        alone = sum(one.invariant == cause.invariant for one in verdict.causes) == 1
        lines += [Text(), Text(f"{cause.invariant}", "bold"), *cause_lines(cause, run, width, alone=alone)]
    reasons = [reason.text for reason in verdict.reasons if reason.text != verdict.headline]
    if verdict.notes or reasons:
        lines += [Text(), *(line for text in reasons for line in field("besides", text, width, mark=_NOTED))]
        lines += note_lines(verdict, width)
    if not verdict.causes:
        what = "no single event is to blame" if verdict.state == "invalid" else "nothing is to blame"
        lines += [Text(), *hanging(f"{what}; `squall why {run} EVENT` tells any event's path", width)]
    return lines
