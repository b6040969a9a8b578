"""The connection that carries everything, made again whenever it is lost."""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from random import Random
from types import TracebackType
from typing import Self

from websockets.exceptions import ConnectionClosed

from squall.core.clock import Clock, SystemClock, Timer
from squall.core.delivery import Decision
from squall.core.errors import AlreadyRunning, NotRunning, SquallError
from squall.core.event import Event, Receipt
from squall.core.identity import fresh_seed, seeded_ids, system_ids
from squall.core.scrub import known_secrets, scrubber
from squall.plugins.remote.attachments import Attachments
from squall.plugins.remote.errors import ProtocolError, Unreachable
from squall.plugins.remote.handling import Failed
from squall.plugins.remote.journal import Journal
from squall.plugins.remote.link import Link
from squall.plugins.remote.outbox import Outbox
from squall.plugins.remote.pending import Pending
from squall.plugins.remote.publisher import RemotePublisher
from squall.plugins.remote.settings import Settings
from squall.plugins.remote.subscriber import RemoteSubscriber
from squall.protos import wire_pb2 as pb

SWEEP_S = 0.05
POLL_S = 0.005
FAREWELL_S = 2.0
BACKOFF_S, BACKOFF_CAP_S = 0.1, 10.0
HELD_S = 1.0


OnEnd = Callable[[Event, Decision | Failed, bool], None]
"""Told of each delivery that is over: what it came to, and whether the server is told, or the result is dropped."""


