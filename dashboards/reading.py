"""Run folders, read once and kept for as long as nothing in them changes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import streamlit as st

from squall.chaos.history import open_history
from squall.chaos.history.reader import MANIFEST
from squall.chaos.report.page import RunContents, read_run
from squall.chaos.run_folder import ENVIRONMENT, VERDICT

HISTORY = "history"


def stamp(folder: Path) -> int:
    """Changes with what is in the folder: when its verdict came, when chunks of its history did."""
    times = [(folder / name) for name in (ENVIRONMENT, VERDICT, HISTORY, f"{HISTORY}/{MANIFEST}")]
    return max((path.stat().st_mtime_ns for path in times if path.exists()), default=0)


def contents(folder: Path) -> RunContents:
    """What a report is made of. Raises StoreFileError, or ConfigError where the scenario cannot be read."""
    return _contents(str(folder), stamp(folder))


@st.cache_resource(max_entries=12, show_spinner="Reading the run")
def _contents(folder: str, changed: int) -> RunContents:
    return read_run(Path(folder))


@contextmanager
def history(folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """The run's history as views. Raises StoreFileError."""
    with (
        TemporaryDirectory(prefix="squall-dashboard-") as spill,
        open_history(folder / HISTORY, Path(spill)) as db,
    ):
        yield db


def has_history(folder: Path) -> bool:
    """Whether anything can be asked of it."""
    return (folder / HISTORY / MANIFEST).exists()
