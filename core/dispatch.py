"""Delivery: one dispatcher a subscription, with its queue, its workers, its retries and its settlements.

Workers live as long as the subscription and call handlers in their own task; there is no task, timer or hook call per
delivery. What is per delivery appends to `done`; everything else happens once per turn of the loop, in `_flush`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from squall.core.clock import Clock, Timer
from squall.core.delivery import (
    ACK,
    Ack,
    Attempt,
    Attempts,
    Decision,
    FailedDelivery,
    Gate,
    Nak,
    Outcome,
    Permits,
    SettlePolicy,
    Term,
    WaitUntil,
)
from squall.core.errors import Reject, Retry
from squall.core.event import Event, Priority
from squall.core.keys import KeyLocks
from squall.core.middleware import Next
from squall.core.observers import Observers
from squall.core.progress import Failure, SubscriptionProgress
from squall.core.queue import PriorityEventQueue
from squall.core.settle import Delivery
from squall.core.store import EventStore
from squall.core.subscription import Subscription
from squall.core.window import Window

BATCH = 64
UNLIMITED = 1 << 60
ABANDON_AFTER_NS = 1_000_000_000
GATE_FAILED_S = 1.0
MAX_UNSAVED = 1000


class Worker:
    """One task that calls the handler, and the delivery it has in hand."""

    __slots__ = ("abandoned", "begun_ns", "cancelled_ns", "delivery", "event", "number", "permits", "task", "waiter")

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.event: Event | None = None
        self.begun_ns = 0
        self.cancelled_ns = 0
        self.abandoned = False
        self.permits: Permits | None = None
        self.delivery: Delivery | None = None
        self.waiter: asyncio.Future[None] | None = None


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
    by_hand: bool
    wants: Callable[[Event], bool] | None = None


class Dispatcher:
    """Everything that happens to one subscription's events between the store and the settlement."""

    def __init__(self, subscription: Subscription, wiring: Wiring, head: Callable[[], int]) -> None:
        self.subscription = subscription
        self.wiring = wiring
        self.queue = PriorityEventQueue()
        self.room = wiring.room
        self.room_waiters: deque[asyncio.Future[None]] = deque()
        self.failures: dict[int, Failure] = {}
        self.delayed: dict[int, Event] = {}
        self.workers: list[Worker] = []
        self.window: Window | None = None
        self.wants = wiring.wants
        self.take_in: Callable[[Event], None] = self.offer
        if subscription.overflow == "drop_new":
            self.take_in = self._offer_unless_dropped
        elif wiring.wants is not None:
            self.take_in = self._offer_wanted
        if head() + 1 < subscription.from_seq:
            self.take_in = self._skip_earlier(self.take_in)
        self.progress = SubscriptionProgress(self)
        self.closed = self.halted = False
        self.cancelled = self.dropped = self.abandoned = 0
        keyed = subscription.concurrency > 1 or subscription.on_retry == "block_key"
        self._keys = KeyLocks() if keyed else None
        self._ready: deque[Event] = deque()
        self._dropped: set[str] = set()
        self._idle: list[Worker] = []
        self._done = Attempts()
        self._flush_due = False
        self._credits = self._failed_now = self._naks_now = self._started = self._counted = 0
        self._permits: Permits | None = None
        self._gate_timer: Timer | None = None
        self._held_until_ns = 0
        self._head = head
        self._now = wiring.clock.monotonic_ns
        self._timeout_ns = round(subscription.timeout_s * 1e9)

    # Events come in

    def offer(self, event: Event) -> None:
        """An event that is owed: into the queue, and wake a worker."""
        self.queue.levels[event.priority].append(event)
        if self._idle:
            self._wake()
        elif not self.workers:
            self._spawn()
        elif not self._flush_due and len(self.workers) < self.subscription.concurrency:
            self._flush_due = True
            asyncio.get_running_loop().call_soon(self.flush_soon)

    def _offer_wanted(self, event: Event) -> None:
        if self.wants is not None and self.wants(event):
            self.offer(event)

    def _offer_unless_dropped(self, event: Event) -> None:
        if event.id in self._dropped:
            self._dropped.discard(event.id)
        elif self.wants is None or self.wants(event):
            self.offer(event)

    def _skip_earlier(self, then: Callable[[Event], None]) -> Callable[[Event], None]:
        """Events that were being stored when the subscription began are announced to it too, and not owed."""

        def take_in(event: Event) -> None:
            if event.seq >= self.subscription.from_seq:
                self.take_in = then
                then(event)

        return take_in

    def drop(self, event: Event) -> None:
        """There is no room, and the subscription would rather lose the event than hold its publisher."""
        self.dropped += 1
        self._dropped.add(event.id)
        self.wiring.observers.dropped(event, self.subscription.id, "overflow")

    async def wait_for_room(self, timeout_s: float) -> None:
        """Returns when room was given back, or after timeout_s."""
        waiter = asyncio.get_running_loop().create_future()
        self.room_waiters.append(waiter)
        timer = self.wiring.clock.call_later(timeout_s, lambda: None if waiter.done() else waiter.set_result(None))
        try:
            await waiter
        finally:
            timer.cancel()

    def return_to_front(self, event: Event) -> None:
        """An event whose turn was before: a retry that is due, or one that waited for its key."""
        if not self.closed:
            self.queue.levels[event.priority].appendleft(event)
            self.more_workers()

    def delay(self, event: Event, delay_s: float) -> None:
        """Deliver event again after delay_s. It keeps its room, so that a store of failures stays bounded."""
        self.delayed[event.seq] = event

        def due() -> None:
            if self.delayed.pop(event.seq, None) is not None:
                self.return_to_front(event)

        self.wiring.clock.call_later(delay_s, due)

    def in_hand(self) -> list[Event]:
        """Events that were taken from the queue and are not settled."""
        if self.subscription.delivery == "at-most-once":
            return self._keys.waiting() if self._keys else []
        events = [worker.event for worker in self.workers if worker.event is not None]
        events += [attempt.event for attempt in self._done]
        return events + self._keys.in_hand() if self._keys else events

    def position(self, priority: Priority) -> int:
        """Up to which seq this priority's events have been seen."""
        return self._head() if self.window is None else self.window.position(priority)

    @property
    def longest_wait_s(self) -> float:
        """How long it may legally take, without any progress, until an event is delivered again."""
        policy, gate = self.wiring.policy, self.wiring.gate
        delay_s = policy.longest_delay_s if policy is not None else 0.0
        return delay_s + (gate.longest_wait_s if gate is not None else 0.0) + self.subscription.timeout_s

    async def backlog(self) -> int:
        """Events that are owed and are only in the store, counted there."""
        return 0 if self.window is None else await self.window.backlog()

    @property
    def busy(self) -> bool:
        """Is anything waiting or running that a stop should wait for? Delayed retries are not."""
        return not self.subscription.paused and self.pending > len(self.delayed) + self.abandoned

    @property
    def pending(self) -> int:
        """Events that are owed and neither settled nor only in the store."""
        waiting = len(self._keys.waiting()) if self._keys else 0
        busy = sum(worker.event is not None for worker in self.workers)
        return (
            len(self.queue) + len(self.delayed) + waiting + busy + len(self._ready) + len(self._done) + self.abandoned
        )

    # Workers

    def _spawn(self) -> None:
        self._started += 1
        worker = Worker(self._started)
        self.workers.append(worker)
        work = self._work(worker) if self.subscription.delivery == "at-least-once" else self._work_settled(worker)
        worker.task = asyncio.get_running_loop().create_task(
            work, name=f"squall:{self.subscription.label}:{worker.number}"
        )
        worker.task.add_done_callback(lambda task: self._ended(worker, task))

    def _ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        if worker.abandoned:
            self.abandoned -= 1
        else:
            self.workers.remove(worker)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.wiring.observers.logger.error(
                "subscription %s: worker %d died of %r; it is replaced", self.subscription.label, worker.number, error
            )
        self.more_workers()

    def more_workers(self) -> None:
        """Wake, or start, as many workers as there are events and slots for."""
        wanted = len(self.queue) + len(self._ready)
        if self.closed or self.halted or not wanted:
            return
        for _ in range(min(wanted, len(self._idle))):
            self._wake()
            wanted -= 1
        limit = min(self.subscription.concurrency, self.subscription.in_flight)
        # An abandoned handler's slot is filled again, until as many are abandoned as there are slots.
        for _ in range(min(wanted, limit - len(self.workers) - max(0, self.abandoned - limit))):
            self._spawn()

    def _wake(self) -> None:
        waiter = self._idle.pop().waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    async def _rest(self, worker: Worker) -> None:
        self.withdraw_credits()
        worker.waiter = asyncio.get_running_loop().create_future()
        self._idle.append(worker)
        try:
            await worker.waiter
        finally:
            worker.waiter = None
            if worker in self._idle:
                self._idle.remove(worker)

    async def _work(self, worker: Worker) -> None:  # noqa: C901  the hot path: a call per step would cost more than the step
        call, now, done, failures = self.wiring.bind(worker), self._now, self._done, self.failures
        critical, high, normal, low = self.queue.levels
        served, keys, by_hand = self.queue.served, self._keys, self.wiring.by_hand
        call_soon = asyncio.get_running_loop().call_soon
        turns = ended = unscheduled = 0
        while not worker.abandoned:
            # When only NORMAL waits, as mostly, its turn needs no scheduling.
            if normal and self._credits > 0 and keys is None and not (critical or high or low):
                event = normal.popleft()
                self._credits -= 1
                unscheduled += 1
            elif (taken := self._take()) is not None:
                event = taken
            else:
                served[2] += unscheduled
                turns = ended = unscheduled = 0
                self.flush()
                await self._rest(worker)
                continue
            if done and not self._flush_due:
                self._flush_due = True
                call_soon(self.flush_soon)
            worker.event = event
            worker.begun_ns = begun = ended or now()
            worker.permits = permits = self._permits
            try:
                await call(event)
            except BaseException as error:
                ended = 0
                if not self._failed(worker, Attempt(event, begun, now(), permits), error):
                    raise
            else:
                ended = now()
                if failures or by_hand or worker.cancelled_ns:
                    await self._succeeded(worker, Attempt(event, begun, ended, permits))
                else:
                    done.append(Attempt(event, begun, ended, permits))
                    worker.event = None
            if keys is not None and not worker.abandoned:
                self._release_key(event)
            turns += 1
            if turns >= BATCH:
                served[2] += unscheduled
                turns = ended = unscheduled = 0
                await asyncio.sleep(0)

    async def _work_settled(self, worker: Worker) -> None:
        """At most once: settle, then handle. What a worker has in hand when it dies is not delivered again."""
        call = self.wiring.bind(worker)
        while not worker.abandoned:
            if not self._ready:
                taken: list[Event] = []
                while len(taken) < BATCH and (event := self._take()) is not None:
                    taken.append(event)
                if not taken:
                    await self._rest(worker)
                    continue
                await self.progress.settle_first(taken)
                self._ready.extend(taken)
                self._give_room(len(taken))
                self.more_workers()
            if not self._ready:
                continue
            worker.event = event = self._ready.popleft()
            attempt = Attempt(event, self._now(), 0, self._permits)
            worker.begun_ns = attempt.begun_ns
            alive = True
            try:
                await call(event)
            except BaseException as error:
                alive = self._failed(worker, attempt, error)
                if not alive:
                    raise
            finally:
                worker.event, attempt.ended_ns, attempt.decision = None, self._now(), ACK
                self._release_key(event)
                batch = Attempts((attempt,))
                self._tell(batch, attempt.begun_ns)
                self.confirmed(batch)
            await asyncio.sleep(0)

    def _release_key(self, event: Event) -> None:
        if self._keys is None or (self.subscription.on_retry == "block_key" and event.seq in self.delayed):
            return
        following = self._keys.release(event)
        if following is not None:
            self.progress.returned[following.seq] = following.priority
            self.return_to_front(following)

    # What is next

    def _take(self) -> Event | None:
        if self._credits <= 0 and not self._more_credits():
            return None
        while (event := self.queue.take()) is not None:
            if self._keys is None or self._keys.claim(event):
                self._credits -= 1
                if self.subscription.concurrency > 1 and not self._flush_due:
                    # If the handler suspends, the flush finds events left, and wakes or starts others.
                    self._flush_due = True
                    asyncio.get_running_loop().call_soon(self.flush_soon)
                return event
        return None

    def _more_credits(self) -> bool:
        """May more be delivered now? Asks the gate for as many as a batch takes."""
        held = self.closed or self.halted or self.subscription.paused
        if (
            self.queue.empty()
            or held
            or len(self.delayed) >= self.subscription.in_flight
            or self.progress.unsaved > MAX_UNSAVED
            or self._held_until_ns
        ):
            return False
        gate = self.wiring.gate
        if gate is None:
            self._credits = UNLIMITED
            return True
        if self._done:
            self.flush()  # so that a batch mostly has one permit
        try:
            answer = gate.try_acquire(min(BATCH, len(self.queue)))
        except Exception:
            self.wiring.observers.logger.exception(
                "subscription %s: a gate raised; held for %s s", self.subscription.label, GATE_FAILED_S
            )
            answer = WaitUntil(self._now() + round(GATE_FAILED_S * 1e9))
        if isinstance(answer, WaitUntil):
            self._ask_again(answer.at_ns)
            return False
        self._permits, self._credits = answer, answer.n
        return answer.n > 0

    def _ask_again(self, at_ns: int) -> None:
        """The gate is closed: ask it no sooner than it says, by one timer."""

        def due() -> None:
            self._held_until_ns = 0
            self.more_workers()

        if self._gate_timer is not None:
            self._gate_timer.cancel()
        wait_ns = max(1_000_000, at_ns - self._now())
        self._held_until_ns = self._now() + wait_ns
        self._gate_timer = self.wiring.clock.call_later(wait_ns / 1e9, due)

    def gate_changed(self) -> None:
        """The gate's answer may be another now: withdraw what it gave, and ask it again."""
        self._held_until_ns = 0
        self.withdraw_credits()
        self.more_workers()

    def withdraw_credits(self) -> None:
        """Deliver nothing more until it is asked again: the gate's answer, or what holds the subscription, changed."""
        unused, self._credits = self._credits, 0
        if unused and self._permits is not None and self.wiring.gate is not None:
            self.wiring.gate.release(self._permits, unused)

    # How deliveries end

    async def _succeeded(self, worker: Worker, attempt: Attempt) -> None:
        """The handler returned, but it settled by hand, failed before, or was being cancelled."""
        late = worker.cancelled_ns
        if late and worker.task is not None:
            # The cancellation may still be on its way; it belongs to this delivery and must not hit the next.
            try:
                await asyncio.sleep(0)
            except asyncio.CancelledError:
                if not worker.cancelled_ns:
                    raise
            worker.task.uncancel()
        if worker.abandoned:
            return
        delivery, worker.delivery, worker.cancelled_ns, worker.event = worker.delivery, None, 0, None
        decided = delivery.decision if delivery is not None else None
        failure = self.failures.get(attempt.event.seq)
        attempt.attempt = failure.attempts + 1 if failure is not None else 1
        if late and decided is None:
            self._conclude(
                attempt, "timeout", TimeoutError(f"handler took longer than {self.subscription.timeout_s} s")
            )
        elif decided is None or isinstance(decided, Ack):
            self._failed_now += attempt.attempt > 1
            self._done.append(attempt)
        elif isinstance(decided, Term):
            self._conclude(attempt, "error", Reject(decided.text))
        else:
            self._conclude(attempt, "error", Retry(None if decided.delay_s < 0 else decided.delay_s))

    def _failed(self, worker: Worker, attempt: Attempt, error: BaseException) -> bool:
        """The handler raised. Returns whether the worker goes on."""
        if worker.abandoned:
            return isinstance(error, Exception)
        delivery, worker.delivery = worker.delivery, None
        outcome: Outcome = "error"
        if isinstance(error, asyncio.CancelledError):
            if worker.cancelled_ns and worker.task is not None:
                worker.task.uncancel()
                outcome, error = "timeout", TimeoutError(f"handler took longer than {self.subscription.timeout_s} s")
            elif worker.task is not None and worker.task.cancelling():
                # The router stops: the delivery is released, uncounted.
                self.progress.returned[attempt.event.seq] = attempt.event.priority
                self.queue.levels[attempt.event.priority].appendleft(attempt.event)
                worker.event = None
                return False
        elif not isinstance(error, Exception):
            outcome = "died"
        worker.cancelled_ns, worker.event = 0, None
        if delivery is not None and isinstance(delivery.decision, Ack):
            self._done.append(attempt)
        else:
            self._conclude(attempt, outcome, error)
        if outcome == "died":
            self._release_key(attempt.event)
            self.flush()
        return outcome != "died"

    def _conclude(self, attempt: Attempt, outcome: Outcome, error: BaseException) -> None:
        attempt.outcome, attempt.error = outcome, error
        if self.subscription.delivery == "at-most-once":
            self.subscription.error_count += 1
            return
        event, clock = attempt.event, self.wiring.clock
        failure = self.failures.setdefault(event.seq, Failure(0, clock.time_ns(), attempt.begun_ns))
        failure.attempts += 1
        attempt.attempt = failure.attempts
        attempt.decision = decision = self._decide(attempt, failure, error)
        self._failed_now += 1
        if isinstance(decision, Nak):
            self._naks_now += 1
            self.delay(event, decision.delay_s)
        self._done.append(attempt)

    def _decide(self, attempt: Attempt, failure: Failure, error: BaseException) -> Decision:
        policy = self.wiring.policy
        if isinstance(error, Reject):
            return Term("rejected", error.reason)
        if policy is None:
            return Nak(error.delay_s or 0.0) if isinstance(error, Retry) else Term("delivery_limit")
        what = FailedDelivery(
            attempt.event, self.subscription, failure.attempts, attempt.outcome, failure.first_ns, attempt.ended_ns
        )
        try:
            decision = policy.decide(what, error)
            if not isinstance(decision, Ack | Nak | Term):
                raise TypeError(f"expected Ack, Nak or Term, got {decision!r:.80}")
            return decision
        except Exception as wrong:
            self.wiring.observers.logger.exception("subscription %s: the settle policy raised", self.subscription.label)
            return Term("delivery_limit", f"the settle policy raised {wrong!r} about {error!r}")

    def sweep(self, now_ns: int) -> None:
        """Cancel handlers that are over their time, and abandon those that do not end then."""
        counted = self.subscription.delivery_count + self.subscription.error_count
        if counted != self._counted:
            self._counted = counted
            self.subscription.last_delivered = datetime.fromtimestamp(self.wiring.clock.time_ns() / 1e9, UTC)
        for worker in tuple(self.workers):
            if worker.event is None or worker.task is None or now_ns - worker.begun_ns <= self._timeout_ns:
                continue
            if not worker.cancelled_ns:
                worker.cancelled_ns = now_ns
                worker.task.cancel()
            elif now_ns - worker.cancelled_ns > ABANDON_AFTER_NS:
                self._abandon(worker, now_ns)

    def _abandon(self, worker: Worker, now_ns: int) -> None:
        event = worker.event
        assert event is not None
        self.wiring.observers.logger.error(
            "subscription %s: the handler of event %s ignores its cancellation; it is abandoned",
            self.subscription.label,
            event.id,
        )
        worker.abandoned = True
        self.workers.remove(worker)
        self.abandoned += 1
        error = TimeoutError(f"handler took longer than {self.subscription.timeout_s} s and ignored its cancellation")
        self._conclude(Attempt(event, worker.begun_ns, now_ns, worker.permits), "timeout", error)
        self._release_key(event)
        self.flush()
        self.more_workers()

    # Once per turn of the loop

    def flush_soon(self) -> None:
        """The flush that was due, this turn or the last."""
        self._flush_due = False
        self.flush()

    def flush(self) -> None:
        """Settle, account and report all deliveries that ended since the last time."""
        if self._done:
            batch = Attempts(self._done)
            self._done.clear()
            failed, naks, self._failed_now, self._naks_now = self._failed_now, self._naks_now, 0, 0
            batch.plain = not failed
            self._tell(batch, batch[-1].ended_ns)
            self.progress.settle(batch, failed)
            self._give_room(len(batch) - naks)
            self.subscription.delivery_count += len(batch) - failed
            self.subscription.error_count += failed
        if self.subscription.concurrency > 1:
            self.more_workers()
        if self.window is not None:
            self.window.refill()

    def _tell(self, batch: Attempts, invoked_ns: int) -> None:
        if self.wiring.gate is not None:
            try:
                _record(self.wiring.gate, batch, in_order=self.subscription.concurrency == 1)
            except Exception:
                self.wiring.observers.logger.exception(
                    "subscription %s: a gate raised about an outcome; it does not know of it", self.subscription.label
                )
        self.wiring.observers.attempted(self.subscription, batch, invoked_ns)

    def confirmed(self, batch: Attempts) -> None:
        """The store has the settlements of these attempts."""
        self.wiring.observers.settled(self.subscription, batch, self._now)

    def _give_room(self, n: int) -> None:
        self.room = min(self.wiring.room, self.room + n)
        while self.room_waiters:
            waiter = self.room_waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)

    def close(self) -> None:
        """Deliver nothing more: handlers that run may end, what waits is cancelled."""
        self.closed = True
        self.withdraw_credits()
        self.cancelled += self.pending - sum(worker.event is not None for worker in self.workers) - len(self._done)
        for level in self.queue.levels:
            level.clear()
        self.delayed.clear()
        self._give_room(self.wiring.room)
        for worker in tuple(self._idle):
            if worker.task is not None:
                worker.task.cancel()

    async def halt(self) -> None:
        """The router stops: cancel what still runs, uncounted, and settle what ended."""
        self.halted = True
        self.withdraw_credits()
        tasks = [worker.task for worker in self.workers if worker.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self.flush()


def _record(gate: Gate, batch: Attempts, *, in_order: bool) -> None:
    """Tell the gate how deliveries under each of its permits ended."""
    first = batch[0].permits
    if first is not None and (batch[-1].permits is first if in_order else all(one.permits is first for one in batch)):
        gate.record(first, batch)
        return
    by_permits: dict[int, Attempts] = {}
    for attempt in batch:
        by_permits.setdefault(id(attempt.permits), Attempts()).append(attempt)
    for attempts in by_permits.values():
        if (permits := attempts[0].permits) is not None:
            attempts.plain = batch.plain
            gate.record(permits, attempts)
