"""Breaker: holds a subscription whose handler keeps failing, without burning its events' attempts."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from squall.core.delivery import Attempt, Attempts, Gate, Nak, Permits, Term, WaitUntil
from squall.core.errors import Reject
from squall.core.options import Options as BaseOptions
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.subscription import Subscription
from squall.core.units import Ratio, Seconds

State = Literal["closed", "open", "half_open"]
BUCKETS = 10
_NS = 1_000_000_000


class BreakerOptions(BaseOptions):
    """When a subscription is held, for how long, and how it is tried again. Names follow resilience4j."""

    noun: ClassVar[str] = "breaker"

    failure_rate: Annotated[Ratio, Field(gt=0, description="share of failed calls from which it opens")] = 0.5
    slow_call_rate: Annotated[Ratio, Field(gt=0, description="share of slow calls from which it opens")] = 1.0
    slow_call_duration: Annotated[
        Seconds, Field(gt=0, description="a call that takes this long or longer is slow, however it ends")
    ] = 60.0
    window: Annotated[int, Field(ge=1, le=100_000, description="the last calls that count")] = 100
    time_window: Annotated[
        Annotated[Seconds, Field(gt=0)] | None,
        Field(description="if given, the calls of this time count instead of the last `window`"),
    ] = None
    min_calls: Annotated[int, Field(ge=1, description="with fewer calls it stays closed")] = 20
    open_for: Annotated[Seconds, Field(gt=0, description="how long it stays open before a trial")] = 5.0
    open_factor: Annotated[float, Field(ge=1, description="what `open_for` grows by with each failed trial")] = 1.0
    open_cap: Annotated[Seconds, Field(gt=0, description="`open_for` grows no further than this")] = 60.0
    half_open_permits: Annotated[int, Field(ge=1, description="calls of a trial, and never more at once")] = 10
    half_open_for: Annotated[
        Seconds,
        Field(
            gt=0,
            description="a trial that takes longer is judged by the calls that have ended; without any it has failed",
        ),
    ] = 60.0

    dead_letter_rate: Annotated[
        Annotated[Ratio, Field(gt=0)] | None,
        Field(description="share of dead letters from which the subscription is paused; none: it never is"),
    ] = 0.95
    dead_letter_window: Annotated[
        int,
        Field(
            ge=1, le=100_000, description="the last events that ended, acked or dead-lettered, of which it is a share"
        ),
    ] = 1000

    @model_validator(mode="after")
    def _reachable(self) -> Self:
        if self.time_window is None and self.min_calls > self.window:
            raise ValueError(f"min_calls ({self.min_calls}) is more than the window holds ({self.window}): never opens")
        return self


class CountWindow:
    """The last `size` calls. Only bad ones are kept, by their number, so a batch of good ones costs O(1)."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._total = 0
        self._bad: deque[tuple[int, bool, bool]] = deque()
        self.calls = self.failures = self.slow = 0

    def move_to(self, now_ns: int) -> None:
        """Time changes nothing here."""

    def add(self, calls: int, failed: bool = False, slow: bool = False) -> None:
        """Add calls that all ended alike; a bad call comes alone."""
        self._total += calls
        if self.calls < self._size:
            self.calls = min(self._size, self._total)
        if failed or slow:
            self._bad.append((self._total, failed, slow))
            self.failures += failed
            self.slow += slow
        while self._bad and self._bad[0][0] <= self._total - self._size:
            _, failed, slow = self._bad.popleft()
            self.failures -= failed
            self.slow -= slow


@dataclass(slots=True)
class _Bucket:
    number: int
    calls: int = 0
    failures: int = 0
    slow: int = 0


