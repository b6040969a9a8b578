"""The page of all runs, newest first: what came out, how much, and how slow it was over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import streamlit as st

from squall.chaos.check.output import load_verdict
from squall.chaos.check.verdict import Verdict
from squall.chaos.figures import latency
from squall.chaos.live_file import read_live
from squall.chaos.report.measured import Measured
from squall.chaos.report.view import MARKS
from squall.chaos.report.words import NOTHING
from squall.chaos.run_folder import VERDICT, list_runs, run_name
from squall.core.dashboard import Look
from squall.core.errors import SquallError, StoreFileError
from squall.core.units import format_count
from squall.dashboards.choices import any_of
from squall.dashboards.live_data import EVERY_S, NEWEST, PHASES, going_on
from squall.dashboards.markup import show_markup
from squall.dashboards.never_handled import never_handled
from squall.dashboards.reading import contents
from squall.dashboards.swept import by_hand

PER_PAGE = 25
POINTS = 60
IDLE_S = 5.0
"""How often it looks for the first run, while none goes on."""
STATES = {**MARKS, "unfinished": "·", "unreadable": "!", "running": "▸"}


@dataclass(frozen=True)
class Row:
    """One run. `lost` and `p99` are texts, the latter of what was handled; `unhandled`: how many deliveries never were;
    `spark` is the p99 over time as a polygon, in percent of a box."""

    run: str
    state: str
    mark: str
    headline: str
    when: str
    acknowledged: str = NOTHING
    lost: str = NOTHING
    p99: str = NOTHING
    unhandled: int = 0
    spark: str = ""


@dataclass(frozen=True)
class Filters:
    """Which runs are looked at; None: any. `swept`: those that sweeps have made, too."""

    scenario: str | None
    state: str | None
    swept: bool

    def found(self, folders: Sequence[Path]) -> list[Path]:
        """Those of them."""
        return [
            folder
            for folder in folders
            if self.scenario in (None, folder.parent.name) and (self.state is None or state_of(folder) == self.state)
        ]

    @property
    def query(self) -> dict[str, str]:
        """As they stand in the address, but for `swept`."""
        given = {"scenario": self.scenario, "verdict": self.state}
        return {name: one for name, one in given.items() if one is not None}


def show_runs(look: Look) -> None:
    """A table, so many runs a page; it follows what goes on, and finds what begins."""
    everything = list_runs(look.runs)
    st.html("<h1>Runs</h1>")
    first, second = st.columns(2)
    with first:
        scenario = any_of("Scenario", sorted({folder.parent.name for folder in everything}), "scenario")
    with second:
        state = any_of("Verdict", list(STATES), "verdict")
    filters = Filters(scenario, state, swept=st.query_params.get("sweeps") == "shown")
    others = filters.found(everything if filters.swept else by_hand(look.runs, everything))
    hidden = 0 if filters.swept else len(filters.found(everything)) - len(others)
    ticking = EVERY_S if any(state_of(folder) == "running" for folder in everything[:NEWEST]) else IDLE_S
    st.fragment(_table, run_every=ticking)(look.runs, everything, others, paged(others), filters, hidden)


def _table(
    runs: Path, everything: list[Path], found: list[Path], page: Sequence[Path], filters: Filters, hidden: int
) -> None:
    if list_runs(runs) != everything:
        st.rerun()  # there is another one since
    rows = [row_of(folder) for folder in page]
    show_markup("runs.html.j2", rows=rows, total=len(found), everything=len(everything), filters=filters, hidden=hidden)


@st.cache_resource(max_entries=20_000, show_spinner=False)
def _judged(verdict: str, changed: int) -> str:
    try:
        return load_verdict(Path(verdict)).state
    except StoreFileError:
        return "unreadable"


def state_of(folder: Path) -> str:
    """What the list is filtered by, told by the run's verdict alone: of what else is damaged the row says so."""
    path = folder / VERDICT
    try:
        return _judged(str(path), path.stat().st_mtime_ns)
    except FileNotFoundError:
        return _unjudged(folder)


def _unjudged(folder: Path) -> str:
    try:
        return "running" if going_on(folder) else "unfinished"
    except StoreFileError:
        return "unreadable"


def paged(folders: Sequence[Path]) -> Sequence[Path]:
    """Those of the page that is looked at; which one is asked where there are several."""
    pages, page = -(-len(folders) // PER_PAGE), 1
    if pages > 1:
        page = int(st.number_input("Page", 1, pages, 1, key="page", bind="query-params", width=120))
    return folders[(page - 1) * PER_PAGE : page * PER_PAGE]


def row_of(folder: Path) -> Row:
    """What the list says of a run; one that is damaged says so, and keeps nobody from the others."""
    name = run_name(folder)
    try:
        if going_on(folder):
            return _running(folder)
        run = contents(folder)
    except (SquallError, OSError) as error:
        return Row(name, "unreadable", STATES["unreadable"], str(error).splitlines()[0], when(folder))
    if run.verdict is None:
        return Row(name, "unfinished", STATES["unfinished"], "ended before it was judged", when(folder))
    figures = run.measured and _figures(run.verdict, run.measured)
    acknowledged, lost, p99, line = figures or (NOTHING, NOTHING, NOTHING, "")
    state, missing = run.verdict.state, never_handled(run.verdict) or 0
    return Row(name, state, STATES[state], run.verdict.headline, when(folder), acknowledged, lost, p99, missing, line)


def _running(folder: Path) -> Row:
    moments = read_live(folder)
    told, acknowledged = "goes on now", NOTHING
    if moments:
        now = moments[-1].progress
        told, acknowledged = f"goes on now: {PHASES[now.phase]}", format_count(now.acknowledged)
    return Row(run_name(folder), "running", STATES["running"], told, when(folder), acknowledged)


def when(folder: Path) -> str:
    """`28 Nov 2026, 19:03 UTC`, from the folder's name."""
    try:
        return f"{datetime.strptime(folder.name[:15], '%Y%m%d-%H%M%S'):%-d %b %Y, %H:%M} UTC"
    except ValueError:
        return NOTHING


def _figures(verdict: Verdict, measured: Measured) -> tuple[str, str, str, str]:
    loss = next((one.figures for one in verdict.findings if one.name == "no_loss"), {})
    lost = format_count(loss["lost"]) if "lost" in loss else NOTHING
    slowest = max((one.latency.p99_s for one in measured.subscribers if one.latency), default=None)
    return (
        format_count(sum(measured.publishes.ok)),
        lost,
        NOTHING if slowest is None else latency(slowest),
        spark(measured),
    )


def spark(measured: Measured) -> str:
    """The slowest subscriber's p99 in each bucket, as a polygon."""
    per_bucket = [
        max((value for value in values if value is not None), default=None)
        for values in zip(*(one.p99_s for one in measured.subscribers), strict=True)
    ]
    step = -(-len(per_bucket) // POINTS) or 1
    values = [
        max((value for value in per_bucket[at : at + step] if value is not None), default=0.0)
        for at in range(0, len(per_bucket), step)
    ]
    most = max(values, default=0.0)
    if not most or len(values) < 2:
        return ""
    tops = [f"{100 * place / (len(values) - 1):.1f}% {96 - 96 * v / most:.1f}%" for place, v in enumerate(values)]
    return ", ".join(["0% 100%", *tops, "100% 100%"])
