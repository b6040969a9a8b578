"""Faults: each does its harm while it stands, counts it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from random import Random

import pytest
from tests.plugins.surroundings import HandClock, Surroundings, event, subscription

from squall.core.errors import ConfigError, StoreError
from squall.core.event import Event
from squall.core.fault import Fault, FaultContext, Handler, Seam, Storage
from squall.core.middleware import Around
from squall.plugins.faults import (
    CallFault,
    FaultsOptions,
    FaultsPlugin,
    HandlerCorrupt,
    HandlerCrash,
    HandlerCrashed,
    HandlerException,
    HandlerHang,
    HandlerSlow,
    Hold,
    StorageRefuse,
    StorageSlow,
    StorageWriteError,
)

ALL = (HandlerException(), HandlerHang(), HandlerSlow(by=1), HandlerCrash(), HandlerCorrupt(), StorageWriteError(),
       StorageSlow(by=1), StorageRefuse())  # fmt: skip
HARMFUL = (Exception, HandlerCrashed)


@dataclass
class Bench:
    """A seam with calls passing it, and what the runner keeps for a fault."""

    seam: Seam = field(default_factory=lambda: Handler("handler:billing"))
    clock: HandClock = field(default_factory=HandClock)
    hits: int = 0
    answers: Iterator[bool] = field(default_factory=lambda: itertools.repeat(True))

    @property
    def ctx(self) -> FaultContext:
        def hit(payload: bytes | None = None) -> None:
            self.hits += 1

        return FaultContext(self.clock, Random(5), lambda: next(self.answers), hit)

    async def call(self) -> str:
        """One call through the seam, as a target makes it: what became of it, and when in seconds."""
        begun_ns = self.clock.monotonic_ns()
        self.seam.passes += 1
        try:
            if self.seam.acts:
                await self.seam.run([b"payload"])
        except HARMFUL as error:
            return f"{type(error).__name__}: {error}"
        return f"after {(self.clock.monotonic_ns() - begun_ns) / 1e9:g} s"


async def check_clean_heal(make: Callable[[], CallFault]) -> None:
    """Leaving a fault frees whom it holds, harms no call any more, and leaves the seam as it was, also if cancelled."""
    for cancelled in (False, True):
        bench = Bench()
        fault = make()
        entered, leave = asyncio.Event(), asyncio.Event()

        async def stand(fault: CallFault = fault, bench: Bench = bench, entered: asyncio.Event = entered,
                        leave: asyncio.Event = leave) -> None:  # fmt: skip
            async with fault.inject(bench.seam, bench.ctx):
                entered.set()
                await leave.wait()

        standing = asyncio.create_task(stand())
        await entered.wait()
        calls = [asyncio.create_task(bench.call()) for _ in range(3)]
        await bench.clock.settle()
        assert bench.hits == 3
        if cancelled:
            standing.cancel()
        else:
            leave.set()
        await asyncio.gather(standing, return_exceptions=True)
        await bench.clock.settle()
        assert bench.seam.acts == []
        assert all(call.done() for call in calls), "a call is held still after the heal"
        assert await bench.call() == "after 0 s"
        assert bench.hits == 3


@pytest.mark.parametrize("fault", ALL, ids=lambda fault: f"{fault.kind.__name__}-{fault.name}")
async def test_healing_leaves_nothing_behind(fault: CallFault) -> None:
    """Every fault can be taken away at any time, by leaving it or by cancellation."""
    await check_clean_heal(lambda: fault)


class HoldsForEver(HandlerHang):
    async def harm(self, ctx: FaultContext, hold: Hold, payloads: list[bytes]) -> None:
        await Hold(ctx.clock).wait(None if ctx.clock.monotonic_ns() < 0 else 1e6)


async def test_a_fault_that_holds_on_is_noticed() -> None:
    """The check above fails for a hang that a heal does not free."""
    with pytest.raises(AssertionError, match="held still"):
        await check_clean_heal(HoldsForEver)
    held = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in held:
        task.cancel()
    await asyncio.gather(*held, return_exceptions=True)


@pytest.mark.parametrize(
    ("fault", "became"),
    [
        (HandlerException(), "RuntimeError: raised on purpose"),
        (HandlerException(type="ConnectionError", message="gateway gone"), "ConnectionError: gateway gone"),
        (HandlerCrash(), "HandlerCrashed: handler crashed on purpose"),
        (StorageWriteError(), "StoreError: write error on purpose: input/output error"),
        (StorageRefuse(), "StoreError: the store refuses writes, on purpose"),
        (HandlerSlow(by=0.2), "after 0.2 s"),
        (StorageSlow(by=3), "after 3 s"),
    ],
)
async def test_each_fault_does_its_harm(fault: CallFault, became: str) -> None:
    """What a call meets while the fault stands."""
    bench = Bench(fault.kind("seam"))
    async with fault.inject(bench.seam, bench.ctx):
        call = asyncio.create_task(bench.call())
        await bench.clock.advance(10)
        assert await call == became
    assert (bench.seam.passes, bench.hits) == (1, 1)


async def test_a_corrupt_payload_has_another_last_byte() -> None:
    """The rest is as it was, and what is empty is empty no more."""
    bench = Bench()
    payloads = [b"order 7", b""]
    async with HandlerCorrupt().inject(bench.seam, bench.ctx):
        await bench.seam.run(payloads)
    assert payloads == [b"order \xc8", b"\xff"]
    await bench.seam.run(payloads)
    assert payloads == [b"order \xc8", b"\xff"]


def test_a_crash_ends_whatever_runs_the_handler() -> None:
    """It is no Exception: nothing that catches errors of handlers takes it for one."""
    assert not issubclass(HandlerCrashed, Exception)


async def test_a_refused_write_is_surely_not_stored() -> None:
    """The outcome of what the store faults raise is fail, never unknown."""
    for fault in (StorageWriteError(), StorageRefuse()):
        bench = Bench(Storage("storage:events"))
        async with fault.inject(bench.seam, bench.ctx):
            with pytest.raises(StoreError) as caught:
                await bench.seam.run([])
        assert caught.value.outcome == "fail"


async def test_a_hang_lasts_until_it_is_cancelled_or_healed() -> None:
    """A timeout may cancel it; a heal lets it go on as if nothing had been."""
    bench = Bench()
    async with HandlerHang().inject(bench.seam, bench.ctx):
        timed_out, healed = asyncio.create_task(bench.call()), asyncio.create_task(bench.call())
        await bench.clock.advance(86_400)
        assert not timed_out.done()
        timed_out.cancel()
        await asyncio.wait([timed_out])
        assert timed_out.cancelled()
        assert not healed.done()
    assert await healed == "after 86400 s"


async def test_jitter_is_spread_and_repeats_with_the_seed() -> None:
    """Delays lie between by and by + jitter, and a run's seed gives the same ones."""

    async def delays() -> list[str]:
        bench = Bench()
        async with HandlerSlow(by=1, jitter=2).inject(bench.seam, bench.ctx):
            calls = [asyncio.create_task(bench.call()) for _ in range(50)]
            await bench.clock.advance(5)
            return [await call for call in calls]

    first = await delays()
    seconds = sorted(float(became.split()[1]) for became in first)
    assert 1 <= seconds[0] < 1.3
    assert 2.7 < seconds[-1] <= 3
    assert first == await delays()


