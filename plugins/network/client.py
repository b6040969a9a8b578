"""A client of Toxiproxy's HTTP API, for the real server and the embedded one: toxiproxy-python, its traps closed.

The library keeps host and port for all of its users, waits for ever, has no call for an update, raises KeyError where a
port is taken, calls every 400 an invalid toxic, and follows the environment's HTTP proxy. So of its calls only the
lowest are used, on a class of our own, one at a time in a thread, and each answer is looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from squall.core.errors import SquallError
from squall.plugins.network.proxy import Counts
from squall.plugins.network.stages import Bites
from squall.plugins.network.toxics import Stream, Toxic

T = TypeVar("T")

TIMEOUT_S = 5.0
INSTALL = "pip install 'squall[toxiproxy]'"


class ToxiproxyError(SquallError):
    """Toxiproxy cannot be asked, or refused."""


class Unreachable(ToxiproxyError):
    """It does not answer, or what answers is not Toxiproxy."""


class NotFound(ToxiproxyError):
    """There is no such proxy or toxic."""


class AlreadyExists(ToxiproxyError):
    """There is a proxy or toxic of that name."""


class PortTaken(ToxiproxyError):
    """Something else listens where the proxy is to listen."""


class Refused(ToxiproxyError):
    """Toxiproxy does not take what it was told."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ToxicState(_Model):
    """A toxic as the server has it. counts None: the server does not count."""

    name: str
    type: str
    stream: Stream
    toxicity: float
    attributes: dict[str, int]
    counts: Bites | None = None


