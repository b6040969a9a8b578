"""Virtual time: timers in order, hours in no time, wall time as a label only. And the system's clock."""

from __future__ import annotations

import asyncio
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from squall import SystemClock, VirtualClock

NS = 1_000_000_000


@given(st.lists(st.integers(0, 5), max_size=12), st.lists(st.integers(0, 4), max_size=5))
def test_timers_come_when_due_and_in_order(delays_s: list[int], steps_s: list[int]) -> None:
    """By time, then by when they were set; each sees the moment it was set for."""

    async def run() -> None:
        clock, came = VirtualClock(), list[tuple[int, int, int]]()
        start_ns = clock.monotonic_ns()

        def come(number: int, delay_s: int) -> None:
            came.append((delay_s, number, (clock.monotonic_ns() - start_ns) // NS))

        for number, delay_s in enumerate(delays_s):
            clock.call_later(delay_s, partial(come, number, delay_s))
        for step_s in steps_s:
            await clock.advance(step_s)
        passed_s = sum(steps_s)
        assert clock.monotonic_ns() - start_ns == passed_s * NS
        due = sorted((d, n, d) for n, d in enumerate(delays_s) if d <= passed_s) if steps_s else []
        assert came == due

    asyncio.run(run())


async def test_a_timer_may_set_timers_and_cancel_others() -> None:
    """What is set within the time that passes comes within it; what is cancelled does not come."""
    clock, came = VirtualClock(), list[str]()
    doomed = clock.call_later(2, lambda: came.append("doomed"))

    def first() -> None:
        came.append("first")
        doomed.cancel()
        clock.call_later(1, lambda: came.append("second"))
        clock.call_later(9, lambda: came.append("late"))

    clock.call_later(1, first)
    await clock.advance(3)
    assert came == ["first", "second"]


async def test_sleep_returns_when_its_time_has_come() -> None:
    """Not before; a cancelled sleep leaves nothing behind."""
    clock = VirtualClock()
    sleeping, doomed = (asyncio.ensure_future(clock.sleep(3600)) for _ in range(2))
    await clock.advance(3599)
    assert not sleeping.done()
    doomed.cancel()
    await clock.advance(1)
    assert sleeping.done()
    assert doomed.cancelled()


async def test_wall_time_may_jump_while_durations_stand() -> None:
    """Timers and the monotonic reading do not care."""
    clock, came = VirtualClock(), list[int]()
    wall_ns = clock.time_ns()
    clock.call_later(1, lambda: came.append(clock.time_ns() - wall_ns))
    clock.wall_offset_ns -= 86_400 * NS
    await clock.advance(1)
    assert came == [NS - 86_400 * NS]


async def test_the_systems_clock_moves_by_itself() -> None:
    """Its readings never go back, and it keeps its timers on the running loop."""
    clock, came = SystemClock(), asyncio.Event()
    before = clock.monotonic_ns()
    clock.call_later(0, came.set)
    await came.wait()
    await clock.sleep(0)
    assert clock.monotonic_ns() >= before
    assert clock.time_ns() > 1_700_000_000 * NS
    assert not clock.virtual


async def test_a_cancelled_system_timer_does_not_come() -> None:
    """As with virtual ones."""
    clock, came = SystemClock(), list[int]()
    clock.call_later(0, lambda: came.append(1)).cancel()
    for _ in range(5):
        await asyncio.sleep(0)
    assert not came


async def test_a_timer_that_is_due_already_comes_with_the_next_move() -> None:
    """A negative delay is none."""
    clock, came = VirtualClock(), list[int]()
    clock.call_later(-5, lambda: came.append(1))
    await clock.advance(0)
    assert came == [1]


@pytest.mark.parametrize("seconds", [0.001, 86_400.0 * 365])
async def test_a_year_passes_as_fast_as_a_millisecond(seconds: float) -> None:
    """Nothing waits for the wall."""
    clock = VirtualClock()
    before_ns = clock.monotonic_ns()
    await clock.advance(seconds)
    assert clock.monotonic_ns() - before_ns == round(seconds * NS)
