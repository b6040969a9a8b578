"""When an event failed first is known over a restart: its dead letter says so, and no deadline begins anew."""

from __future__ import annotations

from tests.core.world import Heard, KeptMemory, World, until

from squall import VirtualClock
from squall.plugins.retry import RetryPlugin

RETRY: dict[str, object] = {"attempts": 100, "base": "20s", "cap": "20s"}


async def fail_once(kept: KeptMemory, **options: object) -> VirtualClock:
    """An event fails in one life of a program; returns the clock at its end."""
    async with World(RetryPlugin(None, **RETRY, **options), store=kept) as world:
        heard = Heard(ValueError("broken"))
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.publish("a")
        await until(lambda: heard.events)
        await world.clock.settle()
        return world.clock


async def test_a_dead_letter_says_when_it_failed_first() -> None:
    kept = KeptMemory()
    clock = await fail_once(kept)
    first_ns = clock.time_ns()
    async with World(RetryPlugin(None, attempts=2), store=kept, clock=clock) as world:
        await world.clock.advance(100)
        await world.subscriber.subscribe(">", Heard(ValueError("broken")), name="billing")
        await world.clock.advance(30)
        (letter,) = await world.dead()
        assert letter.attempts == 2
        assert abs(letter.first_ns - first_ns) < 2 * 10**9
        assert letter.last_ns - letter.first_ns >= 98 * 10**9


async def test_a_deadline_counts_over_a_restart() -> None:
    """From the first attempt, whichever process made it."""
    kept, heard = KeptMemory(), Heard(ValueError("broken"))
    clock = await fail_once(kept, deadline="60s")
    async with World(RetryPlugin(None, **RETRY, deadline="60s"), store=kept, clock=clock) as world:
        await world.clock.advance(70)
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(1)
        assert (len(heard.events), await world.reasons()) == (1, ["delivery_limit"])


async def test_a_delay_is_no_attempt() -> None:
    """An event that waited for its time has its first attempt then, with all the others ahead of it."""
    heard, kept = Heard(ValueError("broken")), KeptMemory()
    async with World(RetryPlugin(None, **RETRY | {"attempts": 2}, deadline="60s"), store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.publisher.publish("a", b"", delay_s=100)
        before_ns = world.clock.time_ns()
        await world.clock.advance(200)
        (letter,) = await world.dead()
        assert (len(heard.events), letter.attempts) == (2, 2)
        assert letter.first_ns - before_ns >= 100 * 10**9
