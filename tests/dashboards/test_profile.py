"""The profile of a run on its page: figures, and where its files are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.chaos.report import folders
from tests.dashboards import made_runs
from tests.dashboards.test_pages import opened, said

from squall.chaos.profile import FIGURES, read_figures
from squall.core.errors import StoreFileError

pytestmark = pytest.mark.slow  # each page is Streamlit's whole script


def test_a_profiled_run_tells_where_its_time_went(tmp_path: Path) -> None:
    """How late the loop was, and for each subscriber waiting against handling; another run says nothing of it."""
    folder = made_runs.real_run(tmp_path, profile=True)
    told = said(opened(tmp_path / "runs", "overview", run="short"))
    time = r"[\d.,]+ (ns|µs|ms|s)"
    assert re.search(rf"The event loop was late by {time} \(p50\), {time} \(p99\), {time} \(longest\)\.", told)
    assert str(folder / "profile.html") in told
    figures = read_figures(folder)
    assert figures is not None
    for name, one in figures.subscribers.items():
        assert re.search(rf"{name} {one.attempts:,} ({time} ){{4}}", told), name
    assert set(figures.subscribers) == {"billing", "audit"}
    made_runs.by_hand(tmp_path / "runs", "plain", folders.valid_folder)
    assert "Profile" not in said(opened(tmp_path / "runs", "overview", run="plain"))


def test_a_profile_that_is_none_is_told(tmp_path: Path) -> None:
    """With its file."""
    (tmp_path / FIGURES).write_text('{"loop_lag": 3}', encoding="utf-8")
    with pytest.raises(StoreFileError, match=r"profile\.json: is not a profile that squall wrote"):
        read_figures(tmp_path)
