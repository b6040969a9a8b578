"""Toxiproxy's HTTP API over the embedded proxies: paths, bodies, status codes and errors as its server has them.

What it adds: `counts` in proxies and toxics, which say what passed and what was bitten. What it refuses: attributes
that would end the server, and addresses to listen at that are not this machine's own.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from random import Random
from typing import NamedTuple, TypeVar
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, RootModel, ValidationError

from squall.core.clock import Clock
from squall.core.errors import ConfigError
from squall.core.options import explain
from squall.plugins.network.proxy import Proxy
from squall.plugins.network.stages import Bites
from squall.plugins.network.toxics import KINDS, Toxic

VERSION = "2.12.0+squall"
"""The version of Toxiproxy whose API this is, and that it is not Toxiproxy."""

M = TypeVar("M", bound=BaseModel)


class Answer(NamedTuple):
    """What a request gets: a body of JSON, or none."""

    status: int
    body: bytes = b""


Handler = Callable[[list[str], bytes], Awaitable[Answer]]
"""Answers a request, given its path in parts and its body. Raises ApiError."""


class ApiError(Exception):
    """A request that is refused, as the server tells it."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Body(BaseModel):
    """What a request says. What is not known is ignored, as Toxiproxy does."""

    model_config = ConfigDict(strict=True, extra="ignore")


class _ProxyBody(_Body):
    name: str = ""
    listen: str = ""
    upstream: str = ""
    enabled: bool | None = None


class _ProxiesBody(RootModel[list[_ProxyBody]]):
    model_config = ConfigDict(strict=True)


class _ToxicBody(_Body):
    name: str = ""
    type: str = ""
    stream: str = "downstream"
    toxicity: float = 1.0
    attributes: dict[str, object] = Field(default_factory=dict)


class _ToxicUpdateBody(_Body):
    toxicity: float | None = None
    attributes: dict[str, object] = Field(default_factory=dict)


