"""Settling by hand: what a handler that takes (event, delivery) may say about its delivery."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from squall.core.delivery import ACK, Decision, Nak, Term
from squall.core.errors import SquallError, checked_delay_s, text_of

if TYPE_CHECKING:
    from squall.core.subscription import Subscription


class Delivery:
    """One delivery, in the hands of its handler. The first word counts; a handler that returns without one acks."""

    __slots__ = ("_extend", "decision", "subscription")

    def __init__(self, subscription: Subscription, extend: Callable[[], None]) -> None:
        self.subscription = subscription
        self.decision: Decision | None = None
        self._extend = extend

    def ack(self) -> None:
        """The event is done, whatever the handler does from here on."""
        self._decide(ACK)

    def nak(self, delay_s: float | None = None) -> None:
        """Deliver it again: after delay_s, or as the settle policy says."""
        self._decide(Nak(-1.0 if delay_s is None else checked_delay_s(delay_s)))

    def term(self, reason: str = "rejected") -> None:
        """Give it up: to the dead letters, with this reason as its error."""
        self._decide(Term("rejected", text_of(reason)))

    def in_progress(self) -> None:
        """Still working: the timeout counts from now."""
        self._extend()

    def _decide(self, decision: Decision) -> None:
        if self.decision is not None:
            raise SquallError(f"delivery: already settled with {self.decision}, got {decision}")
        self.decision = decision
