"""Handlers over their time: cancelled, and abandoned where they swallow that; their neighbours are not touched."""

from __future__ import annotations

import asyncio
import gc
import logging
from contextlib import suppress

import pytest
from tests.core.world import Call, Heard, Held, KeptMemory, Policy, World

from squall import Delivery, Event, Nak


async def test_a_handler_over_its_time_is_cancelled_and_the_attempt_counts() -> None:
    """It comes again by policy, and ends in the dead letters as a timeout."""
    held = Held()
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", held, timeout_s=2)
        await world.publish("a")
        await world.clock.advance(1.9)
        assert (len(held.running), held.cancelled) == (1, 0)
        await world.clock.advance(0.2)
        assert (len(held.running), held.cancelled) == (0, 1)
        await world.clock.advance(20)
        assert len(held.calls) == 3
        (letter,) = await world.dead()
        assert (letter.reason, letter.attempts, letter.error_type) == ("timeout", 3, "TimeoutError")
        assert "longer than 2 s" in letter.error
        metrics = world.router.get_metrics()
        assert (metrics.failed, metrics.dead_lettered, metrics.pending, metrics.abandoned) == (3, 1, 0, 0)


async def test_the_worker_lives_on_after_a_timeout() -> None:
    """The cancellation was the one delivery's: the next is handled undisturbed, its own timeouts included."""
    outcome: list[str] = []

    async def handle(event: Event) -> None:
        if event.type == "hangs":
            await asyncio.Event().wait()
        task = asyncio.current_task()
        assert task is not None
        outcome.append(f"cancelling {task.cancelling()}")
        try:
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        except TimeoutError:
            outcome.append("timed out by itself")

    async with World() as world:
        await world.subscriber.subscribe(">", handle, timeout_s=1)
        await world.publish("hangs", "a")
        await world.clock.advance(3)
        for _ in range(100):  # the handler's own timeout is the loop's, not the virtual clock's
            await asyncio.sleep(0)
        assert outcome == ["cancelling 0", "timed out by itself"]
        assert await world.reasons() == ["delivery_limit"]