class Api:
    """The proxies of one embedded server, and the answers to requests about them, one at a time."""

    def __init__(self, clock: Clock, random: Random) -> None:
        self.proxies: dict[str, Proxy] = {}
        self._clock, self._random = clock, random
        self._lock = asyncio.Lock()
        update, change = self._update, self._update_toxic
        self._routes: dict[tuple[str, ...], dict[str, Handler]] = {
            ("version",): {"GET": self._version},
            ("reset",): {"POST": self._reset},
            ("populate",): {"POST": self._populate},
            ("proxies",): {"GET": self._list, "POST": self._create},
            ("proxies", "*"): {"GET": self._show, "POST": update, "PATCH": update, "DELETE": self._delete},
            ("proxies", "*", "toxics"): {"GET": self._list_toxics, "POST": self._create_toxic},
            ("proxies", "*", "toxics", "*"): {
                "GET": self._show_toxic,
                "POST": change,
                "PATCH": change,
                "DELETE": self._delete_toxic,
            },
        }

    async def answer(self, method: str, path: str, body: bytes) -> Answer:
        """The answer to one request."""
        parts = [unquote(part) for part in path.partition("?")[0].split("/") if part]
        handlers = self._routes.get(tuple("*" if at in (1, 3) else part for at, part in enumerate(parts)))
        if handlers is None:
            return Answer(404, b"404 page not found\n")
        if method not in handlers:
            return Answer(405)
        async with self._lock:
            try:
                return await handlers[method](parts, body)
            except ApiError as error:
                return _json(error.status, {"error": str(error), "status": error.status})

    async def close(self) -> None:
        for proxy in self.proxies.values():
            await proxy.close()
        self.proxies.clear()

    async def _version(self, parts: list[str], body: bytes) -> Answer:
        return _json(200, {"version": VERSION})

    async def _reset(self, parts: list[str], body: bytes) -> Answer:
        for proxy in self.proxies.values():
            for name in tuple(proxy.toxics):
                proxy.remove(name)
            await _enable(proxy)
        return Answer(204)

    async def _populate(self, parts: list[str], body: bytes) -> Answer:
        told = _read(_ProxiesBody, body).root
        for number, one in enumerate(told, 1):
            _require(one, f" at proxy {number}")
        done: list[Proxy] = []
        try:
            for one in told:
                done.append(await self._add_or_replace(one))
        except ApiError as error:
            shown = [_shown(proxy) for proxy in done]
            return _json(error.status, {"error": str(error), "status": error.status, "proxies": shown})
        return _json(201, {"proxies": [_shown(proxy) for proxy in done]})

    async def _add_or_replace(self, told: _ProxyBody) -> Proxy:
        proxy = self.proxies.get(told.name)
        if proxy is None:
            return await self._add(told)
        listen = _address(told.listen)
        if (listen, told.upstream) != (proxy.address, proxy.upstream):
            for name in tuple(proxy.toxics):
                proxy.remove(name)
            _move(proxy, listen, told.upstream)
            if told.enabled is not False:
                await _enable(proxy)
        return proxy

    async def _list(self, parts: list[str], body: bytes) -> Answer:
        return _json(200, {name: _shown(proxy) for name, proxy in self.proxies.items()})

    async def _create(self, parts: list[str], body: bytes) -> Answer:
        told = _read(_ProxyBody, body)
        _require(told)
        if told.name in self.proxies:
            raise ApiError("proxy already exists", 409)
        return _json(201, _shown(await self._add(told)))

    async def _add(self, told: _ProxyBody) -> Proxy:
        listen = _address(told.listen)
        try:
            proxy = Proxy(told.name, listen, told.upstream, self._clock, self._random)
        except OSError as error:
            raise _not_listening(listen, error) from error
        try:
            if told.enabled is not False:
                await _enable(proxy)
        except ApiError:
            await proxy.close()
            raise
        self.proxies[told.name] = proxy
        return proxy

    async def _show(self, parts: list[str], body: bytes) -> Answer:
        return _json(200, _shown(self._proxy(parts)))

    async def _update(self, parts: list[str], body: bytes) -> Answer:
        proxy = self._proxy(parts)
        told = _read(_ProxyBody, body)
        listen = _address(told.listen) if told.listen else proxy.address
        upstream = told.upstream or proxy.upstream
        enabled = proxy.enabled if told.enabled is None else told.enabled
        if (listen, upstream) != (proxy.address, proxy.upstream):
            _move(proxy, listen, upstream)
        if enabled:
            await _enable(proxy)
        else:
            proxy.disable()
        return _json(200, _shown(proxy))

    async def _delete(self, parts: list[str], body: bytes) -> Answer:
        await self._proxy(parts).close()
        del self.proxies[parts[1]]
        return Answer(204)

    async def _list_toxics(self, parts: list[str], body: bytes) -> Answer:
        return _json(200, [_shown_toxic(*one) for one in self._proxy(parts).toxics.values()])

    async def _create_toxic(self, parts: list[str], body: bytes) -> Answer:
        proxy = self._proxy(parts)
        told = _read(_ToxicBody, body)
        if told.stream.lower() not in ("upstream", "downstream"):
            raise ApiError("stream was invalid, can be either upstream or downstream", 400)
        toxic = _toxic(told.type, told.stream.lower(), told.toxicity, told.name, told.attributes)
        if toxic.name in proxy.toxics:
            raise ApiError("toxic already exists", 409)
        proxy.add(toxic)
        return _json(200, _shown_toxic(*proxy.toxics[toxic.name]))

    async def _show_toxic(self, parts: list[str], body: bytes) -> Answer:
        return _json(200, _shown_toxic(*self._toxic(parts)))

    async def _update_toxic(self, parts: list[str], body: bytes) -> Answer:
        former, _ = self._toxic(parts)
        told = _read(_ToxicUpdateBody, body)
        toxicity = former.toxicity if told.toxicity is None else told.toxicity
        attributes = {**former.attributes.model_dump(), **told.attributes}
        proxy = self._proxy(parts)
        proxy.update(_toxic(former.type, former.stream, toxicity, former.name, attributes))
        return _json(200, _shown_toxic(*proxy.toxics[former.name]))

    async def _delete_toxic(self, parts: list[str], body: bytes) -> Answer:
        self._toxic(parts)
        self._proxy(parts).remove(parts[3])
        return Answer(204)

    def _proxy(self, parts: list[str]) -> Proxy:
        if parts[1] not in self.proxies:
            raise ApiError("proxy not found", 404)
        return self.proxies[parts[1]]

    def _toxic(self, parts: list[str]) -> tuple[Toxic, Bites]:
        toxics = self._proxy(parts).toxics
        if parts[3] not in toxics:
            raise ApiError("toxic not found", 404)
        return toxics[parts[3]]


