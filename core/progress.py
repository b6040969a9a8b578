"""How far a subscription has settled: kept in memory per batch, written out only when a commit asks."""

from __future__ import annotations

import asyncio
import traceback
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from squall.core.delivery import Attempt, Attempts, Nak, Term
from squall.core.endings import Failure
from squall.core.errors import StoreError, text_of
from squall.core.event import Event, Priority
from squall.core.store import AttemptRow, Cursor, DeadLetter, Settlement

if TYPE_CHECKING:
    from squall.core.dispatch import Dispatcher

RETRY_SETTLE_S = 1.0
WARN_EVERY_NS = 10_000_000_000
MAX_ERROR_CHARACTERS = 2000


class SubscriptionProgress:
    """The Progress of one subscription; see core/store.py for what a store does with it."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.high = [0, 0, 0, 0]
        self.returned: dict[int, Priority] = {}
        self.acked = 0
        self.dead_lettered = 0
        self.unattended_ns = 0
        self._refused, self._given_up = False, ""
        self._warn_at_ns = 0
        self._naks: list[AttemptRow] = []
        self._dead: list[DeadLetter] = []
        self._cleared: list[int] = []
        self._unconfirmed = Attempts()
        self._waiters: list[asyncio.Future[None]] = []
        self._taken: deque[tuple[Attempts, list[asyncio.Future[None]]]] = deque()

    @property
    def unsaved(self) -> int:
        """Naks and dead letters that are not stored yet: a store that refuses them must stop deliveries some time."""
        return len(self._naks) + len(self._dead)

    def settle(self, batch: Attempts) -> None:
        """Attempts that ended: settled, or to be made again, from now on."""
        dispatcher = self._dispatcher
        self.acked += len(batch)
        if dispatcher.settles_first:
            dispatcher.confirmed(batch)
            return
        for attempt in batch.unusual:
            self.acked -= 1
            self._settle_one(attempt)
        if not dispatcher.subscription.durable:
            dispatcher.confirmed(batch)
            if self._dead:
                dispatcher.wiring.store.settle(self)
            return
        for attempt in batch if self.returned else ():
            self.returned.pop(attempt.event.seq, None)
        self._unconfirmed.add(batch)
        dispatcher.wiring.store.settle(self)

    def _settle_one(self, attempt: Attempt) -> None:
        event, decision, error = attempt.event, attempt.decision, attempt.error
        clock, failures = self._dispatcher.wiring.clock, self._dispatcher.endings.failures
        durable = self._dispatcher.subscription.durable
        if isinstance(decision, Nak):
            if not durable or self._dispatcher.closed:
                return  # what is not stored keeps its retries in memory alone; what has ended has none
            due_ns = clock.time_ns() + round(decision.delay_s * 1e9)
            first_ns = failures[event.seq].first_wall_ns
            self._naks.append(AttemptRow(event.seq, attempt.attempt, due_ns, self._text(error), first_ns))
            return
        failure = failures.pop(event.seq, None)
        if failure is not None and durable:
            self._cleared.append(event.seq)
        if isinstance(decision, Term):
            self.bury(attempt, decision, failure.first_wall_ns if failure is not None else clock.time_ns())
        else:
            self.acked += 1

    def bury(self, attempt: Attempt, term: Term, first_ns: int) -> None:
        """To the dead letters, with the next settlement."""
        subscription, error = self._dispatcher.subscription, attempt.error
        scrub = self._dispatcher.wiring.scrub
        self.dead_lettered += 1
        self._dead.append(
            DeadLetter(
                attempt.event,
                subscription.id,
                subscription.label,
                subscription.pattern,
                term.reason,
                attempt.attempt,
                first_ns,
                self._dispatcher.wiring.clock.time_ns(),
                type(error).__name__,
                scrub(term.text or text_of(error))[:MAX_ERROR_CHARACTERS],
                scrub("".join(traceback.format_exception(error)))[-MAX_ERROR_CHARACTERS:],
            )
        )

    def ended(self, event: Event) -> None:
        """An event that is settled without being handled, or before it is."""
        self.returned.pop(event.seq, None)
        failed = self._dispatcher.endings.failures.pop(event.seq, None) is not None
        if self._dispatcher.subscription.durable:
            self._cleared += [event.seq] * failed
            self._dispatcher.wiring.store.settle(self)

    def delayed(self, event: Event) -> None:
        """A durable subscription's event that waits for its time: kept as a retry is, so that no cursor waits for it
        and none grows with it."""
        self.returned.pop(event.seq, None)
        if event.seq not in self._dispatcher.endings.failures:
            self._dispatcher.endings.failures[event.seq] = Failure()
            self._naks.append(AttemptRow(event.seq, 0, event.due_ns, ""))
            self._dispatcher.wiring.store.settle(self)

    async def saved(self, within_s: float | None = None) -> None:
        """Returns when the store has all that is settled by now. Raises StoreError when it has not within that time, or
        is asked no more."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        if self._given_up:
            self.give_up(self._given_up)
        self._dispatcher.wiring.store.settle(self)
        if within_s is None:
            await waiter
            return
        late = f"the store did not take its last settlements within {within_s:g} s"
        timer = self._dispatcher.wiring.clock.call_later(within_s, lambda: self.give_up(late))
        try:
            await waiter
        finally:
            timer.cancel()

    def give_up(self, why: str) -> None:
        """Ask the store no more. What it does not have is owed as it was, and who waits for it is told."""
        self._given_up = why
        self._naks, self._dead, self._cleared = [], [], []
        label = self._dispatcher.subscription.label
        error = StoreError(f"subscription {label}: {why}; what it settled last may be delivered again", "info")
        for waiter in (*self._waiters, *(one for _, waiters in self._taken for one in waiters)):
            if not waiter.done():
                waiter.set_exception(error)

    async def settle_first(self, events: Sequence[Event]) -> None:
        """Settle events before they are handled (at most once); returns when the store has it."""
        for event in events:
            self.high[event.priority] = max(event.seq, self.high[event.priority])
            self.ended(event)
        await self.saved()

    def take(self) -> Settlement:
        durable = self._dispatcher.subscription.durable
        settlement = Settlement(
            self._dispatcher.subscription.id,
            durable,
            # Closed, its queue says nothing; given up, what failed is not in here.
            self._cursors() if durable and not (self._dispatcher.closed or self._given_up) else (),
            self._naks if durable else [],
            self._dead,
            self._cleared if durable else [],
            self.unattended_ns,
        )
        self._naks, self._dead, self._cleared = [], [], []
        self._taken.append((self._unconfirmed, self._waiters))
        self._unconfirmed, self._waiters = Attempts(), []
        return settlement

    def _cursors(self) -> list[Cursor]:
        open_seqs: tuple[set[int], ...] = (set(), set(), set(), set())
        failures = self._dispatcher.endings.failures
        for event in self._dispatcher.in_hand():
            open_seqs[event.priority].add(event.seq)
        for seq, priority in self.returned.items():
            open_seqs[priority].add(seq)
        for priority in Priority:
            # All before the first event that still waits for its first turn is settled, or open, or has failed.
            level = self._dispatcher.queue.levels[priority]
            fresh = (one.seq - 1 for one in level if one.seq not in self.returned and one.seq not in failures)
            self.high[priority] = max(self.high[priority], next(fresh, self._dispatcher.position(priority)))
        return [
            Cursor(
                priority,
                self.high[priority],
                tuple(sorted(seq for seq in open_seqs[priority] if seq <= self.high[priority])),
            )
            for priority in Priority
        ]

    def committed(self, settlement: Settlement, error: Exception | None) -> None:
        batch, waiters = self._taken.popleft()
        dispatcher = self._dispatcher
        self._refused, before = error is not None, self._refused
        if error is None:
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
            # Taken without cursors, what it holds is owed still, but for a subscription that has ended.
            if batch and (settlement.cursors or (dispatcher.closed and dispatcher.kept is None)):
                dispatcher.confirmed(batch)
            if before or settlement.naks or settlement.dead:
                dispatcher.more_workers()  # too much that was not stored may have held them
            return
        if self._given_up:
            return
        if batch:
            dispatcher.wiring.observers.settled(
                dispatcher.subscription, batch, dispatcher.wiring.clock.monotonic_ns, "refused"
            )
        self._naks, self._dead = settlement.naks + self._naks, settlement.dead + self._dead
        self._cleared = settlement.cleared + self._cleared
        batch.add(self._unconfirmed)
        self._unconfirmed, self._waiters = batch, waiters + self._waiters
        clock = dispatcher.wiring.clock
        # Once an outage; and not each time where a store fails every now and then.
        if not before and clock.monotonic_ns() >= self._warn_at_ns:
            self._warn_at_ns = clock.monotonic_ns() + WARN_EVERY_NS
            dispatcher.wiring.observers.logger.warning(
                "subscription %s: its settlements are not stored yet (%s); tried again until they are",
                dispatcher.subscription.label,
                error,
            )
        clock.call_later(RETRY_SETTLE_S, lambda: dispatcher.wiring.store.settle(self))

    def _text(self, error: BaseException | None) -> str:
        return self._dispatcher.wiring.scrub(f"{type(error).__name__}: {text_of(error)}")[:MAX_ERROR_CHARACTERS]
