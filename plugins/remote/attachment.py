"""One subscription at a remote router: what is asked of each connection for it, and told about its deliveries."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from typing import Protocol

from squall.core.clock import Clock
from squall.core.delivery import Ack, Decision, Nak, Term
from squall.core.errors import Reject, SquallError, text_of
from squall.core.event import Event
from squall.core.failures import FailureLog
from squall.core.filters import Filter, Predicate
from squall.core.subscription import Subscription
from squall.plugins.remote import wire
from squall.plugins.remote.handling import Failed, Hand, Handling
from squall.protos import wire_pb2 as pb

PREFETCH = 100
MAX_ERROR_CHARACTERS = 4000


class Wakes(Protocol):
    """Who sends what is to be said."""

    clock: Clock
    logger: logging.Logger
    scrub: Callable[[str], str]
    on_end: Callable[[Event, Decision | Failed, bool], None] | None

    def wake(self) -> None: ...


class Attachment:
    """A subscription and its handler. `sub` is its number on the connection, 0 while there is none; `first` is answered
    when the server first took it, or refused; `wanted` says that it is subscribed on every new connection."""

    def __init__(self, subscription: Subscription, asked: pb.Subscribe, owner: Wakes, deadline_ns: int) -> None:
        self.subscription, self.deadline_ns = subscription, deadline_ns
        self.first: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.leaving: asyncio.Future[None] | None = None
        self.sub = 0
        self.wanted, self.attached, self.ending = True, False, False
        self.again_ns = 0
        self.failures = 0
        self._asked, self._owner = asked, owner
        self._tests: list[Predicate] = [one for one in subscription.filters if not isinstance(one, Filter)]
        self._settles = subscription.delivery == "at-least-once"
        self.handling = Handling(subscription, owner.clock, owner.logger, self._ended, self._expired)
        self._failures = FailureLog(subscription.label, owner.clock, owner.logger, owner.scrub)
        self._lease_ns, self._renewed_ns = asked.lease_ms * 1_000_000, 0
        self._window = self._owed = 0
        self._settle = pb.Settle()

    # The connection

    def ask(self, sub: int, welcome: pb.Welcome) -> pb.ClientFrame:
        """What subscribes it on this connection."""
        subscription = self.subscription
        most = min(subscription.in_flight, welcome.max_in_flight)
        self._window = min(most, max(PREFETCH, 2 * subscription.concurrency))
        self.sub, self._owed = sub, 0
        self._settle = pb.Settle(sub=sub)
        self._renewed_ns = self._owner.clock.monotonic_ns()
        asked = pb.Subscribe(sub=sub, in_flight=self._window)
        asked.MergeFrom(self._asked)
        if not self.handling.paused:
            asked.credit = self._window
        else:
            self._owed = self._window
        self._asked.take_over = asked.HasField("name")  # from now on it may be our own lost connection that has it
        return pb.ClientFrame(subscribe=asked)

    def taken(self, subscription_id: str, from_seq: int) -> None:
        """The server has attached it."""
        self.attached, self.failures = True, 0
        self.subscription.from_seq = from_seq
        if not self.first.done():
            self.subscription.id = subscription_id
            self.first.set_result(subscription_id)
            self._asked.update = False
            if not self._asked.HasField("name"):
                self._asked.ClearField("start")  # an unnamed one goes on with what is new, not with the past again

    def refused(self, error: SquallError, again_ns: int) -> bool:
        """The server did not attach it. False where that is its end; else it is asked again."""
        self.sub, self.attached = 0, False
        if not self.first.done():
            self.first.set_exception(error)
            return False
        self.failures += 1
        self.again_ns = again_ns
        self._owner.logger.error("subscription %s: not taken up again yet: %s", self.subscription.label, error)
        return True

    def lost(self) -> None:
        """The connection is gone. What waits here is delivered again; what handlers have in hand, they may end."""
        self.sub, self.attached = 0, False
        self.handling.waiting.clear()
        for hand in self.handling.running:
            hand.number = 0
        if self.leaving is not None and not self.leaving.done():
            self.leaving.set_result(None)

    # Deliveries

    def deliver(self, deliveries: pb.Deliveries) -> None:
        """Take deliveries in, for the handler."""
        running = {hand.event.id: hand for hand in self.handling.running} if self._settles else {}
        now_ns = self._owner.clock.monotonic_ns()
        for one in deliveries.deliveries:
            event = wire.event(one.event)
            again = running.get(event.id)
            if again is not None:
                again.number = one.delivery  # its handler runs still: what it comes to counts for this delivery
            elif self._tests and not self._wants(event):
                self._ended(Hand(one.delivery, event), Ack())
            else:
                expires_ns = now_ns + one.ttl_ms * 1_000_000 if one.HasField("ttl_ms") else 0
                self.handling.waiting.append(Hand(one.delivery, event, expires_ns))
        self.handling.more()

    def _wants(self, event: Event) -> bool:
        """A user's function that raises is not the publisher's problem: the event is delivered, and it is logged."""
        try:
            return all(test(event) for test in self._tests)
        except Exception:
            self._owner.logger.exception(
                "subscription %s: a filter raised; the event is delivered", self.subscription.label
            )
            return True

    def _ended(self, hand: Hand, how: Decision | Failed) -> None:
        """A delivery is over: say so to the server, if it is still this connection's."""
        failed = isinstance(how, Failed)
        self.subscription.delivery_count += not failed
        self.subscription.error_count += failed
        if isinstance(how, Failed):
            self._failures.add(hand.event, how.error, None if self._settles else Ack())
        elif isinstance(how, Term):
            self._failures.add(hand.event, Reject(how.text), how)
        if self._owner.on_end is not None:
            self._owner.on_end(hand.event, how, bool(hand.number))
        if not hand.number:
            if self._settles:
                self._owner.logger.warning(
                    "subscription %s: event %s was handled on a connection that is lost: its result is dropped, and it "
                    "is delivered again",
                    self.subscription.label,
                    hand.event.id,
                )
            return
        self._owed += 1
        if self._settles:
            self._tell(hand.number, how)
        self._owner.wake()

    def _expired(self, hand: Hand) -> None:
        """Its time to live was over before its turn. At most once, the server has settled it when it sent it."""
        self._owed += 1
        if self._settles:
            self._settle.expired.append(hand.number)
        self._owner.wake()

    def _tell(self, number: int, how: Decision | Failed) -> None:
        if isinstance(how, Ack):
            self._settle.ack.append(number)
        elif isinstance(how, Term):
            self._settle.term.add(delivery=number, reason=how.text[:MAX_ERROR_CHARACTERS])
        elif isinstance(how, Nak):
            self._settle.nak.add(delivery=number, delay_ms=None if how.delay_s < 0 else round(how.delay_s * 1000))
        else:
            text = text_of(how.error)[:MAX_ERROR_CHARACTERS]
            kind = type(how.error).__name__
            self._settle.nak.add(delivery=number, error_type=kind, error=text, timed_out=how.timed_out)

    def frames(self) -> Iterator[pb.ClientFrame]:
        """What is to be said now."""
        if not self.sub:
            return
        settle = self._settle
        if settle.ack or settle.nak or settle.term or settle.in_progress or settle.expired:
            self._settle = pb.Settle(sub=self.sub)
            yield pb.ClientFrame(settle=settle)
        if self._owed and self.attached and not self.handling.paused and not self.ending:
            in_hand = bool(self.handling.waiting)
            if not in_hand or self._owed * 4 >= self._window:
                owed, self._owed = self._owed, 0
                yield pb.ClientFrame(credit=pb.Credit(sub=self.sub, more=owed))

    def sweep(self, now_ns: int) -> None:
        """Watch the handlers, and renew the leases of all that is in hand."""
        self.handling.sweep(now_ns)
        if self._settles and self.sub and now_ns - self._renewed_ns >= self._lease_ns // 3:
            self._renewed_ns = now_ns
            hands = [one.number for one in (*self.handling.running, *self.handling.waiting) if one.number]
            if hands:
                self._settle.in_progress.extend(hands)
                self._owner.wake()
