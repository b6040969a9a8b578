"""What tests of the dashboard share: runs to look at, and the spans of a service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.dashboards import made_runs, made_spans

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs, which no test changes."""
    return made_runs.all_runs(tmp_path_factory.mktemp("dashboard"))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a service's tracing plugin has written, which no test changes."""
    return made_spans.service_spans(tmp_path_factory.mktemp("service") / "spans")


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[BrowserContext]:
    """One headless chromium for all tests of a module, which loads the same dashboard again and again."""
    from tests.browser import keeping  # playwright is heavy, and most tests look at no page

    with keeping(chromium) as browser:
        yield browser
