"""What fails again and again is logged once, with its trace; then it is counted, and said when it is over."""

from __future__ import annotations

from logging import Logger


class Trouble:
    """One thing of a subscription's that may fail for a while."""

    def __init__(self, logger: Logger, label: str) -> None:
        self._logger, self._label = logger, label
        self._times = 0

    def add(self, what: str) -> None:
        """It failed, with the exception that is being handled: the first is logged."""
        self._times += 1
        if self._times == 1:
            self._logger.exception("subscription %s: %s; logged once until that is over", self._label, what)

    def over(self, what: str) -> None:
        """It works: said where it had failed."""
        if self._times:
            self._logger.warning("subscription %s: %s, after it raised %d times", self._label, what, self._times)
            self._times = 0
