"""Real servers for tests: private instances on free loopback ports, each in a folder of its own, stopped by pid.

    with redis_server(tmp_path) as server:
        server.url          redis://127.0.0.1:20417
        server.kill()       as `kill -9`
        server.start()      on the same port, with the folder that is there

Fixtures in `tests/conftest.py` make them; a server that is not installed is a skip, or an error when strict. They are
those that the bench starts for a run (`squall.chaos.server`), and a cluster and Toxiproxy. Nothing outlives the tests.
"""

import contextlib
import fcntl
import http.client
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests.needed import needed

from squall.chaos import server_kinds
from squall.chaos.server import HOST, DidNotStart, Server, free_port, paths, use

__all__ = ["HOST", "DidNotStart", "Server", "free_port"]
POLL_S = 0.01
GET = "make services"


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
            state = paths(folder)[1]
            if not state.exists():
                mine = make(folder)
                mine.start()
                state.write_text(mine.url, encoding="utf-8")
        yield state.read_text(encoding="utf-8")
    finally:
        users.close()
        if mine is not None:
            mine.stop()


def redis_server(folder: Path, *, aof: bool = True, options: Sequence[str] = ()) -> Server:
    """Redis; with aof every write is on disk before it is acknowledged, without it nothing is ever saved."""
    needed("redis-server", GET)
    return server_kinds.redis_server(folder, aof=aof, options=options)


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
    with contextlib.suppress(TimeoutError), socket.create_connection((HOST, server.port), timeout=5) as connection:
        connection.sendall(b"CLUSTER INFO\r\n")
        return b"cluster_state:ok" in connection.recv(4096)
    return False  # it has no time to answer yet


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
    needed("neo4j", GET)
    return server_kinds.neo4j_server(folder, login=login)


def until(what: str, condition: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Return when the condition holds. Raises AssertionError that says what did not come about."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"after {timeout_s:g} s still not: {what}"
        time.sleep(POLL_S)
