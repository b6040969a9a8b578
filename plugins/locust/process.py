"""One of Locust's processes: it publishes what the bench tells it to, and notes what became of it.

The bench runs this file as a program. Importing Locust changes sockets, threads and time throughout a process (gevent),
so nothing of squall imports this module, and nothing is imported here before Locust.
"""

from __future__ import annotations

import locust  # isort: skip  # first: it must change what the others import

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import gevent
import gevent.queue
import msgspec
from locust.env import Environment
from locust.html import get_html_report
from locust.runners import LocalRunner, MasterRunner, WorkerRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSVFileWriter, StatsEntry, stats_history

from squall.core.clock import SystemClock
from squall.plugins.locust.wire import (
    LENGTH,
    NO_SEQ,
    ROW,
    SAYS,
    TOKEN,
    Counted,
    Due,
    Finish,
    Finished,
    FromProcess,
    Hello,
    Publishes,
    Setup,
    Spawned,
    ToProcess,
    Used,
    Warned,
    Withdraw,
    frame,
)

TIMEOUT_S = 20.0
POLL_S = 0.05
SIGNED_OFF = 0
SCHEDULED = Path("/proc/self/schedstat")
Answer = tuple[int, int, bool]
UNKNOWN: Answer = (SAYS.index("info"), NO_SEQ, False)
REFUSED: Answer = (SAYS.index("fail"), NO_SEQ, False)


class Link:
    """The connection to the bench. What ends it ends the process: nobody would read what it notes."""

    def __init__(self, setup: Setup) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(setup.socket)
        self._decoder: msgspec.msgpack.Decoder[ToProcess] = msgspec.msgpack.Decoder(ToProcess)
        self._file = self._socket.makefile("rb")
        self.send(Hello(setup.name))

    def send(self, message: FromProcess) -> None:
        self._socket.sendall(frame(message))

    def listen(self, heard: Callable[[ToProcess], None]) -> None:
        """Hand on what the bench says, until it is gone."""
        while len(head := self._file.read(LENGTH.size)) == LENGTH.size:
            heard(self._decoder.decode(self._file.read(*LENGTH.unpack(head))))
        os._exit(SIGNED_OFF)


class Feed:
    """What is due, for all users of this process; and how much of its processor it used for that."""

    def __init__(self) -> None:
        self.now = SystemClock().monotonic_ns
        self._queue: gevent.queue.Queue[tuple[int, Due]] = gevent.queue.Queue()
        self._given = 0  # of what was withdrawn since, nothing is sent
        self._since: tuple[int, float, float] | None = None

    def add(self, due: list[Due]) -> None:
        if self._since is None:
            self._since = self.now(), *_processor_s()
        for one in due:
            self._queue.put((self._given, one))

    def withdraw(self) -> Used:
        """Give nothing more of what there is. Returns what was used since the first of it."""
        self._given += 1
        since, self._since = self._since, None
        if since is None:
            return Used(0.0, 0.0)
        passed_s = max(1, self.now() - since[0]) / 1e9
        used_s, waited_s = _processor_s()
        return Used((used_s - since[1]) / passed_s, (waited_s - since[2]) / passed_s)

    def take(self) -> Due:
        """The next, when it is due."""
        while True:
            given, one = self._queue.get()
            if given == self._given and (wait_ns := one.due_ns - self.now()) > 0:
                gevent.sleep(wait_ns / 1e9)
            if given == self._given:
                return one


def _processor_s() -> tuple[float, float]:
    """For how long this process has run, and has waited to run, seconds; Linux alone tells the second."""
    used = os.times()
    with contextlib.suppress(OSError):
        return used.user + used.system, int(SCHEDULED.read_text().split()[1]) / 1e9
    return used.user + used.system, 0.0


def publisher(setup: Setup, feed: Feed, journal: int) -> type[locust.FastHttpUser]:
    """The user that publishes what the feed gives, and notes it in the journal, a file descriptor."""
    fixed = {
        "authorization": f"Bearer {os.environ[TOKEN]}",
        "content-type": "application/octet-stream",
        "ce-specversion": "1.0",
        "ce-source": setup.source,
    }

    class Publisher(locust.FastHttpUser):
        """One of many that wait for their answers."""

        network_timeout = connection_timeout = TIMEOUT_S

        @locust.task
        def publish(self) -> None:
            one, answer = feed.take(), UNKNOWN
            headers = {**fixed, "ce-id": str(one.event), "ce-type": one.type, "ce-priority": one.priority}
            if one.key is not None:
                headers["ce-partitionkey"] = quote(one.key, safe="")
            os.write(journal, ROW.pack(one.event, feed.now(), NO_SEQ, SAYS.index("begun"), False))
            try:
                sent: Any = one.payload  # bytes are right; the hint says text
                response = self.client.post("/v1/events", data=sent, headers=headers, name=one.type)
                answer = _answer(response.status_code, response.content, getattr(response, "error", None))
            finally:
                code, seq, duplicate = answer
                os.write(journal, ROW.pack(one.event, feed.now(), seq, code, duplicate))

    return Publisher


