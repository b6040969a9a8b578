"""How one delivery ends: by return, by an error, by its handler's own word or by time; and what is decided about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from squall.core.delivery import Ack, Attempt, Decision, FailedDelivery, Nak, Outcome, Term
from squall.core.errors import Reject, Retry, checked_delay_s, text_of
from squall.core.failures import FailureLog
from squall.core.subscription import Subscription

if TYPE_CHECKING:
    from squall.core.dispatch import Wiring


@dataclass(slots=True)
class Failure:
    """What is known of an event whose delivery failed before, or which waits for its time (no attempts then). Of the
    first attempt: its begin, in wall ns and monotonic ns."""

    attempts: int = 0
    first_wall_ns: int = 0
    first_ns: int = 0


class Endings:
    """Decides about a subscription's attempts. `failures` are the events that failed, or wait for their time, and
    are not settled, by seq."""

    def __init__(self, subscription: Subscription, wiring: Wiring) -> None:
        self.failures: dict[int, Failure] = {}
        self._subscription, self._policy, self._clock = subscription, wiring.policy, wiring.clock
        self._logger = wiring.observers.logger
        self.log = FailureLog(subscription.label, wiring.clock, self._logger, wiring.scrub)

    @property
    def longest_delay_s(self) -> float:
        """The greatest delay until an event is tried again."""
        return 0.0 if self._policy is None else self._policy.longest_delay_s

    @property
    def max_attempts(self) -> int | None:
        """How often a delivery is tried at most; None: no limit. Without a policy the first failure is the last."""
        return 1 if self._policy is None else self._policy.max_attempts

    def timeout(self, how: str = "") -> TimeoutError:
        """The error of a handler that was over its time."""
        return TimeoutError(f"handler took longer than {self._subscription.timeout_s} s{how}")

    def conclude(self, attempt: Attempt, said: Decision | None, outcome: Outcome, error: BaseException | None) -> None:
        """Fill in how the attempt ended. What the handler `said` by hand counts more than how it ended."""
        failure = self.failures.get(attempt.event.seq)
        attempt.attempt = failure.attempts + 1 if failure is not None else 1
        if isinstance(said, Ack):
            return
        if said is not None:
            word = Reject(said.text) if isinstance(said, Term) else Retry(None if said.delay_s < 0 else said.delay_s)
            word.__cause__ = error
            outcome, error = "error" if outcome == "ok" else outcome, word
        if error is None:
            return
        attempt.outcome, attempt.error = outcome, error
        if self._subscription.delivery != "at-most-once":  # else it was settled before it was handled, however it ends
            if failure is None or not failure.attempts:
                failure = Failure(0, self._clock.time_ns(), attempt.begun_ns)
                self.failures[attempt.event.seq] = failure
            failure.attempts += 1
            attempt.decision = self._decide(attempt, failure, error)
        self.log.add(attempt.event, error, attempt.decision)

    def _decide(self, attempt: Attempt, failure: Failure, error: BaseException) -> Decision:
        policy = self._policy
        if isinstance(error, Reject):
            return Term("rejected", error.reason)
        if policy is None:
            return Nak(error.delay_s or 0.0) if isinstance(error, Retry) else Term("delivery_limit")
        what = FailedDelivery(
            attempt.event, self._subscription, failure.attempts, attempt.outcome, failure.first_ns, attempt.ended_ns
        )
        try:
            decision = policy.decide(what, error)
            if not isinstance(decision, Ack | Nak | Term):
                raise TypeError(f"expected Ack, Nak or Term, got {decision!r:.80}")
            if isinstance(decision, Nak):
                decision = Nak(checked_delay_s(decision.delay_s))
            elif isinstance(decision, Term):
                decision = Term(decision.reason, text_of(decision.text))
        except Exception as wrong:
            self._logger.exception("subscription %s: the settle policy raised", self._subscription.label)
            told = f"{type(wrong).__name__}: {text_of(wrong)} about {type(error).__name__}: {text_of(error)}"
            return Term("delivery_limit", f"the settle policy raised {told}")
        return decision
