"""All that the connections of a server share: the router, the limits, who is connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Literal, cast

from squall.core.errors import NotRunning, Refused, SquallError, SubscriptionError
from squall.core.event import Priority
from squall.core.intake import MAX_BATCH
from squall.core.router import EventRouter
from squall.core.subscription import OverflowPolicy, Subscription
from squall.plugins.serve import wire
from squall.plugins.serve.connection import Connection
from squall.plugins.serve.options import ServeOptions
from squall.plugins.serve.publishing import Outgoing, Publishing
from squall.plugins.serve.rates import AddressRates
from squall.plugins.serve.remote import RemoteHandler
from squall.protos import wire_pb2 as pb

DEFAULT_IN_FLIGHT = 100
DEFAULT_LEASE_MS = 30_000
LINGER_S = 5.0


class Hub:
    """One running server. `draining`: nothing new is taken."""

    def __init__(self, router: EventRouter, options: ServeOptions) -> None:
        self.router, self.options = router, options
        self.publishing = Publishing(router)
        self.connections: set[Connection] = set()
        self.draining = False
        self._named = f"squall {version('squall')}"  # found on the disk: not for each connection anew
        self._leaving: dict[str, asyncio.Future[None]] = {}
        self._rates = None if options.rate is None else AddressRates(options.rate)

    def welcome(self) -> pb.Welcome:
        """What a new connection is told."""
        options = self.options
        return pb.Welcome(
            server=self._named,
            durability=wire.durability(self.router.durability),
            max_frame_bytes=options.max_frame,
            max_events=MAX_BATCH,
            max_publishes=options.publishes,
            max_in_flight=options.in_flight,
            max_subscriptions=options.subscriptions,
            dedupe_window_ms=round(self.router.store.capabilities.dedupe_window_s * 1000),
        )

    async def serve(self, connection: Connection, abort: Callable[[], None]) -> None:
        """Serve a connection to its end; one whose client does not take what was written last is cut then."""
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)
            self.router.clock.call_later(LINGER_S, abort)

    def not_ready(self) -> str | None:
        """Why nothing new should be sent here, if so."""
        return "the server is stopping" if self.draining else None

    def metrics_text(self) -> str:
        """What plugins count, and who is connected, in Prometheus' text format."""
        subscriptions = sum(len(one.subscriptions) for one in self.connections)
        own = (
            "# HELP squall_connections WebSocket connections.\n# TYPE squall_connections gauge\n"
            f"squall_connections {len(self.connections)}\n"
            "# HELP squall_remote_subscriptions Subscriptions of connected clients.\n"
            f"# TYPE squall_remote_subscriptions gauge\nsquall_remote_subscriptions {subscriptions}\n"
        )
        return "".join((*self.router.ask("squall_metrics_text"), own))

    def drain(self, deadline_s: float) -> None:
        """Take nothing new; durable subscriptions get nothing more, they are owed it elsewhere or later."""
        self.draining = True
        self.publishing.close()
        for connection in self.connections:
            connection.answer(pb.ServerFrame(draining=pb.Draining(deadline_ms=round(deadline_s * 1000))))
            for handler in connection.subscriptions.values():
                if handler.subscription.durable:
                    handler.stop()

    def busy(self) -> bool:
        """Is there anything that a stop should wait for? What a subscription without a name waits for is lost with it:
        its client may still have that, if it takes it."""
        subscriptions = self.router.subscriptions
        return any(
            one.busy
            or any(
                not handler.subscription.durable and subscriptions.get(handler.subscription.id).busy
                for handler in one.subscriptions.values()
                if not handler.leaving
            )
            for one in self.connections
        )

    def limit(self, address: str, events: list[Outgoing | SquallError]) -> None:
        """Hold an address to its rate: if it is beyond it, none of these events are taken, and each says so."""
        if self._rates is not None:
            wait_s = self._rates.wait_s(address, len(events), self.router.clock.monotonic_ns())
            if wait_s > 0:
                text = f"{address} publishes more than {self.options.rate:g} events/s: wait {wait_s:.3f} s"
                events[:] = [Refused(text, wait_s)] * len(events)

    async def subscribe(self, connection: Connection, asked: pb.Subscribe) -> pb.Subscribed:
        """Attach a subscription for a connection. Raises SubscriptionError, NotRunning, or as the router does."""
        options, router = self.options, self.router
        if self.draining:
            raise NotRunning("the server is stopping: subscribe at another one, or again when it is back")
        if len(connection.subscriptions) >= options.subscriptions:
            raise SubscriptionError(f"expected at most {options.subscriptions} subscriptions on a connection")
        in_flight = asked.in_flight or DEFAULT_IN_FLIGHT
        if in_flight > options.in_flight:
            raise SubscriptionError(f"in_flight: expected at most {options.in_flight}, got {in_flight}")
        lease_ms = asked.lease_ms or DEFAULT_LEASE_MS
        name = asked.name if asked.HasField("name") else None
        if name is not None and asked.take_over:
            await self._take_over(name, connection)
        while name is not None and (left := self._leaving.get(name)) is not None:
            await left
        handler = RemoteHandler(connection, asked.sub, asked.credit, settles_first=asked.at_most_once)
        subscription_id = await router.subscriber(asked.subscriber_id).subscribe(
            asked.pattern,
            handler,
            list(wire.filters(asked.filters)),
            _priority(asked, "priority_min"),
            priority_filter=_priority(asked, "priority_filter"),
            name=name,
            delivery="at-most-once" if asked.at_most_once else "at-least-once",
            start=_start(asked),
            concurrency=in_flight,
            timeout_s=lease_ms / 1000,
            in_flight=in_flight,
            overflow=cast("OverflowPolicy", asked.overflow) if asked.overflow else None,
            on_retry="block_key" if asked.block_key else "skip",
            update=asked.update,
        )
        connection.subscriptions[asked.sub] = handler
        return pb.Subscribed(
            sub=asked.sub,
            subscription_id=subscription_id,
            from_seq=handler.subscription.from_seq,
            lease_ms=lease_ms,
        )

    async def leave(self, handler: RemoteHandler, *, end: bool) -> None:
        """Give a subscription up. `end`, or without a name: for good, and what its client has in hand it may settle;
        else it is owed the rest, what its client has in hand included, uncounted."""
        handler.stop()
        subscription = handler.subscription
        subscriber = self.router.subscriber(subscription.subscriber_id)
        if end or not subscription.durable:
            await subscriber.unsubscribe(subscription.id)
        else:
            await self._detach(subscription)

    async def _detach(self, subscription: Subscription) -> None:
        """Returns when the store has its last settlements; who subscribes under its name meanwhile waits for that."""
        left = asyncio.get_running_loop().create_future()
        self._leaving[subscription.label] = left
        try:
            await self.router.subscriber(subscription.subscriber_id).detach(subscription.id)
        finally:
            if self._leaving.get(subscription.label) is left:
                del self._leaving[subscription.label]
            left.set_result(None)

    async def give_back(self, handler: RemoteHandler) -> None:
        """The client is gone, and with it all that it has in hand: that does not count as an attempt."""
        handler.stop()
        subscription = handler.subscription
        if handler.leaving:
            handler.let_go()
        else:
            await self._detach(subscription)

    async def _take_over(self, name: str, taker: Connection) -> None:
        for connection in self.connections:
            for sub, handler in list(connection.subscriptions.items()):
                if handler.subscription.name == name:
                    del connection.subscriptions[sub]
                    await self.give_back(handler)
                    text = f"subscription {name!r} was taken over by a client at {taker.address}"
                    connection.fail("TakenOver", text, sub)


def _priority(asked: pb.Subscribe, field: Literal["priority_min", "priority_filter"]) -> Priority | None:
    return wire.priority(getattr(asked, field)) if asked.HasField(field) else None


def _start(asked: pb.Subscribe) -> int | Literal["new", "earliest"]:
    kind = asked.WhichOneof("start")
    if kind == "seq":
        return asked.seq
    return "earliest" if kind == "earliest" and asked.earliest else "new"
