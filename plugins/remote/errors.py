"""What a remote router says that a local one need not, and the server's errors as squall's own classes.

SquallError
├── Unreachable          no connection: nobody answers there, or what answers does not let us in
└── ProtocolError        the server said what squall.v1 does not know
"""

from __future__ import annotations

from squall.core.errors import (
    Conflict,
    InvalidEvent,
    NotRunning,
    Outcome,
    Overflow,
    PublishError,
    Refused,
    SquallError,
    StoreError,
    SubscriptionError,
)
from squall.protos import wire_pb2 as pb

_PUBLISH = {kind.__name__: kind for kind in (Conflict, InvalidEvent, Overflow, StoreError)}
_REFUSED = ("Refused", "TooFast")


class Unreachable(SquallError):
    """The server cannot be reached. `lasting`: it answered, and will answer the same again."""

    def __init__(self, message: str, *, lasting: bool = False) -> None:
        super().__init__(message)
        self.lasting = lasting


class ProtocolError(SquallError):
    """What was received is not squall.v1."""


def publish_error(receipt: pb.Receipt, *, sent_before: bool) -> SquallError:
    """The error of a receipt that is not ok.

    `sent_before`: the event was also sent on a connection that was lost, and may yet be stored by way of that: that it
    was not stored this time is then no proof, unless the event can never be stored.
    """
    if receipt.error == "NotRunning":
        return NotRunning(receipt.message)
    outcome: Outcome = "fail" if receipt.outcome == pb.OUTCOME_FAIL else "info"
    error: PublishError
    if receipt.error in _REFUSED:
        after_s = receipt.retry_after_ms / 1000 if receipt.HasField("retry_after_ms") else None
        error = Refused(receipt.message, after_s)
    elif receipt.error in _PUBLISH:
        error = _PUBLISH[receipt.error](receipt.message)
    else:
        error = PublishError(f"{receipt.error or 'the server'}: {receipt.message}")
    error.outcome = outcome
    if sent_before and not isinstance(error, InvalidEvent):
        error.outcome = "info"
    return error


def subscription_error(failure: pb.Failure) -> SquallError:
    """Why the server did not subscribe, or does not any more."""
    if failure.error == "NotRunning":
        return NotRunning(failure.message)
    if failure.error == "SubscriptionError":
        return SubscriptionError(failure.message)
    return SubscriptionError(f"{failure.error}: {failure.message}")
