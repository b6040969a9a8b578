"""Rate limit: publishes beyond a rate are refused, or wait for their turn."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from squall.core.errors import Refused
from squall.core.event import Event
from squall.core.middleware import Middleware, Next, around, guard
from squall.core.options import Options as BaseOptions
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.units import Seconds, format_rate, format_seconds

EXAMINED = 16
_NS = 1_000_000_000
_SCOPES: Mapping[str, Callable[[Event], str]] = {
    "all": lambda event: "",
    "source": lambda event: event.source,
    "type": lambda event: event.type,
}


class RateLimitOptions(BaseOptions):
    """How many events may be published, by whom, and what becomes of the others."""

    noun: ClassVar[str] = "rate_limit"

    rate: Annotated[float, Field(gt=0, le=1_000_000, description="events per second")]
    burst: Annotated[
        Annotated[int, Field(ge=1, le=1_000_000_000)] | None,
        Field(description="events that may come at once after a pause; none: those of one second"),
    ] = None
    per: Annotated[Literal["all", "source", "type"], Field(description="what has a limit of its own")] = "all"
    mode: Annotated[Literal["reject", "queue"], Field(description="what happens to a publish beyond the limit")] = (
        "reject"
    )
    timeout: Annotated[
        Seconds,
        Field(gt=0, description="with `queue`: the longest wait; a publish that would wait longer is refused at once"),
    ] = 5.0
    max_scopes: Annotated[
        int, Field(ge=1, description="sources or types tracked at once; while all of them are busy, others are refused")
    ] = 10_000


class Gcra:
    """The generic cell rate algorithm (ITU-T I.371, virtual scheduling), for each scope by itself.

    Each scope has a theoretical arrival time (tat): an event conforms when tat - now ≤ (burst - 1)·interval, and moves
    tat on by one interval. So in any t seconds at most burst + rate·t events conform. A scope whose tat has passed is
    as good as new: such are forgotten, the oldest first, to make room.
    """

    def __init__(self, rate: float, burst: int, max_scopes: int) -> None:
        self._interval_ns = math.ceil(_NS / rate)
        self._tolerance_ns = (burst - 1) * self._interval_ns
        self._max_scopes = max_scopes
        self._tats_ns: dict[str, int] = {}

    def reserve(self, scope: str, now_ns: int, patience_ns: int = 0) -> int:
        """How long the event must wait, in ns. If that is at most patience_ns it has its place, else it leaves no mark.

        A place is not given back: what was reserved after it could then come too early.
        """
        tats_ns = self._tats_ns
        tat_ns = tats_ns.get(scope, 0)
        if tat_ns <= now_ns:
            if not tat_ns and len(tats_ns) >= self._max_scopes and (wait_ns := self._make_room(now_ns)):
                return wait_ns + patience_ns
            tats_ns[scope] = now_ns + self._interval_ns
            return 0
        wait_ns = tat_ns - now_ns - self._tolerance_ns
        if wait_ns <= patience_ns:
            tats_ns[scope] = tat_ns + self._interval_ns
        return wait_ns if wait_ns > 0 else 0

    def _make_room(self, now_ns: int) -> int:
        """Forget an idle scope among the oldest, putting the busy ones last; else ns until there is one."""
        tats_ns = self._tats_ns
        waits_ns: list[int] = []
        for scope in list(islice(tats_ns, EXAMINED)):
            tat_ns = tats_ns.pop(scope)
            if tat_ns <= now_ns:
                return 0
            tats_ns[scope] = tat_ns
            waits_ns.append(tat_ns - now_ns)
        return min(waits_ns)


class RateLimitPlugin(Plugin):
    """A guard (reject) or an awaiting layer (queue) at publish, stage limit. Refusals raise Refused with retry_after_s.

    Waiting publishes go on in the order in which they came. One that is cancelled while it waits has used its place.
    """

    summary: ClassVar[str] = "publish guard: at most so many events a second, refused or queued beyond"
    Options = RateLimitOptions
    options: RateLimitOptions

    def __init__(self, options: BaseOptions | None = None, **values: object) -> None:
        super().__init__(options, **values)
        rate = self.options.rate
        self._burst = self.options.burst or max(1, int(rate))
        # Kept here, so that wiring anew does not give everyone a fresh burst.
        self._gcra = Gcra(rate, self._burst, self.options.max_scopes)

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        options = self.options
        reserve = self._gcra.reserve
        scope_of = _SCOPES[options.per]
        monotonic_ns = ctx.clock.monotonic_ns
        patience_ns = round(options.timeout * _NS)

        def check(event: Event) -> None:
            wait_ns = reserve(scope_of(event), monotonic_ns())
            if wait_ns:
                raise self._refused(event, wait_ns)

        async def wait(event: Event, following: Next) -> None:
            wait_ns = reserve(scope_of(event), monotonic_ns(), patience_ns)
            if wait_ns > patience_ns:
                raise self._refused(event, wait_ns - patience_ns)
            if wait_ns:
                await ctx.clock.sleep(wait_ns / _NS)
            await following(event)

        return guard(check, stage="limit") if options.mode == "reject" else around(wait, stage="limit")

    def _refused(self, event: Event, wait_ns: int) -> Refused:
        options = self.options
        scope = f"{options.per} {_SCOPES[options.per](event)}" if options.per != "all" else "all events"
        limit = f"{format_rate(options.rate)}, burst {self._burst}"
        retry_after_s = wait_ns / _NS
        return Refused(
            f"rate limit of {scope} ({limit}) exceeded by {event.type}; try again in {format_seconds(retry_after_s)}",
            retry_after_s,
        )
