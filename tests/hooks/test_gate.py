"""squall_gate: leave to deliver, asked for in batches, accounted for to the last permit."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from tests.core.bulkhead import Bulkhead
from tests.core.world import Heard, Held, Policy, World, until

from squall import Attempt, Context, Gate, Permits, Plugin, Subscription, WaitUntil, hookimpl


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


async def test_a_gate_that_keeps_raising_is_logged_once() -> None:
    """With its trace; then it is counted, and said when it is over. The next trouble is another."""
    gates, heard = Gates(Raises), Heard()
    async with World(gates) as world:
        await world.subscriber.subscribe(">", heard)
        for round_ in (1, 2):
            gates.bulkhead.broken = True  # type: ignore[attr-defined]
            await world.publish("a")
            await world.clock.advance(10.5)
            assert len(world.log.at_least(logging.ERROR)) == round_
            assert world.log.records[-1].exc_info is not None
            gates.bulkhead.broken = False  # type: ignore[attr-defined]
            await world.clock.advance(1)
            assert "the gate answers again, after it raised 11 times" in world.log.at_least(logging.WARNING)[-1]
            assert len(world.log.records) == 2 * round_
        assert heard.types == ["a", "a"]


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
        await world.publish("c")
        await world.clock.advance(1)
        (told,) = world.log.at_least(logging.WARNING)
        assert "a gate raised about outcomes" in told
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


async def test_what_all_gates_may_hold_a_delivery_adds_up() -> None:
    """One after the other, and then the handler has its time: a bench that waits less would call it a stall."""
    async with World(Gates(), Gates(), Policy()) as world:
        own = await world.subscriber.subscribe(">", Heard(), timeout_s=7)
        policy_s, gates_s = 10.0, 2 * Bulkhead.longest_wait_s
        assert world.router.subscriptions.get(own).longest_wait_s == policy_s + gates_s + 7


class LivesInThePast(Bulkhead):
    """Says again and again that it should have been asked a second ago."""

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        self.asked.append(n)
        return WaitUntil(self.now_ns() - 1_000_000_000) if len(self.asked) < 1000 else super().try_acquire(n)


async def test_a_gate_that_names_a_time_in_the_past_is_not_asked_without_end() -> None:
    """A millisecond later at the soonest: the loop has time for others."""
    gates = Gates(LivesInThePast)
    async with World(gates) as world:
        await world.subscriber.subscribe(">", Heard())
        await world.publish("a")
        await world.clock.advance(0.01)
        assert 5 <= len(gates.bulkhead.asked) <= 11
