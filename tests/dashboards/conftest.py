"""What tests of the dashboard share: runs to look at."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.dashboards import made_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, which no test changes."""
    return made_runs.all_runs(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(autouse=True)
def own_main() -> Iterator[None]:
    """Streamlit's AppTest leaves its script as `__main__`, which every process spawned later would run."""
    main = sys.modules["__main__"]
    yield
    sys.modules["__main__"] = main
