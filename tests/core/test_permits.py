"""A gate's permits: each comes back once, recorded with its own attempt or released."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.bulkhead import Bulkhead
from tests.core.world import FromAnswers, Heard, Held, KeptMemory, Policy, World, until
from tests.hooks.test_gate import Gates

from squall import Attempt, Context, Event, Gate, Nak, Permits, Plugin, Subscription, hookimpl
from squall.core.delivery import Attempts


class Crash(BaseException):
    """Kills a worker."""


class Trials:
    """A handler that ends as it is told, once for each event, and well after that."""

    def __init__(self, outcomes: Sequence[str], step: int) -> None:
        self.outcomes = outcomes
        self.gates = Gates(lambda now_ns: Bulkhead(now_ns, step=step))
        self.world = World(self.gates, Policy(lambda delivery, error: Nak(0.05)))
        self.own = ""
        self.seen, self.done = set[int](), set[int]()

    async def handle(self, event: Event) -> None:
        outcome = self.outcomes[int(event.payload)] if event.seq not in self.seen else "ok"
        self.seen.add(event.seq)
        match outcome:
            case "fail":
                raise ValueError("broken")
            case "crash":
                raise Crash("bang")
            case "hang":
                await asyncio.Event().wait()
            case "slow":
                await self.world.clock.sleep(0.05)
            case "pause":
                await self.world.subscriber.pause_subscription(self.own)
        self.done.add(event.seq)

    async def run(self, concurrency: int) -> None:
        async with self.world as world:
            self.own = await world.subscriber.subscribe(">", self.handle, concurrency=concurrency, timeout_s=0.1)
            await world.subscriber.pause_subscription(self.own)
            for number in range(len(self.outcomes)):
                await world.publisher.publish("a", str(number).encode())
            for _ in range(60):
                await world.subscriber.resume_subscription(self.own)
                await world.clock.advance(0.1)
                if len(self.done) == len(self.outcomes):
                    break
            await world.clock.advance(0.2)
        assert len(self.done) == len(self.outcomes)


OUTCOMES = st.sampled_from(["ok", "fail", "crash", "hang", "pause", "slow"])


@pytest.mark.parametrize("concurrency", [1, 3])
@given(outcomes=st.lists(OUTCOMES, min_size=1, max_size=12), step=st.integers(1, 4))
@settings(max_examples=25)
def test_every_permit_comes_back_once(concurrency: int, outcomes: list[str], step: int) -> None:
    """Recorded with its own attempt, or released: however handlers end, whenever the subscription is held."""
    trials = Trials(outcomes, step)
    asyncio.run(trials.run(concurrency))
    gate = trials.gates.bulkhead
    failures = sum(outcome in ("fail", "crash", "hang") for outcome in outcomes)
    assert gate.mistakes == []
    assert gate.out == 0
    assert len(gate.recorded) == len(outcomes) + failures


@pytest.mark.parametrize("step", [1, 2])
async def test_at_most_once_deliveries_are_recorded_under_their_own_permits(step: int) -> None:
    """Though several batches of permits were used to settle them together."""
    gates, heard = Gates(lambda now_ns: Bulkhead(now_ns, step=step)), Heard()
    async with World(gates) as world:
        own = await world.subscriber.subscribe(">", heard, delivery="at-most-once")
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcde")
        await world.subscriber.resume_subscription(own)
        await world.clock.advance(1)
        assert len(heard.events) == 5
        assert (gates.bulkhead.mistakes, gates.bulkhead.out) == ([], 0)


async def test_a_delivery_that_a_stop_cancels_gives_its_permit_back() -> None:
    """It was no failure of the handler's."""
    gates, held = Gates(), Held()
    async with World(gates) as world:
        await world.subscriber.subscribe(">", held)
        await world.publish("a")
        await until(lambda: held.running)
        await world.stop(timeout_s=0.1)
    gate = gates.bulkhead
    assert (gate.recorded, gate.mistakes, gate.out) == ([], [], 0)


async def test_an_abandoned_delivery_is_recorded_once() -> None:
    """As a timeout, when it is abandoned; not again when it ends."""
    gates, stubborn = Gates(), Held(stubborn=True)
    async with World(gates) as world:
        await world.subscriber.subscribe(">", stubborn, timeout_s=1)
        await world.publish("a")
        await world.clock.advance(5)
        stubborn.finish_all()
        await world.clock.advance(1)
        gate = gates.bulkhead
        assert [one.outcome for one in gate.recorded] == ["timeout"]
        assert (gate.mistakes, gate.out) == ([], 0)


