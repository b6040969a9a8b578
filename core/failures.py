"""What fails in a subscription is told in the log: the first failed attempt and the first dead letter as warnings."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from squall.core.clock import Clock
from squall.core.delivery import Ack, Decision, Nak
from squall.core.errors import Retry, text_of
from squall.core.event import Event

QUIET_NS = 600_000_000_000
MAX_CHARACTERS = 500

FAILED_EVENT = "failed_event_id"
"""The name by which records of failed attempts and dead letters carry the event's id, for whoever filters logs."""


class FailureLog:
    """Of one subscription. The first is a warning, and the next after QUIET_NS without any; all between are logged at
    level DEBUG: a flood of failures must not become one of the log's."""

    def __init__(self, label: str, clock: Clock, logger: logging.Logger, scrub: Callable[[str], str]) -> None:
        self._label, self._clock, self._logger, self._scrub = label, clock, logger, scrub
        self._quiet_until_ns = [0, 0]  # of attempts that may be made again, and of dead letters

    def add(self, event: Event, error: BaseException, decision: Decision | None) -> None:
        """An event's attempt failed, or it found no room, and this was decided; None: somebody else decides."""
        dead = not isinstance(decision, Ack | Nak | None)
        level = logging.DEBUG
        if dead or not isinstance(error, Retry):  # which is a handler's wish, and nothing wrong with it
            now_ns = self._clock.monotonic_ns()
            if now_ns >= self._quiet_until_ns[dead]:
                level = logging.WARNING
            self._quiet_until_ns[dead] = now_ns + QUIET_NS
        if not self._logger.isEnabledFor(level):
            return
        further = "; further ones are counted, and logged at level DEBUG, until there was none for 10 minutes"
        self._logger.log(
            level,
            "subscription %s: event %s (%s) failed: %s; %s%s",
            self._label,
            event.id,
            event.type,
            described(error, self._scrub),
            _consequence(decision),
            further if level == logging.WARNING else "",
            extra={FAILED_EVENT: event.id},
        )


def described(error: BaseException, scrub: Callable[[str], str]) -> str:
    """An error's type and text without secrets, cut to MAX_CHARACTERS, and where it was raised outside of squall."""
    text = scrub(f"{type(error).__name__}: {text_of(error)}")[:MAX_CHARACTERS]
    places = [
        f" ({frame.f_code.co_filename}:{line}, in {frame.f_code.co_name})"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not str(frame.f_globals.get("__name__")).startswith("squall.")
    ]
    return text + "".join(places[-1:])


def _consequence(decision: Decision | None) -> str:
    if decision is None:
        return "the server decides whether it is delivered again"
    if isinstance(decision, Nak):
        return f"it is delivered again in {decision.delay_s:.3g} s"
    if isinstance(decision, Ack):
        return "it was to be delivered at most once, and is lost to this subscription"
    return f"it is among the dead letters now, reason {decision.reason}"