class RemoteRouter:
    """A router that runs elsewhere. `async with`, or start and stop; made by squall.connect. `on_end` watches how
    deliveries end."""

    def __init__(
        self,
        settings: Settings,
        *,
        clock: Clock | None = None,
        seed: int | None = None,
        logger: logging.Logger | None = None,
    ) -> None:
        self.settings = settings
        self.clock = clock or SystemClock()
        self.logger = logger or logging.getLogger("squall")
        token = [] if settings.token is None else [settings.token]
        self.scrub = scrubber([*known_secrets(os.environ, ()), *token])
        self.loop: asyncio.AbstractEventLoop | None = None
        base = fresh_seed() if seed is None else seed
        self.new_id = seeded_ids(Random(f"{base}:ids")) if self.clock.virtual else system_ids()
        self._random = Random(f"{base}:reconnect")
        self._thread: int | None = None
        self._outbox: Outbox | None = None
        self._attachments = Attachments(self)
        self._link: Link | None = None
        self._trouble: SquallError = Unreachable("not connected yet")
        self._running: asyncio.Task[None] | None = None
        self._sweeper: Timer | None = None
        self._said: list[pb.ClientFrame] = []
        self.on_end: OnEnd | None = None

    # Start and stop

    async def start(self) -> None:
        """Connect. Raises Unreachable when that cannot be done within deadline_s, or StoreFileError of the buffer."""
        if self._running is not None:
            raise AlreadyRunning("start: this remote router runs already: await stop() first")
        path = self.settings.buffer_path
        journal = None if path is None else Journal(path)
        self._outbox = Outbox(self.settings, self.clock, self.logger, journal)
        self.loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        self._attachments, self._trouble = Attachments(self), Unreachable("not connected yet")
        self._running = asyncio.create_task(self._run(), name="squall:remote")
        self._sweep()
        try:
            await self._first_connection()
        except BaseException:
            await self.stop(timeout_s=0)
            raise

    async def _first_connection(self) -> None:
        deadline_ns = self.clock.monotonic_ns() + round(self.settings.deadline_s * 1e9)
        while self._link is None:
            lasting = isinstance(self._trouble, ProtocolError) or getattr(self._trouble, "lasting", False)
            if lasting or self.clock.monotonic_ns() >= deadline_ns:
                raise self._trouble
            await self.clock.sleep(POLL_S)

    async def stop(self, *, timeout_s: float = 10.0) -> None:
        """Take nothing new; wait at most timeout_s for answers and for handlers that run; disconnect. What is not
        handled by then, the server delivers again."""
        if self._running is None or self._outbox is None:
            return
        outbox, running, self.loop = self._outbox, self._running, None
        self._attachments.drain()
        deadline_ns = self.clock.monotonic_ns() + round(timeout_s * 1e9)
        while (outbox.busy or self._attachments.busy) and self.clock.monotonic_ns() < deadline_ns:
            await self.clock.sleep(POLL_S)
        await self._attachments.halt()
        if self._link is not None:
            await self._farewell(self._link, outbox)
        self._running = self._outbox = self._thread = None
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        if self._sweeper is not None:
            self._sweeper.cancel()
        outbox.close()

    async def _farewell(self, link: Link, outbox: Outbox) -> None:
        """Say what is still to be said, and close the connection; FAREWELL_S at most."""
        try:
            async with asyncio.timeout(FAREWELL_S):
                for frame in self._frames(link, outbox):
                    await link.send(frame)
                await link.close()
        except (TimeoutError, ConnectionClosed) as error:
            self.logger.warning("squall server: the last settlements may not have arrived: %s", error)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # Use

    def publisher(self, source: str) -> RemotePublisher:
        """A publisher of this source."""
        return RemotePublisher(self, source)

    def subscriber(self, subscriber_id: str) -> RemoteSubscriber:
        """A subscriber with this id."""
        return RemoteSubscriber(self, subscriber_id)

    @property
    def connected(self) -> bool:
        """Is there a connection just now, as far as is known?"""
        return self._link is not None

    @property
    def attachments(self) -> Attachments:
        """The subscriptions. Raises NotRunning."""
        self.check_running()
        return self._attachments

    def check_running(self) -> None:
        """Raises NotRunning."""
        if self.loop is None:
            raise NotRunning("the remote router is not running: use it inside `async with squall.connect(…)`")

    def on_loop_thread(self) -> bool:
        """Is this the thread that the answers come in?"""
        return threading.get_ident() == self._thread

    async def publish(
        self, events: Sequence[pb.Outgoing], *, atomic: bool, within_s: float | None = None
    ) -> list[Receipt]:
        """Have events stored, within deadline_s and within_s; returns their receipts. Raises PublishError or
        NotRunning."""
        self.check_running()
        assert self._outbox is not None
        now_ns = self.clock.monotonic_ns()
        deadline_s = self.settings.deadline_s if within_s is None else min(within_s, self.settings.deadline_s)
        deadline_ns = now_ns + round(deadline_s * 1e9)
        pending = Pending(events, atomic=atomic, made_ns=now_ns, deadline_ns=deadline_ns)
        outbox = self._outbox
        outbox.add(pending)
        self.wake()
        try:
            return await pending.answer
        except asyncio.CancelledError:
            outbox.withdraw(pending)
            raise

    def say(self, frame: pb.ClientFrame) -> None:
        """Send a frame soon, on this connection or never."""
        if self._link is not None:
            self._said.append(frame)
            self._link.unsent.set()

    async def flush(self, *, stored: bool = False) -> bool:
        """Wait until the server has received all that was said so far, settlements too; `stored`: until its store has
        these. False: the connection was lost before that was known."""
        return self._link is not None and await self._link.flush(stored=stored)

    def wake(self) -> None:
        """There is something to be sent."""
        if self._link is not None:
            self._link.unsent.set()

    # The connection

    async def _run(self) -> None:
        """Connect, serve the connection to its end, wait, again. Exponential backoff with full jitter; a connection
        that held for HELD_S begins it anew."""
        failures = 0
        while True:
            opened_ns: int | None = None
            try:
                link = await Link.open(self.settings, self.clock)
                opened_ns = self.clock.monotonic_ns()
                await self._serve(link)
            except (Unreachable, ProtocolError) as error:
                self._trouble = error
            except Exception as error:  # whatever it is, it ends a connection and not the client
                self.logger.exception("squall server: a connection ended by a mistake of the client's or the server's")
                self._trouble = ProtocolError(f"{type(error).__name__}: {error}")
            if opened_ns is not None and self.clock.monotonic_ns() - opened_ns > HELD_S * 1e9:
                failures = 0
            failures += 1
            delay_s = self._random.uniform(0.0, min(BACKOFF_CAP_S, BACKOFF_S * 2.0 ** min(failures - 1, 30)))
            self.logger.warning("squall server: %s; connecting again in %.3f s", self._trouble, delay_s)
            await self.clock.sleep(delay_s)

    async def _serve(self, link: Link) -> None:
        outbox = self._outbox
        if outbox is None:
            await link.close()
            return
        self._link = link
        self._said.clear()
        outbox.connected(link.welcome)
        self._attachments.connected(link.welcome)
        link.unsent.set()
        tasks = [asyncio.create_task(self._read(link)), asyncio.create_task(self._write(link, outbox))]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            self._link = None
            link.cut("")
            link.lost()
            outbox.lost()
            self._attachments.lost()
        for end in ends:
            if isinstance(end, Exception) and not isinstance(end, ConnectionClosed):
                raise end
        self._trouble = Unreachable(f"{self.settings.url}: {link.trouble or 'the connection was lost'}")

    async def _read(self, link: Link) -> None:
        async for frame in link.frames():
            kind = frame.WhichOneof("frame")
            if kind == "deliveries":
                self._attachments.deliver(frame.deliveries)
            elif kind == "published":
                assert self._outbox is not None
                if not self._outbox.answered(frame.published):
                    link.draining = True
                link.unsent.set()  # there may be room for more frames
            elif kind == "subscribed":
                self._attachments.subscribed(frame.subscribed)
            elif kind == "pong":
                link.pong(frame.pong.number)
            elif kind == "left":
                self._attachments.left(frame.left)
            elif kind == "draining":
                link.draining = True
                link.trouble = "the server is stopping"
            elif kind == "failure":
                self._failure(link, frame.failure)

    def _failure(self, link: Link, failure: pb.Failure) -> None:
        if failure.fatal:
            link.trouble = f"the server closes the connection: {failure.error}: {failure.message}"
        elif failure.HasField("sub"):
            self._attachments.failed(failure)
        else:
            self.logger.error("squall server: %s: %s", failure.error, failure.message)

    async def _write(self, link: Link, outbox: Outbox) -> None:
        while True:
            await link.unsent.wait()
            link.unsent.clear()
            for frame in self._frames(link, outbox):
                await link.send(frame)

    def _frames(self, link: Link, outbox: Outbox) -> Iterator[bytes]:
        """All that is to be sent: what was said, settlements, and then publishes, which may be many."""
        said, self._said = self._said, []
        for frame in said:
            yield frame.SerializeToString()
        for frame in (*self._attachments.frames(), *link.flush_frames()):
            yield frame.SerializeToString()
        if not link.draining:
            yield from outbox.frames()

    def _sweep(self) -> None:
        """Watch all deadlines, by one timer."""
        now_ns = self.clock.monotonic_ns()
        if self._outbox is None:
            return
        self._outbox.sweep(now_ns, str(self._trouble) if self._link is None else "the server takes no more")
        self._attachments.sweep(now_ns)
        if self._link is not None and (ping := self._link.sweep(now_ns)) is not None:
            self.say(ping)
        self._sweeper = self.clock.call_later(SWEEP_S, self._sweep)
