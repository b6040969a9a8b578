"""squall_gate: leave to deliver, asked for in batches, accounted for to the last permit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import FromAnswers, Heard, Held, Policy, World, until

from squall import Attempt, Context, Event, Gate, Nak, Permits, Plugin, Subscription, WaitUntil, hookimpl


class Bulkhead:
    """Gives at most `size` permits at a time, in steps of at most `step`, and keeps account of every one.

    `mistakes` names what should not have happened: more attempts than permits, foreign or stale generations.
    """

    longest_wait_s = 1.0

    def __init__(self, now_ns: Callable[[], int], size: int = 1 << 30, step: int = 1 << 30) -> None:
        self.now_ns = now_ns
        self.size, self.step = size, step
        self.open = True
        self.asked: list[int] = []
        self.given: dict[int, Permits] = {}
        self.left: dict[int, int] = {}
        self.recorded: list[Attempt] = []
        self.mistakes: list[str] = []
        self.released = 0

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        self.asked.append(n)
        n = min(n, self.step, self.size - sum(self.left.values()))
        if not self.open or n <= 0:
            return WaitUntil(self.now_ns() + 1_000_000_000)
        generation = len(self.given) + 1
        self.given[generation] = Permits(n, generation)
        self.left[generation] = n
        return self.given[generation]

    def record(self, permits: Permits, attempts: Sequence[Attempt]) -> None:
        self._take_back(permits, len(attempts))
        self.recorded.extend(attempts)

    def release(self, permits: Permits, n: int) -> None:
        self._take_back(permits, n)
        self.released += n

    def _take_back(self, permits: Permits, n: int) -> None:
        if self.given.get(permits.generation) is not permits:
            self.mistakes.append(f"{permits} were never given")
            return
        self.left[permits.generation] -= n
        if self.left[permits.generation] < 0:
            self.mistakes.append(f"more came back of {permits} than were given")

    @property
    def out(self) -> int:
        """Permits that did not come back yet."""
        return sum(self.left.values())


class Gates(Plugin):
    """Gives each subscription a gate of its own, made by a function of the clock's reading."""

    def __init__(self, make: Callable[[Callable[[], int]], Gate | None] = Bulkhead) -> None:
        super().__init__()
        self.make = make
        self.gates: list[Gate | None] = []
        self.changed: Callable[[str, str, str], None] = lambda subscription_id, gate, state: None

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate | None:
        self.changed = ctx.changed
        self.gates.append(self.make(ctx.clock.monotonic_ns))
        return self.gates[-1]

    @property
    def bulkhead(self) -> Bulkhead:
        (gate,) = self.gates
        assert isinstance(gate, Bulkhead)
        return gate


async def test_a_closed_gate_holds_the_subscription_without_burning_attempts() -> None:
    """Nothing is delivered and nothing fails until it opens; it is asked again at the time that it named."""
    gates, heard = Gates(), Heard()
    async with World(gates, Policy()) as world:
        await world.subscriber.subscribe(">", heard)
        gates.bulkhead.open = False
        await world.publish("a", "b")
        await world.clock.advance(0.9)
        gates.bulkhead.open = True
        assert heard.types == []
        await world.clock.advance(0.2)
        assert heard.types == ["a", "b"]
        assert world.router.get_metrics().failed == 0


async def test_a_closed_gate_is_asked_again_once_and_not_for_every_event_that_came() -> None:
    """What waits behind it costs nothing."""
    gates, heard = Gates(), Heard()
    async with World(gates) as world:
        await world.subscriber.subscribe(">", heard)
        gates.bulkhead.open = False
        for _ in range(50):
            await world.publish("a")
            await world.clock.advance(0.01)
        before = len(gates.bulkhead.asked)
        await world.clock.advance(5)
        again = len(gates.bulkhead.asked) - before
        gates.bulkhead.open = True
        await world.clock.advance(2)
        assert len(heard.events) == 50
        assert again <= 10


async def test_a_gate_that_says_it_changed_is_asked_at_once() -> None:
    """Both ways: permits that were not used are withdrawn, and a held subscription goes on."""
    gates, held = Gates(), Held()
    async with World(gates) as world:
        own = await world.subscriber.subscribe(">", held)
        await world.publish("a", "b")
        await until(lambda: held.running)
        gates.bulkhead.open = False
        gates.changed(own, "bulkhead", "closed")
        held.finish_all()
        await world.clock.settle()
        assert len(held.calls) == 1
        gates.bulkhead.open = True
        gates.changed(own, "bulkhead", "open")
        await world.clock.settle()
        assert len(held.calls) == 2
        held.finish_all()
        await world.clock.settle()
        assert (gates.bulkhead.mistakes, gates.bulkhead.out) == ([], 0)


async def test_a_change_of_an_unknown_subscription_is_no_error() -> None:
    """It may have ended meanwhile."""
    gates = Gates()
    async with World(gates) as world:
        own = await world.subscriber.subscribe(">", Heard())
        await world.subscriber.unsubscribe(own)
        gates.changed(own, "bulkhead", "open")


