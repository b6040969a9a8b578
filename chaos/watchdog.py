"""Waits beside a run, in a process of its own, and heals what the run left broken if it is gone without having done so.

As a program it imports nothing of squall until then: it has to be there at once, and costs a run next to nothing.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path

LOOK_S = 1.0


class Watchdog:
    """The process that watches this one, whose run has this folder. A Ctrl-C at the terminal does not reach it."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(folder.resolve()), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def dismiss(self) -> None:
        """The run has healed what it could itself."""
        self._process.kill()
        self._process.communicate()


def watch(folder: Path, runner: int) -> None:
    """Wait for the runner's end, then heal what lies in the folder, and log it there.

    Its end closes the pipe to this process; where something that it forked still has the other end, this process has
    another parent."""
    while os.getppid() == runner and not select.select([sys.stdin], [], [], LOOK_S)[0]:
        pass
    if not any(folder.glob("undo-*.json")):
        return
    import asyncio
    import logging

    from squall.chaos.catalogue import load_catalogue
    from squall.chaos.heal import heal
    from squall.chaos.run_log import logged_to

    log = logging.getLogger("squall")
    with logged_to(folder):
        try:
            for one in asyncio.run(heal([folder], load_catalogue().faults)):
                log.warning("the run is gone; fault %s (%s): %s %s", one.fault, one.what, one.state, one.why)
        except Exception:
            log.exception("the run is gone, and its faults cannot be healed: squall heal %s", folder)


if __name__ == "__main__":
    watch(Path(sys.argv[1]), int(sys.argv[2]))
