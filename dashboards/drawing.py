"""Draws waterfalls: of what the recorder saw, and of spans."""

from __future__ import annotations

import streamlit as st

from squall.dashboards import assets
from squall.dashboards.choices import choice
from squall.dashboards.markup import show_markup
from squall.dashboards.own_begin import from_own_begin
from squall.dashboards.trace_data import Waterfall

LOAD = "since the load began"
BEGINS = {"event": "publish", "trace": "begin"}
ONE_AXIS, OWN = "on one axis", "each from its own begin"


def draw(found: Waterfall, count: int, noun: str, origin: str = LOAD, short: str = "since load") -> str | None:
    """Draw so many events or traces, whichever the noun says. Returns what the row opens that was clicked or
    entered, as text. `origin` says what times are counted from, `short` where there is little room; what is alone is
    counted from its own begin, and for several that can be chosen."""
    if count == 1 or _times() == OWN:
        found, begin = from_own_begin(found), BEGINS[noun]
        origin, short = f"since {'its' if count == 1 else 'each'} {begin}", f"since {begin}"
    data = {
        "rows": [[row.label, row.event, row.head] for row in found.rows],
        "spans": [[one.row, one.begun, one.ended, one.tone, one.says] for one in found.spans],
        "links": found.links,
        "shades": [[one.begun, one.ended, one.name] for one in found.shades],
        "marks": [[one.at, one.says] for one in found.marks],
        "begun": found.begun,
        "ended": found.ended,
        "origin": origin,
        "short": short,
        "alt": (
            f"Waterfall of {count} {noun}s with {len(found.spans)} spans. Up and down choose a row and tell it, "
            f"Enter opens its {noun}. Plus and minus zoom, left and right move, zero shows all, Z the row's {noun}."
        ),
    }
    show_markup("trace_hint.html.j2", count=count, noun=noun, spans=len(found.spans), cut=found.cut)
    clicked = assets.waterfall()(key="waterfall", data=data, on_event_change=lambda: None).event
    return None if clicked is None else str(clicked)


def _times() -> str:
    """What was chosen of both."""
    with st.columns([1, 3])[0]:
        return choice("Times", [ONE_AXIS, OWN], "times")
