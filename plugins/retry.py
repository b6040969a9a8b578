"""Retry: failed deliveries, and publishes, come again with exponential backoff and full jitter; then dead letters."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Annotated, ClassVar

from pydantic import Field

from squall.core.delivery import Decision, FailedDelivery, Nak, SettlePolicy, Term
from squall.core.errors import Overflow, Reject, Retry, StoreError
from squall.core.event import Event
from squall.core.middleware import Middleware, Next, around
from squall.core.options import Options as BaseOptions
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.subscription import Subscription
from squall.core.units import Seconds

_DATA_CODE = vars(Event)["data"].fget.__code__

TypeName = Annotated[str, Field(min_length=1)]


class RetryOptions(BaseOptions):
    """How often, and after which delays, a failed delivery is tried again."""

    noun: ClassVar[str] = "retry"

    attempts: Annotated[int, Field(ge=1, le=1000, description="attempts in all, the first one included")] = 5
    base: Annotated[Seconds, Field(gt=0, description="the first delay's upper end")] = 1.0
    factor: Annotated[float, Field(ge=1, description="what the upper end grows by, each time")] = 2.0
    cap: Annotated[Seconds, Field(gt=0, description="the upper end grows no further than this")] = 100.0
    deadline: Annotated[
        Annotated[Seconds, Field(gt=0)] | None,
        Field(description="no attempt begins later than this after the first one; none: only `attempts` counts"),
    ] = None
    non_retryable: Annotated[
        tuple[TypeName, ...],
        Field(
            strict=False,  # a list too, where options are given in Python
            description="exception types, by name or by full name, that are dead-lettered at once; subclasses too",
        ),
    ] = ()
    publish_deadline: Annotated[
        Annotated[Seconds, Field(gt=0)] | None,
        Field(
            description="a publish that surely stored nothing is tried again too, for so long in all; none: it is not"
        ),
    ] = None


class Backoff:
    """The settle policy of one subscription.

    After the n-th failed attempt the delay is uniform(0, min(cap, base·factor^(n-1))) seconds: full jitter, applied
    after the cap (Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). A handler that raises
    Retry(delay_s) names the delay itself, which is kept as it is; the number of attempts and the deadline still hold.
    """

    def __init__(self, options: RetryOptions, random: Random) -> None:
        self._options = options
        self._random = random
        self._non_retryable = frozenset(options.non_retryable)
        self._ceilings_s: list[float] = []
        ceiling_s = min(options.cap, options.base)
        for _ in range(options.attempts - 1):
            self._ceilings_s.append(ceiling_s)
            ceiling_s = min(options.cap, ceiling_s * options.factor)
        self._longest_delay_s = self._ceilings_s[-1] if self._ceilings_s else 0.0

    @property
    def longest_delay_s(self) -> float:
        """Seconds: the last backoff's upper end, or the longest delay that a handler has asked for, if that is more."""
        return self._longest_delay_s

    @property
    def max_attempts(self) -> int | None:
        """The option `attempts`."""
        return len(self._ceilings_s) + 1

    def decide(self, delivery: FailedDelivery, error: BaseException) -> Decision:
        """Nak with a delay, or Term with the reason. Never raises."""
        if isinstance(error, Reject):
            return Term("rejected", error.reason)
        if _raised_by_data(error):
            return Term("undecodable")
        if self._non_retryable and not self._non_retryable.isdisjoint(_names(error)):
            return Term("rejected", f"{type(error).__name__} is not retryable")
        spent = Term("timeout" if delivery.outcome == "timeout" else "delivery_limit")
        if delivery.attempt >= self._options.attempts:
            return spent
        delay_s = self._delay_s(delivery.attempt, error)
        deadline_s = self._options.deadline
        if deadline_s is not None and (delivery.now_ns - delivery.first_ns) / 1e9 + delay_s > deadline_s:
            return spent
        return Nak(delay_s)

    def _delay_s(self, attempt: int, error: BaseException) -> float:
        if isinstance(error, Retry) and error.delay_s is not None:
            asked_s = max(0.0, error.delay_s)
            self._longest_delay_s = max(self._longest_delay_s, asked_s)
            return asked_s
        return self._random.uniform(0.0, self._ceilings_s[attempt - 1])

    def delays_s(self) -> Iterator[float]:
        """A delay for each attempt but the last, in seconds."""
        return (self._random.uniform(0.0, ceiling_s) for ceiling_s in self._ceilings_s)


class RetryPlugin(Plugin):
    """Gives each subscription a Backoff, and publishes one where `publish_deadline` is set.

    A delivery ends in the dead letters as `rejected` (Reject, non-retryable types), `undecodable` (event.data cannot
    decode the payload; no further attempt would), `timeout` (attempts spent, the last one by timeout) or
    `delivery_limit` (attempts or deadline spent).
    """

    summary: ClassVar[str] = "settle policy: failed deliveries again, with exponential backoff and full jitter"
    Options = RetryOptions
    options: RetryOptions

    @hookimpl
    def squall_settle_policy(self, ctx: Context, subscription: Subscription) -> SettlePolicy:
        return Backoff(self.options, ctx.random(f"retry:{subscription.label}"))

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware | None:
        deadline_s, clock = self.options.publish_deadline, ctx.clock
        if deadline_s is None:
            return None
        backoff = Backoff(self.options, ctx.random("retry publishes"))

        async def publish(event: Event, following: Next) -> None:
            """Only what surely stored nothing is tried again: then the same event, under the same id, is no second."""
            until_ns = clock.monotonic_ns() + round(deadline_s * 1e9)
            unrouted = event.type, event.priority
            for delay_s in backoff.delays_s():
                try:
                    return await following(event)
                except (StoreError, Overflow) as error:
                    if error.outcome != "fail" or clock.monotonic_ns() + delay_s * 1e9 > until_ns:
                        raise
                await clock.sleep(delay_s)
                event.type, event.priority = unrouted  # routing rules change them, and are asked again
            return await following(event)

        return around(publish, stage="limit")


def _raised_by_data(error: BaseException) -> bool:
    """Whether the error comes out of event.data; what else a handler decodes may well be worth a retry."""
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code is _DATA_CODE:
            return True
        frame = frame.tb_next
    return False


def _names(error: BaseException) -> set[str]:
    """The names, short and full, of the error's type and its bases."""
    types = type(error).__mro__
    return {kind.__name__ for kind in types} | {f"{kind.__module__}.{kind.__qualname__}" for kind in types}
