"""What a remote router was told, checked."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.parse import SplitResult, urlsplit

STREAM = "/v1/stream"
_SCHEMES = {"http": "ws", "https": "wss", "ws": "ws", "wss": "wss"}
_RANGES = {
    "deadline_s": (0.001, 86_400),
    "heartbeat_s": (0.05, 3_600),
    "lease_s": (0.05, 86_400),
    "buffer_events": (1, 10_000_000),
    "buffer_bytes": (1024, 2**40),
}


@dataclass(frozen=True)
class Settings:
    """Where the server is, and how it is used; squall.connect says what each means."""

    url: str
    deadline_s: float
    heartbeat_s: float
    lease_s: float
    buffer_events: int
    buffer_bytes: int
    buffer_path: Path | None = None
    token: str | None = None
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, url: str, **told: Any) -> Self:
        """Raises ValueError, naming what is expected."""
        parts = urlsplit(url)
        scheme = _SCHEMES.get(parts.scheme)
        if scheme is None or parts.username is not None or not _reachable(parts):
            shown = f"{parts.scheme}://…@{parts.hostname}" if parts.username is not None else url
            raise ValueError(f"url: expected http, https, ws or wss://host:port, got {shown!r:.80}")
        if told["tls"] is not None and scheme != "wss":
            raise ValueError(f"tls: expected an https or wss url with it, got {url!r:.80}")
        for name, (low, high) in _RANGES.items():
            value = told[name]
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise ValueError(f"{name}: expected {low:g} to {high:g}, got {value!r:.80}")
        token = told["token"]
        if token is not None and (not token or not token.isascii() or not token.isprintable()):
            raise ValueError("token: expected printable ASCII text")
        path = parts.path if parts.path not in ("", "/") else STREAM
        return cls(f"{scheme}://{parts.netloc}{path}", **told)


def _reachable(parts: SplitResult) -> bool:
    """Has it a host, a port that there is, and nothing else?"""
    try:
        return bool(parts.hostname) and parts.port != 0 and not parts.query and not parts.fragment
    except ValueError:
        return False
