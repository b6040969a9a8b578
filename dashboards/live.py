"""The page of a run that goes on: each second what it does, how fast, and what is wrong so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import streamlit as st

from squall.chaos.check.output import load_verdict
from squall.chaos.figures import latency
from squall.chaos.live_file import Moment, read_live
from squall.chaos.report.view import MARKS, KeyFigure
from squall.chaos.report.words import NOTHING, many, rate
from squall.chaos.run_folder import LIVE, VERDICT, run_name
from squall.chaos.watch import Progress
from squall.core.dashboard import Look
from squall.core.units import format_count
from squall.dashboards.charts import Line, Plot, Shading, height, over_time
from squall.dashboards.live_data import EVERY_S, PHASES, going_on, newest_going_on, thinned, windows
from squall.dashboards.markup import show_markup
from squall.dashboards.tones import tones

FOLLOWED = "followed"
"""In the session of a browser's tab: which run the URL named, and which one is followed."""


def show_live(look: Look) -> None:
    """The run that the URL names, as long as it goes on; then, or without a name, whichever goes on."""
    st.html("<h1>Live</h1>")
    _tick(look.runs, look.run if "run" in st.query_params else None)


@st.fragment(run_every=EVERY_S)
def _tick(runs: Path, named: Path | None) -> None:
    folder = _followed(runs, named)
    if folder is None:
        show_markup("nothing_live.html.j2")
    elif (folder / VERDICT).exists():
        verdict = load_verdict(folder / VERDICT)
        show_markup("live_over.html.j2", run=run_name(folder), verdict=verdict, mark=MARKS[verdict.state])
    elif not (folder / LIVE).exists() or not (moments := read_live(folder)):
        show_markup("nothing_live.html.j2")
    else:
        _moment(folder, moments)


def _followed(runs: Path, named: Path | None) -> Path | None:
    """The run that this tab of the browser follows: until it is over and another goes on, and by its verdict then."""
    asked, last = st.session_state.get(FOLLOWED, (None, None))
    if asked != named:
        last = None
    last = last or named
    folder = last if last is not None and going_on(last) else newest_going_on(runs) or last
    st.session_state[FOLLOWED] = (named, folder)
    return folder


def _moment(folder: Path, moments: Sequence[Moment]) -> None:
    last = moments[-1]
    now = last.progress
    show_markup(
        "live.html.j2",
        run=run_name(folder),
        target=now.target,
        goes_on=going_on(folder),
        phase=PHASES[now.phase],
        phase_s=now.phase_s,
        total_s=now.total_s,
        share=min(1.0, now.phase_s / now.total_s) if now.total_s else None,
        at_s=last.at_s,
        key_figures=list(_figures(now)),
        active=[one for one in now.faults if one.state == "active"],
        so_far=list(_so_far(now)),
    )
    colors, shown = tones(), thinned(moments)
    plots = (
        Plot(
            "Rates",
            "events/s",
            (
                Line("asked", _values(shown, lambda one: one.asked), colors.soft, dashed=True),
                Line("acknowledged", _values(shown, lambda one: one.achieved), colors.series[0]),
            ),
        ),
        Plot(
            "Latency p99 until handled",
            "ms, logarithmic",
            (Line("p99", _values(shown, lambda one: one.p99_s and one.p99_s * 1e3), colors.series[0]),),
            log=True,
        ),
        Plot(
            "Depths",
            "events",
            (
                Line("publishes in flight", _values(shown, lambda one: one.in_flight), colors.series[2], area=True),
                Line("pending deliveries", _values(shown, lambda one: one.pending), colors.series[1], area=True),
                Line("dead letters", _values(shown, lambda one: one.dead_lettered), colors.series[4]),
            ),
        ),
    )
    times = [round(moment.at_s, 2) for moment in shown]
    span = (times[0], max(times[-1], times[0] + 1))
    shading = [Shading(one.name, one.begun_s, one.ended_s) for one in windows(moments)]
    st.echarts_chart(
        over_time(plots, times, span, shading, None, colors),
        height=height(len(plots), heat=False),
        key="live",
        alt="Rates, latency p99 and depths since the run began; the figures above tell the last second.",
    )


def _values(shown: Sequence[Moment], of: Callable[[Progress], float | None]) -> list[float | None]:
    found = [of(moment.progress) for moment in shown]
    return [None if value is None else round(value, 3) for value in found]


def _figures(now: Progress) -> Iterator[KeyFigure]:
    yield KeyFigure("Rate", rate(round(now.achieved)), "", f"{rate(round(now.asked))} asked")
    yield KeyFigure("Acknowledged", format_count(now.acknowledged), "events", f"{format_count(now.handled)} handled")
    value, _, unit = latency(now.p99_s).partition(" ") if now.p99_s is not None else (NOTHING, "", "")
    yield KeyFigure("p99 until handled", value, unit, "of the last quarter second")
    pending = NOTHING if now.pending is None else format_count(now.pending)
    yield KeyFigure("Pending", pending, "deliveries", f"{format_count(now.in_flight)} publishes in flight")
    yield KeyFigure(
        "Loop lag", latency(now.lag_s).partition(" ")[0], latency(now.lag_s).partition(" ")[2], "bench's own"
    )


def _so_far(now: Progress) -> Iterator[tuple[str, str]]:
    """What may be said before the verdict, as a mark and a sentence."""
    if now.phase not in ("setup", "steady"):
        yield "✓", "the load was begun: where a steady state was asked for, it held"
    if now.acknowledged:
        yield "✓", f"{many(now.acknowledged, 'event')} acknowledged"
    else:
        yield "?", "nothing acknowledged yet: a verdict without that is unknown"
    if now.refused:
        yield "·", f"{many(now.refused, 'call')} of publish refused, or of unknown outcome"
    if now.dead_lettered:
        yield "·", f"{many(now.dead_lettered, 'dead letter')}"
    if now.abandoned:
        yield "·", f"{many(now.abandoned, 'abandoned handler')}, which ignored cancellation and run on"
    for one in now.faults:
        if one.state != "planned":
            mark, what = ("✓", f"bit {format_count(one.hits)} times") if one.hits else ("?", "has not bitten")
            yield mark, f"fault {one.id} {what}"
    yield "·", "loss, order and duplicates are judged once everything is healed and drained"
