"""What a process of Locust has imported is set aside from the garbage collector before it does anything."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.freezing import TELLING, set_aside

PROCESS = f"""
import locust
{TELLING}
from squall.plugins.locust.process import main
sys.argv = ["process", "no errand"]
main()
"""


@pytest.mark.slow  # it imports all of Locust
def test_it_is_set_aside_once_everything_is_imported() -> None:
    """Else full passes of the collector would make its users late."""
    done = subprocess.run([sys.executable, "-c", PROCESS], capture_output=True, text=True, check=False)
    assert set_aside(done.stdout) > 10_000, done.stderr
