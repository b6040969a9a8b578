"""The tasks that call a subscription's handler, their deadlines, and their end.

Workers live as long as the subscription and call handlers in their own task: there is no task, timer or hook call per
delivery.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from squall.core.delivery import Attempt, Decision, Outcome, Permits
from squall.core.errors import Expired, TimedOut
from squall.core.event import Event
from squall.core.settle import Delivery

if TYPE_CHECKING:
    from squall.core.dispatch import Dispatcher

BATCH = 64
ABANDON_AFTER_NS = 1_000_000_000


class Worker:
    """One task that calls the handler, and the delivery it has in hand."""

    __slots__ = ("begun_ns", "cancelled_ns", "delivery", "event", "number", "permits", "task", "waiter")

    def __init__(self, number: int) -> None:
        self.number = number
        self.task: asyncio.Task[None] | None = None
        self.event: Event | None = None
        self.begun_ns = 0
        self.cancelled_ns = 0
        self.permits: Permits | None = None
        self.delivery: Delivery | None = None
        self.waiter: asyncio.Future[None] | None = None

    def put_down(self) -> Decision | None:
        """The delivery is over; returns what its handler said by hand."""
        said = None if self.delivery is None else self.delivery.decision
        self.event = self.delivery = None
        self.cancelled_ns = 0
        return said


class Workers:
    """As many workers as a subscription's concurrency lets run, started when there is work for them. `abandoned`: those
    whose handlers run on. They are held here, since the event loop itself has only weak references to their tasks."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self.abandoned: set[Worker] = set()
        self.present: list[Worker] = []
        self.idle: list[Worker] = []
        self._dispatcher = dispatcher
        self._subscription = dispatcher.subscription
        self._started = 0
        self._timeout_ns = round(self._subscription.timeout_s * 1e9)

    @property
    def running(self) -> list[Event]:
        """What handlers have in hand, abandoned ones excepted."""
        return [worker.event for worker in self.present if worker.event is not None]

    def more(self, wanted: int) -> None:
        """Wake, or start, as many workers as are wanted and allowed."""
        for _ in range(min(wanted, len(self.idle))):
            self.wake()
            wanted -= 1
        limit = min(self._subscription.concurrency, self._subscription.in_flight)
        # An abandoned handler's slot is filled again, until as many are abandoned as there are slots.
        for _ in range(min(wanted, limit - len(self.present) - max(0, len(self.abandoned) - limit))):
            self.spawn()

    def wake(self) -> None:
        """Wake one that rests."""
        waiter = self.idle.pop().waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def spawn(self) -> None:
        """Start one more."""
        self._started += 1
        worker = Worker(self._started)
        self.present.append(worker)
        worker.task = asyncio.get_running_loop().create_task(
            self._work(worker), name=f"squall:{self._subscription.label}:{worker.number}"
        )
        worker.task.add_done_callback(lambda task: self._ended(worker, task))

    def _ended(self, worker: Worker, task: asyncio.Task[None]) -> None:
        if worker in self.abandoned:
            self.abandoned.remove(worker)
        else:
            self._remove(worker)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._dispatcher.wiring.observers.logger.error(
                "subscription %s: worker %d died of %r; it is replaced", self._subscription.label, worker.number, error
            )
        self._dispatcher.attentive = True
        self._dispatcher.more_workers()

    async def _rest(self, worker: Worker) -> None:
        if not self._dispatcher.ahead:
            self._dispatcher.credit.withdraw()
        worker.waiter = asyncio.get_running_loop().create_future()
        self.idle.append(worker)
        self._dispatcher.attentive = True
        try:
            await worker.waiter
        finally:
            worker.waiter = None
            if worker in self.idle:
                self.idle.remove(worker)

    async def _work(self, worker: Worker) -> None:  # noqa: C901, PLR0912, PLR0915  the hot path
        own = self._dispatcher
        call, now = own.wiring.bind(worker), own.wiring.clock.monotonic_ns
        critical, high, normal, low = own.queue.levels
        done, credit, failures, by_hand = own.done, own.credit, own.endings.failures, own.wiring.by_hand
        served, keys = own.queue.served, own.keys
        queue_take, direct = own.queue.take, keys is None and own.ahead is None
        call_soon = asyncio.get_running_loop().call_soon
        turns = ended = unscheduled = 0
        goes_on = True
        while goes_on:
            if turns >= BATCH:
                served[2] += unscheduled
                turns = ended = unscheduled = 0
                await asyncio.sleep(0)
            scheduled = critical or high or low
            if direct and credit.left > 0 and (scheduled or normal):
                if not scheduled:  # when only NORMAL waits, as mostly, its turn needs no scheduling
                    event = normal.popleft()
                    unscheduled += 1
                else:
                    event = queue_take()  # type: ignore[assignment]  # something waits
                credit.left -= 1
            elif (taken := own.take()) is not None:
                event = taken
            else:
                served[2] += unscheduled
                turns = ended = unscheduled = 0
                own.flush()
                goes_on = not own.over
                if goes_on and not (own.ahead is not None and await own.ahead.settle()):
                    await self._rest(worker)
                continue
            if event.expires_ns and own.expire(event, credit.permits):
                turns += 1
                continue
            if done and not own.flush_due:
                own.flush_due = True
                call_soon(own.flush_soon)
            worker.event = event
            worker.begun_ns = begun = ended or now()
            worker.permits = permits = credit.permits
            try:
                await call(event)
            except BaseException as error:
                ended = 0
                if worker.cancelled_ns and isinstance(error, Exception):
                    await self._uncancel(worker)  # its handler made another error of it
                goes_on = self._raised(worker, Attempt(event, begun, now(), permits), error)
                if not (goes_on or worker in self.abandoned):
                    raise
            else:
                ended = now()
                if by_hand or worker.cancelled_ns or (failures and event.seq in failures):
                    goes_on = await self._returned(worker, Attempt(event, begun, ended, permits))
                else:
                    done.append(Attempt(event, begun, ended, permits))
                    worker.event = None
            if keys is not None and goes_on:
                own.release_key(event)
            turns += 1

    async def _returned(self, worker: Worker, attempt: Attempt) -> bool:
        """The handler returned, but settled by hand, failed before, or was cancelled. Returns whether to go on."""
        late = worker.cancelled_ns
        if late:
            await self._uncancel(worker)
        if worker in self.abandoned:
            return False
        if late:
            self._dispatcher.conclude(attempt, worker.put_down(), "timeout", self._dispatcher.endings.timeout())
        else:
            self._dispatcher.conclude(attempt, worker.put_down(), "ok", None)
        return True

    async def _uncancel(self, worker: Worker) -> None:
        """The sweep's cancellation belongs to this delivery, and must not hit the next if it is still on its way."""
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            if not worker.cancelled_ns:
                raise
        if worker.task is not None:
            worker.task.uncancel()

    def _raised(self, worker: Worker, attempt: Attempt, error: BaseException) -> bool:
        """The handler raised. Returns whether the worker goes on."""
        if worker in self.abandoned:
            return False
        own = self._dispatcher
        outcome: Outcome = "timeout" if isinstance(error, TimedOut) else "error"
        if isinstance(error, asyncio.CancelledError):
            if worker.cancelled_ns and worker.task is not None:
                worker.task.uncancel()
                outcome, error = "timeout", own.endings.timeout()
            elif worker.task is not None and worker.task.cancelling():
                self._stopped(worker, attempt)
                return False
        elif not isinstance(error, Exception):
            outcome = "died"
        elif worker.cancelled_ns:
            outcome, late = "timeout", own.endings.timeout()
            late.__cause__, error = error, late
        said = worker.put_down()
        if said is None and isinstance(error, Expired):
            return own.expire(attempt.event, attempt.permits, surely=True)
        own.conclude(attempt, said, outcome, error)
        if outcome == "died":
            own.release_key(attempt.event)
            own.flush()
        return outcome != "died"

    def _stopped(self, worker: Worker, attempt: Attempt) -> None:
        """The router stops: the delivery does not count, unless its handler has said what becomes of it."""
        said = worker.put_down()
        if said is None:
            self._dispatcher.release(attempt)
        else:
            self._dispatcher.conclude(attempt, said, "ok", None)

    @property
    def current(self) -> Worker | None:
        """Whose handler is calling."""
        task = asyncio.current_task()
        return next((worker for worker in self.present if worker.task is task), None)

    async def halt(self, spared: Worker | None = None) -> None:
        """Cancel all; those that ignore that are abandoned. The one that is spared may end what it has in hand."""
        clock = self._dispatcher.wiring.clock
        tasks = [worker.task for worker in self.present if worker.task is not None and worker is not spared]
        late = asyncio.get_running_loop().create_future()
        timer = clock.call_later(ABANDON_AFTER_NS / 1e9, lambda: late.set_result(None))
        for number, task in enumerate(tasks):
            task.cancel()
            if number % BATCH == BATCH - 1:
                await asyncio.sleep(0)  # a thousand in one turn would hold up everybody else for 20 ms
        ended = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait([ended, late], return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        for worker in tuple(self.present):
            if worker is spared:
                worker.waiter = asyncio.get_running_loop().create_future()
                await worker.waiter
            elif (event := worker.event) is not None:
                self._stopped(worker, Attempt(event, worker.begun_ns, clock.monotonic_ns(), worker.permits))
                self._abandon(worker, event, "the router stops, and its handler ignores its cancellation")

    def sweep(self, now_ns: int) -> None:
        """Cancel handlers that are over their time, and abandon those that do not end then."""
        for worker in tuple(self.present):
            if worker.event is None or worker.task is None or now_ns - worker.begun_ns <= self._timeout_ns:
                continue
            if not worker.cancelled_ns:
                worker.cancelled_ns = now_ns
                worker.task.cancel()
            elif now_ns - worker.cancelled_ns > ABANDON_AFTER_NS:
                own, event = self._dispatcher, worker.event
                said = worker.put_down()
                self._abandon(worker, event, "its handler ignores its cancellation")
                error = own.endings.timeout(" and ignored its cancellation")
                own.conclude(Attempt(event, worker.begun_ns, now_ns, worker.permits), said, "timeout", error)
                own.release_key(event)
                own.flush()
                own.more_workers()

    def _abandon(self, worker: Worker, event: Event, why: str) -> None:
        logger = self._dispatcher.wiring.observers.logger
        logger.error("subscription %s: event %s is abandoned: %s", self._subscription.label, event.id, why)
        worker.cancelled_ns = worker.begun_ns  # so that its end, when it comes, is not taken for a plain one
        self._remove(worker)
        self.abandoned.add(worker)

    def _remove(self, worker: Worker) -> None:
        self.present.remove(worker)
        if worker.waiter is not None and not worker.waiter.done():
            worker.waiter.set_result(None)
