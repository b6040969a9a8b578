"""What a process of Locust has imported is set aside from the garbage collector before it does anything."""

from __future__ import annotations

import subprocess
import sys

import pytest

TELLING = """
import locust, gc, sys
own = gc.freeze
def freeze():
    own()
    print("set aside:", gc.get_freeze_count(), flush=True)
gc.freeze = freeze
from squall.plugins.locust.process import main
sys.argv = ["process", "no errand"]
main()
"""


@pytest.mark.slow  # it imports all of Locust
def test_it_is_set_aside_once_everything_is_imported() -> None:
    """Else full passes of the collector would make its users late."""
    done = subprocess.run([sys.executable, "-c", TELLING], capture_output=True, text=True, check=False)
    assert done.stdout.startswith("set aside:"), done.stderr
    assert int(done.stdout.removeprefix("set aside:")) > 10_000
