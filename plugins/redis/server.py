"""The server as the store sees it: connections, what its answers mean, and what it does with what it is given.

Commands go out through redis-py's connections, beneath its clients: nothing is sent twice but by the store's own
decision, and an interrupted command ends its connection, so that its answer is never taken for another's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

from redis import exceptions as errors
from redis.asyncio.connection import AbstractConnection, parse_url
from redis.asyncio.connection import Connection as TcpConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from squall.core.errors import ConfigError, SquallError
from squall.core.event import Durability
from squall.core.reaching import unreachable
from squall.core.secret import Secret
from squall.plugins.redis.scripts import Script

Command = Sequence[str | bytes | int]
MAX_REDIRECTS = 5

_LOGIN = "it refuses the login; put user and password into the url (redis://user:password@host), by env: or file:"
_NOT_WHOLE = "its cluster or primary is not whole just now; it is tried again"
_REFUSALS = {
    "READONLY": "it is a replica that takes no writes; give the url of the primary",
    "OOM": "it is out of memory; raise its maxmemory, or keep fewer events (max_events)",
    "LOADING": "it is still loading its data; it is tried again until it has",
    "NOAUTH": _LOGIN,
    "WRONGPASS": _LOGIN,
    "WRONGTYPE": "somebody else uses this key; give the store another name, or remove the key",
    "CLUSTERDOWN": _NOT_WHOLE,
    "MASTERDOWN": _NOT_WHOLE,
    "TRYAGAIN": _NOT_WHOLE,
    "ASK": _NOT_WHOLE,
    "MISCONF": "it cannot write its own snapshot and takes no writes; see its log",
    "NOREPLICAS": "too few of its replicas answer; see min-replicas-to-write",
    "BUSY": "it is busy with another script; it is tried again",
    "LOST": "its data are gone; the store sets itself up anew",
}
"""The error codes that say that nothing was executed; what each means, and what to do."""


PASSING = frozenset({"LOADING", "CLUSTERDOWN", "MASTERDOWN", "TRYAGAIN", "ASK", "BUSY"})
"""Of these, what passes by itself, mostly soon."""


class Unreachable(SquallError):
    """No connection: what was to be sent was not sent."""


class Interrupted(SquallError):
    """The connection ended, or no answer came in time, after the command was sent: was it executed?"""


class Rejected(SquallError):
    """The server answered with an error. harmless: surely nothing was executed. `code` is its first word."""

    def __init__(self, text: str, code: str = "", *, harmless: bool) -> None:
        super().__init__(text)
        self.code, self.harmless = code, harmless


class Server:
    """Where the store's keys are: the server of the url, or the node of its cluster that it sends us to."""

    def __init__(self, url: Secret, timeout_s: float) -> None:
        self._url, self.timeout_s = url, timeout_s
        self._nodes: list[tuple[str, int] | None] = [None]

    @cached_property
    def _options(self) -> dict[str, Any]:
        """What a connection is made of, read when the first is needed. Raises ConfigError."""
        url = self._url.read("redis: url")
        try:
            return {"connection_class": TcpConnection} | cast(dict[str, Any], parse_url(url))
        except ValueError as error:  # which may quote a part of the password
            reason = "it is no URL; in a password, write special characters as %XX" if "@" in url else str(error)
            raise ConfigError(f"redis: url: {reason}") from None

    @property
    def address(self) -> str:
        """Where the next connection goes to, as `host:port`."""
        options, node = self._options, self._nodes[0]
        if node is not None:
            return f"{node[0]}:{node[1]}"
        return options.get("path") or f"{options.get('host', 'localhost')}:{options.get('port', 6379)}"

    def moved_to(self, host: str, port: int) -> None:
        """The cluster says that this node has our keys."""
        self._nodes = [(host, port), *(node for node in self._nodes if node != (host, port))]

    def knows(self, nodes: Sequence[tuple[str, int]]) -> None:
        """These are nodes of its cluster, too: any of them says where our keys are."""
        self._nodes += [node for node in nodes if node not in self._nodes]

    def failed(self) -> None:
        """It cannot be reached there: try the next node."""
        self._nodes = [*self._nodes[1:], self._nodes[0]]

    def connection(self) -> AbstractConnection:
        """A connection that is not open yet."""
        options = self._options | {
            "protocol": 3, "socket_timeout": None, "socket_connect_timeout": self.timeout_s,
            "retry": Retry(NoBackoff(), 0), "driver_info": None,
        }  # fmt: skip
        kind: type[AbstractConnection] = options.pop("connection_class")
        if (node := self._nodes[0]) is not None:
            options["host"], options["port"] = node
        return kind(**options)


