"""The tasks that call a remote subscription's handler, one delivery at a time each, and how each delivery ends."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from squall.core.clock import Clock
from squall.core.delivery import Ack, Decision, Nak, Term
from squall.core.errors import Reject, Retry, text_of
from squall.core.event import Event
from squall.core.settle import Delivery
from squall.core.subscription import Subscription
from squall.core.subscription_checks import takes_delivery

BATCH = 64
ABANDON_AFTER_NS = 1_000_000_000
AS_POLICY_SAYS = -1.0


@dataclass(slots=True)
class Hand:
    """A delivery that is here. `number` is the server's on this connection, 0 once that is lost; `expires_ns` is the
    monotonic time from which on its handler does not begin, 0 without one."""

    number: int
    event: Event
    expires_ns: int = 0


@dataclass(slots=True, frozen=True)
class Failed:
    """What the handler raised, or that it took too long, for the server's policy to decide about."""

    error: BaseException
    timed_out: bool = False


class _Worker:
    __slots__ = ("begun_ns", "cancelled_ns", "delivery", "given_up", "hand", "stopped", "task")

    def __init__(self) -> None:
        self.task: asyncio.Task[None] | None = None
        self.hand: Hand | None = None
        self.delivery: Delivery | None = None
        self.begun_ns = self.cancelled_ns = 0
        self.given_up = self.stopped = False


