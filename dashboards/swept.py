"""Which runs are runs of a sweep: there are many of them, and lists of runs are about the others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from squall.chaos.run_folder import run_name
from squall.chaos.sweep.file import SWEEP, list_sweeps, load_sweep
from squall.core.errors import StoreFileError


def swept(runs: Path) -> set[str]:
    """The names of all runs that sweeps have made."""
    folders = [(str(folder), (folder / SWEEP).stat().st_mtime_ns) for folder in list_sweeps(runs)]
    return {run for folder, changed in folders for run in _runs_of(folder, changed)}


@st.cache_resource(max_entries=1000, show_spinner=False)
def _runs_of(folder: str, changed: int) -> Sequence[str]:
    try:
        return [point.run for point in load_sweep(Path(folder)).points]
    except StoreFileError:  # the page of sweeps says so
        return []


def by_hand(runs: Path, folders: Sequence[Path]) -> list[Path]:
    """Those that no sweep has made."""
    of_sweeps = swept(runs)
    return [folder for folder in folders if run_name(folder) not in of_sweeps]
