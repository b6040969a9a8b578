"""What tests need of the machine: where a program is, what its absence means, and how long may be taken."""

import os
from pathlib import Path

import pytest

from squall.chaos.installed import where

NOT_INSTALLED = " is not installed: "
"""What a skip says between the program that it wanted and how to get it."""


def is_strict() -> bool:
    """Whether something missing on this machine is an error (continuous integration) instead of a skip."""
    return os.environ.get("SQUALL_STRICT") == "1"


def fuzzing_s() -> float:
    """For how many seconds the tests that make up input go on, by SQUALL_FUZZ_S; 0, if they take their usual share."""
    return float(os.environ.get("SQUALL_FUZZ_S", "0"))


def needed(program: str, get: str) -> Path:
    """Where the program is. Without it the test is skipped, or fails when strict, and says how to get it."""
    path = where(program)
    if path is None:
        reason = f"{program}{NOT_INSTALLED}{get}"
        if is_strict():
            pytest.fail(reason)
        pytest.skip(reason)
    return path
