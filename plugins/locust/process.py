"""One of Locust's processes: it publishes what the bench tells it to, and notes what became of it.

The bench runs this file as a program. Importing Locust changes sockets, threads and time throughout a process (gevent),
so nothing of squall imports this module, and nothing is imported here before Locust.
"""

from __future__ import annotations

import locust  # noqa: F401  # isort: skip  # first: it must change what the others import

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.lock
import msgspec
from locust import runners
from locust.env import Environment
from locust.html import get_html_report
from locust.runners import LocalRunner, MasterRunner, WorkerRunner
from locust.stats import PERCENTILES_TO_REPORT, StatsCSVFileWriter, StatsEntry, stats_history

from squall.core.clock import SystemClock
from squall.core.heap import heap_set_aside
from squall.plugins.locust.elsewhere import Elsewhere, Worker, join
from squall.plugins.locust.users import Feed, Way, publisher
from squall.plugins.locust.wire import (
    LENGTH,
    TOKEN,
    Counted,
    Errand,
    Finish,
    Finished,
    FromProcess,
    Hello,
    Publishes,
    Relay,
    Setup,
    Spawned,
    ToProcess,
    Warned,
    Withdraw,
    frame,
)

POLL_S = 0.05
REPORT_S = 0.5
"""So often workers report to the master, whose end of a run waits for it; by itself Locust has them do so every 3 s."""
SIGNED_OFF = 0


class Link:
    """The connection to the bench. What ends it ends the process: nobody would read what it notes."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._decoder: msgspec.msgpack.Decoder[ToProcess] = msgspec.msgpack.Decoder(ToProcess)
        self._file = self._socket.makefile("rb")
        self._sending = gevent.lock.RLock()  # a message must not be sent within another

    def send(self, message: FromProcess) -> None:
        with self._sending:
            self._socket.sendall(frame(message))

    def listen(self, heard: Callable[[ToProcess], None]) -> None:
        """Hand on what the bench says, until it is gone."""
        while len(head := self._file.read(LENGTH.size)) == LENGTH.size:
            heard(self._decoder.decode(self._file.read(*LENGTH.unpack(head))))
        os._exit(SIGNED_OFF)


def lead(setup: Setup, environment: Environment, link: Link, elsewhere: Elsewhere | None) -> Callable[[], None]:
    """Start the users, here or in the workers, and gather their statistics. Returns what ends them, and says
    `Finished`."""
    runner = environment.runner
    assert isinstance(runner, LocalRunner | MasterRunner)
    csv = StatsCSVFileWriter(environment, PERCENTILES_TO_REPORT, str(Path(setup.folder) / "locust"), full_history=True)
    page = _open_page(environment, csv) if setup.web else ""
    workers = setup.workers + len(setup.elsewhere)
    while isinstance(runner, MasterRunner) and not (
        runner.worker_count >= workers and (elsewhere is None or elsewhere.complete)
    ):
        gevent.sleep(POLL_S)
    environment.events.spawning_complete.add_listener(lambda **told: link.send(Spawned(page)))  # type: ignore[no-untyped-call]
    runner.start(setup.users, setup.spawn_rate)
    writing = gevent.spawn(csv.stats_writer)
    gevent.spawn(stats_history, runner)

    def finish() -> None:
        if elsewhere is not None:
            elsewhere.end()
        runner.stop()
        if isinstance(runner, MasterRunner):
            _await_reports(environment, runner)
        if elsewhere is not None:
            elsewhere.dismiss()
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
    """Until each worker has reported once more: it does so each REPORT_S, and not because it is told to stop."""
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
    runners.WORKER_REPORT_INTERVAL = REPORT_S
    with heap_set_aside():  # else users are late
        told = msgspec.json.decode(sys.argv[1], type=Setup | Errand)
        if isinstance(told, Errand):
            sys.exit(Worker(told).work())
        serve(told)


def serve(setup: Setup) -> None:
    """One of the run's own processes."""
    feed, way, token = Feed(now := SystemClock().monotonic_ns), Way(), os.environ[TOKEN]
    way.lead(setup.url, token, setup.source)
    journal = os.open(setup.journal, os.O_WRONLY | os.O_APPEND)
    user = publisher(way, feed, now, lambda row: os.write(journal, row))
    environment = Environment(user_classes=[user], host=setup.url)
    link = Link(setup.socket)
    elsewhere = _run_within(environment, setup, token, link)
    link.send(Hello(setup.name))
    environment.events.cpu_warning.add_listener(lambda cpu_usage, **told: link.send(Warned(cpu_usage)))  # type: ignore[no-untyped-call]
    finish: Callable[[], None] | None = None

    def heard(message: ToProcess) -> None:
        if isinstance(message, Publishes):
            feed.add(message.due)
        elif isinstance(message, Withdraw):
            link.send(feed.withdraw())
        elif isinstance(message, Relay) and elsewhere is not None:
            elsewhere.tell(message.name, message.body)
        elif isinstance(message, Finish) and finish is not None:
            gevent.spawn(finish)

    listening = gevent.spawn(link.listen, heard)
    if not isinstance(environment.runner, WorkerRunner):
        finish = lead(setup, environment, link, elsewhere)
    listening.join()


def _run_within(environment: Environment, setup: Setup, token: str, link: Link) -> Elsewhere | None:
    """Make the runner of a process by its role. Returns a master's way to the workers elsewhere, if there are any."""
    if setup.role == "alone":
        environment.create_local_runner()
    elif setup.role == "worker":
        runner = environment.create_worker_runner("127.0.0.1", setup.master_port)
        if setup.elsewhere:
            join(runner, token)
    else:
        master = environment.create_master_runner("127.0.0.1", setup.master_port)
        if setup.elsewhere:  # at once: they may be waiting already
            return Elsewhere(master, setup, token, link.send)
    return None


if __name__ == "__main__":
    main()
