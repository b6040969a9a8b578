"""One WebSocket connection: publishes, subscriptions, settlements, each a frame of protos/wire.proto."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from google.protobuf.message import DecodeError

from squall.core.errors import InvalidEvent, SquallError, checked_delay_s
from squall.core.event import MAX_PAYLOAD_BYTES, Event
from squall.core.intake import MAX_BATCH
from squall.core.settle import Delivery
from squall.plugins.serve import wire
from squall.plugins.serve.errors import ProtocolError
from squall.plugins.serve.publishing import Begun, Outgoing, Result
from squall.plugins.serve.remote import MAX_ERROR_CHARACTERS, RemoteError, RemoteHandler
from squall.protos import wire_pb2 as pb

if TYPE_CHECKING:
    from squall.plugins.serve.hub import Hub

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

FRAME_BYTES = 262_144
MAX_UNSENT = 64
MAX_FLUSHES = 64
GOING_AWAY, UNSUPPORTED = 1001, 1003


class Connection:
    """A client's connection, from its acceptance to its end.

    One task reads, one writes. What is to be sent is collected within a turn of the loop: deliveries of a subscription
    go out together, so that neither a task nor a frame is made for each event.
    """

    def __init__(self, hub: Hub, receive: Receive, send: Send, address: str) -> None:
        self.address = address
        self.subscriptions: dict[int, RemoteHandler] = {}
        self._left: list[RemoteHandler] = []
        self._hub, self._receive, self._send = hub, receive, send
        self._given = self._last_sub = self._held = 0
        self._answers: list[pb.ServerFrame] = []
        self._ready: dict[RemoteHandler, list[tuple[int, Event]]] = {}
        self._unsent = asyncio.Event()
        self._sent = asyncio.Event()
        self._publishing: set[asyncio.Task[None]] = set()
        self._flushing: set[asyncio.Task[None]] = set()
        self._closing: tuple[int, str] | None = None
        self._obey: dict[str, Callable[[Any], Awaitable[None]]] = {
            "publish": self._publish,
            "subscribe": self._subscribe,
            "credit": self._credit,
            "settle": self._settle,
            "leave": self._leave,
            "ping": self._ping,
        }

    async def run(self) -> None:
        """Serve it to its end; what the client has in hand then is given back, uncounted."""
        self.answer(pb.ServerFrame(welcome=self._hub.welcome()))
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            for task in self._flushing:
                task.cancel()
            await self._give_back()
            await asyncio.gather(*self._publishing)
            await asyncio.gather(*self._flushing, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, OSError):
                raise end

    def close(self, code: int, reason: str) -> None:
        """Close it, after all that waits was sent."""
        self._closing = self._closing or (code, reason)
        self._unsent.set()

    def answer(self, frame: pb.ServerFrame) -> None:
        """Send a frame, before deliveries that are not sent yet."""
        self._answers.append(frame)
        self._unsent.set()

    def deliver(self, handler: RemoteHandler, event: Event) -> int:
        """Send it with the others of this turn; returns its number."""
        self._given += 1
        ready = self._ready.get(handler)
        if ready is None:
            ready = self._ready[handler] = []
        ready.append((self._given, event))
        self._unsent.set()
        self._held += len(event.payload)  # until it is sent
        return self._given

    def room(self) -> int:
        """How many events each subscription may begin now: all together, of whatever size, no more than fit."""
        room = self._hub.options.in_flight_bytes - self._held
        return 0 if room <= 0 else max(1, room // (MAX_PAYLOAD_BYTES * max(1, len(self.subscriptions))))

    def hold(self, size: int) -> None:
        """So many bytes of deliveries more wait to be sent or settled, or fewer."""
        before, self._held = self._held, self._held + size
        if self._held < self._hub.options.in_flight_bytes <= before:
            for handler in list(self.subscriptions.values()):
                handler.open_again()

    @property
    def busy(self) -> bool:
        """Is anything in the client's hands, on the way to it, or without its answer?"""
        return bool(self._answers or self._ready or self._publishing) or any(
            one.in_hand for one in self.subscriptions.values()
        )

    # What comes in

    async def _read(self) -> None:
        while self._closing is None:
            message = await self._receive()
            if message["type"] != "websocket.receive":
                return
            try:
                await self._take(message.get("bytes"))
            except ProtocolError as error:
                self.answer(pb.ServerFrame(failure=pb.Failure(error="ProtocolError", message=str(error), fatal=True)))
                self.close(error.code, str(error))
            while len(self._answers) > MAX_UNSENT and self._closing is None:
                self._sent.clear()
                await self._sent.wait()
        await asyncio.get_running_loop().create_future()  # the writer closes

    async def _take(self, data: bytes | None) -> None:
        if data is None:
            raise ProtocolError("expected a binary message with a ClientFrame of squall.v1, got text", UNSUPPORTED)
        try:
            frame = pb.ClientFrame.FromString(data)
        except DecodeError:
            raise ProtocolError(f"expected a ClientFrame of squall.v1, got {len(data)} bytes that are none") from None
        kind = frame.WhichOneof("frame")
        if kind is None:
            raise ProtocolError("a ClientFrame that says nothing: is this client newer than the server?")
        await self._obey[kind](getattr(frame, kind))

    async def _publish(self, publish: pb.Publish) -> None:
        if len(publish.events) > MAX_BATCH:
            raise ProtocolError(f"expected at most {MAX_BATCH} events in a Publish, got {len(publish.events)}")
        while len(self._publishing) >= self._hub.options.publishes:
            await asyncio.wait(self._publishing, return_when=asyncio.FIRST_COMPLETED)
        events = [_outgoing(one) for one in publish.events]
        self._hub.limit(self.address, events)
        if publish.atomic:
            self._later(self._publishing, self._publish_together(publish.request, events))
            return
        begun = self._hub.publishing.begin(events, self.address)
        if begun.waiting:
            self._later(self._publishing, self._publish_each(publish.request, begun))
        else:
            self._published(publish.request, begun.results())

    def _later(self, among: set[asyncio.Task[None]], doing: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(doing)
        among.add(task)
        task.add_done_callback(among.discard)

    async def _publish_each(self, request: int, begun: Begun) -> None:
        await begun.answered()
        self._published(request, begun.results())

    async def _publish_together(self, request: int, events: list[Outgoing | SquallError]) -> None:
        try:
            results: list[Result] = list(await self._hub.publishing.together(events, self.address))
        except SquallError as error:
            results = [error] * len(events)
        self._published(request, results)

    def _published(self, request: int, results: list[Result]) -> None:
        receipts = [wire.receipt(one) for one in results]
        self.answer(pb.ServerFrame(published=pb.Published(request=request, receipts=receipts)))

    async def _subscribe(self, asked: pb.Subscribe) -> None:
        if asked.sub <= self._last_sub:
            raise ProtocolError(f"sub: expected a number above {self._last_sub}, the last of this connection")
        self._last_sub = asked.sub
        try:
            subscribed = await self._hub.subscribe(self, asked)
        except (SquallError, ValueError) as error:
            self.fail(type(error).__name__, str(error), asked.sub)
        else:
            self.answer(pb.ServerFrame(subscribed=subscribed))

    async def _credit(self, credit: pb.Credit) -> None:
        handler = self._handler(credit.sub)
        if handler is not None:
            handler.grant(credit.more)

    async def _settle(self, settle: pb.Settle) -> None:
        handler = self._handler(settle.sub)
        if handler is None:
            handler = RemoteHandler(self, settle.sub, 0, settles_first=True)  # which has nothing in hand
        lost = [number for number in settle.ack if not handler.settle(number, Delivery.ack)]
        lost += [nak.delivery for nak in settle.nak if not _nak(handler, nak)]
        lost += [term.delivery for term in settle.term if not _term(handler, term)]
        lost += [number for number in settle.expired if not handler.expire(number)]
        lost += [number for number in settle.in_progress if not handler.renew(number)]
        if handler.leaving and not handler.in_hand:
            self._forget(settle.sub)
        if never := [number for number in lost if not 0 < number <= self._given]:
            raise ProtocolError(f"delivery {never[0]} was never given on this connection: the last is {self._given}")
        if lost:
            self.fail(
                "LeaseLost",
                f"deliveries {', '.join(map(str, lost[:10]))} are not in this client's hands any more: settled "
                "before, or their lease ran out, and they are delivered again",
                settle.sub,
            )

    async def _leave(self, leave: pb.Leave) -> None:
        handler = self._handler(leave.sub)
        if handler is None or handler.leaving:
            return
        self.hold(-_size(self._ready.pop(handler, ())))
        handler.leaving = True
        try:
            await self._hub.leave(handler, end=leave.end)
        except SquallError as error:
            self.fail(type(error).__name__, str(error), leave.sub)
        if not handler.in_hand:  # what its client has in hand, it may settle still
            self._forget(leave.sub)
        self.answer(pb.ServerFrame(left=pb.Left(sub=leave.sub)))

    def _forget(self, sub: int) -> None:
        """It has left, and its client has nothing more of it in hand."""
        self._left = [one for one in self._left if one.unstored]
        if (handler := self.subscriptions.pop(sub, None)) is not None:
            self._left.append(handler)

    async def _ping(self, ping: pb.Ping) -> None:
        if not ping.stored:
            self._pong(ping.number)
            return
        while len(self._flushing) >= MAX_FLUSHES:
            await asyncio.wait(self._flushing, return_when=asyncio.FIRST_COMPLETED)
        # What is settled now, not what is when the task begins.
        stored = [one.all_stored() for one in (*self.subscriptions.values(), *self._left)]
        self._later(self._flushing, self._flush(ping.number, stored))

    async def _flush(self, number: int, stored: Iterable[asyncio.Future[None]]) -> None:
        for one in stored:
            await one
        self._pong(number)

    def _pong(self, number: int) -> None:
        self.answer(pb.ServerFrame(pong=pb.Pong(number=number)))

    def _handler(self, sub: int) -> RemoteHandler | None:
        """None where it has left, or was taken over: what the client says of it was on its way by then."""
        if not 0 < sub <= self._last_sub:
            raise ProtocolError(f"sub {sub} is no subscription of this connection")
        return self.subscriptions.get(sub)

    def fail(self, error: str, message: str, sub: int) -> None:
        """Tell the client that something about this subscription went wrong; the connection goes on."""
        self.answer(pb.ServerFrame(failure=pb.Failure(sub=sub, error=error, message=message)))

    # What goes out

    async def _write(self) -> None:
        while True:
            await self._unsent.wait()
            self._unsent.clear()
            for data in self._frames():
                await self._send({"type": "websocket.send", "bytes": data})
            self._sent.set()
            if self._closing is not None:
                code, reason = self._closing
                await self._send({"type": "websocket.close", "code": code, "reason": reason[:100]})
                return

    def _frames(self) -> Iterator[bytes]:
        """All that waits, as messages: a few events more than FRAME_BYTES in each."""
        answers, self._answers = self._answers, []
        ready, self._ready = self._ready, {}
        clock = self._hub.router.clock
        for frame in answers:
            yield frame.SerializeToString()
        for handler, batch in ready.items():
            begin = size = 0
            for number, (_, event) in enumerate(batch):
                size += len(event.payload)
                if size >= FRAME_BYTES:
                    yield wire.deliveries(handler.sub, batch[begin : number + 1], clock).SerializeToString()
                    self.hold(-size)
                    begin, size = number + 1, 0
            if begin < len(batch):
                yield wire.deliveries(handler.sub, batch[begin:], clock).SerializeToString()
                self.hold(-size)

    async def _give_back(self) -> None:
        handlers, self.subscriptions = list(self.subscriptions.values()), {}
        self._ready.clear()
        for handler in handlers:
            await self._hub.give_back(handler)


def _size(batch: Iterable[tuple[int, Event]]) -> int:
    return sum(len(event.payload) for _, event in batch)


def _nak(handler: RemoteHandler, nak: pb.Nak) -> bool:
    if nak.HasField("delay_ms"):
        try:
            delay_s = checked_delay_s(nak.delay_ms / 1000)
        except ValueError as error:
            raise ProtocolError(f"nak of delivery {nak.delivery}: {error}") from error
        return handler.settle(nak.delivery, lambda delivery: delivery.nak(delay_s))
    if nak.error_type or nak.error or nak.timed_out:
        return handler.fail(nak.delivery, RemoteError.of(nak.error_type, nak.error, timed_out=nak.timed_out))
    return handler.settle(nak.delivery, Delivery.nak)


def _term(handler: RemoteHandler, term: pb.Term) -> bool:
    reason = term.reason[:MAX_ERROR_CHARACTERS] or "rejected"
    return handler.settle(term.delivery, lambda delivery: delivery.term(reason))


def _outgoing(message: pb.Outgoing) -> Outgoing | SquallError:
    try:
        return wire.outgoing(message)
    except InvalidEvent as error:
        return error
