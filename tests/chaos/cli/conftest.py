"""A run that lost events, made once, and a working directory for each test."""

from pathlib import Path

import pytest
from tests.chaos.cli.command import LOSS, squall, write


@pytest.fixture(scope="session")
def lossy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runs folder with one run in it: invalid, one cause. Tests must not change it."""
    folder = tmp_path_factory.mktemp("lossy")
    said = squall("run", str(write(folder / "loss.yaml", LOSS)), "--runs", str(folder / "runs"))
    assert said.code == 1, said.err + said.out
    return folder / "runs"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
