"""The page of two runs side by side, with what differs marked."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import streamlit as st

from squall.chaos.report.measured import Measured
from squall.chaos.report.page import RunContents
from squall.chaos.run_folder import find_run, list_runs, run_name
from squall.core.dashboard import Look
from squall.dashboards.charts import Line, Plot, height, middles, over_time, shadings
from squall.dashboards.differences import differences, scenario_diff
from squall.dashboards.markup import plain, show_markup
from squall.dashboards.reading import contents
from squall.dashboards.swept import by_hand
from squall.dashboards.tones import Tones, tones


def show_compare(look: Look) -> None:
    """Those that the URL names as a and b; else the chosen one and the one before it of its scenario."""
    folders = list_runs(look.runs)
    if len(folders) < 2:
        st.html("<h1>Compare</h1>")
        show_markup("one_run.html.j2")
        return
    names = [run_name(folder) for folder in folders]
    b = look.run
    a = find_run(look.runs, st.query_params["a"]) if "a" in st.query_params else _before(b, folders)
    b = find_run(look.runs, st.query_params["b"]) if "b" in st.query_params else b
    both = contents(a), contents(b)
    st.html("<h1>Compare</h1>")
    left, right = st.columns(2)
    with left:
        _side("a", names, a)
    with right:
        _side("b", names, b)
    if a.parent.name != b.parent.name and "a" not in st.query_params:
        show_markup("other_scenario.html.j2", scenario=b.parent.name)
    _both(*both, run_name(a), run_name(b))


def _before(folder: Path, folders: list[Path]) -> Path:
    """The run before it of its scenario; without one, any other of that; without one, any other."""
    others = [one for one in folders if one.name != folder.name]
    own = [one for one in others if one.parent.name == folder.parent.name]
    return next((one for one in own if one.name < folder.name), (own or others)[0])


def newest_pair(runs: Path) -> Path:
    """The newest run that there is another one of its scenario to compare with, and that no sweep has made; where there
    is none, the newest. There must be a run."""
    folders = list_runs(runs)
    others = by_hand(runs, folders)
    scenarios = Counter(folder.parent.name for folder in others)
    return next((folder for folder in others if scenarios[folder.parent.name] > 1), folders[0])


def _side(side: str, names: list[str], chosen: Path) -> None:
    name = run_name(chosen)
    key = f"{side} {name}"

    def choose() -> None:
        st.query_params[side] = st.session_state[key]

    st.selectbox(f"Run {side}", names, names.index(name) if name in names else 0, key=key, on_change=choose)


def _both(a: RunContents, b: RunContents, first: str, second: str) -> None:
    groups = differences(a, b)
    show_markup(
        "compare.html.j2", groups=groups, a=first, b=second, marked=sum(bool(r.change) for g in groups for r in g.rows)
    )
    if a.measured is not None and b.measured is not None:
        _charts(a.measured, b.measured, tones())
    show_markup("diff.html.j2", lines=[(line, _kind(line)) for line in scenario_diff(a, b)])


def _charts(a: Measured, b: Measured, colors: Tones) -> None:
    sides = (("a", a, colors.series[1]), ("b", b, colors.series[0]))
    rates = tuple(
        Line(name, [count * 1e9 / one.axis.bucket_ns for count in one.publishes.ok], color, times_s=middles(one.axis))
        for name, one, color in sides
    )
    slowest = tuple(Line(name, _slowest(one), color, times_s=middles(one.axis)) for name, one, color in sides)
    plots = (
        Plot("Acknowledged", "events/s", rates),
        Plot("Latency p99 until handled, slowest subscriber", "ms, logarithmic", slowest, log=True),
    )
    span = (
        min(one.axis.seconds(one.axis.begun_ns) for one in (a, b)),
        max(one.axis.seconds(one.axis.ended_ns) for one in (a, b)),
    )
    st.html("<h2>Over time</h2><p class='intro'>Zero is the start of each one's load. Shaded: the faults of b.</p>")
    st.echarts_chart(
        over_time(plots, (), span, shadings(b.faults, b.axis), None, colors),
        height=height(len(plots), heat=False),
        key="compare",
        alt="Acknowledged events per second and latency p99 of both runs over time. The tables above have the sums.",
    )


def _slowest(measured: Measured) -> list[float | None]:
    found = []
    for values in zip(*(one.p99_s for one in measured.subscribers), strict=True):
        most = max((value for value in values if value is not None and value > 0), default=None)
        found.append(None if most is None else round(most * 1e3, 4))
    return found


def _kind(line: str) -> str:
    """The class of a diff's line."""
    if line.startswith(("+++", "---", "@@")):
        return "where"
    return {"+": "added", "-": "removed"}.get(plain(line)[:1], "same")
