"""What happens rarely in a store happens often here."""

import pytest

from squall.plugins.sqlite import checkpoints
from squall.plugins.sqlite import store as store_module


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints within a short workload, and no long waits, for company or before a file is tried again."""
    monkeypatch.setattr(checkpoints, "PAGES", 8)
    monkeypatch.setattr(store_module, "SETTLE_WITHIN_S", 0.0005)
    monkeypatch.setattr(store_module, "REOPEN_AFTER_S", 0.001)
    monkeypatch.setattr(store_module, "REOPEN_AT_MOST_AFTER_S", 0.002)
