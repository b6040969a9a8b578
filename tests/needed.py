"""What tests need of the machine: where a program is, and what its absence means."""

import os
from pathlib import Path

import pytest

from squall.chaos.installed import where


def is_strict() -> bool:
    """Whether something missing on this machine is an error (continuous integration) instead of a skip."""
    return os.environ.get("SQUALL_STRICT") == "1"


def needed(program: str, get: str) -> Path:
    """Where the program is. Without it the test is skipped, or fails when strict, and says how to get it."""
    path = where(program)
    if path is None:
        reason = f"{program} is not installed: {get}"
        if is_strict():
            pytest.fail(reason)
        pytest.skip(reason)
    return path