class ProxyState(_Model):
    """A proxy as the server has it; addresses are `host:port`. counts None: the server does not count."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[ToxicState, ...] = ()
    counts: Counts | None = None


@dataclass(frozen=True)
class ProxySpec:
    """A proxy to be made."""

    name: str
    upstream: str
    listen: str = "127.0.0.1:0"
    enabled: bool = True


class ToxiproxyClient:
    """Asks one server. Every call raises a ToxiproxyError that says what was asked, and what the server said.

    Raises ToxiproxyError at once where the library is not installed.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 8474, *, timeout_s: float = TIMEOUT_S) -> None:
        try:
            from toxiproxy.api import APIConsumer  # type: ignore[import-untyped]
        except ImportError as error:
            raise ToxiproxyError(f"network faults need toxiproxy-python: {INSTALL}") from error
        self.address = f"{host}:{port}"
        # The library's calls read host and port from their class: one of its own for each client.
        self._api: Any = type("Api", (APIConsumer,), {"host": f"[{host}]" if ":" in host else host, "port": port})
        self._timeout_s = timeout_s
        self._lock = asyncio.Lock()

    async def version(self) -> str:
        return (await self._ask("GET", "/version", _Version)).version

    async def proxies(self) -> dict[str, ProxyState]:
        return await self._ask("GET", "/proxies", dict[str, ProxyState])

    async def proxy(self, name: str) -> ProxyState:
        return await self._ask("GET", _path(name), ProxyState)

    async def create(self, spec: ProxySpec) -> ProxyState:
        """Make a proxy. Raises AlreadyExists or PortTaken."""
        return await self._ask("POST", "/proxies", ProxyState, asdict(spec))

    async def update(self, spec: ProxySpec) -> ProxyState:
        """Let a proxy listen or lead elsewhere, enabled or not. Its connections end if anything changes."""
        return await self._ask("POST", _path(spec.name), ProxyState, asdict(spec))

    async def enable(self, name: str) -> ProxyState:
        return await self._ask("POST", _path(name), ProxyState, {"enabled": True})

    async def disable(self, name: str) -> ProxyState:
        """End all connections, and refuse new ones."""
        return await self._ask("POST", _path(name), ProxyState, {"enabled": False})

    async def delete(self, name: str) -> None:
        await self._do("DELETE", _path(name))

    async def populate(self, specs: Sequence[ProxySpec]) -> tuple[ProxyState, ...]:
        """Make these proxies, or make those of these names anew that are there and lead elsewhere."""
        return (await self._ask("POST", "/populate", _Populated, [asdict(spec) for spec in specs])).proxies

    async def reset(self) -> None:
        """Enable all proxies of the server and take all toxics away, whoever put them there."""
        await self._do("POST", "/reset")

    async def toxics(self, proxy: str) -> tuple[ToxicState, ...]:
        return await self._ask("GET", f"{_path(proxy)}/toxics", tuple[ToxicState, ...])

    async def toxic(self, proxy: str, name: str) -> ToxicState:
        return await self._ask("GET", _path(proxy, name), ToxicState)

    async def add(self, proxy: str, toxic: Toxic) -> ToxicState:
        """Put a toxic behind those that the proxy has."""
        body = {"name": toxic.name, "type": toxic.type, "stream": toxic.stream, **_told(toxic)}
        return _taken(toxic, await self._ask("POST", f"{_path(proxy)}/toxics", ToxicState, body))

    async def change(self, proxy: str, toxic: Toxic) -> ToxicState:
        """Tell a toxic that is there other attributes, or another toxicity."""
        return _taken(toxic, await self._ask("POST", _path(proxy, toxic.name), ToxicState, _told(toxic)))

    async def remove(self, proxy: str, name: str) -> None:
        await self._do("DELETE", _path(proxy, name))

    @asynccontextmanager
    async def proxied(self, spec: ProxySpec) -> AsyncIterator[ProxyState]:
        """A proxy for as long as the context lasts."""
        state = await self.create(spec)
        try:
            yield state
        finally:
            await self.delete(spec.name)

    async def _ask(self, method: _Method, path: str, expected: type[T], body: object = None) -> T:
        answer = await self._do(method, path, body)
        try:
            return TypeAdapter(expected).validate_json(answer)
        except ValidationError as error:
            what = f"{method} {path}: {answer[:80]!r}"
            raise Unreachable(f"what answers at {self.address} is not Toxiproxy: {what}") from error

    async def _do(self, method: _Method, path: str, body: object = None) -> bytes:
        options: dict[str, object] = {"timeout": self._timeout_s, "proxies": {"http": None, "all": None}}
        if body is not None:
            options["json"] = body
        call = {"GET": self._api.get, "POST": self._api.post, "DELETE": self._api.delete}[method]
        async with self._lock:
            status, content = await _in_thread(lambda: self._call(call, path, options))
        if status >= 400:
            raise self._refusal(f"{method} {path}", status, content)
        return content

    def _call(self, call: Callable[..., Any], path: str, options: dict[str, object]) -> tuple[int, bytes]:
        """One request, in a thread. The library raises for three statuses, each of which may mean several things."""
        from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists  # type: ignore[import-untyped]

        try:
            response = call(path, **options)
        except (InvalidToxic, NotFound, ProxyExists) as error:
            status = {InvalidToxic: 400, NotFound: 404, ProxyExists: 409}[type(error)]
            return status, error.args[0]
        except OSError as error:  # what requests raises are OSErrors
            why = "no answer" if "timed out" in str(error) else f"{type(error).__name__}"
            raise Unreachable(
                f"Toxiproxy at {self.address}: {why} within {self._timeout_s:g} s; is it running, and is that its "
                f"address?"
            ) from error
        return response.status_code, response.content

    def _refusal(self, request: str, status: int, content: bytes) -> ToxiproxyError:
        try:
            said = _Error.model_validate_json(content).error
        except ValidationError:
            said = content[:200].decode(errors="replace").strip() or "nothing"
        text = f"Toxiproxy at {self.address}, {request}: {said} ({status})"
        if status == 404:
            return NotFound(text)
        if status == 409:
            return AlreadyExists(text)
        if "address already in use" in said:
            return PortTaken(f"{text}; let the proxy listen at another port, or at port 0 for any that is free")
        return Refused(text)


_Method = Literal["GET", "POST", "DELETE"]


class _Version(_Model):
    version: str


class _Populated(_Model):
    proxies: tuple[ProxyState, ...]


class _Error(_Model):
    error: str


def _path(proxy: str, toxic: str = "") -> str:
    path = f"/proxies/{quote(proxy, safe='')}"
    return f"{path}/toxics/{quote(toxic, safe='')}" if toxic else path


def _told(toxic: Toxic) -> dict[str, object]:
    return {"toxicity": toxic.toxicity, "attributes": toxic.attributes.model_dump()}


def _taken(toxic: Toxic, state: ToxicState) -> ToxicState:
    """The server ignores attributes that it does not know: whether it took them is seen from what it has."""
    told = toxic.attributes.model_dump()
    if state.attributes != told:
        raise Refused(f"toxic {toxic.name}: this Toxiproxy took {state.attributes}, told {told}; is it an old version?")
    return state


async def _in_thread(call: Callable[[], T]) -> T:
    """Await a blocking call to its end even where the caller is cancelled: what it asks for has been asked."""
    running = asyncio.ensure_future(asyncio.to_thread(call))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