async def test_a_handler_that_cleans_up_when_cancelled_may_take_a_moment() -> None:
    """It is not abandoned for an await in its `finally`."""
    done: list[str] = []

    async def handle(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await world.clock.sleep(0.5)
            done.append(event.type)

    async with World() as world:
        await world.subscriber.subscribe(">", handle, timeout_s=1)
        await world.publish("a")
        await world.clock.advance(3)
        assert done == ["a"]
        assert world.router.get_metrics().abandoned == 0
        assert await world.reasons() == ["delivery_limit"]


async def test_a_handler_that_is_just_late_has_timed_out() -> None:
    """Returning after the cancellation is no success, unless it settled by hand before."""

    async def late(event: Event) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return

    async def late_but_settled(event: Event, delivery: Delivery) -> None:
        delivery.ack()
        await late(event)

    async with World() as world:
        await world.subscriber.subscribe("a", late, timeout_s=1)
        await world.subscriber.subscribe("b", late_but_settled, timeout_s=1)
        await world.publish("a", "b")
        await world.clock.advance(3)
        assert [(one.event.type, one.error_type) for one in await world.dead()] == [("a", "TimeoutError")]


async def test_in_progress_gives_a_handler_its_time_anew() -> None:
    """As often as it says so."""
    held = Held()
    async with World() as world:
        await world.subscriber.subscribe(">", held.by_hand, timeout_s=2)
        await world.publish("a")
        for _ in range(5):
            await world.clock.advance(1.5)
            (call,) = held.running
            assert call.delivery is not None
            call.delivery.in_progress()
        assert held.cancelled == 0
        await world.clock.advance(3)
        assert held.cancelled == 1


async def test_a_handler_that_swallows_its_cancellation_is_abandoned() -> None:
    """Loudly, with the event's id; the attempt counts, its slot is counted, and the subscription goes on."""
    stubborn = Held(stubborn=True)
    async with World() as world:
        await world.subscriber.subscribe(">", stubborn, timeout_s=1)
        (own, _) = await world.publish("a", "b")
        await world.clock.advance(3)
        assert [call.event.type for call in stubborn.calls] == ["a", "b"]
        metrics = world.router.get_metrics()
        assert (metrics.abandoned, metrics.dead_lettered) == (1, 1)
        assert any(own in message and "abandoned" in message for message in world.log.at_least(logging.ERROR))
        (letter,) = await world.dead()
        assert "ignored its cancellation" in letter.error
        stubborn.finish_all()
        await world.clock.settle()
        assert world.router.get_metrics().abandoned == 0


async def test_the_garbage_collector_does_not_end_an_abandoned_handler() -> None:
    """It waits for what nobody else holds, and the event loop has only weak references to tasks."""

    async def hangs(event: Event) -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()  # a second cancellation is let through

    async with World() as world:
        await world.subscriber.subscribe(">", hangs, timeout_s=1)
        await world.publish("a")
        await world.clock.advance(3)
        gc.collect()
        (task,) = [one for one in asyncio.all_tasks() if one.get_name() == "squall:billing:1"]
        task.cancel()
        await world.clock.settle()
        assert world.router.get_metrics().abandoned == 0


async def test_a_stop_says_that_abandoned_handlers_run_on() -> None:
    """The program does not exit while they do."""
    stubborn = Held(stubborn=True)
    async with World() as world:
        await world.subscriber.subscribe(">", stubborn, timeout_s=1)
        await world.publish("a")
        await world.clock.advance(3)
    told = [message for message in world.log.at_least(logging.ERROR) if "asyncio.run waits for them" in message]
    stubborn.finish_all()
    await asyncio.sleep(0)
    assert told == ["handlers run on, though cancelled: 1; asyncio.run waits for them"]


async def test_others_do_not_notice_an_abandoned_handler() -> None:
    """Neither another subscription nor another key of the same one."""
    stubborn, heard = Held(stubborn=True), Heard()

    async def handle(event: Event) -> None:
        if event.key == "bad":
            await stubborn.wait(Call(event, None))
        await heard(event)

    other = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", handle, timeout_s=1, concurrency=2)
        await world.subscriber.subscribe(">", other)
        await world.publish("a", key="good")
        await world.publish("b", key="bad")
        await world.clock.advance(3)
        await world.publish("c", key="good")
        await world.clock.settle()
        assert other.types == ["a", "b", "c"]
        assert heard.types == ["a", "c"]
        stubborn.finish_all()
        await world.clock.settle()


async def test_abandoned_slots_are_filled_again_as_often_as_there_are_slots() -> None:
    """Then the subscription waits for one of them to end: what hangs for good does not grow without bound."""
    stubborn = Held(stubborn=True)
    async with World() as world:
        own = await world.subscriber.subscribe(">", stubborn, timeout_s=1, concurrency=2)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcdefg")
        await world.subscriber.resume_subscription(own)
        await world.clock.advance(60)
        assert len(stubborn.calls) == 4
        assert world.router.get_metrics().abandoned == 4
        stubborn.calls[0].finish()
        await world.clock.advance(3)
        assert len(stubborn.calls) == 5
        for _ in range(4):
            stubborn.finish_all()
            await world.clock.advance(3)
        assert len(stubborn.calls) == 7


async def test_an_abandoned_handler_that_ends_after_all_settles_nothing() -> None:
    """Its attempt was settled when it was abandoned; the redelivery stands alone."""
    stubborn = Held(stubborn=True)
    async with World(Policy(lambda delivery, error: Nak(0.0))) as world:
        await world.subscriber.subscribe(">", stubborn, timeout_s=1)
        await world.publish("a")
        await world.clock.advance(2.2)
        assert stubborn.seqs == [1, 1]
        stubborn.calls[0].finish()
        await world.clock.settle()
        metrics = world.router.get_metrics()
        assert (metrics.delivered, metrics.failed, metrics.pending) == (0, 1, 1)
        stubborn.calls[1].finish()
        await world.clock.settle()
        assert world.router.get_metrics().pending == 0


@pytest.mark.parametrize("late", [None, ValueError("late")])
async def test_an_abandoned_handler_does_not_free_the_key_of_the_redelivery(late: Exception | None) -> None:
    """One in flight per key, whatever ends late."""
    stubborn = Held(stubborn=True)
    async with World(Policy(lambda delivery, error: Nak(0.0))) as world:
        await world.subscriber.subscribe(">", stubborn, timeout_s=1, concurrency=3, on_retry="block_key")
        await world.publish("a", "b", key="k")
        await world.clock.advance(2.2)
        assert stubborn.seqs == [1, 1]
        if late is None:
            stubborn.calls[0].finish()
        else:
            stubborn.calls[0].fail(late)
        await world.clock.settle()
        begun = stubborn.seqs
        for _ in range(4):
            stubborn.finish_all()
            await world.clock.settle()
        assert begun == [1, 1]
        assert stubborn.seqs == [1, 1, 2]


async def test_an_event_acknowledged_by_hand_stays_so_when_its_handler_is_abandoned() -> None:
    """`ack` counts, whatever the handler does then."""
    stubborn = Held(stubborn=True)
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", stubborn.by_hand, timeout_s=1)
        await world.publish("a")
        await world.clock.settle()
        delivery = stubborn.calls[0].delivery
        assert delivery is not None
        delivery.ack()
        await world.clock.advance(5)
        attempts, metrics = len(stubborn.calls), world.router.get_metrics()
        for _ in range(4):
            stubborn.finish_all()
            await world.clock.advance(2)
        assert (attempts, metrics.delivered, metrics.failed) == (1, 1, 0)


async def test_what_pends_counts_each_event_once() -> None:
    """An abandoned event that waits for its retry, or is dead-lettered, is not counted a second time."""
    stubborn = Held(stubborn=True)
    async with World(Policy(lambda delivery, error: Nak(100.0))) as world:
        await world.subscriber.subscribe(">", stubborn, timeout_s=1)
        await world.publish("a")
        await world.clock.advance(3)
        metrics = world.router.get_metrics()
        stubborn.finish_all()
        await world.clock.settle()
        assert (metrics.abandoned, metrics.delayed, metrics.pending) == (1, 1, 1)


async def test_at_most_once_goes_on_after_a_handler_that_swallowed_its_cancellation() -> None:
    """The late return is the end of that delivery alone; the next has its whole time."""
    heard = Heard()

    async def handle(event: Event) -> None:
        if event.type == "late":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return
        if event.type == "hangs":
            await asyncio.Event().wait()
        await heard(event)

    async with World() as world:
        await world.subscriber.subscribe(">", handle, timeout_s=1, delivery="at-most-once")
        await world.publish("late", "a", "hangs", "b")
        await world.clock.advance(10)
        assert heard.types == ["a", "b"]
        metrics = world.router.get_metrics()
        assert (metrics.abandoned, metrics.pending) == (0, 0)
        assert "abandoned" not in world.log.text


async def test_a_timeout_counts_from_the_handlers_begin() -> None:
    """Not from the publish, and not from the begin of the one before it in a batch."""
    held = Held()
    async with World() as world:
        await world.subscriber.subscribe(">", held, timeout_s=2)
        await world.publish("a", "b")
        await world.clock.advance(1.5)
        held.finish_all()
        await world.clock.advance(1.5)
        assert held.cancelled == 0
        held.finish_all()
        await world.clock.settle()
        assert await world.reasons() == []


async def test_a_wall_clock_that_jumps_changes_no_deadline() -> None:
    """A day forward or back: timeouts and backoffs are durations."""
    held, kept = Held(), KeptMemory()
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", held, timeout_s=2, name="billing")
        await world.publish("a")
        for jump_ns in (86_400_000_000_000, -2 * 86_400_000_000_000):
            await world.clock.advance(0.5)
            world.clock.wall_offset_ns += jump_ns
        assert held.cancelled == 0
        held.calls[0].fail(ValueError("broken"))
        await world.clock.advance(0.9)
        assert len(held.calls) == 1
        await world.clock.advance(0.2)
        assert len(held.calls) == 2
        held.finish_all()
        await world.clock.settle()
