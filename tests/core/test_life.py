"""A router's life: start, stop, start again; what a stop waits for, and what a start that fails leaves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest
from tests.core.world import (
    Heard,
    Held,
    KeptMemory,
    OnStored,
    OpensThenFails,
    Policy,
    StoreWrapper,
    World,
    event,
    until,
)

from squall import (
    AlreadyRunning,
    EventData,
    NotRunning,
    StoreFileError,
)
from squall.core.config import Backlog

USES: list[Callable[[World], Awaitable[object]]] = [
    lambda world: world.publisher.publish("a", b""),
    lambda world: world.publisher.publish_with_receipt("a", b""),
    lambda world: world.publisher.publish_batch([EventData("a", b"")]),
    lambda world: world.router.route_event(event()),
    lambda world: world.subscriber.subscribe(">", Heard()),
    lambda world: world.subscriber.unsubscribe("x"),
    lambda world: world.router.backlog("x"),
    lambda world: asyncio.to_thread(world.publisher.publish_sync, "a", b""),
]


@pytest.mark.parametrize("use", USES)
async def test_a_router_is_used_while_it_runs(use: Callable[[World], Awaitable[object]]) -> None:
    """Before start and after stop, each use is an error that says what to do."""
    world = World()
    with pytest.raises(NotRunning, match="not running"):
        await use(world)
    await world.router.start()
    await world.stop()
    with pytest.raises(NotRunning, match="not running"):
        await use(world)


async def test_a_router_starts_once_at_a_time_and_stops_as_often_as_one_likes() -> None:
    """A second start is an error that says what to do, a second stop is none."""
    held, world = Held(), World()
    await world.stop()
    await world.router.start()
    with pytest.raises(AlreadyRunning, match=r"start: the router runs already, .* await stop\(\) first"):
        await world.router.start()
    await world.subscriber.subscribe(">", held)
    await world.publish("a")
    await until(lambda: held.running)
    stopping = asyncio.ensure_future(world.stop())
    await world.clock.settle()
    with pytest.raises(AlreadyRunning, match="is still stopping"):
        await world.router.start()
    held.finish_all()
    await stopping
    await world.stop()


async def test_figures_are_those_of_the_last_run() -> None:
    """After a stop too, with all that the drain did; none before the first start, and anew with the next."""
    heard, world = Heard(), World()
    with pytest.raises(NotRunning, match="not running"):
        world.router.get_metrics()
    async with world:
        own = await world.subscriber.subscribe("held", heard)
        await world.subscriber.subscribe("a", heard)
        await world.subscriber.pause_subscription(own)
        await world.publish("a", "a", "held")
    metrics = world.router.get_metrics()
    assert (metrics.published, metrics.delivered, metrics.cancelled, metrics.pending) == (3, 2, 1, 0)
    assert metrics.subscriptions == 2
    async with world:
        assert world.router.get_metrics().published == 0
    assert world.router.get_metrics().published == 0


async def test_two_stops_at_once_are_one() -> None:
    """Both return when it is done, and neither trips over the other."""
    held, world = Held(), World()
    await world.router.start()
    await world.subscriber.subscribe(">", held)
    await world.publish("a")
    await until(lambda: held.running)
    both = [asyncio.ensure_future(world.router.stop(timeout_s=1)) for _ in range(2)]
    await world.clock.advance(0.1)
    held.finish_all()
    await world.clock.advance(2)
    assert all(one.done() for one in both)
    await asyncio.gather(*both)


async def test_a_router_starts_again() -> None:
    """With nothing left of the run before: no subscriptions, no counts; its loop may be another."""
    heard, world = Heard(), World()
    async with world:
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
    async with world:
        metrics = world.router.get_metrics()
        assert (metrics.published, metrics.delivered, metrics.subscriptions) == (0, 0, 0)
        await world.publish("b")
        await world.subscriber.subscribe(">", heard)
        await world.publish("c")
        await world.clock.settle()
    assert heard.types == ["a", "c"]


def test_a_router_may_run_in_one_loop_after_another() -> None:
    """It keeps nothing of a loop that is gone."""
    world, heard = World(), Heard()

    async def run() -> None:
        async with world:
            await world.subscriber.subscribe(">", heard)
            await world.publish("a")
            await world.clock.settle()

    for _ in range(2):
        asyncio.run(run())
    assert heard.types == ["a", "a"]


async def test_a_stop_delivers_what_waits() -> None:
    """The queue is drained, and what has ended is settled and told."""
    heard, world = Heard(), World()
    await world.router.start()
    await world.subscriber.subscribe(">", heard)
    await world.publish(*["a"] * 500)
    await world.stop()
    assert len(heard.events) == 500


async def test_a_stop_takes_nothing_in() -> None:
    """While it drains, a publish is refused."""
    held, world = Held(), World()
    await world.router.start()
    await world.subscriber.subscribe(">", held)
    await world.publish("a")
    await until(lambda: held.running)
    stopping = asyncio.ensure_future(world.stop(timeout_s=5))
    await world.clock.settle()
    with pytest.raises(NotRunning):
        await world.publish("b")
    held.finish_all()
    await stopping
    assert held.cancelled == 0


async def test_a_stop_has_a_deadline() -> None:
    """Handlers that run on are cancelled then. What is not durable is cancelled with a warning that counts it; what is
    durable is released, uncounted, and delivered after the next start."""
    kept, held, again = KeptMemory(), Held(), Heard()
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", held, name="durable")
        await world.subscriber.subscribe(">", held.by_hand)
        await world.publish("a", "b")
        await until(lambda: len(held.running) == 2)
        before_ns = world.clock.monotonic_ns()
        await world.stop(timeout_s=3)
        assert 2.9e9 <= world.clock.monotonic_ns() - before_ns <= 3.2e9
        assert held.cancelled == 2
        (warning,) = world.log.at_least(logging.WARNING)
        assert "what was not delivered is cancelled (events: 2)" in warning
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", again, name="durable")
        await world.clock.settle()
        assert again.types == ["a", "b"]
        assert await world.reasons() == []


async def test_an_attempt_that_a_stop_cancels_does_not_count() -> None:
    """However often the router is stopped in its middle, the event has all its attempts before it."""
    kept, held = KeptMemory(), Held()
    for _ in range(4):
        async with World(Policy(), store=kept) as world:
            await world.subscriber.subscribe(">", held, name="durable")
            if not held.calls:
                await world.publish("a")
            await until(lambda: held.running)
            await world.stop(timeout_s=0.1)
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", Heard(ValueError("broken")), name="durable")
        await world.clock.advance(10)
        assert [one.attempts for one in await world.dead()] == [3]


async def test_a_stop_has_its_deadline_though_a_handler_swallows_cancellation() -> None:
    """One handler does not keep a program from ending."""
    stubborn, world = Held(stubborn=True), World()
    await world.router.start()
    await world.subscriber.subscribe(">", stubborn)
    await world.publish("a")
    await until(lambda: stubborn.running)
    stopping = asyncio.ensure_future(world.router.stop(timeout_s=1))
    await world.clock.advance(10)
    stopped = stopping.done()
    stubborn.finish_all()
    await world.finish(stopping, 5)
    assert stopped


async def test_a_stop_waits_for_a_handler_of_a_paused_subscription() -> None:
    """It runs and may end: a pause only keeps the next from beginning."""
    held, world = Held(), World()
    await world.router.start()
    own = await world.subscriber.subscribe(">", held)
    await world.publish("a", "b")
    await until(lambda: held.running)
    await world.subscriber.pause_subscription(own)
    stopping = asyncio.ensure_future(world.stop(timeout_s=5))
    await world.clock.advance(0.5)
    held.finish_all()
    await stopping
    assert (held.cancelled, len(held.calls)) == (0, 1)


async def test_a_stop_does_not_wait_for_what_will_not_come() -> None:
    """Retries that are due later, and what a paused subscription holds."""
    world = World(Policy())
    await world.router.start()
    own = await world.subscriber.subscribe("held", Heard())
    await world.subscriber.pause_subscription(own)
    await world.subscriber.subscribe("fails", Heard(ValueError("broken")))
    await world.publish("held", "fails")
    await world.clock.settle()
    before_ns = world.clock.monotonic_ns()
    await world.stop(timeout_s=30)
    assert world.clock.monotonic_ns() - before_ns < 1e9


async def test_nothing_happens_after_a_stop() -> None:
    """Timers of retries, deadlines and sweeps are of no consequence then, and no task is left."""
    heard, world = Heard(ValueError("broken")), World(Policy())
    async with world:
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        await world.clock.settle()
    await world.clock.advance(60)
    assert len(heard.events) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_inside_async_with_stops_the_router_too() -> None:
    """And goes on its way."""
    world = World()
    with pytest.raises(KeyError):
        async with world:
            raise KeyError("mine")
    with pytest.raises(NotRunning):
        await world.publish("a")


class OpensSlowly(StoreWrapper):
    """Takes its time to open."""

    closed = 0

    async def open(self, on_stored: OnStored) -> int:
        head = await self.inner.open(on_stored)
        await asyncio.Event().wait()
        return head

    async def close(self) -> None:
        self.closed += 1
        await self.inner.close()


async def test_a_start_that_fails_ends_what_it_began() -> None:
    """The store that was opened is closed again, so that its file is not locked by a router that does not run."""
    kept = KeptMemory(OpensThenFails)
    world = World(store=kept)
    with pytest.raises(StoreFileError):
        await world.router.start()
    assert kept.store.closed == 1


async def test_a_start_that_is_cancelled_ends_what_it_began() -> None:
    """As one that fails."""
    kept = KeptMemory(OpensSlowly)
    world = World(store=kept)
    starting = asyncio.ensure_future(world.router.start())
    await world.clock.settle()
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert kept.store.closed == 1


async def test_a_start_that_failed_leaves_the_router_as_it_was() -> None:
    """A thread that publishes learns that it does not run; it may be started again."""
    kept = KeptMemory(OpensThenFails)
    world = World(store=kept)
    with pytest.raises(StoreFileError):
        await world.router.start()
    assert world.router.loop is None
    with pytest.raises(NotRunning):
        await asyncio.to_thread(world.publisher.publish_sync, "a", b"")
    kept.store = kept.memory
    async with world:
        await world.publish("a")


async def test_a_publisher_that_waits_for_room_learns_at_once_that_the_router_stops() -> None:
    """It does not wait for its time to be over."""
    world = World(backlog=Backlog(max_events=1, timeout=60))
    await world.router.start()
    own = await world.subscriber.subscribe(">", Heard())
    await world.subscriber.pause_subscription(own)
    await world.publish("a")
    waiting = world.publishing("b")
    await world.clock.settle()
    await world.stop(timeout_s=1)
    await world.clock.settle()
    assert waiting.done()
    with pytest.raises(NotRunning):
        await waiting