class Handling:
    """Deliveries of one subscription that wait for their handler, or are in its hands."""

    def __init__(
        self,
        subscription: Subscription,
        clock: Clock,
        logger: logging.Logger,
        ended: Callable[[Hand, Decision | Failed], None],
        expired: Callable[[Hand], None],
    ) -> None:
        self.waiting: deque[Hand] = deque()
        self.paused = False
        self._subscription, self._clock, self._logger = subscription, clock, logger
        self._ended, self._expired = ended, expired
        self._by_hand = takes_delivery(subscription.handler)
        self._timeout_ns = round(subscription.timeout_s * 1e9)
        self._workers: list[_Worker] = []
        self._abandoned: set[_Worker] = set()
        self._idle: list[asyncio.Future[None]] = []

    @property
    def running(self) -> list[Hand]:
        """What handlers have in hand now."""
        return [one.hand for one in self._workers if one.hand is not None]

    def more(self) -> None:
        """Wake or start as many workers as there is work for."""
        wanted = 0 if self.paused else len(self.waiting)
        while wanted and self._idle:
            waiter = self._idle.pop()
            if not waiter.done():
                waiter.set_result(None)
            wanted -= 1
        limit = self._subscription.concurrency
        # An abandoned handler's slot is filled again, until as many are abandoned as there are slots.
        for _ in range(min(wanted, limit - len(self._workers) - max(0, len(self._abandoned) - limit))):
            self._spawn()

    def _spawn(self) -> None:
        worker = _Worker()
        self._workers.append(worker)
        worker.task = asyncio.get_running_loop().create_task(
            self._work(worker), name=f"squall:{self._subscription.label}"
        )
        worker.task.add_done_callback(lambda task: self._gone(worker, task))

    def _gone(self, worker: _Worker, task: asyncio.Task[None]) -> None:
        self._abandoned.discard(worker)
        if worker in self._workers:
            self._workers.remove(worker)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._logger.error("subscription %s: a worker died of %r; it is replaced", self._subscription.label, error)
        if not worker.stopped:
            self.more()

    async def _work(self, worker: _Worker) -> None:
        now, handler, turns = self._clock.monotonic_ns, self._subscription.handler, 0
        while not (worker.given_up or worker.stopped):
            if self.paused or not self.waiting:
                turns = 0
                await self._rest()
                continue
            if turns >= BATCH:
                turns = 0
                await asyncio.sleep(0)
                continue
            turns += 1
            hand, begun_ns = self.waiting.popleft(), now()
            if hand.expires_ns and begun_ns >= hand.expires_ns:
                self._expired(hand)
                continue
            worker.hand, worker.begun_ns = hand, begun_ns
            error: BaseException | None = None
            try:
                if self._by_hand:
                    worker.delivery = Delivery(self._subscription, lambda: self._extend(worker))
                    await handler(hand.event, worker.delivery)
                else:
                    await handler(hand.event)
            except BaseException as raised:  # noqa: BLE001  told to the server, and raised again where it is the task's
                error = raised
            await self._end(worker, hand, error)

    async def _rest(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._idle.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._idle:
                self._idle.remove(waiter)

    def _extend(self, worker: _Worker) -> None:
        worker.begun_ns = self._clock.monotonic_ns()

    async def _end(self, worker: _Worker, hand: Hand, error: BaseException | None) -> None:
        if worker.given_up:
            return
        late, task = worker.cancelled_ns, worker.task
        if late and task is not None:
            if not isinstance(error, asyncio.CancelledError):
                await _taken_back()  # the cancellation belongs to this delivery, and must not hit the next
            task.uncancel()
        said = None if worker.delivery is None else worker.delivery.decision
        worker.hand = worker.delivery = None
        worker.cancelled_ns = 0
        stopped = isinstance(error, asyncio.CancelledError) and not late and task is not None and task.cancelling()
        if said is not None:
            self._ended(hand, said)
        elif late:
            self._ended(hand, self._timeout())
        elif not stopped:
            self._ended(hand, _decision(error))
        if error is not None and (stopped or not isinstance(error, Exception | asyncio.CancelledError)):
            raise error

    def _timeout(self, how: str = "") -> Failed:
        text = f"handler took longer than {self._subscription.timeout_s} s{how}"
        return Failed(TimeoutError(text), timed_out=True)

    def sweep(self, now_ns: int) -> None:
        """Cancel handlers that are over their time, and abandon those that do not end then."""
        for worker in tuple(self._workers):
            if worker.hand is None or worker.task is None or now_ns - worker.begun_ns <= self._timeout_ns:
                continue
            if not worker.cancelled_ns:
                worker.cancelled_ns = now_ns
                worker.task.cancel()
            elif now_ns - worker.cancelled_ns > ABANDON_AFTER_NS:
                hand, said = worker.hand, None if worker.delivery is None else worker.delivery.decision
                self._abandon(worker)
                self._ended(hand, said or self._timeout(" and ignored its cancellation"))
                self.more()

    def _abandon(self, worker: _Worker) -> None:
        assert worker.hand is not None
        self._logger.error(
            "subscription %s: event %s is abandoned: its handler ignores its cancellation",
            self._subscription.label,
            worker.hand.event.id,
        )
        worker.given_up, worker.hand = True, None
        self._workers.remove(worker)
        self._abandoned.add(worker)

    async def halt(self) -> None:
        """Cancel what runs, and forget what waits: neither counts as an attempt. Who ignores that is abandoned."""
        self.waiting.clear()
        tasks = [one.task for one in self._workers if one.task is not None]
        for worker in self._workers:
            worker.stopped = True
        for task in tasks:
            task.cancel()
        if not tasks:
            return
        late = asyncio.get_running_loop().create_future()
        timer = self._clock.call_later(ABANDON_AFTER_NS / 1e9, lambda: late.set_result(None))
        ended = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait([ended, late], return_when=asyncio.FIRST_COMPLETED)
        timer.cancel()
        for worker in tuple(self._workers):
            if worker.hand is not None:
                self._abandon(worker)

    def dismiss(self) -> None:
        """What waits is dropped; handlers that run may end, and their workers with them."""
        self.waiting.clear()
        for worker in self._workers:
            worker.stopped = True
            if worker.hand is None and worker.task is not None:
                worker.task.cancel()


async def _taken_back() -> None:
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        return


def _decision(error: BaseException | None) -> Decision | Failed:
    """What a handler's end says."""
    if error is None:
        return Ack()
    if isinstance(error, Retry):
        return Nak(AS_POLICY_SAYS if error.delay_s is None else error.delay_s)
    if isinstance(error, Reject):
        return Term("rejected", text_of(error.reason))
    return Failed(error)
