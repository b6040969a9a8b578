"""Redrive: dead letters are given back to the subscription that gave them up, after a dry run has shown which.

The token of a dry run is a digest of what it showed: nothing needs to be remembered between the two calls, and what has
changed since, or was redriven already, does not match it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, get_args

import msgspec

from squall.core.clock import Clock
from squall.core.dispatch import Dispatcher
from squall.core.endings import Failure
from squall.core.errors import ConfigError, OutdatedToken, StoreError, SubscriptionError
from squall.core.event import Event
from squall.core.observers import Observers
from squall.core.patterns import compile_pattern
from squall.core.quarantine import Undecodable, read_around
from squall.core.store import DeadLetter, DeadReason, EventStore, Query, Redrive
from squall.core.subscriptions import Subscriptions

MAX_REDRIVEN = 1000
MAX_PER_SECOND = 1_000_000.0
TOKEN_CHARACTERS = 32


@dataclass(frozen=True)
class DeadLetterQuery:
    """Which dead letters, of those that wait; all given conditions must hold. `subscription` is an id or a name,
    `pattern` is of the events' types. The oldest `limit` are taken, at most 1,000. Raises SubscriptionError for a
    malformed pattern, ConfigError for all else."""

    subscription: str | None = None
    reason: DeadReason | None = None
    pattern: str | None = None
    seqs: tuple[int, ...] | None = None
    limit: int = 500

    def __post_init__(self) -> None:
        if self.pattern is not None:
            compile_pattern(self.pattern)
        if self.reason is not None and self.reason not in get_args(DeadReason):
            raise ConfigError(
                f"DeadLetterQuery: reason: expected one of {', '.join(get_args(DeadReason))}, got {self.reason!r:.80}"
            )
        if type(self.limit) is not int or not 1 <= self.limit <= MAX_REDRIVEN:
            raise ConfigError(f"DeadLetterQuery: limit: expected 1 to {MAX_REDRIVEN}, got {self.limit!r:.80}")


def wanted_by(query: DeadLetterQuery) -> Callable[[DeadLetter], bool]:
    """Whether a dead letter is one of those; its subscription is the store's to look at."""
    matches = None if query.pattern is None else compile_pattern(query.pattern)
    return lambda letter: (
        query.reason in (None, letter.reason)
        and (query.seqs is None or letter.event.seq in query.seqs)
        and (matches is None or matches(letter.event.type))
    )


class RedrivePlan(NamedTuple):
    """What a redrive would give back, and the token to say so. more: there are others past the query's limit."""

    letters: list[DeadLetter]
    token: str
    more: bool


class Redriven(NamedTuple):
    """The letters that were given back, and those that were not: somebody else gave them back at the same time, their
    subscription has ended, another router delivers it, or the event still cannot be decoded."""

    letters: list[DeadLetter]
    left: list[DeadLetter]


