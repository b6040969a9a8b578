"""Real servers for tests: private instances on free loopback ports, each in a folder of its own, stopped by pid.

    with redis_server(tmp_path) as server:
        server.url          redis://127.0.0.1:20417
        server.kill()       as `kill -9`
        server.start()      on the same port, with the folder that is there

Fixtures in `tests/conftest.py` make them; a server that is not installed is a skip, or an error when strict. All calls
block until what they say is so: in a coroutine, `await asyncio.to_thread(server.kill)`.

Nothing outlives the tests, even if they are killed: whoever uses a server holds a lock on its folder, and a guard
beside the server waits for that lock to be free of users, to kill what is still there.
"""

import contextlib
import fcntl
import http.client
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from tests.needed import needed

HOST = "127.0.0.1"
# Below the range that outgoing connections are given ports from: a client that knocks at the port of a killed server
# would be connected to itself now and then, or the port be somebody else's when the server comes back.
PORTS = range(20_000, 32_000)
START_TIMEOUT_S = 120.0
POLL_S = 0.01
GET = "make services"
GUARD = """\
import fcntl, os, sys
users, state, pid = sys.argv[1:]
with open(users) as file:
    fcntl.flock(file, fcntl.LOCK_EX)
    os.path.exists(state) and os.unlink(state)
    os.kill(int(pid), 9)
"""


class DidNotStart(AssertionError):
    """A server that ended, or did not answer in time."""


