"""What the server says when it cannot do as it is asked.

SquallError
├── ProtocolError        a frame that breaks the protocol: the connection is closed
├── BadRequest           a request that is no CloudEvent, or not as HTTP wants it
└── TooFast              the address publishes faster than it may (a Refused)
"""

from __future__ import annotations

from squall.core.errors import SquallError


class ProtocolError(SquallError):
    """`code` is the WebSocket's close code."""

    def __init__(self, message: str, code: int = 1002) -> None:
        super().__init__(message)
        self.code = code


class BadRequest(SquallError):
    """`status` is HTTP's: 400, 413 or 415."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status
