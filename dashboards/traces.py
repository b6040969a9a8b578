"""The page of traces: the way of one event, or of many on one axis of time."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from squall.chaos.check.blame import Story, why
from squall.chaos.check.path import Step
from squall.chaos.report.page import RunContents
from squall.chaos.run_folder import run_name
from squall.core.dashboard import Look
from squall.core.errors import ConfigError, Problem
from squall.dashboards import assets
from squall.dashboards.choices import any_of, choice, names
from squall.dashboards.fan_out import ways
from squall.dashboards.markup import show_markup
from squall.dashboards.reading import HISTORY, contents, has_history, history
from squall.dashboards.trace_data import ORDERS, Wanted, Waterfall, choose, waterfall

SHOWN = (20, 100, 500, 2500, 10_000)
STORIES = 5
"""Of so many events at once each step is told; of more, there is the waterfall."""
OWN = ("publish", "attempt", "settlement", "control")


def show_traces(look: Look) -> None:
    """Those events that the URL names, or those that are chosen."""
    run = contents(look.run)
    if not has_history(look.run):
        st.html("<h1>Traces</h1>")
        show_markup("nothing_recorded.html.j2", run=run_name(look.run))
        return
    named = numbers(st.query_params.get("event", ""))
    if named:
        _named(look, run, named)
    else:
        _chosen(look, run)


def numbers(text: str) -> list[int]:
    """`507` or `507,510`: the numbers of events. Raises ConfigError."""
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts):
        raise ConfigError([Problem("event", f"expected numbers of events such as 507,510, got {text!r:.80}")])
    return [int(part) for part in dict.fromkeys(parts)]


def _named(look: Look, run: RunContents, events: Sequence[int]) -> None:
    with history(look.run) as db:
        found = waterfall(db, run.facts, events)
    if not found.spans:
        hint = f"look at other traces of this run: traces?run={run_name(look.run)}"
        raise ConfigError(
            [Problem("event", f"this run knows no event {events[0]}: not published, not delivered", hint=hint)]
        )
    show_markup("trace_head.html.j2", run=run_name(look.run), events=events)
    _draw(look, found, events)
    for event in events[:STORIES]:
        _story(look, run, found, event)
    if len(events) > STORIES:
        show_markup("only_some.html.j2", shown=STORIES, total=len(events))


def _story(look: Look, run: RunContents, found: Waterfall, event: int) -> None:
    violations = [one for finding in run.verdict.findings for one in finding.violations] if run.verdict else []
    story = why(look.run / HISTORY, run.facts, event, violations)
    if story is None:
        return
    published = [step.text for step in story.steps if step.kind == "publish"][1::2]
    show_markup("story.html.j2", story=story)
    show_markup("fan_out.html.j2", topic=story.topic, event=event, published=published, ways=ways(found, event))
    show_markup(
        "steps.html.j2", steps=[(f"{(step.time_ns - story.origin_ns) / 1e9:.3f} s", step) for step in _own(story)]
    )


def _own(story: Story) -> list[Step]:
    """The steps, without what acted around the event when nothing was done with it any more."""
    last_ns = max((step.time_ns for step in story.steps if step.kind in OWN), default=0)
    return [step for step in story.steps if step.time_ns <= last_ns or step.kind == "terminal"]


def _chosen(look: Look, run: RunContents) -> None:
    with history(look.run) as db:
        types, subscribers = names(db, "topic"), names(db, "subscription")
        st.html("<h1>Traces</h1>")
        first, second, third, fourth = st.columns(4)
        with first:
            order = choice("Which", list(ORDERS), "order")
        with second:
            kind = any_of("Type", types, "type")
        with third:
            subscriber = any_of("Subscriber", subscribers, "subscriber")
        with fourth:
            limit = choice("At most", [str(number) for number in SHOWN], "limit")
        events = choose(db, Wanted(order, int(limit), kind, subscriber))
        found = waterfall(db, run.facts, events)
    if not events:
        show_markup("no_traces.html.j2", order=order, run=run_name(look.run))
        return
    _draw(look, found, events)


def _draw(look: Look, found: Waterfall, events: Sequence[int]) -> None:
    data = {
        "rows": [[row.label, row.event, row.head] for row in found.rows],
        "spans": [[one.row, one.begun, one.ended, one.tone, one.says] for one in found.spans],
        "links": found.links,
        "shades": [[one.begun, one.ended, one.name] for one in found.shades],
        "begun": found.begun,
        "ended": found.ended,
        "origin": "since the load began",
        "alt": (
            f"Waterfall of {len(events)} events with {len(found.spans)} spans. Plus and minus zoom, left and right "
            "move, zero shows all, up and down scroll."
        ),
    }
    show_markup("trace_hint.html.j2", events=len(events), spans=len(found.spans), cut=found.cut)
    clicked = assets.waterfall()(key="waterfall", data=data, on_event_change=lambda: None).event
    if clicked is not None:
        st.query_params.from_dict({"run": run_name(look.run), "event": str(int(clicked))})
        st.rerun()
