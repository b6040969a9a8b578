"""What a run of the tests says of those that it skipped: at its end, counted, with the way to get what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_what_was_not_tested_is_told_last(tmp_path: Path) -> None:
    """After pytest's own list, where nobody scrolls up to."""
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/plugins/serve/test_tls.py"]
    environment = {**os.environ, "PATH": str(tmp_path), "SQUALL_STRICT": "0", "NO_COLOR": "1"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    _, loudly, end = ran.stdout.rpartition("NOT TESTED")
    assert loudly, ran.stdout
    skipped = re.search(r"(\d+) skipped", end)
    assert skipped is not None, end
    assert f"tests skipped: {skipped[1]}. openssl is not installed: apt-get install openssl" in end
    assert "squall doctor" in end
    assert "short test summary info" not in end