@pytest.mark.parametrize(
    ("options", "failing"),
    [({}, {1, 2, 3, 4, 5, 6, 7}), ({"every": 3}, {3, 6}), ({"nth": 5}, {5}), ({"nth": 1}, {1})],
)
async def test_write_errors_choose_their_writes(options: dict[str, object], failing: set[int]) -> None:
    """All of them, every so many-th, or one: counted from the fault's begin, each time that it begins."""
    fault = StorageWriteError.of("write-error", options)
    for _ in range(2):
        bench = Bench(Storage("storage:events"))
        async with fault.inject(bench.seam, bench.ctx):
            became = [await bench.call() for _ in range(7)]
        assert {number for number, said in enumerate(became, 1) if "StoreError" in said} == failing
        assert bench.hits == len(failing)


async def test_only_calls_that_are_bitten_are_harmed_and_counted() -> None:
    """Probability is the runner's: where it says no, the call passes and no hit is counted."""
    bench = Bench()
    bench.answers = iter([True, False, False, True])
    async with HandlerException().inject(bench.seam, bench.ctx):
        became = [await bench.call() for _ in range(4)]
    assert ["RuntimeError" in said for said in became] == [True, False, False, True]
    assert (bench.seam.passes, bench.hits) == (4, 2)


async def test_a_fault_healed_while_a_call_is_with_another_does_nothing_to_it() -> None:
    """Two faults in one seam: a call that the first still holds does not meet the second after its end."""
    bench = Bench()
    async with HandlerHang().inject(bench.seam, bench.ctx):
        async with HandlerException().inject(bench.seam, bench.ctx):
            call = asyncio.create_task(bench.call())
            await bench.clock.settle()
        assert not call.done()
    assert await call == "after 0 s"
    assert bench.hits == 1


async def test_faults_share_a_seam() -> None:
    """Standing together they act in the order of their begin; one's end leaves the other."""
    bench = Bench()
    async with HandlerException(message="outer").inject(bench.seam, bench.ctx):
        async with HandlerSlow(by=1).inject(bench.seam, bench.ctx):
            assert await bench.call() == "RuntimeError: outer"
        assert await bench.call() == "RuntimeError: outer"
    assert await bench.call() == "after 0 s"