class Redrives:
    """Gives dead letters of a running router back."""

    def __init__(self, clock: Clock, store: EventStore, subscriptions: Subscriptions, observers: Observers) -> None:
        self._clock, self._store, self._subscriptions, self._observers = clock, store, subscriptions, observers
        self._giving: set[asyncio.Task[Redriven]] = set()

    async def plan(self, query: DeadLetterQuery) -> RedrivePlan:
        """The dry run. Raises StoreError."""
        wanted = wanted_by(query)
        found: list[DeadLetter] = []
        after = 0
        while len(found) <= query.limit and (page := await self._store.dead_letters(query.subscription, after)):
            after += len(page)
            found += [letter for letter in page if not letter.redriven_ns and wanted(letter)]
        letters = found[: query.limit]
        return RedrivePlan(letters, _token(letters), len(found) > query.limit)

    async def give_back(self, token: str, query: DeadLetterQuery, per_second: float, origin: str) -> Redriven:
        """Give back what the dry run showed: so many per second, the first at once. Raises OutdatedToken, ConfigError,
        SubscriptionError and StoreError."""
        if not (isinstance(per_second, int | float) and 0 < per_second <= MAX_PER_SECOND):
            raise ConfigError(
                f"redrive: per_second: expected more than 0, at most {MAX_PER_SECOND:.0f}, got {per_second!r:.80}"
            )
        planned = await self.plan(query)
        if not (isinstance(token, str) and hmac.compare_digest(token.encode(), planned.token.encode())):
            raise OutdatedToken(
                f"redrive: the token is not of the {len(planned.letters)} dead letters that would be given back now: "
                "they have changed since the dry run, or the query is another; nothing was redriven. Do the dry run "
                "again, and look what it shows"
            )
        # In a task of its own: whoever asks may be cancelled, and what is marked is to be delivered all the same.
        giving = asyncio.get_running_loop().create_task(self._give_back(planned.letters, per_second, origin))
        self._giving.add(giving)
        giving.add_done_callback(self._giving.discard)
        return await asyncio.shield(giving)

    async def _give_back(self, letters: Sequence[DeadLetter], per_second: float, origin: str) -> Redriven:
        now_ns = self._clock.time_ns()
        readable = await self._readable(letters)
        wanted = [
            self._wanted(letter, now_ns, now_ns + math.floor(number * 1e9 / per_second))
            for number, letter in enumerate(readable)
        ]
        marked = {
            (one.subscription_id, one.seq): one for one in await self._mark([one for one in wanted if one is not None])
        }
        given = [letter for letter in readable if (letter.subscription_id, letter.event.seq) in marked]
        for letter in given:
            one = marked[letter.subscription_id, letter.event.seq]
            dispatcher = self._subscriptions.dispatchers.get(one.subscription_id)
            if dispatcher is not None:
                _deliver_again(dispatcher, letter.event, (one.due_ns - now_ns) / 1e9)
        self._tell(given, origin)
        return Redriven(given, [one for one in letters if (one.subscription_id, one.event.seq) not in marked])

    async def _readable(self, letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Without those of events that cannot be decoded: what stands for one in its letter is nothing for a handler.
        Of one that can be by now, as the store was mended, the letter with the event itself. Raises StoreError."""
        seqs = tuple({letter.event.seq for letter in letters if _stands_in(letter)})
        if not seqs:
            return list(letters)
        page, _ = await read_around(self._store, Query(seqs=seqs, limit=len(seqs)))
        mended = {event.seq: event for event in page.events}
        readable = []
        for letter in letters:
            event = mended.get(letter.event.seq) if _stands_in(letter) else letter.event
            if event is not None and compile_pattern(letter.pattern)(event.type):
                readable.append(letter._replace(event=event))
        return readable

    async def _mark(self, wanted: Sequence[Redrive]) -> Sequence[Redrive]:
        """Those that the store has marked as given back. Where its answer is lost it is asked what it has: what it owes
        again is to be delivered now, and not only to who takes the subscription up next. Raises StoreError."""
        try:
            return await self._store.redrive(wanted)
        except StoreError as error:
            found: list[Redrive] = []
            if error.outcome == "info":
                with contextlib.suppress(StoreError):  # then it stays unknown, as the first one says
                    found = await self._marked(wanted)
            if not found:
                raise
            return found

    async def _marked(self, wanted: Sequence[Redrive]) -> list[Redrive]:
        found: set[tuple[str, int, int]] = set()
        after = 0
        while page := await self._store.dead_letters(None, after):
            after += len(page)
            found |= {(letter.subscription_id, letter.event.seq, letter.redriven_ns) for letter in page}
        return [one for one in wanted if (one.subscription_id, one.seq, one.now_ns) in found]

    def _wanted(self, letter: DeadLetter, now_ns: int, due_ns: int) -> Redrive | None:
        """None for what cannot be given back from here. Raises SubscriptionError."""
        if self._subscriptions.is_changing(letter.subscription):
            raise SubscriptionError(
                f"redrive: subscription {letter.subscription!r} is just being taken up or left: try again in a moment"
            )
        dispatcher = self._subscriptions.dispatchers.get(letter.subscription_id)
        durable = dispatcher is None or dispatcher.subscription.durable
        if dispatcher is not None and durable and dispatcher.window is None:
            return None  # another router delivers it: that one has to be asked
        return Redrive(letter.subscription_id, letter.event.seq, letter.redrives, durable, due_ns, now_ns)

    def _tell(self, letters: Iterable[DeadLetter], origin: str) -> None:
        by_subscription: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            by_subscription.setdefault(letter.subscription_id, []).append(letter)
        for subscription_id, some in by_subscription.items():
            self._observers.redriven(subscription_id, some, origin)


def _deliver_again(dispatcher: Dispatcher, event: Event, delay_s: float) -> None:
    """An event that its subscription had settled is owed again. Where somebody took the subscription up meanwhile, it
    has found that in the store already."""
    if dispatcher.over:
        return
    if dispatcher.subscription.durable:
        if event.seq in dispatcher.endings.failures:
            return
        dispatcher.endings.failures[event.seq] = Failure()
    dispatcher.pending += 1
    dispatcher.room -= 1
    if delay_s > 0:
        dispatcher.delay(event, delay_s)
    else:
        dispatcher.put_back(event)


def _stands_in(letter: DeadLetter) -> bool:
    """Is its event only a stand-in for one that could not be decoded?"""
    return letter.reason == "undecodable" and letter.error_type == Undecodable.__name__


def _token(letters: Iterable[DeadLetter]) -> str:
    seen = [(one.subscription_id, one.event.seq, one.redrives, one.last_ns) for one in letters]
    return hashlib.sha256(msgspec.json.encode(seen)).hexdigest()[:TOKEN_CHARACTERS]
