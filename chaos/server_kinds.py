"""The servers that a scenario may have the bench start, each private: its port is free, its data gone with the run."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Sequence
from pathlib import Path

from squall.chaos.installed import where
from squall.chaos.server import HOST, Server, free_port
from squall.core.clock import Clock
from squall.core.errors import SquallError

QUICK_JAVA = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
"""The quickest to start: half the time goes into a compiler that pays off after minutes."""


class Missing(SquallError):
    """A server's program is not installed."""


def redis_server(
    folder: Path,
    *,
    aof: bool = True,
    fsync: str = "always",
    options: Sequence[str] = (),
    log: Path | None = None,
    clock: Clock | None = None,
) -> Server:
    """Redis; with aof every write is on disk before it is acknowledged (`fsync` says when), without it nothing is ever
    saved. Raises Missing."""
    port = free_port()
    durability = ["--appendonly", "yes", "--appendfsync", fsync] if aof else ["--appendonly", "no"]
    command = [
        _program("redis-server", "redis"),
        *("--bind", HOST, "--port", str(port), "--dir", str(folder), "--save", ""),
        *durability,
        *options,
    ]

    def answers() -> bool:
        with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16) == b"+PONG\r\n"  # while it reads its file it says -LOADING
        return False

    return Server(folder, command, answers, port=port, scheme="redis", log=log, clock=clock)


def neo4j_server(folder: Path, *, login: bool = False, log: Path | None = None, clock: Clock | None = None) -> Server:
    """Neo4j, without logins unless asked for: ten seconds of a core until it answers, and 400 MB. Raises Missing."""
    program = _program("neo4j", "neo4j")
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
    environment = {"NEO4J_HOME": str(folder), "JDK_JAVA_OPTIONS": QUICK_JAVA}

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

    command = [program, "console"]
    return Server(folder, command, answers, port=port, scheme="bolt", environment=environment, log=log, clock=clock)


def _program(name: str, part: str) -> str:
    path = where(name)
    if path is None:
        raise Missing(
            f"{name} is not installed, and this run needs one; in a clone of squall: make services "
            f"(squall doctor {part} shows what is found)"
        )
    return str(path)
