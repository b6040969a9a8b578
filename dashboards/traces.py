"""The page of traces: the way of one event, or of many on one axis of time."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from squall.chaos.check.blame import Story, why
from squall.chaos.check.path import Step
from squall.chaos.check.verdict import Violation
from squall.chaos.figures import latency
from squall.chaos.report.page import RunContents
from squall.chaos.run_folder import run_name
from squall.chaos.spans import SPANS
from squall.core.dashboard import Look
from squall.core.errors import ConfigError, Problem
from squall.dashboards.choices import any_of, at_most, choice, names
from squall.dashboards.drawing import draw
from squall.dashboards.fan_out import ways
from squall.dashboards.markup import show_markup
from squall.dashboards.nothing import show_nothing
from squall.dashboards.reading import HISTORY, contents, has_history, history
from squall.dashboards.span_pages import show_run_spans
from squall.dashboards.span_reading import has_spans
from squall.dashboards.trace_data import ORDERS, Wanted, Waterfall, choose, waterfall

STORIES = 5
"""Of so many events at once each step is told; of more, there is the waterfall."""
OWN = ("publish", "attempt", "settlement", "control", "lost")


def show_traces(look: Look) -> None:
    """Those events that the URL names, or those that are chosen; as the recorder saw them, or the tracer."""
    run = contents(look.run)
    traced = has_spans(look.run / SPANS)
    if traced and st.query_params.get("source") == SPANS:
        show_run_spans(look, run.facts)
        return
    if not has_history(look.run):
        st.html("<h1>Traces</h1>")
        show_nothing(look)
        return
    named = numbers(st.query_params.get("event", ""))
    if named:
        _named(look, run, named, traced)
    else:
        _chosen(look, run, traced)


def numbers(text: str) -> list[int]:
    """`507` or `507,510`: the numbers of events. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise ConfigError([Problem("event", f"expected numbers of events such as 507,510, got {text!r:.80}")])
    return [int(part) for part in dict.fromkeys(parts)]


def _named(look: Look, run: RunContents, events: Sequence[int], traced: bool) -> None:
    with history(look.run) as db:
        found = waterfall(db, run.facts, events, _lost(run))
    if not found.spans:
        hint = f"look at other traces of this run: traces?run={run_name(look.run)}"
        raise ConfigError(
            [Problem("event", f"this run knows no event {events[0]}: not published, not delivered", hint=hint)]
        )
    show_markup("trace_head.html.j2", run=run_name(look.run), events=events, traced=traced)
    _draw(look, found, events)
    for event in events[:STORIES]:
        _story(look, run, found, event)
    if len(events) > STORIES:
        show_markup("only_some.html.j2", shown=STORIES, total=len(events))


def _violations(run: RunContents) -> list[Violation]:
    return [one for finding in run.verdict.findings for one in finding.violations] if run.verdict else []


def _lost(run: RunContents) -> list[Violation]:
    """What was owed and never came to an end."""
    return [one for one in _violations(run) if one.invariant == "no_loss"]


def _story(look: Look, run: RunContents, found: Waterfall, event: int) -> None:
    story = why(look.run / HISTORY, run.facts, event, _violations(run))
    if story is None:
        return
    published = [step.text for step in story.steps if step.kind == "publish"][1::2]
    show_markup("story.html.j2", story=story)
    show_markup("fan_out.html.j2", topic=story.topic, event=event, published=published, ways=ways(found, event))
    show_markup("steps.html.j2", steps=[(_times(story, step), step) for step in _own(story)])


def _times(story: Story, step: Step) -> tuple[str, str]:
    """When it was, and how long after the publish: all steps of a quick event are in the same millisecond."""
    since_load = f"{(step.time_ns - story.origin_ns) / 1e9:.3f} s"
    published_ns = next((one.time_ns for one in story.steps if one.kind == "publish"), None)
    if published_ns is None:
        return since_load, ""
    after_ns = step.time_ns - published_ns
    return since_load, f"{'-' if after_ns < 0 else '+'}{latency(abs(after_ns) / 1e9)}" if after_ns else "0"


def _own(story: Story) -> list[Step]:
    """The steps, without what acted around the event when nothing was done with it any more."""
    last_ns = max((step.time_ns for step in story.steps if step.kind in OWN), default=0)
    return [step for step in story.steps if step.time_ns <= last_ns or step.kind == "terminal"]


def _chosen(look: Look, run: RunContents, traced: bool) -> None:
    with history(look.run) as db:
        types, subscribers = names(db, "topic"), names(db, "subscription")
        st.html("<h1>Traces</h1>")
        if traced:
            show_markup("told_by.html.j2", run=run_name(look.run), recorder=True)
        first, second, third, fourth = st.columns(4)
        with first:
            order = choice("Which", list(ORDERS), "order")
        with second:
            kind = any_of("Type", types, "type")
        with third:
            subscriber = any_of("Subscriber", subscribers, "subscriber")
        with fourth:
            limit = at_most()
        events = choose(db, Wanted(order, limit, kind, subscriber))
        found = waterfall(db, run.facts, events, _lost(run))
    if not events:
        show_markup("no_traces.html.j2", order=order, run=run_name(look.run))
        return
    _draw(look, found, events)


def _draw(look: Look, found: Waterfall, events: Sequence[int]) -> None:
    clicked = draw(found, len(events), "event")
    if clicked is not None:
        st.query_params.from_dict({"run": run_name(look.run), "event": clicked})
        st.rerun()
