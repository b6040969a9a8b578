"""Faults: what goes wrong on purpose in handlers and in the store."""

from __future__ import annotations

import asyncio
import builtins
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Annotated, ClassVar, Literal, Self

import msgspec
from pydantic import Field, field_validator, model_validator

from squall.core.clock import Clock
from squall.core.errors import StoreError
from squall.core.event import Event
from squall.core.fault import Act, Fault, FaultContext, Handler, Seam, Storage, passing, told_of
from squall.core.middleware import Middleware, Next, around
from squall.core.options import Options as BaseOptions
from squall.core.plugin import Context, Plugin, hookimpl
from squall.core.subscription import Subscription
from squall.core.units import Ratio, Seconds


class HandlerCrashed(BaseException):
    """What `crash` raises: no Exception, so that it ends whatever runs the handler, as an interpreter's error would."""


class Hold:
    """Calls that a fault keeps waiting. `free` lets all of them go on, and whoever comes later too."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: set[asyncio.Future[None]] = set()
        self.freed = False

    async def wait(self, seconds: float | None = None) -> None:
        """Return after so many seconds (None: never), or when freed."""
        if self.freed:
            return
        waiting = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        timer = self._clock.call_later(seconds, lambda: _wake(waiting)) if seconds is not None else None
        try:
            await waiting
        finally:
            self._waiting.discard(waiting)
            if timer is not None:
                timer.cancel()

    def free(self) -> None:
        self.freed = True
        for waiting in self._waiting:
            _wake(waiting)


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class CallFault(Fault):
    """A fault that acts on calls which pass its seam, one by one."""

    def act(self, ctx: FaultContext, hold: Hold) -> Act:
        """What each call awaits while the fault stands: the harm, where the call is chosen and ctx.bites() says so."""
        calls = 0

        async def act(payloads: list[bytes]) -> None:
            nonlocal calls
            if hold.freed:  # the call was with another fault when this one was taken away
                return
            calls += 1
            if self.chooses(calls) and ctx.bites():
                ctx.hit()
                await self.harm(ctx, hold, payloads)

        return act

    def chooses(self, number: int) -> bool:
        """Whether the number-th call (from 1) since the fault began may be harmed at all."""
        return True

    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        """What happens to the call: wait, by hold.wait alone, raise, or put other payloads in place of its own."""
        raise NotImplementedError

    @asynccontextmanager
    async def inject(self, seam: Seam, ctx: FaultContext) -> AsyncIterator[None]:
        """While entered the fault stands in the seam. Leaving frees the calls that it holds: they go on as if whole."""
        hold = Hold(ctx.clock)
        act = self.act(ctx, hold)
        seam.acts.append(act)
        try:
            yield
        finally:
            seam.acts.remove(act)
            hold.free()


class HandlerException(CallFault):
    """The handler raises before it does anything."""

    kind = Handler
    name = "exception"

    message: Annotated[str, Field(description="the exception's text")] = "raised on purpose"
    type: Annotated[str, Field(description="the name of a built-in exception")] = "RuntimeError"

    @field_validator("type")
    @classmethod
    def _is_raisable(cls, value: str) -> str:
        """StopIteration and its like would become something else on their way out of a coroutine."""
        kind = getattr(builtins, value, None)
        if not (isinstance(kind, type) and issubclass(kind, Exception)) or issubclass(
            kind, StopIteration | StopAsyncIteration | UnicodeError | ExceptionGroup
        ):
            raise ValueError(f"expected a built-in exception such as RuntimeError or ConnectionError, got {value!r}")
        return value

    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        raise getattr(builtins, self.type)(self.message)


class HandlerHang(CallFault):
    """The handler is not begun until its timeout cancels it or the fault ends; then it runs as if nothing had been."""

    kind = Handler
    name = "hang"

    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        await hold.wait()


class HandlerCrash(CallFault):
    """The task that runs the handler dies of HandlerCrashed."""

    kind = Handler
    name = "crash"

    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        raise HandlerCrashed("handler crashed on purpose")


class HandlerCorrupt(CallFault):
    """The handler gets the payload with its last byte changed. The event itself stays as it was."""

    kind = Handler
    name = "corrupt"

    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        payloads[:] = [one[:-1] + bytes([one[-1] ^ 0xFF]) if one else b"\xff" for one in payloads]


class _Slow(CallFault):
    by: Annotated[Seconds, Field(gt=0, description="how long each call is kept")]
    jitter: Annotated[Seconds, Field(description="up to this much longer, uniformly")] = 0.0

    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        await hold.wait(self.by + ctx.random.uniform(0.0, self.jitter))


class HandlerSlow(_Slow):
    """The handler begins later. What is still kept when the fault ends begins then."""

    kind = Handler
    name = "slow"


class StorageSlow(_Slow):
    """The write begins later. What is still kept when the fault ends begins then."""

    kind = Storage
    name = "slow"


class StorageWriteError(CallFault):
    """The write fails before it reaches the store: surely nothing is stored."""

    kind = Storage
    name = "write-error"

    every: Annotated[int, Field(ge=1, description="only every so many-th write, counted from the fault's begin")] = 1
    nth: Annotated[
        Annotated[int, Field(ge=1)] | None, Field(description="only this one write, counted from the fault's begin")
    ] = None

    @model_validator(mode="after")
    def _one_choice(self) -> Self:
        if self.nth is not None and self.every != 1:
            raise ValueError("give every or nth, not both")
        return self

    def chooses(self, number: int) -> bool:
        return number % self.every == 0 if self.nth is None else number == self.nth

    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        raise StoreError("write error on purpose: input/output error", outcome="fail")


class StorageRefuse(CallFault):
    """The store takes nothing."""

    kind = Storage
    name = "refuse"

    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        raise StoreError("the store refuses writes, on purpose", outcome="fail")


class _Injected(BaseOptions):
    noun: ClassVar[str] = "an injected fault"

    on: Annotated[str, Field(min_length=1, description="the subscriber's id, or the subscription's name")]
    probability: Annotated[Ratio, Field(description="share of calls that are harmed")] = 1.0


class InjectedException(_Injected, HandlerException):
    do: Literal["exception"]


class InjectedHang(_Injected, HandlerHang):
    do: Literal["hang"]


class InjectedSlow(_Injected, HandlerSlow):
    do: Literal["slow"]


class InjectedCrash(_Injected, HandlerCrash):
    do: Literal["crash"]


class InjectedCorrupt(_Injected, HandlerCorrupt):
    do: Literal["corrupt"]


Injected = Annotated[
    InjectedException | InjectedHang | InjectedSlow | InjectedCrash | InjectedCorrupt, Field(discriminator="do")
]


class FaultsOptions(BaseOptions):
    """Faults that stand in handlers for as long as the router runs."""

    noun: ClassVar[str] = "faults"

    inject: Annotated[
        tuple[Injected, ...],
        Field(
            strict=False,  # a list too, where options are given in Python
            description="faults in handlers: `on`, `do`, `probability`, and the options of each kind",
        ),
    ] = ()


class FaultsPlugin(Plugin):
    """Offers the kinds of faults to scenarios; and puts those of its own options into the handlers of a live router."""

    summary: ClassVar[str] = (
        "faults: exceptions, hangs, delays, crashes, corruption in handlers; errors and delays in the store"
    )
    Options = FaultsOptions
    options: FaultsOptions

    @hookimpl
    def squall_faults(self) -> Sequence[type[Fault]]:
        return (
            HandlerException,
            HandlerHang,
            HandlerSlow,
            HandlerCrash,
            HandlerCorrupt,
            StorageWriteError,
            StorageSlow,
            StorageRefuse,
        )

    @hookimpl
    def squall_deliver_middleware(self, ctx: Context, subscription: Subscription) -> Middleware | None:
        chosen = [fault for fault in self.options.inject if fault.on in (subscription.subscriber_id, subscription.name)]
        if not chosen:
            return None
        seam = Handler(f"handler:{subscription.label}")
        for number, fault in enumerate(chosen):
            ctx.logger.warning("faults: %s on %s, probability %g", fault.name, seam.name, fault.probability)
            random = ctx.random(f"faults:{seam.name}:{number}")
            hit = partial(told_of, fault.name, seam.name)
            seam.acts.append(fault.act(_standing(ctx.clock, random, fault.probability, hit), Hold(ctx.clock)))

        async def run(event: Event, following: Next) -> None:
            payloads = [event.payload]
            passing.set((event,))
            await seam.run(payloads)
            (payload,) = payloads
            await following(event if payload is event.payload else msgspec.structs.replace(event, payload=payload))

        return around(run, stage="fault")


def _standing(clock: Clock, random: Random, probability: float, hit: Callable[[], None]) -> FaultContext:
    return FaultContext(clock, random, bites=lambda: random.random() < probability, hit=lambda payload=None: hit())
