"""What tests of the dashboard share: runs to look at, and the spans of a service."""

from __future__ import annotations

import fcntl
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from streamlit.components.v2 import manifest_scanner
from tests.dashboards import made_runs, made_spans

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext


@pytest.fixture(scope="session", autouse=True)
def packages_are_looked_through_once() -> Iterator[None]:
    """For components of Streamlit's: each AppTest reads what all installed packages say of themselves, for a fifth of a
    second of the processor."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", once)
        yield


@pytest.fixture(scope="session")
def runs(common: Path) -> Path:
    """A folder of runs, which no test changes; one for all workers, since some of them are real runs."""
    folder = common / "dashboard"
    folder.mkdir(exist_ok=True)
    made = folder / "made"
    with (folder / "turn").open("w", encoding="utf-8") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        if not made.exists():
            made.write_text(str(made_runs.all_runs(Path(tempfile.mkdtemp(dir=folder)))), encoding="utf-8")
        return Path(made.read_text(encoding="utf-8"))


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
