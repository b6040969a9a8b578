"""The page of one run: its verdict, what was judged, and what happened when."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from squall.chaos.present_why import tells
from squall.chaos.remedies import advised
from squall.chaos.report import view
from squall.chaos.report.page import WORDS, RunContents
from squall.chaos.run_folder import run_name
from squall.core.dashboard import Look
from squall.dashboards.charts import Shading, height, middles, over_time, run_plots, shadings
from squall.dashboards.live_data import faults_so_far, going_on
from squall.dashboards.markup import show_markup
from squall.dashboards.nothing import show_nothing
from squall.dashboards.over_time import spread
from squall.dashboards.profile import show_profile
from squall.dashboards.reading import contents
from squall.dashboards.runs import STATES
from squall.dashboards.tones import tones

RUNNING = "There is no verdict yet: it is judged once everything is healed and drained."


def show_overview(look: Look) -> None:
    """From the verdict down to the charts."""
    run = contents(look.run)
    verdict, measured = run.verdict, run.measured
    running = going_on(look.run)
    state = verdict.state if verdict else "running" if running else "unfinished"
    show_markup(
        "overview.html.j2",
        run=run_name(look.run),
        about=run.about,
        state=state,
        mark=STATES[state],
        word=WORDS.get(state, "Goes on"),
        headline=verdict.headline if verdict else RUNNING if running else "It was ended before it was judged.",
        running=running,
        reasons=advised(verdict.reasons) if verdict else [],
        notes=[note.text for note in verdict.notes] if verdict else [],
        key_figures=list(view.key_figures(verdict, measured, run.facts)) if measured else [],
        causes=[cause for cause in verdict.causes if tells(cause)] if verdict else [],
    )
    if measured is None or not any(measured.publishes.asked):
        show_nothing(look, overview=True)
        return
    _charts(look, run)
    show_profile(look.run)
    show_markup(
        "tables.html.j2",
        judged=view.judged(verdict) if verdict else (),
        faults=view.fault_rows(measured),
        subscribers=view.subscriber_rows(measured),
        gates=view.gate_rows(measured),
        environment=run.environment,
        scenario=run.scenario,
    )


def _charts(look: Look, run: RunContents) -> None:
    measured = run.measured
    assert measured is not None  # the caller looked
    axis = measured.axis
    colors, found = tones(), spread(look.run, axis)
    plots = run_plots(measured, found, colors)
    zero = "the start of the load" if run.facts.load else "the first publish"
    windows = shadings(measured.faults, axis)
    if run.verdict is None and not windows:  # the history has them when the run is over
        windows = [Shading(one.name, one.begun_s, one.ended_s) for one in faults_so_far(look.run)]
    held = any(line.held for plot in plots for line in plot.lines)
    show_markup("over_time_hint.html.j2", zero=zero, faults=bool(windows), held=held)
    st.echarts_chart(
        over_time(
            plots,
            middles(axis),
            (axis.seconds(axis.begun_ns), axis.seconds(axis.ended_ns)),
            windows,
            found.heat,
            colors,
        ),
        height=height(len(plots), heat=found.heat is not None),
        key="over-time",
        alt=_described(run, windows),
    )


def _described(run: RunContents, windows: Sequence[Shading]) -> str:
    """The charts in a sentence, for who does not see them; the tables below have the figures."""
    measured = run.measured
    assert measured is not None  # the caller looked
    faults = ", ".join(f"{one.name} ({one.begun_s:.1f} to {one.ended_s:.1f} s)" for one in windows) or "none"
    held = "memory, handles, threads and tasks that the target held, " if measured.held else ""
    return (
        "Published and handled events per second, latency p50 and p99, deliveries waiting, a heat map of latencies, "
        f"{held}over one axis of time. Faults: {faults:.400}. The tables below tell the figures."
    )
