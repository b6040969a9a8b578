"""Dead letters and redrives as HTTP tells them: what the server writes, and `squall dlq` reads."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Self

import msgspec

from squall.core.redrive import MAX_PER_SECOND, MAX_REDRIVEN
from squall.core.store import DeadLetter, DeadReason

MAX_SEQ = 10**15 - 1


class Letter(msgspec.Struct):
    """A dead letter, without its event's payload. given_back: None while it waits."""

    id: str
    seq: int
    type: str
    source: str
    key: str | None
    subscription: str
    subscription_id: str
    reason: DeadReason
    attempts: int
    first: datetime
    last: datetime
    error_type: str
    error: str
    redrives: int
    given_back: datetime | None

    @classmethod
    def of(cls, letter: DeadLetter, **more: Any) -> Self:
        """As the store has it."""
        event = letter.event
        return cls(
            event.id,
            event.seq,
            event.type,
            event.source,
            event.key,
            letter.subscription,
            letter.subscription_id,
            letter.reason,
            letter.attempts,
            _time(letter.first_ns),
            _time(letter.last_ns),
            letter.error_type,
            letter.error,
            letter.redrives,
            _time(letter.redriven_ns) if letter.redriven_ns else None,
            **more,
        )


class WholeLetter(Letter, kw_only=True):
    """A dead letter with all that is known of it."""

    payload_base64: bytes
    metadata: dict[str, Any]
    trace: str

    @classmethod
    def whole(cls, letter: DeadLetter) -> Self:
        """As the store has it."""
        event = letter.event
        return cls.of(letter, payload_base64=event.payload, metadata=event.metadata, trace=letter.trace)


class Page(msgspec.Struct):
    """Some dead letters, in the order of their arrival. next: where those begin that come after them, if any do."""

    dead_letters: list[WholeLetter]
    next: int | None = None


class Redrive(msgspec.Struct, forbid_unknown_fields=True):
    """Which dead letters are to be given back. Without a token nothing is, and what would be is told."""

    subscription: str | None = None
    reason: DeadReason | None = None
    pattern: str | None = None
    seqs: tuple[Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQ)], ...] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_REDRIVEN)] = 500
    per_second: Annotated[float, msgspec.Meta(gt=0, le=MAX_PER_SECOND)] = 100.0
    token: str | None = None


class Plan(msgspec.Struct):
    """The dry run: what would be given back, if there are others past the limit, and the token that allows just
    that."""

    dead_letters: list[Letter]
    more: bool
    token: str


class Redriven(msgspec.Struct):
    """What was given back, and what was left: somebody else gave it back just before, another router delivers it, or
    nobody does any more."""

    given_back: list[Letter]
    left: list[Letter]


def _time(time_ns: int) -> datetime:
    return datetime.fromtimestamp(time_ns / 1e9, UTC)
