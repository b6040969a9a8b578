"""What `squall serve` has in memory when it begins to serve is set aside from the garbage collector."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.freezing import TELLING, set_aside

PROCESS = f"""
import runpy
{TELLING}
sys.argv = ["squall", "serve", "--port", "0"]
runpy.run_module("squall", run_name="__main__")
"""


def test_it_is_set_aside_once_everything_is_imported_and_before_clients_come(tmp_path: Path) -> None:
    """Else each full pass of the collector would hold up all clients."""
    command = [sys.executable, "-c", PROCESS]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
        finally:
            process.kill()
    assert set_aside(first) > 10_000, first  # else the line that says where it serves
