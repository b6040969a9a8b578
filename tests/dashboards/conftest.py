"""What tests of the dashboard share: runs to look at, and the spans of a service."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.dashboards import made_runs, made_spans


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, which no test changes."""
    return made_runs.all_runs(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a service's tracing plugin has written, which no test changes."""
    return made_spans.service_spans(tmp_path_factory.mktemp("service") / "spans")