class Server:
    """One process of a server, and its folder. A context manager: started when entered, stopped when left."""

    def __init__(
        self,
        folder: Path,
        command: Sequence[str],
        answers: Callable[[], bool],
        *,
        port: int,
        scheme: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.port = port
        self.url = f"{scheme}://{HOST}:{port}"
        self._command = command
        self._answers = answers
        self._environment = os.environ | dict(environment or {})
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._users: IO[str] | None = None

    @property
    def pid(self) -> int:
        """The process that runs now."""
        assert self._process is not None, "the server is not running"
        return self._process.pid

    def start(self) -> None:
        """Start it on its port and folder, and return when it answers. Raises DidNotStart with the end of its log."""
        assert self._process is None, "the server is running"
        self._users = self._users or use(self.folder)
        with (self.folder / "log").open("ab") as log:
            self._process = _spawn(self._command, log, self._environment)
        guard = [sys.executable, "-I", "-S", "-c", GUARD, *map(str, (*_paths(self.folder), self.pid))]
        self._guard = _spawn(guard, subprocess.DEVNULL, os.environ)
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            ended = self._process.poll()
            if ended is not None or time.monotonic() > deadline:
                self._leave()
                raise DidNotStart(
                    f"{Path(self._command[0]).name} "
                    + (f"ended with {ended}" if ended is not None else f"did not answer within {START_TIMEOUT_S:g} s")
                    + f"\n{self.log()[-2_000:]}"
                )
            time.sleep(POLL_S)

    def kill(self) -> None:
        """End it at once, as `kill -9` and a power cut of the process would; return when it is gone."""
        for process in (self._guard, self._process):  # the guard first: a pid that is free again is not its business
            if process is not None:
                process.kill()
                process.wait()
        self._guard = self._process = None

    def stop(self) -> None:
        """End it for good, when nobody else uses its folder any more. What it keeps there is of no more interest."""
        if self._users is None:
            return
        fcntl.flock(self._users, fcntl.LOCK_EX)
        _paths(self.folder)[1].unlink(missing_ok=True)
        self._leave()

    def _leave(self) -> None:
        self.kill()
        if self._users is not None:
            self._users.close()
            self._users = None

    def log(self) -> str:
        """What it has printed."""
        return (self.folder / "log").read_text(encoding="utf-8", errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def _spawn(command: Sequence[str], output: IO[bytes] | int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A process in a session of its own: an interrupt at the terminal is the tests' business."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        start_new_session=True,
    )


def _paths(folder: Path) -> tuple[Path, Path]:
    """The file that users lock, and the one that says where the server is."""
    return folder / "users", folder / "url"


def use(folder: Path) -> IO[str]:
    """Become a user of the server in the folder, until the file is closed."""
    folder.mkdir(parents=True, exist_ok=True)
    users = _paths(folder)[0].open("w", encoding="utf-8")
    fcntl.flock(users, fcntl.LOCK_SH)
    return users


@contextlib.contextmanager
def shared(folder: Path, make: Callable[[Path], Server]) -> Iterator[str]:
    """The URL of one server for all processes that name the same folder.

    The first of them starts it, and stops it when the last has left.
    """
    users = use(folder)
    mine: Server | None = None
    try:
        with (folder / "turn").open("w", encoding="utf-8") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            state = _paths(folder)[1]
            if not state.exists():
                mine = make(folder)
                mine.start()
                state.write_text(mine.url, encoding="utf-8")
        yield state.read_text(encoding="utf-8")
    finally:
        users.close()
        if mine is not None:
            mine.stop()


def free_port() -> int:
    """A port on loopback that nobody has now, and that nobody is given by chance."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind((HOST, port))
                return port


def redis_server(folder: Path, *, aof: bool = True, options: Sequence[str] = ()) -> Server:
    """Redis; with aof every write is on disk before it is acknowledged, without it nothing is ever saved."""
    port = free_port()
    durability = ["--appendonly", "yes", "--appendfsync", "always"] if aof else ["--appendonly", "no"]
    command = [
        str(needed("redis-server", GET)),
        *("--bind", HOST, "--port", str(port), "--dir", str(folder), "--save", ""),
        *durability,
        *options,
    ]

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"  # while it reads its file it says -LOADING
        return False

    return Server(folder, command, answers, port=port, scheme="redis")


@contextlib.contextmanager
def redis_cluster(folder: Path, nodes: int = 3) -> Iterator[list[Server]]:
    """A Redis Cluster of so many masters, its slots spread over them, none of them replicated."""
    create = [str(needed("redis-cli", GET)), "--cluster", "create"]
    with contextlib.ExitStack() as stack:
        servers = []
        for number in range(nodes):
            options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port()), "--cluster-node-timeout", "2000"]
            place = folder / f"node-{number}"
            place.mkdir(parents=True)
            servers.append(stack.enter_context(redis_server(place, options=options)))
        made = subprocess.run(
            [*create, *(f"{HOST}:{server.port}" for server in servers), "--cluster-yes"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise DidNotStart(f"redis-cli could not make a cluster\n{made.stdout}{made.stderr}")
        until("all nodes see the whole cluster", lambda: all(map(_sees_its_cluster, servers)))
        yield servers


def _sees_its_cluster(server: Server) -> bool:
    with socket.create_connection((HOST, server.port), timeout=5) as connection:
        connection.sendall(b"CLUSTER INFO\r\n")
        return b"cluster_state:ok" in connection.recv(4096)


def toxiproxy_server(folder: Path) -> Server:
    """Toxiproxy without any proxy; its port is that of its HTTP API."""
    port = free_port()
    command = [str(needed("toxiproxy-server", GET)), "-host", HOST, "-port", str(port)]

    def answers() -> bool:
        connection = http.client.HTTPConnection(HOST, port, timeout=1)
        with contextlib.suppress(OSError), contextlib.closing(connection):
            connection.request("GET", "/version")
            return connection.getresponse().status == http.HTTPStatus.OK
        return False

    return Server(folder, command, answers, port=port, scheme="http")


def neo4j_server(folder: Path, *, login: bool = False) -> Server:
    """Neo4j, without logins unless asked for. Ten seconds of a core and 400 MB: what can share one takes the fixture
    `neo4j_url`."""
    program = str(needed("neo4j", GET))
    port = free_port()
    settings = {
        "server.default_listen_address": HOST,
        "server.bolt.listen_address": f"{HOST}:{port}",
        "dbms.security.auth_enabled": str(login).lower(),
        "server.http.enabled": "false",  # always port 7474: a second server would end right after it has answered
        "dbms.usage_report.enabled": "false",
        "server.memory.heap.max_size": "512m",
        "server.memory.pagecache.size": "64m",
        "db.tx_log.preallocate": "false",  # half a gigabyte on disk
    }
    conf = folder / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{name}={value}\n" for name, value in settings.items())
    (conf / "neo4j.conf").write_text(text, encoding="utf-8")
    # The quickest to start: half the time goes into a compiler that pays off after minutes.
    environment = {"NEO4J_HOME": str(folder), "JDK_JAVA_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}

    def answers() -> bool:
        from neo4j import GraphDatabase
        from neo4j.exceptions import AuthError, DriverError, Neo4jError

        with contextlib.suppress(OSError, DriverError, Neo4jError):
            socket.create_connection((HOST, port), timeout=1).close()  # the driver would take its time
            uri = f"bolt://{HOST}:{port}"
            with GraphDatabase.driver(uri, connection_timeout=5) as driver, driver.session() as session:
                try:
                    return bool(session.run("RETURN 1").single(strict=True).value() == 1)
                except AuthError:
                    return login
        return False

    return Server(folder, [program, "console"], answers, port=port, scheme="bolt", environment=environment)


def until(what: str, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Return when the condition holds. Raises AssertionError that says what did not come about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"after {timeout_s:g} s still not: {what}"
        time.sleep(POLL_S)
