"""Which processes there are still, of a run that was made in a folder."""

from __future__ import annotations

import time
from pathlib import Path

GONE_S = 60.0


def processes(folder: Path, *words: str) -> dict[int, str]:
    """Pid and command line of all whose command line names the folder, and the words."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if all(word in line for word in (str(folder), *words)):
            found[int(path.parent.name)] = line
    return found


def all_gone(folder: Path) -> bool:
    """Wait until none is left; False when that takes too long."""
    deadline = time.monotonic() + GONE_S
    while processes(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