def test_scenarios_are_offered_each_kind_under_its_name() -> None:
    """Names are unique within a kind of seam, and every kind says in one line what it does."""
    kinds = FaultsPlugin().squall_faults()
    named = [(kind.kind.__name__, kind.name) for kind in kinds]
    assert sorted(named) == [
        ("Handler", "corrupt"), ("Handler", "crash"), ("Handler", "exception"), ("Handler", "hang"),
        ("Handler", "slow"),
        ("Storage", "refuse"), ("Storage", "slow"), ("Storage", "write-error"),
    ]  # fmt: skip
    assert all(issubclass(kind, Fault) and kind.__doc__ for kind in kinds)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (HandlerException, {"type": "NoSuchError"}, "expected a built-in exception"),
        (HandlerException, {"type": "print"}, "expected a built-in exception"),
        (HandlerException, {"type": "KeyboardInterrupt"}, "expected a built-in exception"),
        (HandlerException, {"type": "StopAsyncIteration"}, "expected a built-in exception"),
        (HandlerSlow, {}, "'by' is required"),
        (HandlerSlow, {"by": "fast"}, "by: expected a duration"),
        (StorageWriteError, {"every": 0}, "every: expected at least 1"),
        (StorageWriteError, {"every": 2, "nth": 3}, "every or nth, not both"),
    ],
)
def test_wrong_options_are_named(kind: type[Fault], options: dict[str, object], said: str) -> None:
    """An option out of range is one clear error."""
    with pytest.raises(ConfigError, match=said):
        kind.of(kind.name, options)


def standing(around: Surroundings, *inject: dict[str, object], name: str | None = None) -> Around | None:
    plugin = FaultsPlugin(FaultsOptions.of("faults", {"inject": inject}))
    layer = plugin.squall_deliver_middleware(around.ctx, subscription("billing", name=name))
    assert layer is None or layer.stage == "fault"
    return layer.around if layer is not None else None


async def outcomes(layer: Around, n: int) -> list[str]:
    async def handler(event: Event) -> None: ...

    async def one() -> str:
        try:
            await layer(event(), handler)
        except HARMFUL as error:
            return type(error).__name__
        return "ok"

    return [await one() for _ in range(n)]


async def test_an_operator_puts_faults_into_handlers() -> None:
    """By its probability, repeating with the seed, and loudly."""
    around = Surroundings()
    layer = standing(around, {"on": "billing", "do": "exception", "probability": 0.1})
    assert layer is not None
    became = await outcomes(layer, 2000)
    assert became.count("RuntimeError") == pytest.approx(200, abs=60)
    again = standing(Surroundings(), {"on": "billing", "do": "exception", "probability": 0.1})
    assert again is not None
    assert await outcomes(again, 2000) == became


async def test_an_operators_faults_meet_only_whom_they_name() -> None:
    """By the subscriber's id or the subscription's name; others have no layer at all."""
    crash: dict[str, object] = {"do": "crash"}
    assert standing(Surroundings(), {"on": "audit", **crash}) is None
    assert standing(Surroundings()) is None
    for on in ("billing", "billing-orders"):
        layer = standing(Surroundings(), {"on": on, **crash}, name="billing-orders")
        assert layer is not None
        assert await outcomes(layer, 2) == ["HandlerCrashed"] * 2


async def test_a_standing_corruption_is_the_handlers_alone() -> None:
    """The event that others get, and that is settled, stays as it was."""
    layer = standing(Surroundings(), {"on": "billing", "do": "corrupt"})
    assert layer is not None
    own, seen = event(), []

    async def handler(event: Event) -> None:
        seen.append(event.payload)

    before = own.payload
    await layer(own, handler)
    assert own.payload == before
    assert len(seen) == 1
    assert seen[0] != before


def test_standing_faults_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody should wonder why handlers fail."""
    standing(Surroundings(), {"on": "billing", "do": "slow", "by": "1s", "probability": 0.5})
    assert "faults: slow on handler:billing, probability 0.5" in caplog.text


@pytest.mark.parametrize(
    ("inject", "said"),
    [
        ({"on": "billing", "do": "exeption"}, "exeption"),
        ({"on": "billing", "do": "slow"}, "'by' is required"),
        ({"on": "billing", "do": "hang", "by": 3}, "'by' is not an option"),
        ({"do": "hang"}, "'on' is required"),
        ({"on": "billing", "do": "hang", "probability": 2}, "probability: expected at most 1"),
    ],
)
def test_wrong_standing_faults_are_named(inject: dict[str, object], said: str) -> None:
    """A mistake in squall.yaml is one clear error that names its place."""
    with pytest.raises(ConfigError, match=said) as caught:
        FaultsOptions.of("faults", {"inject": [inject]})
    assert "inject[0]" in str(caught.value)


async def test_a_call_passes_all_standing_faults() -> None:
    """Two entries for one subscription act both."""
    around = Surroundings()
    layer = standing(
        around, {"on": "billing", "do": "slow", "by": 2}, {"on": "billing", "do": "exception", "type": "OSError"}
    )
    assert layer is not None
    call: Awaitable[list[str]] = asyncio.create_task(outcomes(layer, 1))
    begun_ns = around.clock.monotonic_ns()
    await around.clock.advance(2)
    assert await call == ["OSError"]
    assert around.clock.monotonic_ns() - begun_ns == 2_000_000_000
