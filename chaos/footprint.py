"""What a process holds: memory, open handles and threads, as Linux tells them in /proc."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from squall.core.errors import ConfigError

PROC = Path("/proc")
KIB = 1024


class Footprint(NamedTuple):
    """`memory` in bytes: what is the process's alone and in no file, in swap too. `handles`: files, sockets and pipes
    that are open."""

    memory: int
    handles: int
    threads: int


def check_footprints() -> None:
    """Raises ConfigError where nobody tells what a process holds: before anything is started."""
    if not (PROC / "self" / "status").exists():
        raise ConfigError(
            "growth is judged by what /proc tells of a process, and there is none here: "
            "run it on Linux, or leave out --soak and growth"
        )


def footprint(pid: int) -> Footprint | None:
    """What the process holds now; None where it is gone."""
    folder = PROC / str(pid)
    try:
        lines = (folder / "status").read_text(encoding="ascii", errors="replace").splitlines()
        handles = sum(1 for _ in (folder / "fd").iterdir())
    except OSError:
        return None
    told = {name: value.split() for name, _, value in (line.partition(":") for line in lines)}
    if "RssAnon" not in told:  # a process that has ended and was not waited for yet
        return None
    memory = KIB * (int(told["RssAnon"][0]) + int(told["VmSwap"][0]))
    return Footprint(memory, handles, int(told["Threads"][0]))
