"""How long was waited for a processor: whoever waits is slow, and is not to blame for it."""

from __future__ import annotations

from pathlib import Path

SCHEDULED = Path("/proc/thread-self/schedstat")


def waited_ns() -> int:
    """For how long this thread could have run and was given no processor, since it began; 0 where nobody tells, as
    outside of Linux."""
    try:
        return int(SCHEDULED.read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