def _answer(status: int, body: bytes | None, error: Exception | None) -> Answer:
    """What an answer says of the event: a receipt, or a problem with its outcome. Without one, nobody knows; but where
    nobody listened, it was surely not stored."""
    if isinstance(error, ConnectionRefusedError):
        return REFUSED
    try:
        told: Any = json.loads(body or b"null")
    except ValueError:
        return UNKNOWN
    if not isinstance(told, dict):
        return UNKNOWN
    if 200 <= status < 300:
        return SAYS.index("ok"), told.get("seq") or NO_SEQ, bool(told.get("duplicate"))
    return REFUSED if told.get("outcome") == "fail" else UNKNOWN


def lead(setup: Setup, environment: Environment, link: Link) -> Callable[[], None]:
    """Start the users, here or in the workers, and gather their statistics. Returns what ends them, and says
    `Finished`."""
    runner = environment.runner
    assert isinstance(runner, LocalRunner | MasterRunner)
    csv = StatsCSVFileWriter(environment, PERCENTILES_TO_REPORT, str(Path(setup.folder) / "locust"), full_history=True)
    page = _open_page(environment, csv) if setup.web else ""
    while isinstance(runner, MasterRunner) and runner.worker_count < setup.workers:
        gevent.sleep(POLL_S)
    environment.events.spawning_complete.add_listener(lambda **told: link.send(Spawned(page)))  # type: ignore[no-untyped-call]
    runner.start(setup.users, setup.spawn_rate)
    writing = gevent.spawn(csv.stats_writer)
    gevent.spawn(stats_history, runner)

    def finish() -> None:
        runner.stop()
        if isinstance(runner, MasterRunner):
            _await_reports(environment, runner)
        gevent.sleep(1.5)  # its writer comes round once a second
        writing.kill()
        csv.close_files()
        report: str = get_html_report(environment)  # type: ignore[no-untyped-call]
        (Path(setup.folder) / "locust.html").write_text(report, encoding="utf-8")
        stats = runner.stats
        link.send(Finished(_counted(stats.total), [_counted(entry) for _, entry in sorted(stats.entries.items())]))

    return finish


def _counted(entry: StatsEntry) -> Counted:
    times = (float(entry.get_response_time_percentile(part)) for part in (0.5, 0.95, 0.99))
    return Counted(entry.name, entry.num_requests, entry.num_failures, entry.total_rps, *times)


def _await_reports(environment: Environment, runner: MasterRunner) -> None:
    """Until each worker has reported once more: it does so every three seconds, and not because it is told to stop."""
    heard: set[str] = set()
    environment.events.worker_report.add_listener(lambda client_id, **told: heard.add(client_id))  # type: ignore[no-untyped-call]
    while not heard.issuperset(runner.clients.keys()):
        gevent.sleep(POLL_S)


def _open_page(environment: Environment, csv: StatsCSVFileWriter) -> str:
    """Serve Locust's own page on loopback. Returns its URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment.create_web_ui("127.0.0.1", port, stats_csv_writer=csv)
    return f"http://127.0.0.1:{port}"


def main() -> None:
    """Do what the argument says, until the bench is gone."""
    setup = msgspec.json.decode(sys.argv[1], type=Setup)
    feed = Feed()
    journal = os.open(setup.journal, os.O_WRONLY | os.O_APPEND)
    environment = Environment(user_classes=[publisher(setup, feed, journal)], host=setup.url)
    if setup.role == "master":
        environment.create_master_runner("127.0.0.1", setup.master_port)
    elif setup.role == "worker":
        environment.create_worker_runner("127.0.0.1", setup.master_port)
    else:
        environment.create_local_runner()
    link = Link(setup)
    environment.events.cpu_warning.add_listener(lambda cpu_usage, **told: link.send(Warned(cpu_usage)))  # type: ignore[no-untyped-call]

    finish: Callable[[], None] | None = None

    def heard(message: ToProcess) -> None:
        if isinstance(message, Publishes):
            feed.add(message.due)
        elif isinstance(message, Withdraw):
            link.send(feed.withdraw())
        elif isinstance(message, Finish) and finish is not None:
            gevent.spawn(finish)

    listening = gevent.spawn(link.listen, heard)
    if not isinstance(environment.runner, WorkerRunner):
        finish = lead(setup, environment, link)
    listening.join()


if __name__ == "__main__":
    main()