class Link:
    """One connection to the server, opened when it is needed and used by one command at a time. `opened` counts how
    often; `on_invalidated` is called when the server says that a key was changed which it was told to track."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self.opened = 0
        self.on_invalidated: Callable[[], None] | None = None
        self._invalidations = 0
        self._connection: AbstractConnection | None = None
        self._lock = asyncio.Lock()

    @property
    def is_connected(self) -> bool:
        """Whether it is open as far as is known without looking."""
        return self._connection is not None

    async def is_open(self) -> bool:
        """Whether it is open as far as can be seen from here; what the server has ended meanwhile is closed. Nobody
        waits for an answer now: all that may be there to be read is that keys were changed."""
        while self._connection is not None:
            try:
                if not await self._connection.can_read():
                    break
                told = self._invalidations
                async with asyncio.timeout(self._server.timeout_s):
                    await self._connection.read_response(disconnect_on_error=False, push_request=True)
                if self._invalidations == told:
                    await self.close()
            except (errors.RedisError, OSError):  # a TimeoutError too
                await self.close()
        return self._connection is not None

    async def call(self, *command: str | bytes | int) -> Any:
        """The answer to one command. Raises Unreachable, Interrupted or Rejected."""
        return (await self.calls([command]))[0]

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[str | bytes | int]) -> Any:
        """The answer of a script. Raises as call does."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except errors.NoScriptError:
            return await self.call("EVAL", script.source, len(keys), *keys, *arguments)

    async def calls(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to several commands, sent together. Raises as call does."""
        async with self._lock:
            for _ in range(MAX_REDIRECTS):
                try:
                    return await self._exchange(commands)
                except errors.MovedError as moved:
                    await self.close()
                    self._server.moved_to(moved.host, moved.port)
        raise Rejected(f"Redis at {self._server.address}: sends us from node to node", "MOVED", harmless=True)

    async def _exchange(self, commands: Sequence[Command]) -> list[Any]:
        connection = await self._connected()
        try:
            packed = connection.pack_commands(commands)
            # Not redis-py's own timeout: its wait_for loses a cancellation now and then (Python 3.11).
            async with asyncio.timeout(self._server.timeout_s):
                await connection.send_packed_command(packed, check_health=False)
                answers = [await self._answer(connection) for _ in commands]
        except TimeoutError as error:
            await self.close()
            raise Interrupted(
                f"Redis at {self._server.address}: no answer within {self._server.timeout_s:g} s"
            ) from error
        except (errors.RedisError, OSError) as error:
            await self.close()
            raise Interrupted(f"Redis at {self._server.address}: the connection was lost: {error}") from error
        except BaseException:
            await self.close()
            raise
        for answer in answers:
            if isinstance(answer, errors.MovedError | errors.NoScriptError):
                raise answer
            if isinstance(answer, Exception):
                raise rejected(answer, self._server.address) from answer
        return answers

    async def _answer(self, connection: AbstractConnection) -> Any:
        try:
            return await connection.read_response(disconnect_on_error=False)
        except errors.ResponseError as error:
            return error
        except (errors.BusyLoadingError, errors.AuthenticationError) as error:
            return error  # answers as well, though redis-py counts them among the lost connections

    async def _connected(self) -> AbstractConnection:
        if not await self.is_open():
            connection = self._server.connection()
            try:
                async with asyncio.timeout(self._server.timeout_s):
                    await connection.connect()  # type: ignore[no-untyped-call]
            except (errors.RedisError, OSError) as error:
                with contextlib.suppress(errors.RedisError, OSError):
                    await connection.disconnect(nowait=True)
                address = self._server.address
                if isinstance(error, errors.ResponseError | errors.BusyLoadingError | errors.AuthenticationError):
                    raise rejected(error, address) from error
                self._server.failed()
                said = unreachable(error) if str(error) else f"no answer within {self._server.timeout_s:g} s"
                raise Unreachable(
                    f"Redis at {address} cannot be reached: {said}; see that it runs, and that redis.url is its address"
                ) from error
            if self.on_invalidated is not None:
                connection._parser.set_invalidation_push_handler(self._invalidated)  # type: ignore[attr-defined]
            self._connection = connection
            self.opened += 1
        assert self._connection is not None
        return self._connection

    async def _invalidated(self, push: object) -> None:
        self._invalidations += 1
        if self.on_invalidated is not None:
            self.on_invalidated()

    async def close(self) -> None:
        """End the connection; the next command opens another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(errors.RedisError, OSError):
                await connection.disconnect(nowait=True)


class Links:
    """A few connections for whoever reads: as many at once, others wait."""

    def __init__(self, server: Server, number: int) -> None:
        self._free = [Link(server) for _ in range(number)]
        self._room = asyncio.Semaphore(number)

    @contextlib.asynccontextmanager
    async def use(self) -> AsyncIterator[Link]:
        """A connection that is nobody else's meanwhile."""
        async with self._room:
            link = self._free.pop()
            try:
                yield link
            finally:
                self._free.append(link)

    async def close(self) -> None:
        """End all of them."""
        for link in self._free:
            await link.close()


def rejected(error: Exception, address: str) -> Rejected:
    """What an error that the server answered with means, and what to do."""
    code = getattr(error, "status_code", None) or str(error).partition(" ")[0]
    meaning = _REFUSALS.get(code)
    if meaning is None:
        return Rejected(f"Redis at {address} answered: {error}", code, harmless=False)
    return Rejected(f"Redis at {address}: {meaning} (its answer: {error})", code, harmless=True)


async def nodes_of_cluster(link: Link) -> list[tuple[str, int]]:
    """Where the nodes of its cluster are; none where it is in none or does not say. Raises Unreachable, Interrupted."""
    try:
        ranges = await link.call("CLUSTER", "SLOTS")
    except Rejected:
        return []
    return list(dict.fromkeys((node[0].decode(), node[1]) for one in ranges for node in one[2:] if node[0]))


@dataclass(frozen=True)
class Keeping:
    """What the server does with what it is given: how durable it is before a write is answered, what it says of that,
    and whether it drops keys of ours when its memory is full."""

    durability: Durability
    says: str
    evicts: bool = False


async def observe(link: Link) -> Keeping:
    """What the server keeps, as far as it tells. Raises Unreachable, Interrupted, and Rejected where it refuses not the
    question but whoever asks."""
    names = ("appendonly", "appendfsync", "no-appendfsync-on-rewrite", "maxmemory-policy")
    try:
        answers = await link.calls([("CONFIG", "GET", name) for name in names])
    except Rejected as error:
        if error.harmless or not link.is_connected:  # as it would anything else: the login, say, or while it loads
            raise
        return Keeping("memory", f"CONFIG is refused: {error}")
    found = {key.decode(): value.decode() for answer in answers for key, value in answer.items()}
    values = [found.get(name, "?") for name in names]
    says = ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))
    on_disk = values[:3] == ["yes", "always", "no"]
    return Keeping("disk" if on_disk else "memory", says, values[3] not in ("noeviction", "?"))
