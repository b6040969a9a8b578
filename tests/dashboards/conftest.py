"""What tests of the dashboard share: runs to look at."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.dashboards import made_runs


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, which no test changes."""
    return made_runs.all_runs(tmp_path_factory.mktemp("dashboard"))
