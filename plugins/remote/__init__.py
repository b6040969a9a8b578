"""Use a router that `squall serve` serves: `async with squall.connect(url) as remote`."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from squall.core.clock import Clock
from squall.core.errors import SquallError

if TYPE_CHECKING:
    from squall.plugins.remote.client import RemoteRouter


def connect(
    url: str,
    *,
    token: str | None = None,
    tls: ssl.SSLContext | None = None,
    deadline_s: float = 30.0,
    heartbeat_s: float = 10.0,
    lease_s: float = 30.0,
    buffer_events: int = 10_000,
    buffer_bytes: int = 67_108_864,
    buffer_path: str | Path | None = None,
    clock: Clock | None = None,
    seed: int | None = None,
    logger: logging.Logger | None = None,
) -> RemoteRouter:
    """A router that runs elsewhere, for `async with`: its publishers and subscribers are used like a local router's.

    `url` is http, https, ws or wss, with host and port. `tls` replaces the system's trust for https. Whatever is asked
    is answered within `deadline_s`, or raises. A server that says nothing for twice `heartbeat_s` is lost, and is
    connected to again; deliveries in hand are renewed, so that each may take longer than `lease_s`.

    What a lost connection leaves without an answer is sent again under the same id, within half of the window for which
    the server says that its store knows ids again. After that, and where it has none, its outcome is `info`.

    Publishes without an answer wait in a buffer of so many events and bytes: in memory, or at `buffer_path`, from where
    the next process sends what this one could not. Raises SquallError where the extra `squall[remote]` is missing, and
    ValueError for a url or number that cannot be.
    """
    try:
        from squall.plugins.remote.client import RemoteRouter
    except ImportError as error:
        raise SquallError(f"squall.connect needs {error.name}: pip install 'squall[remote]'") from error
    from squall.plugins.remote.settings import Settings

    settings = Settings.of(
        url,
        token=token,
        tls=tls,
        deadline_s=deadline_s,
        heartbeat_s=heartbeat_s,
        lease_s=lease_s,
        buffer_events=buffer_events,
        buffer_bytes=buffer_bytes,
        buffer_path=None if buffer_path is None else Path(buffer_path),
    )
    return RemoteRouter(settings, clock=clock, seed=seed, logger=logger)
