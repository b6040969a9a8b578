"""Why a server could not be connected to."""

from __future__ import annotations

import os
import re
import socket
import ssl

from squall.core.errors import text_of


def unreachable(error: BaseException) -> str:
    """Why a server could not be connected to, in the system's own words: a driver's around them name addresses again,
    and no advice."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(cause, ssl.SSLError):  # whose number is none of the system's
            return f"TLS failed: {getattr(cause, 'verify_message', '') or cause.reason or text_of(cause)}"
        # The number alone, or, where a name has several addresses, in the text.
        number = getattr(cause, "errno", None) or next(iter(re.findall(r"\[Errno (\d+)\]", text_of(cause))), 0)
        if int(number) > 0:
            return os.strerror(int(number))
        cause = cause.__cause__ or cause.__context__
    return text_of(error).partition("\n")[0].rstrip(":") or type(error).__name__
