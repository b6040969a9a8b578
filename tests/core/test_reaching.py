"""Why a server could not be connected to, whoever tried."""

from __future__ import annotations

import asyncio
import socket
import ssl

import pytest
from redis.exceptions import ConnectionError as DriversError

from squall.core.reaching import unreachable

_TLS = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006)")
_TLS.reason = "WRONG_VERSION_NUMBER"


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 7)"), "Connection refused"),
        (OSError("Multiple exceptions: [Errno 111] Connect call failed ('::1', 7)"), "Connection refused"),
        (socket.gaierror(-2, "Name or service not known"), "its name cannot be resolved"),
        (_TLS, "TLS failed: WRONG_VERSION_NUMBER"),
        (EOFError(), "EOFError"),
        (ValueError("half a word:\nand more"), "half a word"),
    ],
)
def test_why_is_told_in_the_systems_words(cause: Exception, says: str) -> None:
    """Of what the system said, also beneath a driver's own error."""
    assert unreachable(cause) == says
    wrapped = DriversError("Error connecting to 127.0.0.1:7")
    wrapped.__cause__ = cause
    if isinstance(cause, OSError):
        assert unreachable(wrapped) == says


async def test_a_port_where_nobody_listens() -> None:
    """As asyncio tells it, by an address and by a name that may have several."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))  # and listens not
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(OSError, match="Connect call failed") as told:
                await asyncio.open_connection(host, free.getsockname()[1])
            assert unreachable(told.value) == "Connection refused"
