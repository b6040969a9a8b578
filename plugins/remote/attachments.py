"""All subscriptions of a remote router, over all its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING

from squall.core.errors import NotRunning, SubscriptionError
from squall.plugins.remote.attachment import Attachment
from squall.plugins.remote.errors import subscription_error
from squall.protos import wire_pb2 as pb

if TYPE_CHECKING:
    from squall.plugins.remote.client import RemoteRouter

AGAIN_S, AGAIN_CAP_S = 0.2, 10.0


class Attachments:
    """Subscribes each on every connection, and gives it what the server says about it."""

    def __init__(self, router: RemoteRouter) -> None:
        self._router, self._clock = router, router.clock
        self._all: list[Attachment] = []
        self._by_sub: dict[int, Attachment] = {}
        self._welcome: pb.Welcome | None = None
        self._last_sub = 0
        self._draining = False

    @property
    def busy(self) -> bool:
        """Is a handler running, or a settlement not sent?"""
        return any(one.handling.running for one in self._all)

    def get(self, subscription_id: str) -> Attachment:
        """Raises SubscriptionError."""
        for one in self._all:
            if one.subscription.id == subscription_id and one.first.done() and not one.ending:
                return one
        raise SubscriptionError(f"no subscription {subscription_id!r:.80} here: subscribe first")

    async def attach(self, attachment: Attachment) -> str:
        """Subscribe it, now or on the next connection; returns its id. Raises SubscriptionError or NotRunning."""
        name = attachment.subscription.name
        if name is not None and any(one.subscription.name == name and not one.ending for one in self._all):
            raise SubscriptionError(f"subscription {name!r} is attached already, in this router")
        self._all.append(attachment)
        self._ask(attachment)
        try:
            return await attachment.first
        except BaseException:
            await self._drop(attachment)
            raise

    async def _drop(self, attachment: Attachment) -> None:
        if attachment.sub:
            self._router.say(pb.ClientFrame(leave=pb.Leave(sub=attachment.sub)))
        self._forget(attachment)
        await attachment.handling.halt()

    def _forget(self, attachment: Attachment) -> None:
        if attachment in self._all:
            self._all.remove(attachment)

    async def leave(self, attachment: Attachment, *, end: bool) -> None:
        """Give it up. `end`: for good; handlers that run may end. Else they are cancelled."""
        attachment.ending = True
        attachment.deadline_ns = self._clock.monotonic_ns() + round(self._router.settings.deadline_s * 1e9)
        attachment.wanted = end and attachment.subscription.durable  # which the server has to be told
        if end:
            attachment.handling.dismiss()
        else:
            await attachment.handling.halt()
        if attachment.subscription.durable or attachment.attached:
            await self._told(attachment, end)
        if not attachment.handling.running:
            self._forget(attachment)

    async def _told(self, attachment: Attachment, end: bool) -> None:
        while True:
            while not attachment.attached:
                if not end or not attachment.subscription.durable:
                    return  # the server gave it up with the connection
                if self._clock.monotonic_ns() >= attachment.deadline_ns:
                    attachment.ending = False  # it goes on: who asked may ask again
                    raise self._no_answer(attachment)
                await self._clock.sleep(0.01)
            sub = attachment.sub
            attachment.leaving = asyncio.get_running_loop().create_future()
            self._router.say(pb.ClientFrame(leave=pb.Leave(sub=sub, end=end)))
            await attachment.leaving
            if attachment.sub == sub:
                attachment.attached = attachment.wanted = False
                return

    # The connection

    def connected(self, welcome: pb.Welcome) -> None:
        """There is a new connection: subscribe them all on it."""
        self._welcome, self._last_sub = welcome, 0
        for attachment in self._all:
            if attachment.wanted and not self._draining:
                self._ask(attachment)

    def _ask(self, attachment: Attachment) -> None:
        if self._welcome is None:
            return
        self._last_sub += 1
        self._by_sub[self._last_sub] = attachment
        self._router.say(attachment.ask(self._last_sub, self._welcome))

    def lost(self) -> None:
        """The connection is gone."""
        self._welcome = None
        self._by_sub.clear()
        for attachment in self._all:
            attachment.lost()

    def subscribed(self, answer: pb.Subscribed) -> None:
        """The server has attached one."""
        attachment = self._by_sub.get(answer.sub)
        if attachment is not None and attachment.sub == answer.sub:
            attachment.taken(answer.subscription_id, answer.from_seq)

    def left(self, answer: pb.Left) -> None:
        """The server has given one up."""
        attachment = self._by_sub.get(answer.sub)
        if attachment is not None and attachment.leaving is not None and not attachment.leaving.done():
            attachment.leaving.set_result(None)

    def failed(self, failure: pb.Failure) -> None:
        """Something about one went wrong: it was not attached, a lease is lost, another client has it now."""
        attachment = self._by_sub.get(failure.sub)
        if attachment is None or attachment.sub != failure.sub:
            return
        label = attachment.subscription.label
        if failure.error == "TakenOver":
            self._router.logger.error("subscription %s is given up here: %s", label, failure.message)
            attachment.ending, attachment.sub, attachment.attached = True, 0, False
            attachment.handling.dismiss()
            self._forget(attachment)
        elif attachment.attached:
            self._router.logger.warning("subscription %s: %s: %s", label, failure.error, failure.message)
        else:
            delay_s = min(AGAIN_CAP_S, AGAIN_S * 2.0 ** min(attachment.failures, 30))
            if not attachment.refused(subscription_error(failure), self._clock.monotonic_ns() + round(delay_s * 1e9)):
                self._forget(attachment)

    def deliver(self, deliveries: pb.Deliveries) -> None:
        """Give deliveries to their subscription; of one that is being left, they are not taken."""
        attachment = self._by_sub.get(deliveries.sub)
        if attachment is not None and attachment.sub == deliveries.sub and not attachment.ending:
            attachment.deliver(deliveries)

    def frames(self) -> Iterator[pb.ClientFrame]:
        """What is to be said of all of them."""
        for attachment in self._all:
            yield from attachment.frames()

    def sweep(self, now_ns: int) -> None:
        """Watch handlers and leases; ask again for what the server refused, and give up what it does not answer."""
        for attachment in tuple(self._all):
            attachment.sweep(now_ns)
            answer = attachment.first if attachment.leaving is None else attachment.leaving
            if not answer.done() and now_ns >= attachment.deadline_ns:
                answer.set_exception(self._no_answer(attachment))
            elif self._asks_again(attachment, now_ns):
                self._ask(attachment)
            elif attachment.ending and not attachment.wanted and not attachment.handling.running:
                self._forget(attachment)

    def _no_answer(self, attachment: Attachment) -> SubscriptionError:
        waited_s = self._router.settings.deadline_s
        return SubscriptionError(f"subscription {attachment.subscription.label}: no answer within {waited_s:g} s")

    def _asks_again(self, attachment: Attachment, now_ns: int) -> bool:
        """Was it refused on this connection, and is it time to try again?"""
        idle = attachment.wanted and not attachment.sub and self._welcome is not None and not self._draining
        return idle and attachment.first.done() and now_ns >= attachment.again_ns

    def drain(self) -> None:
        """The router stops: nothing more begins; handlers that run may end."""
        self._draining = True
        for attachment in self._all:
            attachment.handling.paused = True
            if not attachment.first.done():
                attachment.first.set_exception(NotRunning("the remote router stops"))

    async def halt(self) -> None:
        """Cancel what still runs; what is in hand, the server delivers again."""
        await asyncio.gather(*(one.handling.halt() for one in self._all))
        self._all.clear()
