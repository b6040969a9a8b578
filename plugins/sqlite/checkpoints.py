"""Carrying the log over into the database, away from every commit."""

from __future__ import annotations

from collections.abc import Callable
from logging import Logger
from typing import Literal

import apsw

from squall.plugins.sqlite.threads import Link, Worker

PAGES = 1000


class Checkpoints:
    """Two steps, both PASSIVE so that neither holds anybody up. The first, in a thread of its own beside the commits,
    copies nearly all; the second, between two groups, the little that came meanwhile. Only after the second is all of
    the log carried over, and the next group begins it anew.
    """

    def __init__(self, link: Link, logger: Logger) -> None:
        self._link = link
        self._logger = logger
        self._state: Literal["idle", "copying", "due"] = "idle"
        self._at_pages = PAGES

    @property
    def is_due(self) -> bool:
        """Whether the second step is to be made before the next group."""
        return self._state == "due"

    def start(self, worker: Worker, log_pages: int, due: Callable[[], None]) -> None:
        """Make the first step when the log is long; then call due."""
        if self._state != "idle" or log_pages < self._at_pages:
            return
        self._state = "copying"

        def copied(_: object, error: Exception | None) -> None:
            self._report(error)
            self._state = "due"
            due()

        worker.submit(self._passive, copied)

    def finish(self, log_pages: int) -> None:
        """The second step; for the writer's thread. It never raises: nothing that is stored depends on it."""
        self._at_pages = log_pages + PAGES  # if another program's reader holds the log, no use in trying at once
        try:
            pages, copied = self._passive()
            if pages == copied:
                self._at_pages = PAGES
        except Exception as error:  # noqa: BLE001  reported
            self._report(error)
        self._state = "idle"

    def _passive(self) -> tuple[int, int]:
        with self._link.use() as db:
            return db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _report(self, error: Exception | None) -> None:
        if error is not None:
            self._logger.warning("a checkpoint failed, to be tried again; what is stored stays stored: %s", error)
