"""Workers on other machines: what joins Locust's master there, and what the master does for them.

All of it passes through the one connection that Locust makes from a worker to its master, as messages of wire.py; and
what the workers publish through a port beside the master's, which leads to the target. So two ports are all that a
tunnel needs. Runs in Locust's processes, like process.py.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable
from typing import Any

import gevent
import gevent.event
import gevent.os
import gevent.server
import gevent.socket
import msgspec
from locust.env import Environment
from locust.rpc.protocol import Message
from locust.runners import MasterRunner, WorkerRunner

from squall.core.clock import SystemClock
from squall.plugins.locust.bench_clock import BenchClock
from squall.plugins.locust.users import Feed, Way, publisher
from squall.plugins.locust.wire import (
    GONE,
    OVER,
    SPEAKS,
    TURNED_AWAY,
    Dismissed,
    Errand,
    FromProcess,
    FromWorker,
    Joining,
    Lost,
    Noted,
    Ping,
    Pong,
    Publishes,
    Ready,
    Refused,
    Relayed,
    Setup,
    ToWorker,
    Warned,
    Welcome,
    Withdraw,
)

CHANNEL = "squall"
LOOK_S = 0.2
LOST_S = 10.0
"""A worker that has said nothing for so long; it asks for the time each half second."""
FLUSH_S = 0.01
PING_S = 0.5
FIRST_PINGS = 16
SILENT_S = 15.0
CHUNK = 65536


class Elsewhere:
    """The master's side: lets workers in, as many as there are places, and passes on what they and the bench say.

    Locust's master takes whoever says `client_ready`, at any time, and gives it its share of the users. Here that
    counts once a worker has a place.
    """

    def __init__(self, runner: MasterRunner, setup: Setup, token: str, send: Callable[[FromProcess], None]) -> None:
        self._runner, self._setup, self._token, self._send = runner, setup, token, send
        self._decoder: msgspec.msgpack.Decoder[FromWorker] = msgspec.msgpack.Decoder(FromWorker)
        self._now = SystemClock().monotonic_ns
        self._places = dict.fromkeys(setup.elsewhere, "")
        self._waiting: dict[str, Message] = {}
        self._taken: set[str] = set()
        self._heard_ns: dict[str, int] = {}
        self._take = runner.handle_message
        runner.handle_message = self._guard  # type: ignore[method-assign]
        self._ready: set[str] = set()
        self._over = False
        runner.register_message(CHANNEL, self._heard)
        host, _, port = setup.url.rpartition("//")[2].rpartition(":")
        self._target = host, int(port)
        gevent.server.StreamServer(("127.0.0.1", setup.master_port + 1), self._lead).start()
        gevent.spawn(self._look)

    @property
    def complete(self) -> bool:
        """Whether all have come, and know what time it is."""
        return len(self._ready) == len(self._places)

    def tell(self, name: str, body: bytes) -> None:
        """Say something to a worker, encoded already."""
        self._pass(self._places[name], body)

    def end(self) -> None:
        """The load is over: whoever leaves from now on is not lost."""
        self._ready.clear()

    def dismiss(self) -> None:
        """The run is over; who comes now has come for the next one."""
        self._over = True
        for client in filter(None, self._places.values()):
            self._answer(client, Dismissed())

    def _answer(self, client: str, message: ToWorker) -> None:
        self._pass(client, msgspec.msgpack.encode(message))

    def _pass(self, client: str, body: Any) -> None:
        self._runner.send_message(CHANNEL, body, client)  # its hint knows no bytes

    def _guard(self, client_id: str, msg: Message) -> None:
        if msg.type == "client_ready" and client_id not in self._taken:
            self._waiting[client_id] = msg
            self._runner.send_message("ack", {"index": -1}, client_id)
        else:
            self._take(client_id, msg)

    def _place(self, client: str) -> None:
        self._taken.add(client)
        self._take(client, self._waiting.pop(client))

    def _heard(self, environment: Environment, msg: Message) -> None:
        client, message = msg.node_id, self._decoder.decode(msg.data)
        name = next((name for name, other in self._places.items() if other == client), None)
        if name is not None:
            self._heard_ns[name] = self._now()
        if isinstance(message, Joining) and message.token == self._token:
            self._place(client)
        elif isinstance(message, Joining) and name is None and not self._over:
            self._answer(client, self._let_in(client, message))
        elif name is None:
            self._answer(client, Dismissed())  # of a run that was before
        elif isinstance(message, Ping):
            self._answer(client, Pong(message.sent_ns, self._now()))
        else:
            if isinstance(message, Ready):
                self._ready.add(name)
            self._send(Relayed(name, msg.data))

    def _let_in(self, client: str, message: Joining) -> Welcome | Refused:
        if message.speaks != SPEAKS:
            return Refused("the run is of another version of squall; install the same on both machines")
        free = next((name for name, other in self._places.items() if not other), None)
        if free is None:
            return Refused(f"the run asked for {len(self._places)} (join), and has as many")
        self._places[free] = client
        self._place(client)
        return Welcome(free, self._setup.master_port + 1, self._token, self._setup.source)

    def _look(self) -> None:
        """Say so, once, when one is silent; it is not let in again."""
        while True:
            gevent.sleep(LOOK_S)
            for name in sorted(self._ready):
                if self._now() - self._heard_ns[name] > LOST_S * 1e9:
                    self._ready.discard(name)
                    self._send(Lost(name))

    def _lead(self, near: gevent.socket.socket, address: object) -> None:
        """Between a connection of a worker and one to the target."""
        try:
            far = gevent.socket.create_connection(self._target)
        except OSError:  # nobody listens there: to the worker it is a connection that was closed, of unknown outcome
            return
        with far:
            for one in (near, far):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            back = gevent.spawn(_copy, far, near)
            _copy(near, far)
            back.join()


def _copy(source: gevent.socket.socket, sink: gevent.socket.socket) -> None:
    """All that comes, until either side ends; then both are told so."""
    with contextlib.suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    for one in (source, sink):
        with contextlib.suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


class Worker:
    """The worker's side: joins a run, publishes what it is given, and sends what it notes every 10 ms."""

    def __init__(self, errand: Errand) -> None:
        self._host = errand.host
        gevent.spawn(_end_with_input)
        self._now, self._way = SystemClock().monotonic_ns, Way()
        self._clock = BenchClock(self._now)
        self._feed, self._rows = Feed(self._clock.earliest), list[bytes]()
        self._decoder: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
        self._told: gevent.event.AsyncResult[Welcome | Refused] = gevent.event.AsyncResult()
        self._over: gevent.event.AsyncResult[int] = gevent.event.AsyncResult()
        user = publisher(self._way, self._feed, self._clock.latest, self._rows.append)
        self._environment = Environment(user_classes=[user])
        try:
            self._runner = self._environment.create_worker_runner(errand.host, errand.port)
        except ConnectionError:  # for five minutes nobody was there
            sys.exit(GONE)
        self._heard_ns = self._now()

    def work(self) -> int:
        """Until the run is over. Returns the exit code of this process."""
        self._runner.register_message(CHANNEL, self._heard)
        self._environment.events.cpu_warning.add_listener(lambda cpu_usage, **told: self._send(Warned(cpu_usage)))  # type: ignore[no-untyped-call]
        join(self._runner)
        gevent.spawn(self._watch)
        gevent.spawn(self._join)
        return self._over.get() or OVER

    def _join(self) -> None:
        told = self._told.get()
        assert told is not None
        if isinstance(told, Refused):
            _say(f"not let in: {told.why}")
            self._over.set(TURNED_AWAY)
            return
        self._way.lead(f"http://{self._host}:{told.port}", told.token, told.source)
        for _ in range(FIRST_PINGS):
            self._send(Ping(self._now()))
            gevent.sleep(FLUSH_S)
        while not self._clock.known:
            gevent.sleep(FLUSH_S)
        self._send(Ready(socket.gethostname(), self._clock.error_ns))
        error_ms = self._clock.error_ns / 1e6
        _say(f"joined as {told.name}; the run's clock is known within {error_ms:.3g} ms")
        while True:
            self._flush()
            gevent.sleep(FLUSH_S)

    def _send(self, message: FromWorker) -> None:
        _send(self._runner, message)

    def _flush(self) -> None:
        rows = b"".join(self._rows)
        self._rows.clear()
        if rows:
            self._send(Noted(rows))

    def _watch(self) -> None:
        """Ask for the time now and then; where nobody answers any more, the run is gone."""
        while self._now() - self._heard_ns < SILENT_S * 1e9:
            gevent.sleep(PING_S)
            if self._told.ready():
                self._send(Ping(self._now()))
        _say("nobody answers any more")
        self._over.set(GONE)

    def _heard(self, environment: Environment, msg: Message) -> None:
        message = self._decoder.decode(msg.data)
        self._heard_ns = self._now()
        if isinstance(message, Publishes):
            self._feed.add(message.due)
        elif isinstance(message, Withdraw):
            used = self._feed.withdraw()
            self._flush()
            self._send(used)
        elif isinstance(message, Pong):
            self._clock.asked(message.sent_ns, message.bench_ns)
        elif isinstance(message, Welcome | Refused):
            self._told.set(message)
        else:  # who was never let in has come to a run that is ending, and tries the next
            self._over.set(OVER if self._told.ready() else GONE)


def join(runner: WorkerRunner, token: str = "") -> None:
    """Ask the master of a run for a place; with the token as one of the run's own."""
    _send(runner, Joining(SPEAKS, token))


def _send(runner: WorkerRunner, message: FromWorker) -> None:
    body: Any = msgspec.msgpack.encode(message)  # its hint knows no bytes
    runner.send_message(CHANNEL, body)


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _end_with_input() -> None:
    """Who started this process holds its input, and is gone when that ends."""
    while gevent.os.tp_read(0, CHUNK):
        pass
    os._exit(GONE)
