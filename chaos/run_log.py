"""What is logged while a run goes on: into its folder instead of over the progress, counted."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path

from squall.chaos.run_folder import LOG
from squall.core.drivers import is_told_elsewhere
from squall.core.failures import FAILED_EVENT

MAX_RECORDS = 10_000
_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s"


class RunLog(logging.FileHandler):
    """Writes warnings and errors, of anything in the process, to log.txt: the first MAX_RECORDS; `warning_count` and
    `error_count` count all. Failed attempts are not among them: faults are there to make them fail, and the verdict
    judges what becomes of them; nor what drivers say of lost connections, which plugins tell. What a scenario's own
    handlers raise, the bench logs itself."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / LOG, encoding="utf-8", delay=True)
        self.setLevel(logging.WARNING)
        self.setFormatter(logging.Formatter(_FORMAT, "%H:%M:%S"))
        self.warning_count = self.error_count = 0

    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, FAILED_EVENT) or is_told_elsewhere(record):
            return
        self.error_count += record.levelno >= logging.ERROR
        self.warning_count += record.levelno < logging.ERROR
        if self.warning_count + self.error_count <= MAX_RECORDS:
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's own name
        """A log that cannot be written is no reason to stop a run; what it counts is told all the same."""


@contextlib.contextmanager
def logged_to(folder: Path) -> Iterator[RunLog]:
    """Log into folder meanwhile."""
    log, root = RunLog(folder), logging.getLogger()
    root.addHandler(log)
    try:
        yield log
    finally:
        root.removeHandler(log)
        log.close()
