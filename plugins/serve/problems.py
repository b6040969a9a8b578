"""Errors as HTTP tells them: problem JSON (RFC 9457), with what became of the publish."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from squall.core.errors import (
    Conflict,
    InvalidEvent,
    NotRunning,
    Outcome,
    OutdatedToken,
    Overflow,
    PublishError,
    Refused,
    SquallError,
    SubscriptionError,
)
from squall.plugins.serve.errors import BadRequest

Headers = list[tuple[bytes, bytes]]
RETRY_OVERFLOW_S = 1.0
RETRY_STOPPING_S = 5.0
RETRY_CHANGING_S = 1.0


@dataclass(frozen=True)
class Problem:
    """One refusal. `error` names its kind as squall's errors do; `closes`: the rest of the request is not read; `told`
    are further headers, such as what would be allowed."""

    status: int
    error: str
    detail: str
    outcome: Outcome = "fail"
    retry_after_s: float | None = None
    closes: bool = False
    told: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def body(self) -> bytes:
        """The problem document."""
        after = {} if self.retry_after_s is None else {"retry_after_s": self.retry_after_s}
        shown = {"status": self.status, "title": self.error, "detail": self.detail, "outcome": self.outcome, **after}
        return msgspec.json.encode(shown)

    @property
    def headers(self) -> Headers:
        """Its headers, the length of the body among them."""
        found = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(self.body))]
        if self.retry_after_s is not None:
            found.append((b"retry-after", b"%d" % math.ceil(self.retry_after_s)))
        if self.status == 401:
            found.append((b"www-authenticate", b'Bearer realm="squall"'))
        if self.closes:
            found.append((b"connection", b"close"))
        return [*found, *self.told]


def problem_of(error: SquallError) -> Problem:
    """What HTTP says of an error of squall's."""
    name, text = type(error).__name__, str(error)
    if isinstance(error, BadRequest):
        return Problem(error.status, name, text, closes=error.status in (408, 413))
    if isinstance(error, Refused):
        status = 403 if error.retry_after_s is None else 429
        return Problem(status, name, text, retry_after_s=error.retry_after_s)
    for kind, status, retry_after_s in _STATUS:
        if isinstance(error, kind):
            return Problem(status, name, text, retry_after_s=retry_after_s)
    return Problem(503, name, text, outcome=error.outcome if isinstance(error, PublishError) else "info")


_STATUS: tuple[tuple[type[SquallError], int, float | None], ...] = (
    (InvalidEvent, 400, None),
    (Conflict, 409, None),
    (OutdatedToken, 409, None),
    (SubscriptionError, 409, RETRY_CHANGING_S),  # it is just being taken up or left
    (Overflow, 429, RETRY_OVERFLOW_S),
    (NotRunning, 503, RETRY_STOPPING_S),
)