class TimeWindow:
    """The calls of the last `span_ns`, in BUCKETS buckets: the oldest bucket leaves whole, so a call counts for at
    least 0.9 of the span and at most all of it."""

    def __init__(self, span_ns: int) -> None:
        self._width_ns = max(1, span_ns // BUCKETS)
        self._buckets: deque[_Bucket] = deque()
        self.calls = self.failures = self.slow = 0

    def move_to(self, now_ns: int) -> None:
        """What is added from here on happened at now_ns."""
        number = now_ns // self._width_ns
        while self._buckets and self._buckets[0].number <= number - BUCKETS:
            gone = self._buckets.popleft()
            self.calls -= gone.calls
            self.failures -= gone.failures
            self.slow -= gone.slow
        if not self._buckets or self._buckets[-1].number < number:
            self._buckets.append(_Bucket(number))

    def add(self, calls: int, failed: bool = False, slow: bool = False) -> None:
        """Add calls that all ended alike."""
        bucket = self._buckets[-1]
        for counts in (bucket, self):
            counts.calls += calls
            counts.failures += calls if failed else 0
            counts.slow += calls if slow else 0


@dataclass(slots=True)
class _Granted(Permits):
    """Permits that know when they were given: no call under them can have taken longer than since then."""

    given_ns: int = 0


class DeadLetterWatch:
    """Pauses a subscription that sends nearly everything to the dead letters: what it is owed is better kept. It shows
    as a gate that is open, until somebody resumes the subscription; then it counts anew."""

    def __init__(self, options: BreakerOptions, ctx: Context, subscription: Subscription) -> None:
        self._rate, self._size = options.dead_letter_rate, options.dead_letter_window
        self._ctx, self._subscription = ctx, subscription
        self._ends = CountWindow(self._size)
        self.has_paused = False

    def record(self, attempts: Attempts) -> None:
        """Count how events ended; those that are tried again have not."""
        if not attempts.unusual:
            self._ends.add(len(attempts))
            return
        decisions = [attempt.decision for attempt in attempts.unusual]
        dead = [decision for decision in decisions if isinstance(decision, Term)]
        again = sum(isinstance(decision, Nak) for decision in decisions)
        self._ends.add(len(attempts) - len(dead) - again)
        for _ in dead:
            self._ends.add(1, failed=True)
        if self._rate is None or self._subscription.paused or self._ends.calls < self._size:
            return
        if dead and self._ends.failures >= self._rate * self._size:
            self._pause(dead[-1])

    def _pause(self, last: Term) -> None:
        own = self._subscription
        own.paused = self.has_paused = True
        self._ctx.logger.error(
            "subscription %s: %d of the last %d events that ended went to the dead letters (the last one as %s), so it "
            "is paused, and owed the rest; mend its handler, then await resume_subscription(%r)",
            own.label, self._ends.failures, self._size, last.reason, own.id,
        )  # fmt: skip
        self._ctx.changed(own.id, "dead_letters", "open")

    def resumed(self) -> None:
        """Somebody has resumed the subscription."""
        self.has_paused, self._ends = False, CountWindow(self._size)
        self._ctx.changed(self._subscription.id, "dead_letters", "closed")


class Breaker:
    """The gate of one subscription, with the states and rules of resilience4j's CircuitBreaker.

    closed: permits as asked. From `min_calls` calls in the window on, it opens after the call that brings the failure
    or slow rate to its limit. open: no permits for `open_for`, times `open_factor` for each trial that failed in a row.
    half_open: `half_open_permits` in all; when so many calls have ended, their rates close it or open it again.

    A result counts only in the generation that gave its permit: one that comes later is dropped (resilience4j credits
    it to whatever state is current). A permit that is released is available again. Failures are the outcomes error,
    timeout and died; a Reject is not one: there the event is at fault, not the handler. Time is noticed when
    the next permit is asked for: an idle breaker stays open until then.
    """

    def __init__(self, options: BreakerOptions, ctx: Context, subscription: Subscription) -> None:
        self._options = options
        self._now_ns = ctx.clock.monotonic_ns
        self._changed = ctx.changed
        self._subscription_id = subscription.id
        self._dead_letters = DeadLetterWatch(options, ctx, subscription)
        self._slow_ns = round(options.slow_call_duration * _NS)
        self._state: State = "closed"
        self._generation = 0
        self._window = self._new_window()
        self._open_s = options.open_for
        self._until_ns = 0
        self._trial = CountWindow(options.half_open_permits)
        self._given = 0

    @property
    def state(self) -> State:
        """closed, open or half_open, as of the last call."""
        return self._state

    @property
    def longest_wait_s(self) -> float:
        """The longest open time, in seconds. A trial lets calls through; it lasts no longer than they do."""
        options = self._options
        return max(options.open_for, options.open_cap) if options.open_factor > 1 else options.open_for

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        """Up to n permits; else when to ask again: the end of the open time, or of the trial."""
        now_ns = self._now_ns()
        if self._dead_letters.has_paused:
            self._dead_letters.resumed()  # while it is paused, no gate is asked
        if self._state != "closed":
            self._notice(now_ns)
        if self._state == "open":
            return WaitUntil(self._until_ns)
        if self._state == "half_open":
            if not self._given:  # the trial's time counts from its first call on
                self._until_ns = now_ns + round(self._options.half_open_for * _NS)
            n = min(n, self._options.half_open_permits - self._given)
            if n == 0:
                return WaitUntil(self._until_ns)
            self._given += n
        return _Granted(n, self._generation, given_ns=now_ns)

    def record(self, permits: Permits, attempts: Attempts) -> None:
        """Count how calls ended, given in the order in which they did. Stale permits are ignored."""
        self._dead_letters.record(attempts)
        if self._is_stale(permits) or not attempts:
            return
        if self._state == "half_open":
            self._record_trial(attempts)
            return
        now_ns = attempts[-1].ended_ns
        self._window.move_to(now_ns)
        if isinstance(permits, _Granted) and now_ns - permits.given_ns < self._slow_ns:
            bad = any(attempt.outcome != "ok" for attempt in attempts.unusual)
        else:
            slow_ns = self._slow_ns
            bad = any(a.outcome != "ok" or a.ended_ns - a.begun_ns >= slow_ns for a in attempts)
        if bad:
            self._add_mixed(attempts)
        else:
            self._add_good(len(attempts))

    def release(self, permits: Permits, n: int) -> None:
        """n permits come back unused: while half-open others may have them."""
        if self._state == "half_open" and not self._is_stale(permits):
            self._given -= n

    def _notice(self, now_ns: int) -> None:
        """Move on where time says so."""
        if self._state == "half_open" and self._given and now_ns >= self._until_ns:
            self._judge()
        elif self._state == "open" and now_ns >= self._until_ns:
            self._enter("half_open")

    def _is_stale(self, permits: Permits) -> bool:
        return permits.generation != self._generation

    def _add_mixed(self, attempts: Attempts) -> None:
        good, generation, slow_ns = 0, self._generation, self._slow_ns
        for attempt in attempts:
            if attempt.outcome == "ok" and attempt.ended_ns - attempt.begun_ns < slow_ns:
                good += 1
                continue
            self._add_good(good)
            good = 0
            failed, slow = self._judged(attempt)
            if self._generation == generation:
                self._window.add(1, failed, slow)
                if self._window.calls >= self._options.min_calls and self._is_over(self._window):
                    self._open()
            if self._generation != generation:  # it has opened, so the permits of the rest are stale too
                return
        self._add_good(good)

    def _add_good(self, calls: int) -> None:
        """So many calls that ended well. Rates fall from one to the next, so only the first that counts can open it:
        where min_calls is reached, or after good calls have left a time window."""
        window = self._window
        if window.failures or window.slow:
            first = max(1, self._options.min_calls - window.calls)
            if first <= calls:
                window.add(first)
                calls -= first
                if self._is_over(window):
                    self._open()
                    return
        window.add(calls)

    def _record_trial(self, attempts: Attempts) -> None:
        for attempt in attempts:
            self._trial.add(1, *self._judged(attempt))
            if self._trial.calls == self._options.half_open_permits:
                self._judge()
                return

    def _judge(self) -> None:
        options = self._options
        if self._trial.calls and not self._is_over(self._trial):
            self._open_s = options.open_for
            self._window = self._new_window()
            self._enter("closed")
        else:
            self._open_s = max(options.open_for, min(options.open_cap, self._open_s * options.open_factor))
            self._open()

    def _judged(self, attempt: Attempt) -> tuple[bool, bool]:
        """Whether it failed, and whether it was slow."""
        failed = attempt.outcome != "ok" and not isinstance(attempt.error, Reject)
        return failed, attempt.ended_ns - attempt.begun_ns >= self._slow_ns

    def _is_over(self, counts: CountWindow | TimeWindow) -> bool:
        rates = counts.failures / counts.calls, counts.slow / counts.calls
        return rates[0] >= self._options.failure_rate or rates[1] >= self._options.slow_call_rate

    def _open(self) -> None:
        self._until_ns = self._now_ns() + round(self._open_s * _NS)
        self._enter("open")

    def _enter(self, state: State) -> None:
        self._state = state
        self._generation += 1
        self._trial = CountWindow(self._options.half_open_permits)
        self._given = 0
        self._changed(self._subscription_id, "breaker", state)

    def _new_window(self) -> CountWindow | TimeWindow:
        if self._options.time_window is not None:
            return TimeWindow(round(self._options.time_window * _NS))
        return CountWindow(self._options.window)


class BreakerPlugin(Plugin):
    """Gives each subscription a breaker of its own."""

    summary: ClassVar[str] = "gate: holds a subscription while its handler keeps failing or is too slow"
    Options = BreakerOptions
    options: BreakerOptions

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate:
        return Breaker(self.options, ctx, subscription)