async def test_a_gate_bounds_what_runs_at_once() -> None:
    """No more handlers than it gave permits for."""
    gates, held = Gates(lambda now_ns: Bulkhead(now_ns, size=2)), Held()
    async with World(gates) as world:
        own = await world.subscriber.subscribe(">", held, concurrency=3)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcd")
        await world.subscriber.resume_subscription(own)
        for n in (2, 4):
            await world.clock.advance(1.1)
            assert len(held.calls) == n
            held.finish_all()
        await world.clock.advance(1.1)
        assert gates.bulkhead.mistakes == []


async def test_permits_are_asked_for_in_batches() -> None:
    """Not one by one: a gate costs little where it is open."""
    gates, heard = Gates(), Heard()
    async with World(gates) as world:
        own = await world.subscriber.subscribe(">", heard)
        await world.subscriber.pause_subscription(own)
        await world.publish(*["a"] * 256)
        await world.subscriber.resume_subscription(own)
        await until(lambda: len(heard.events) == 256)
        assert len(gates.bulkhead.asked) <= 10
        assert max(gates.bulkhead.asked) > 1


async def test_all_gates_must_permit() -> None:
    """The strictest counts, and what the others gave in vain they have back."""
    wide, narrow = Gates(), Gates(lambda now_ns: Bulkhead(now_ns, size=1))
    held = Held()
    async with World(wide, narrow, Gates(lambda now_ns: None)) as world:
        own = await world.subscriber.subscribe(">", held, concurrency=2)
        await world.subscriber.pause_subscription(own)
        await world.publish("a", "b")
        await world.subscriber.resume_subscription(own)
        for n in (1, 2):
            await world.clock.advance(1.1)
            assert len(held.running) == 1
            assert len(held.calls) == n
            held.finish_all()
        await world.clock.advance(1.1)
        for gates in (wide, narrow):
            assert (gates.bulkhead.mistakes, gates.bulkhead.out, len(gates.bulkhead.recorded)) == ([], 0, 2)


async def test_a_closed_gate_behind_an_open_one_gives_the_open_ones_permits_back() -> None:
    """Nothing is held in vain."""
    first, second, heard = Gates(), Gates(), Heard()
    async with World(first, second) as world:
        await world.subscriber.subscribe(">", heard)
        second.bulkhead.open = False
        await world.publish("a", "b")
        await world.clock.advance(0.5)
        assert (first.bulkhead.out, heard.types) == (0, [])
        second.bulkhead.open = True
        await world.clock.advance(1)
        assert heard.types == ["a", "b"]


class Raises(Bulkhead):
    """Raises when it is asked, while `broken`."""

    broken = True

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        if self.broken:
            raise ValueError("gate is broken")
        return super().try_acquire(n)


async def test_a_gate_that_raises_holds_the_subscription_loudly() -> None:
    """It is not taken for an open one, nor does it kill the worker; it is asked again."""
    gates, heard = Gates(Raises), Heard()
    async with World(gates) as world:
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        await world.clock.advance(0.5)
        assert heard.types == []
        assert any("a gate raised" in message for message in world.log.at_least(logging.ERROR))
        gates.bulkhead.broken = False  # type: ignore[attr-defined]
        await world.clock.advance(1)
        assert heard.types == ["a"]


class RaisesAtRecord(Bulkhead):
    """Raises when it is told how deliveries ended."""

    def record(self, permits: Permits, attempts: Sequence[Attempt]) -> None:
        raise ValueError("gate is broken")


async def test_a_gate_that_raises_about_an_outcome_costs_no_settlement() -> None:
    """It is logged, the events are settled, and their room comes back."""
    gates, heard = Gates(RaisesAtRecord), Heard()
    async with World(gates) as world:
        world_errors = list[dict[str, object]]()
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: world_errors.append(context))
        await world.subscriber.subscribe(">", heard)
        await world.publish("a", "b")
        await world.clock.advance(1)
        assert heard.types == ["a", "b"]
        assert world.router.get_metrics().delivered == 2
        assert "gate is broken" in world.log.text or world.log.at_least(logging.ERROR)
        assert world_errors == []


class TellsWhenReleased(Bulkhead):
    """Says that it changed whenever it has permits back: somebody else may have them now."""

    def __init__(self, now_ns: Callable[[], int], tell: Callable[[], None]) -> None:
        super().__init__(now_ns)
        self.tell = tell

    def release(self, permits: Permits, n: int) -> None:
        super().release(permits, n)
        self.tell()


async def test_a_gate_may_say_it_changed_while_it_has_permits_back() -> None:
    """They come back once, and it does not go round in circles."""
    ids: list[str] = []

    def tell() -> None:
        if ids:
            gates.changed(ids[0], "gate", "changed")

    gates, held = Gates(lambda now_ns: TellsWhenReleased(now_ns, tell)), Held()
    async with World(gates) as world:
        ids.append(await world.subscriber.subscribe(">", held))
        await world.subscriber.pause_subscription(ids[0])
        await world.publish("a", "b", "c")
        await world.subscriber.resume_subscription(ids[0])
        await until(lambda: held.running)
        await world.subscriber.pause_subscription(ids[0])
        held.finish_all()
        await world.clock.settle()
        ids.clear()
        assert (gates.bulkhead.mistakes, gates.bulkhead.out) == ([], 0)


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
