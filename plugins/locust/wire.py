"""What the bench and Locust's processes say to each other: messages over a socket, and the journal of each process.

A message is its length, 4 bytes, and MessagePack. A journal is a file of rows of one size: a row is written before a
publish is sent, another when it has ended. What was written is there even if the process is killed at once.
"""

from __future__ import annotations

import struct
from typing import Literal

import msgspec

LENGTH = struct.Struct("<I")
ROW = struct.Struct("<QqqBB")
"""Event, monotonic ns, seq (-1: none), what it says (an index of SAYS), whether the target had the event already."""
SAYS: tuple[Literal["begun", "ok", "fail", "info"], ...] = ("begun", "ok", "fail", "info")
NO_SEQ = -1
TOKEN = "SQUALL_LOCUST_TOKEN"
SPEAKS = 1
"""What a worker elsewhere and a run's master say to each other; another number is another language."""

OVER, TURNED_AWAY, GONE = 0, 2, 4
"""Exit codes of a worker elsewhere: its run is over; it was not let in; nobody answers."""

Role = Literal["alone", "master", "worker"]


class Setup(msgspec.Struct, tag=True):
    """What a process is started with. `source` is the events', unlike any other run's. `folder`: where Locust's own
    statistics go. `master_port`: of loopback, where there is a master. `elsewhere`: the names of the workers that join
    from other machines."""

    role: Role
    name: str
    socket: str
    journal: str
    folder: str
    url: str
    source: str
    users: int
    spawn_rate: float
    workers: int
    master_port: int
    web: bool
    elsewhere: list[str]


class Errand(msgspec.Struct, tag=True):
    """What a worker elsewhere is started with: where the run listens that it is to join."""

    host: str
    port: int


class Due(msgspec.Struct, array_like=True):
    """A publish: of which event, when, of what."""

    event: int
    due_ns: int
    type: str
    priority: str
    key: str | None
    payload: bytes


class Publishes(msgspec.Struct, tag=True):
    """To a process: these are due soon, in this order."""

    due: list[Due]


class Withdraw(msgspec.Struct, tag=True):
    """To a process: begin nothing more of what it has; and say `Used`."""


class Finish(msgspec.Struct, tag=True):
    """To the process that has the statistics: end all users, write them, and say `Finished`."""


class Hello(msgspec.Struct, tag=True):
    """From a process, first: which it is."""

    name: str


class Spawned(msgspec.Struct, tag=True):
    """From the process that starts the users: all are there. `page`: the URL of Locust's own page, where it has one."""

    page: str


class Used(msgspec.Struct, tag=True):
    """From a process: the share of one processor that it used since its first publish of this load, and the share of
    the time that it was ready to run and had none."""

    cpu: float
    starved: float


class Warned(msgspec.Struct, tag=True):
    """From a process: Locust itself complains of too little processor, percent."""

    cpu: float


class Counted(msgspec.Struct):
    """Locust's own sums of what has one name, times in milliseconds."""

    name: str
    requests: int
    failures: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float


class Finished(msgspec.Struct, tag=True):
    """From the process that has the statistics: of all requests, and of each type of event."""

    total: Counted
    kinds: list[Counted]


class Relay(msgspec.Struct, tag=True):
    """To the master: pass this on to a worker elsewhere. `body` is a ToWorker, encoded."""

    name: str
    body: bytes


class Relayed(msgspec.Struct, tag=True):
    """From the master: what a worker elsewhere said. `body` is a FromWorker, encoded."""

    name: str
    body: bytes


class Lost(msgspec.Struct, tag=True):
    """From the master: a worker elsewhere is gone."""

    name: str


class Joining(msgspec.Struct, tag=True):
    """From a worker to the master, first. `token`: the target's, by which the run's own workers are known."""

    speaks: int
    token: str = ""


class Welcome(msgspec.Struct, tag=True):
    """To it: its name, the port at which it publishes, and what its requests are to say."""

    name: str
    port: int
    token: str
    source: str


class Refused(msgspec.Struct, tag=True):
    """To it, instead: why it is not let in."""

    why: str


class Ping(msgspec.Struct, tag=True):
    """From it: what time is it? `sent_ns` is its own."""

    sent_ns: int


class Pong(msgspec.Struct, tag=True):
    """To it: the bench's time, monotonic ns."""

    sent_ns: int
    bench_ns: int


class Ready(msgspec.Struct, tag=True):
    """From it: it knows the time, within so much, and can publish. `host`: what its machine is called."""

    host: str
    error_ns: int


class Noted(msgspec.Struct, tag=True):
    """From it: rows, as a journal has them."""

    rows: bytes


class Dismissed(msgspec.Struct, tag=True):
    """To it: the run is over."""


ToWorker = Publishes | Withdraw | Welcome | Refused | Pong | Dismissed
FromWorker = Joining | Ping | Ready | Noted | Used | Warned
ToProcess = Publishes | Withdraw | Finish | Relay
FromProcess = Hello | Spawned | Used | Warned | Finished | Relayed | Lost


def frame(message: ToProcess | FromProcess) -> bytes:
    """A message as it is sent."""
    body = msgspec.msgpack.encode(message)
    return LENGTH.pack(len(body)) + body
