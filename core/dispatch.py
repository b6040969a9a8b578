"""Delivery: one dispatcher a subscription, between the store and the settlement.

What is per delivery appends to `done`; everything else happens once per turn of the loop, in `flush`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from squall.core.ahead import Ahead
from squall.core.clock import Clock, Timer
from squall.core.credit import Credit
from squall.core.delivery import Attempt, Attempts, Decision, Gate, Nak, Outcome, Permits, SettlePolicy
from squall.core.dropping import Dropping
from squall.core.endings import Endings
from squall.core.event import Event, Priority
from squall.core.keys import KeyLocks
from squall.core.middleware import Next
from squall.core.observers import Observers
from squall.core.progress import SubscriptionProgress
from squall.core.quarantine import overflowed
from squall.core.room import Room
from squall.core.store import EventStore
from squall.core.subscription import DROPS_OLD, Subscription
from squall.core.window import Window
from squall.core.workers import BATCH, Worker, Workers

MAX_UNSAVED = 1000


@dataclass(frozen=True)
class Wiring:
    """What a dispatcher is composed of. `bind` makes the whole delivery chain for one worker."""

    clock: Clock
    store: EventStore
    observers: Observers
    bind: Callable[[Worker], Next]
    gate: Gate | None
    policy: SettlePolicy | None
    room: int
    max_delayed: int
    by_hand: bool
    scrub: Callable[[str], str]
    wants: Callable[[Event], bool] | None = None


class Dispatcher(Room):
    """Everything that happens to one subscription's events.

    `pending` counts the events that are owed and neither settled nor only in the store. `attentive`: what comes next
    is to be seen to, because a worker may be woken, started, or asked for with a flush. `kept` is what was pending when
    it was left to the store.
    """

    def __init__(self, subscription: Subscription, wiring: Wiring, head: Callable[[], int]) -> None:
        super().__init__(wiring.room, subscription.overflow, wiring.wants, wiring.clock)
        self.subscription = subscription
        self.wiring = wiring
        self.settles_first = subscription.delivery == "at-most-once"
        self.ahead = Ahead(self) if self.settles_first and subscription.durable else None
        self.queue = subscription.queue
        self.queue.measure(wiring.clock.monotonic_ns())  # rates count from here
        self._levels = self.queue.levels
        self.delayed: dict[int, tuple[Event, Timer]] = {}
        self.window: Window | None = None
        self.take_in: Callable[[Event], None] = self.offer
        if self.choosy:
            self.take_in = self._offer_expected
        elif head() + 1 < subscription.from_seq:
            self.take_in = self._offer_from_first
        self.endings = Endings(subscription, wiring)
        self.progress = SubscriptionProgress(self)
        one_by_key = subscription.concurrency > 1 or subscription.on_retry == "block_key"
        self.keys = KeyLocks() if one_by_key else None
        self.dropping: Dropping | None = None
        if subscription.overflow in DROPS_OLD:
            self.dropping = Dropping(self.queue, self.delayed, self.keys, subscription.overflow)
        self.done = Attempts()
        self.flush_due = self.closed = self.over = False
        self.attentive = True
        self.pending = self.cancelled = self.dropped = self.expired = self.quarantined = 0
        self.kept: int | None = None
        self.workers = Workers(self)
        self.credit = Credit(wiring.gate, wiring.clock, wiring.observers.logger, subscription.label, self.more_workers)
        self._unusual: list[Attempt] = []
        self._counted = 0
        self.head = head

    # Events come in

    def offer(self, event: Event) -> None:
        """An event that is owed: into the queue, and wake a worker."""
        self.pending += 1
        if event.due_ns and self.waits(event):
            return
        self._levels[event.priority].append(event)
        if self.attentive:
            self._arrived()

    def waits(self, event: Event) -> bool:
        """Is the time from which it may be delivered still to come? Then it is kept until then."""
        left_ns = event.left_ns(event.due_ns, self.wiring.clock) if event.due_ns else 0
        if left_ns > 0:
            if self.subscription.durable:
                self.progress.delayed(event)
            self.delay(event, left_ns / 1e9)
        return left_ns > 0

    def expire(self, event: Event, permits: Permits | None, *, surely: bool = False) -> bool:
        """An event that was taken, and that nobody began with: whether its time is over. Then it is settled without
        being delivered."""
        if not surely and event.left_ns(event.expires_ns, self.wiring.clock) > 0:
            return False
        self.credit.give_back(permits, 1)
        self.expired += 1
        self.pending -= 1
        self.give_room(1)
        self.progress.ended(event)
        self.release_key(event)
        self.wiring.observers.dropped(event, self.subscription.id, "expired")
        return True

    def _arrived(self) -> None:
        """See to it that somebody takes what came."""
        workers = self.workers
        if workers.idle:
            workers.wake()
        elif not workers.present:
            self.more_workers()
        elif not self.flush_due and len(workers.present) < self.subscription.concurrency:
            self._flush_soon()
        else:
            self.attentive = False

    def _offer_expected(self, event: Event) -> None:
        if self.forget(event):
            self.offer(event)

    def _offer_from_first(self, event: Event) -> None:
        """Events that were being stored when the subscription began are announced to it too, and not owed."""
        if event.seq >= self.subscription.from_seq:
            self.take_in = self.offer
            self.offer(event)

    def read_through(self, window: Window) -> None:
        """Take events in through a window on the store, which asks the filters itself."""
        self.window, self.expected, self.take_in = window, None, window.announce

    def make_room(self, late: Iterable[Event]) -> None:
        """What is published is stored: let go of what came late, and of what waits past the bound."""
        for event in late:
            self._drop(event)
        while self.dropping is not None and self.room < 0 and (oldest := self.dropping.take()) is not None:
            self.pending -= 1
            self.room += 1
            self._drop(oldest)
            self.release_key(oldest)

    def _drop(self, event: Event) -> None:
        if self.subscription.overflow == "drop_new":
            self.dropped += 1
        else:
            overflowed(self, event)
        self.wiring.observers.dropped(event, self.subscription.id, "overflow")

    # What is next

    def take(self) -> Event | None:
        """The next event that may be delivered now, or None."""
        if self.credit.left <= 0 and not self._more_credit():
            return None
        event = None
        if self.ahead is None:
            event = self.next()
        elif self.ahead.settled:
            event = self.ahead.settled.popleft()
        if event is not None:
            self.credit.left -= 1
        return event

    def next(self) -> Event | None:
        """The next event whose key is free, or None."""
        while (event := self.queue.take()) is not None:
            if self.keys is None or self.keys.claim(event):
                if self.subscription.concurrency > 1 and not self.flush_due:
                    self._flush_soon()  # if the handler suspends, the flush finds events left, and workers for them
                return event
            if self.dropping is not None:
                self.dropping.noted(event)
        return None

    def _waiting(self) -> int:
        return len(self.queue) + (0 if self.ahead is None else len(self.ahead.settled))

    def _more_credit(self) -> bool:
        """May more be delivered now? Asks the gate for as many as a batch takes."""
        self.flush()  # so that a batch mostly has one permit; it may also pause the subscription
        waiting = self._waiting()
        held = self.over or self.subscription.paused or self.progress.unsaved > MAX_UNSAVED
        if not waiting or held or len(self.delayed) >= self.wiring.max_delayed:
            return False
        return self.credit.ask(min(BATCH, waiting))

    def more_workers(self) -> None:
        """Wake, or start, as many workers as there are events and slots for."""
        waiting = self._waiting()
        if waiting and not self.over:
            self.workers.more(waiting)

    def put_back(self, event: Event) -> None:
        """An event that waited for its time or its key."""
        self.queue.levels[event.priority].put_back(event)
        self.more_workers()

    def delay(self, event: Event, delay_s: float) -> None:
        """Deliver event again after delay_s. It keeps its room, so that a store of failures stays bounded."""

        def due() -> None:
            del self.delayed[event.seq]
            self.put_back(event)

        self.delayed[event.seq] = event, self.wiring.clock.call_later(delay_s, due)
        if self.dropping is not None:
            self.dropping.noted(event)

    def release_key(self, event: Event) -> None:
        """The next event of its key may go, unless this one comes again and keeps the others waiting."""
        if self.keys is None or (self.subscription.on_retry == "block_key" and event.seq in self.delayed):
            return
        following = self.keys.release(event)
        if following is not None and not self.closed:
            if self.subscription.durable:
                self.progress.returned[following.seq] = following.priority
            self.put_back(following)

    # How deliveries end

    def conclude(self, attempt: Attempt, said: Decision | None, outcome: Outcome, error: BaseException | None) -> None:
        """An attempt that did not plainly end well: decide about it."""
        self.endings.conclude(attempt, said, outcome, error)
        if isinstance(attempt.decision, Nak) and not self.closed:
            self.delay(attempt.event, attempt.decision.delay_s)
        self._unusual.append(attempt)
        self.done.append(attempt)

    def release(self, attempt: Attempt) -> None:
        """The router stops and the handler was cancelled: the attempt does not count, the event is owed as before."""
        self.credit.give_back(attempt.permits, 1)
        event = attempt.event
        if self.settles_first or self.closed:
            self.cancelled += 1
            self.pending -= 1
        else:
            self.progress.returned[event.seq] = event.priority
            self.queue.levels[event.priority].put_back(event)

    def _flush_soon(self) -> None:
        self.flush_due = True
        asyncio.get_running_loop().call_soon(self.flush_soon)

    def flush_soon(self) -> None:
        """The flush that was due, this turn or the last."""
        self.flush_due = False
        self.attentive = True
        self.flush()
        if self.subscription.concurrency > 1:  # not in every flush: workers that find nothing would wake each other
            self.more_workers()

    def flush(self) -> None:
        """Settle, account and report all deliveries that ended since the last time."""
        if self.done:
            batch, self._unusual = Attempts(self.done, self._unusual), []
            self.done.clear()
            self.credit.record(batch, in_order=self.subscription.concurrency == 1)
            asked_ns = min(one.begun_ns for one in batch) if self.settles_first else batch[-1].ended_ns
            self.wiring.observers.attempted(self.subscription, batch, asked_ns)
            failed = sum(attempt.error is not None for attempt in batch.unusual)
            again = sum(isinstance(attempt.decision, Nak) for attempt in batch.unusual)
            if self.closed:
                self.cancelled += again
                again = 0
            self.pending -= len(batch) - again
            self.subscription.delivery_count += len(batch) - failed
            self.subscription.error_count += failed
            self.progress.settle(batch)
            self.give_room(len(batch) - again)
        if self.window is not None:
            self.window.refill()

    def confirmed(self, batch: Attempts) -> None:
        """The store has the settlements of these attempts."""
        self.wiring.observers.settled(self.subscription, batch, self.wiring.clock.monotonic_ns)

    # What the rest of the kernel asks and tells

    def in_hand(self) -> list[Event]:
        """Events that were taken from the queue and are not settled."""
        waiting = [*self.keys.waiting.values()] if self.keys is not None else []
        if self.settles_first:
            return waiting
        events = self.workers.running + [attempt.event for attempt in self.done]
        return events if self.keys is None else events + self.keys.in_hand()

    def position(self, priority: Priority) -> int:
        """Up to which seq this priority's events have been seen."""
        return self.head() if self.window is None else self.window.position(priority)

    @property
    def longest_wait_s(self) -> float:
        """How long it may legally take, without any progress, until an event is delivered again."""
        return self.endings.longest_delay_s + self.credit.longest_wait_s + self.subscription.timeout_s

    async def backlog(self) -> int:
        """Events that are owed and are only in the store, counted there."""
        return 0 if self.window is None else await self.window.backlog()

    @property
    def busy(self) -> bool:
        """Is anything waiting or running that a stop should wait for? Delayed retries are not."""
        if self.over or self.subscription.paused:
            return bool(self.workers.running)
        return self.pending > len(self.delayed)

    def sweep(self, now_ns: int) -> None:
        """Watch the deadlines of handlers, and say when events were last delivered."""
        counted = self.subscription.delivery_count + self.subscription.error_count
        if counted != self._counted:
            self._counted = counted
            self.subscription.last_delivered = datetime.fromtimestamp(self.wiring.clock.time_ns() / 1e9, UTC)
        self.workers.sweep(now_ns)

    def close(self, *, kept: bool = False) -> None:
        """Deliver nothing more: handlers that run may end, what waits is cancelled, or kept by the store."""
        self.closed = True
        self.cease()
        ending = len(self.workers.running) + len(self.done)
        lost = 0 if self.ahead is None else self.ahead.give_up(kept=kept)
        self.kept = self.pending - ending - lost if kept else None
        self.cancelled += lost if kept else self.pending - ending
        self.pending = ending
        self._cancel_timers()
        for waiting in (*self.queue.levels, self.delayed):
            waiting.clear()
        self.give_room(self.wiring.room)
        while self.workers.idle:
            self.workers.wake()

    def _cancel_timers(self) -> None:
        for _, timer in self.delayed.values():
            timer.cancel()

    def cease(self) -> None:
        """Begin nothing more, and take nothing in."""
        self.over = True
        self.credit.close()
        if self.window is not None:
            self.window.close()

    async def halt(self, spared: Worker | None = None) -> None:
        """The router stops: cancel what still runs, uncounted, save for the worker that is spared; settle what ended,
        and nothing else."""
        self.cease()
        await self.workers.halt(spared)
        self.flush()
        self._cancel_timers()
        if self.ahead is not None:
            self.ahead.take_back()
        self.give_room(0)  # who still waits for room learns that the router has stopped
