"""Everything squall raises on purpose.

SquallError
├── ConfigError          a file or option is wrong: every problem found, exit 2
├── WiringError          a plugin raised, or asks for what is not offered, while a router was wired: exit 2
├── ServerError          a server that a router does not start without is not there, or refuses: exit 4
├── PublishError         carries `outcome`: "fail" (surely not stored) or "info" (unknown)
│   ├── InvalidEvent     type, payload, priority or metadata is not acceptable; nothing was stored
│   ├── Refused          a rule of the operator's said no (rate limit, fault); nothing was stored
│   ├── Conflict         an event_id was given before, to another event; nothing was stored
│   ├── Overflow         no room in a subscription within the time allowed; nothing was stored
│   └── StoreError       the store failed
├── SubscriptionError    unknown subscription, changed pattern of a durable name, undeclarative filter
├── OutdatedToken        what would be redriven is not what the dry run showed; nothing was redriven
├── NotRunning           the router is not started, is stopping, or has stopped
├── AlreadyRunning       the router runs, or is still stopping, and cannot be started
├── WrongThread          publish_sync on the loop's own thread; an await in another loop or thread than the router's
└── StoreFileError       a database file that is locked, foreign, corrupt or of another version: exit 4

Retry and Reject are raised by handlers to settle a delivery, TimedOut by those that hand it on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Outcome = Literal["ok", "fail", "info"]
MAX_DELAY_S = 31_536_000


class SquallError(Exception):
    """Base of every error that squall raises on purpose."""


@dataclass(frozen=True)
class Problem:
    """One mistake in a file: where it stands, what is wrong, what was expected.

    where may be empty, where the message says it itself. line and column count from 1; 0 where the place is not known.
    excerpt is the offending source line.
    """

    where: str
    message: str
    line: int = 0
    column: int = 0
    excerpt: str = ""
    hint: str = ""
    width: int = 1

    def __str__(self) -> str:
        place = f"{self.where}:{self.line}:{self.column}" if self.line else self.where
        text = f"{place}: {self.message}" if place else self.message
        if not self.excerpt:
            return f"{text} ({self.hint})" if self.hint else text
        caret = " " * (self.column - 1) + "^" * max(1, self.width)
        return f"{text}\n{self.line:5d} | {self.excerpt}\n      | {caret}{' ' + self.hint if self.hint else ''}"


class ConfigError(SquallError):
    """Files or options are wrong; `problems` lists all of them."""

    def __init__(self, problems: Sequence[Problem] | str) -> None:
        self.problems: tuple[Problem, ...] = (Problem("", problems),) if isinstance(problems, str) else tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


class WiringError(SquallError):
    """A router cannot be composed from its plugins."""


class ServerError(SquallError):
    """A server that a router does not start without cannot be used now."""


class PublishError(SquallError):
    """A publish that was not acknowledged."""

    def __init__(self, message: str, outcome: Outcome = "fail") -> None:
        super().__init__(message)
        self.outcome: Outcome = outcome


class InvalidEvent(PublishError):
    """The event itself is not acceptable."""


class Refused(PublishError):
    """The operator's rules refuse the event now; `retry_after_s` says when it may be tried again."""

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Conflict(PublishError):
    """The caller's id is another event's."""


class Overflow(PublishError):
    """A subscription had no room."""


class StoreError(PublishError):
    """The store failed; `outcome` says whether the events may have been stored."""


class StoreFileError(SquallError):
    """A store's file cannot be used as it is."""


class SubscriptionError(SquallError):
    """A subscription that does not exist, or cannot be what is asked."""


class OutdatedToken(SquallError):
    """The dead letters that would be redriven are others than those that the dry run showed."""


class NotRunning(SquallError):
    """The router takes no work now."""


class AlreadyRunning(SquallError):
    """The router is started already."""


class WrongThread(SquallError):
    """A call in a thread or event loop from which it would never return: one that blocks on the router's own, or one
    that is awaited in another."""


def text_of(error: object) -> str:
    """What it says of itself, also where it cannot: somebody else's error must not break who tells it."""
    try:
        return str(error)
    except Exception as worse:  # noqa: BLE001  told in its place
        return f"{type(error).__name__}, whose text cannot be read ({type(worse).__name__})"


def checked_delay_s(delay_s: float) -> float:
    """Raises TypeError or ValueError for what is no number of seconds."""
    if not isinstance(delay_s, int | float):
        raise TypeError(f"delay_s: expected a number of seconds, got {type(delay_s).__name__}")
    if not 0 <= delay_s <= MAX_DELAY_S:
        raise ValueError(f"delay_s: expected 0 to {MAX_DELAY_S} seconds, got {delay_s}")
    return float(delay_s)


class Retry(Exception):
    """Raised by a handler: deliver this event again, after delay_s if given, else by the settle policy."""

    def __init__(self, delay_s: float | None = None) -> None:
        if delay_s is not None:
            delay_s = checked_delay_s(delay_s)  # what is none raises within the handler: a failed attempt
        super().__init__("retry" if delay_s is None else f"retry in {delay_s} s")
        self.delay_s = delay_s


class TimedOut(Exception):
    """Raised by a handler that hands its events on: who handles this one took too long. It counts as a timeout."""


class Reject(Exception):
    """Raised by a handler: this event cannot be handled, dead-letter it now."""

    def __init__(self, reason: str = "rejected") -> None:
        self.reason = text_of(reason)
        super().__init__(self.reason)
