"""The running `squall serve` that the dashboard was started with: where it is, and whether it may be changed."""

from __future__ import annotations

import hmac
import secrets

import msgspec

from squall.core.errors import ConfigError, Problem
from squall.plugins.serve.asking import Server

OPTION = "dashboard: --service"
READING_S = 5.0
"""So long at most a page waits for the service's next word."""
CHANGING_S = 10.0


class Service(msgspec.Struct, frozen=True):
    """Its address, and where its token is, `env:NAME` or `file:PATH`: read whenever it is asked, and never shown.

    password: what people must tell the page before it changes anything; None: it changes nothing.
    """

    url: str
    token: str | None = None
    password: str | None = None

    def server(self, patience_s: float) -> Server:
        """To ask it. Raises ConfigError."""
        return Server.at(self.url, self.token, OPTION, patience_s)

    def lets_change(self, told: str) -> bool:
        """Whether who tells this may change something."""
        return self.password is not None and hmac.compare_digest(told.strip().encode(), self.password.encode())


def chosen_service(url: str | None, token: str | None, *, allow_changes: bool) -> Service | None:
    """The service that the command line names, with a password of its own where it may be changed. Raises
    ConfigError."""
    if url is None:
        if token is not None or allow_changes:
            option = "--allow-changes" if token is None else "--token"
            raise ConfigError([Problem(option, "is about a running squall serve: add --service URL, its address")])
        return None
    service = Service(url, token, secrets.token_hex(8) if allow_changes else None)
    service.server(READING_S)
    return service
