"""Who may use the server: the Host and Origin that a request names, and its token."""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from squall.core.errors import ConfigError
from squall.core.secret import Secret
from squall.plugins.serve.options import LOOPBACK, ServeOptions
from squall.plugins.serve.problems import Problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MIN_TOKEN_CHARACTERS = 16
OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/docs"})


def _token(secret: Secret) -> bytes:
    token = secret.read("serve: token")
    if len(token) < MIN_TOKEN_CHARACTERS:
        raise ConfigError(
            f"serve: token: {secret}: expected at least {MIN_TOKEN_CHARACTERS} characters there, got {len(token)}"
        )
    return token.encode()


class Access:
    """Stands before the application. Host and Origin are looked at because a web page that a user has open can reach
    a server on loopback: by a name of its own that it lets resolve to it (Host), or across origins (Origin)."""

    def __init__(self, app: App, options: ServeOptions) -> None:
        """Raises ConfigError where the token cannot be read, or is too short."""
        self._app = app
        self._hosts = {name.lower() for name in (*LOOPBACK, options.host, *options.hosts)}
        self._origins = {origin.lower() for origin in options.origins}
        self._token = None if options.token is None else _token(options.token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and (problem := self.refusal(scope)) is not None:
            begin = "http.response" if scope["type"] == "http" else "websocket.http.response"
            await send({"type": f"{begin}.start", "status": problem.status, "headers": problem.headers})
            await send({"type": f"{begin}.body", "body": problem.body})
            return
        await self._app(scope, receive, send)

    def refusal(self, scope: Scope) -> Problem | None:
        """Why this request is not served, if it is not."""
        host = origin = authorization = None
        for name, value in scope["headers"]:
            if name == b"host":
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"authorization":
                authorization = value
        called = _name(host.decode("latin-1").lower()) if host is not None else ""
        if called not in self._hosts:
            return Problem(
                403, "WrongHost", f"this server is not called {called!r:.80} (serve.hosts lists its names)", closes=True
            )
        if origin is not None and origin.decode("latin-1").lower() not in self._origins:
            return Problem(
                403, "WrongOrigin", "pages of this origin may not use the server (serve.origins)", closes=True
            )
        if self._token is None or scope["path"] in OPEN_PATHS:
            return None
        kind, _, token = (authorization or b"").partition(b" ")
        if kind.lower() == b"bearer" and hmac.compare_digest(token.strip(), self._token):
            return None
        wrong = "is missing" if authorization is None else "is not the server's"
        return Problem(401, "Unauthorized", f"the token {wrong}: expected `Authorization: Bearer …`", closes=True)


def address_of(scope: Scope) -> str:
    """The client's address, without its port."""
    client = scope.get("client")
    return client[0] if client else ""


def _name(host: str) -> str:
    """A Host header without its port, an IPv6 address without its brackets."""
    if host.startswith("["):
        name, closed, _ = host[1:].partition("]")
        return name if closed else host
    return host.partition(":")[0]