async def _enable(proxy: Proxy) -> None:
    try:
        await proxy.enable()
    except OSError as error:
        raise _not_listening(proxy.address, error) from error


def _move(proxy: Proxy, listen: tuple[str, int], upstream: str) -> None:
    try:
        proxy.move(listen, upstream)
    except OSError as error:
        raise _not_listening(listen, error) from error


def _not_listening(address: tuple[str, int], error: OSError) -> ApiError:
    why = "address already in use" if error.errno == errno.EADDRINUSE else str(error)
    return ApiError(f"listen tcp {address[0]}:{address[1]}: bind: {why}", 500)


def _address(listen: str) -> tuple[str, int]:
    """Where to listen: `host:port` of this machine's own; nothing: any port."""
    host, _, port = (listen or "127.0.0.1:0").rpartition(":")
    host = {"": "127.0.0.1", "localhost": "127.0.0.1"}.get(host, host.strip("[]"))
    if not (port.isascii() and port.isdigit() and int(port) < 2**16):
        raise ApiError(f"listen: expected host:port such as 127.0.0.1:0, got {listen!r}", 400)
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host, int(port)
    except ValueError as error:
        raise ApiError(f"listen: expected an address such as 127.0.0.1, got {host!r}", 400) from error
    raise ApiError(f"listen: expected an address of this machine's own such as 127.0.0.1, got {host!r}", 400)


def _require(told: _ProxyBody, where: str = "") -> None:
    if not told.name:
        raise ApiError(f"missing required field: name{where}", 400)
    if not told.upstream:
        raise ApiError(f"missing required field: upstream{where}", 400)
    _, _, port = told.upstream.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 2**16):
        raise ApiError(f"bad request body: upstream{where}: expected host:port, got {told.upstream!r}", 400)


def _toxic(kind: str, stream: str, toxicity: float, name: str, attributes: Mapping[str, object]) -> Toxic:
    if kind not in KINDS:
        raise ApiError("invalid toxic type", 400)
    known = {key: value for key, value in attributes.items() if key in KINDS[kind].model_fields}
    try:
        return Toxic.of(kind, known, stream=stream, toxicity=toxicity, name=name)
    except ConfigError as error:
        raise ApiError(f"bad request body: {error.problems[0]}", 400) from error


def _read(model: type[M], body: bytes) -> M:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ApiError(f"bad request body: {error}", 400) from error
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ApiError(f"bad request body: {explain(error, model, data, 'body')[0].text()}", 400) from error


def _shown(proxy: Proxy) -> dict[str, object]:
    return {
        "name": proxy.name,
        "listen": proxy.listen,
        "upstream": proxy.upstream,
        "enabled": proxy.enabled,
        "toxics": [_shown_toxic(*one) for one in proxy.toxics.values()],
        "counts": asdict(proxy.counts),
    }


def _shown_toxic(toxic: Toxic, bites: Bites) -> dict[str, object]:
    return {
        "attributes": toxic.attributes.model_dump(),
        "name": toxic.name,
        "type": toxic.type,
        "stream": toxic.stream,
        "toxicity": toxic.toxicity,
        "counts": asdict(bites),
    }


def _json(status: int, value: object) -> Answer:
    return Answer(status, json.dumps(value).encode() + b"\n")
