"""One remote subscription on the kernel's side: its handler, and the gate that holds it to its client's credit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

from squall.core.delivery import Attempts, Permits, WaitUntil
from squall.core.errors import Expired, Retry, TimedOut
from squall.core.event import MAX_TEXT, Event
from squall.core.plugin import Context
from squall.core.settle import Delivery
from squall.core.subscription import Subscription
from squall.plugins.serve.errors import ProtocolError

MAX_CREDIT = 1_000_000
MAX_ERROR_CHARACTERS = 4000
ASK_AGAIN_NS = 3_600_000_000_000


class Outlet(Protocol):
    """Where deliveries go, to a client at this address."""

    address: str

    def deliver(self, handler: RemoteHandler, event: Event) -> int:
        """Send it soon; returns its number on the connection."""

    def room(self) -> int:
        """So many more events may begin now, whatever their size; 0: first the client must take or settle some."""

    def hold(self, size: int) -> None:
        """The client has so many bytes more in hand; fewer, where it is negative."""


class InHand(NamedTuple):
    """A delivery that the client has: of which event, what ends its handler, and what is said about it."""

    event: Event
    ended: asyncio.Future[None]
    delivery: Delivery


class RemoteError(Exception):
    """What a remote handler raised, as its client tells it."""

    @classmethod
    def of(cls, kind: str, text: str, *, timed_out: bool) -> RemoteError:
        """An error of a class of this name, so that policies and dead letters see what the handler raised."""
        name = kind[:MAX_TEXT] if kind.isidentifier() else cls.__name__
        bases = (cls, TimedOut) if timed_out else (cls,)
        error: RemoteError = type(name, bases, {})(text[:MAX_ERROR_CHARACTERS])
        return error


class RemoteHandler:
    """Hands events to a client; each is in hand until the client settles it, or the kernel takes it back.

    Also the subscription's gate: no more deliveries begin than the client gave credit for, and than its connection has
    room for. A gate, because what a gate holds back is not yet delivered: it has no lease that could run out.
    """

    longest_wait_s = 0.0

    def __init__(self, outlet: Outlet, sub: int, credit: int, *, settles_first: bool) -> None:
        self.sub = sub
        self.in_hand: dict[int, InHand] = {}
        self.unstored: set[int] = set()  # seqs of what the client has settled, and the store has not yet
        self.leaving = False
        self.origin = outlet.address
        self._outlet, self._settles_first = outlet, settles_first
        self._credit = min(credit, MAX_CREDIT)
        self._sent: set[int] = set()
        self._starved = False
        self._awaited: list[tuple[set[int], asyncio.Future[None]]] = []
        self._subscription: Subscription | None = None
        self._ctx: Context | None = None

    @property
    def subscription(self) -> Subscription:
        """Known once it is wired."""
        assert self._subscription is not None
        return self._subscription

    def gate(self, ctx: Context, subscription: Subscription) -> RemoteHandler:
        """Wire it."""
        self._ctx, self._subscription = ctx, subscription
        return self

    # The handler

    async def __call__(self, event: Event, delivery: Delivery) -> None:
        number = self._outlet.deliver(self, event)
        self._sent.add(event.seq)
        if self._settles_first:
            return
        ended, size = asyncio.get_running_loop().create_future(), len(event.payload)
        self.in_hand[number] = InHand(event, ended, delivery)
        self._outlet.hold(size)
        try:
            await ended
        except Expired:
            self._sent.discard(event.seq)
            self._credit -= 1  # the kernel gives it back as if it had not been used, but this the client does itself
            raise
        finally:
            self.in_hand.pop(number, None)
            self._outlet.hold(-size)

    def settle(self, number: int, say: Callable[[Delivery], None]) -> bool:
        """The client's word about a delivery; False when it is not in its hands."""
        found = self.in_hand.pop(number, None)
        if found is None:
            return False
        say(found.delivery)
        self.unstored.add(found.event.seq)
        if not found.ended.done():
            found.ended.set_result(None)
        return True

    def fail(self, number: int, error: Exception) -> bool:
        """The client's handler raised, and the settle policy decides; False when it is not in its hands."""
        found = self.in_hand.pop(number, None)
        if found is None:
            return False
        self.unstored.add(found.event.seq)
        if not found.ended.done():
            found.ended.set_exception(error)
        return True

    def expire(self, number: int) -> bool:
        """Its time to live was over before the client's handler began; False when it is not in its hands. Raises
        ProtocolError where it has none. Nobody waits until that is stored: what is not, expires again."""
        found = self.in_hand.get(number)
        if found is None:
            return False
        if not found.event.expires_ns:
            raise ProtocolError(
                f"delivery {number} cannot have expired: its event {found.event.id} has no time to live"
            )
        del self.in_hand[number]
        if not found.ended.done():
            found.ended.set_exception(Expired())
        return True

    def renew(self, number: int) -> bool:
        """The delivery's lease begins anew; False when it is not in the client's hands."""
        found = self.in_hand.get(number)
        if found is not None:
            found.delivery.in_progress()
        return found is not None

    def let_go(self) -> None:
        """The client is gone: what it has in hand has failed."""
        for one in list(self.in_hand.values()):
            if not one.ended.done():
                one.ended.set_exception(Retry())

    def all_stored(self) -> asyncio.Future[None]:
        """Done when the store has all that the client has settled by now."""
        done = asyncio.get_running_loop().create_future()
        if self.unstored:
            self._awaited.append((set(self.unstored), done))
        else:
            done.set_result(None)
        return done

    def stored(self, seqs: Iterable[int]) -> None:
        """The store has the settlements of these events."""
        seqs = tuple(seqs)
        self.unstored.difference_update(seqs)
        for waiting, done in self._awaited:
            waiting.difference_update(seqs)
            if not waiting and not done.done():
                done.set_result(None)
        self._awaited = [one for one in self._awaited if not one[1].done()]

    # The gate

    def grant(self, more: int) -> None:
        """The client takes so many more deliveries."""
        self._credit = min(MAX_CREDIT, self._credit + more)
        self.open_again()

    def open_again(self) -> None:
        """Deliveries that waited may begin, if there is credit for them."""
        if self._starved and self._credit > 0 and self._ctx is not None:
            self._starved = False
            self._ctx.changed(self.subscription.id, "credit", "closed")

    def stop(self) -> None:
        """Deliver nothing more."""
        self._credit = -2 * MAX_CREDIT

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        n = min(n, self._credit, self._outlet.room())
        if n <= 0:
            self._starved = True
            assert self._ctx is not None
            return WaitUntil(self._ctx.clock.monotonic_ns() + ASK_AGAIN_NS)
        self._credit -= n
        return Permits(n)

    def record(self, permits: Permits, attempts: Attempts) -> None:
        """Of what it was sent the client gives credit itself when it can take more. It does not know of what a layer
        before the handler ended: that has cost nothing."""
        unsent = 0
        for attempt in attempts:
            if attempt.event.seq in self._sent:
                self._sent.remove(attempt.event.seq)
            else:
                unsent += 1
        if unsent:
            self.grant(unsent)

    def release(self, permits: Permits, n: int) -> None:
        self.grant(n)