async def test_an_attempt_says_how_and_when_it_ended() -> None:
    """Outcome, number and times, in the order of the ends."""
    gates, handler = Gates(), FromAnswers(ValueError("broken"))

    async def handle(event: Event) -> None:
        await world.clock.sleep(0.25)
        await handler(event)

    async with World(gates, Policy()) as world:
        begun_ns = world.clock.monotonic_ns()
        await world.subscriber.subscribe(">", handle)
        await world.publish("a")
        await world.clock.advance(3)
        told = [(one.outcome, one.attempt, one.begun_ns - begun_ns, one.ended_ns) for one in gates.bulkhead.recorded]
        assert told == [
            ("error", 1, 0, begun_ns + 250_000_000),
            ("ok", 2, 1_250_000_000, begun_ns + 1_500_000_000),
        ]


def test_a_gate_that_is_not_accounted_to_would_be_noticed() -> None:
    """The account above fails for a permit too much, too little, or of another gate."""
    gate = Bulkhead(lambda: 0)
    permits = gate.try_acquire(2)
    assert isinstance(permits, Permits)
    gate.release(permits, 1)
    assert (gate.out, gate.mistakes) == (1, [])
    gate.release(permits, 2)
    assert len(gate.mistakes) == 1
    gate.record(Permits(1, 9), [])
    assert len(gate.mistakes) == 2


class Judged(Bulkhead):
    """Remembers the events that it was told of as unusual."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        super().__init__(now_ns, step=3)
        self.unusual: list[str] = []

    def record(self, permits: Permits, attempts: Sequence[Attempt]) -> None:
        super().record(permits, attempts)
        assert isinstance(attempts, Attempts)
        self.unusual += [attempt.event.type for attempt in attempts.unusual]


async def test_deliveries_that_end_together_are_recorded_each_under_its_own_permits() -> None:
    """Though the first and the last of them have the same ones; and which of them failed is told of the right ones."""
    gates, held = Gates(Judged), Held()
    async with World(gates) as world:
        own = await world.subscriber.subscribe(">", held, concurrency=3)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcdefg")
        await world.subscriber.resume_subscription(own)
        await until(lambda: len(held.running) == 3)
        held.calls[1].finish()
        await until(lambda: len(held.calls) == 4)  # a and c under the first three permits, d under the next ones
        held.calls[0].finish()
        held.calls[3].fail(ValueError("broken"))
        held.calls[2].finish()
        while len(held.calls) < 7 or held.running:
            await world.clock.settle()
            held.finish_all()
        gate = gates.gates[0]
        assert isinstance(gate, Judged)
        assert (gate.mistakes, gate.out, gate.unusual) == ([], 0, ["d"])


@pytest.mark.parametrize("held_by", ["gate", "pause"])
async def test_what_is_not_let_through_is_not_settled_ahead(held_by: str) -> None:
    """At most once: behind a closed gate, or a pause, events are not settled, so a death of the process loses none."""
    kept, gates, heard = KeptMemory(), Gates(), Heard()
    async with World(gates, store=kept) as world:
        own = await world.subscriber.subscribe(">", Heard(), name="metrics", delivery="at-most-once")
        if held_by == "pause":
            await world.subscriber.pause_subscription(own)
        gates.bulkhead.open = held_by != "gate"
        await world.publish(*"abc")
        await world.clock.advance(0.5)
        async with World(store=kept) as after:  # the first one is never heard of again
            await after.subscriber.subscribe(">", heard, name="metrics", delivery="at-most-once")
            await after.clock.advance(1)
    assert heard.types == ["a", "b", "c"]


async def test_the_delivery_after_a_failure_begins_when_it_begins() -> None:
    """Not with the end of the one before the failure: how long it took is what a breaker counts."""
    gates = Gates()

    async def handle(event: Event) -> None:
        if event.type == "fails":
            await world.clock.sleep(1.0)
            raise ValueError("broken")

    async with World(gates) as world:
        begun_ns = world.clock.monotonic_ns()
        own = await world.subscriber.subscribe(">", handle)
        await world.subscriber.pause_subscription(own)
        await world.publish("works", "fails", "works")
        await world.subscriber.resume_subscription(own)
        await world.clock.advance(2)
        assert [(one.begun_ns - begun_ns) / 1e9 for one in gates.bulkhead.recorded] == [0.0, 0.0, 1.0]


class Agreeing(Plugin):
    """A gate that answers yes instead of permits."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate:
        gate = Bulkhead(ctx.clock.monotonic_ns)
        gate.try_acquire = lambda n: True  # type: ignore[assignment, return-value, method-assign]
        return gate


async def test_an_answer_that_is_none_holds_the_subscription() -> None:
    """It is told with what was answered, once; no worker dies of it."""
    heard = Heard()
    async with World(Agreeing()) as world:
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        await world.clock.advance(2.5)
        told = world.log.at_least(logging.ERROR)
        assert heard.events == []
        assert len(told) == 1
        assert "a gate raised; it is asked again every second" in told[0]
