"""The page of sweeps: where each one's knee is; of one of them the curve, its runs, and what was not sent in time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import streamlit as st

from squall.chaos.report.sweep_page import curve, heading, interval_text, key_figures, swept_row, value_text
from squall.chaos.report.words import NOTHING, share
from squall.chaos.run_folder import list_runs, run_name
from squall.chaos.sweep.file import Sweep, find_sweep, list_sweeps, load_sweep
from squall.core.dashboard import Look
from squall.core.errors import StoreFileError
from squall.core.units import format_count
from squall.dashboards import assets
from squall.dashboards.markup import show_markup
from squall.dashboards.runs import paged, when


@dataclass(frozen=True)
class Row:
    """A sweep in the list: what came out, its knee and the interval of that, how many runs it has."""

    name: str
    tone: str
    word: str
    what: str
    when: str
    sentence: str
    knee: str = NOTHING
    interval: str = ""
    runs: str = NOTHING


@dataclass(frozen=True)
class Behind:
    """A run whose generator could not keep up: how much of what was asked for it sent in time."""

    value: str
    sent: str


def show_sweeps(look: Look) -> None:
    """The sweep that the URL names, or the list of them."""
    folders = list_sweeps(look.runs)
    name = st.query_params.get("sweep")
    if folders and name is not None:
        _one(look, find_sweep(folders, name))
        return
    st.html("<h1>Sweeps</h1>")
    if not folders:
        show_markup("no_sweeps.html.j2")
        return
    show_markup("sweeps.html.j2", rows=[row_of(folder) for folder in paged(folders)], total=len(folders))


def row_of(folder: Path) -> Row:
    """What the list says of a sweep; one that is damaged says so, and keeps nobody from the others."""
    try:
        sweep = load_sweep(folder)
    except StoreFileError as error:
        return Row(folder.name, "unreadable", "unreadable", folder.name, when(folder), str(error).splitlines()[0])
    word, tone = heading(sweep)
    return Row(
        folder.name,
        tone,
        word,
        f"{sweep.scenario} over {sweep.key}",
        when(folder),
        sweep.sentence,
        NOTHING if sweep.knee is None else value_text(sweep, sweep.knee.at),
        interval_text(sweep),
        format_count(len(sweep.points)),
    )


def _one(look: Look, folder: Path) -> None:
    sweep = load_sweep(folder)
    word, tone = heading(sweep)
    st.html(f"<style>{assets.plot_style()}</style>")
    show_markup(
        "one_sweep.html.j2",
        sweep=sweep,
        when=when(folder),
        word=word,
        tone=tone,
        figures=key_figures(sweep),
        curve=curve(sweep),
        behind=_behind(sweep),
        rows=[swept_row(point) for point in sweep.points],
        there={run_name(run) for run in list_runs(look.runs)},
    )


def _behind(sweep: Sweep) -> list[Behind]:
    late = sorted((one for one in sweep.points if one.outcome == "generator"), key=lambda one: one.value)
    return [
        Behind(
            one.text,
            f"{format_count(one.achieved)} of {format_count(one.asked)} events ({share(one.achieved, one.asked)})",
        )
        for one in late
    ]
