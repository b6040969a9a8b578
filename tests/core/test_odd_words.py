"""What handlers say that nobody expects: no word of theirs loses an event."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from tests.core.world import KeptMemory, Policy, World

from squall import Delivery, Event, Reject, Retry


class Mute(Exception):
    """An error that cannot say what it is."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("name", [None, "billing"])
@pytest.mark.parametrize("error", [Reject(ValueError("no such order")), Reject(7), Mute(), Reject(Mute())])  # type: ignore[arg-type]
async def test_an_error_of_any_shape_ends_in_the_dead_letters(error: Exception, name: str | None) -> None:
    """As one whose text could be read; the next event is handled."""
    handled = list[str]()

    async def handle(event: Event) -> None:
        if event.type == "bad":
            raise error
        handled.append(event.type)

    async with World(Policy(), store=KeptMemory()) as world:
        await world.subscriber.subscribe(">", handle, name=name)
        await world.publish("bad", "good")
        await world.clock.advance(20)
        assert len(await world.dead()) == 1
        assert handled == ["good"]
        assert world.router.get_metrics().pending == 0


@pytest.mark.parametrize("word", ["1", object(), float("nan"), -1, 1e300])
async def test_a_delay_that_is_none_is_the_handlers_error(word: Any) -> None:
    """It is tried again by policy, and ends in the dead letters: it does not stay for ever."""

    async def nak(event: Event, delivery: Delivery) -> None:
        delivery.nak(word)

    async def retry(event: Event) -> None:
        raise Retry(word)

    for handle in (nak, retry):
        async with World(Policy(), store=KeptMemory()) as world:
            await world.subscriber.subscribe(">", handle, name="billing")
            await world.publish("a")
            await world.clock.advance(60)
            assert len(await world.dead()) == 1
            assert world.router.get_metrics().pending == 0


async def test_a_cancellation_that_becomes_another_error_is_a_timeout_and_ends_there() -> None:
    """The dead letter says so, and tasks of later events are not taken for cancelled."""
    cancelling = list[int]()

    async def handle(event: Event) -> None:
        task = asyncio.current_task()
        assert task is not None
        if event.type == "hangs":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise ConnectionError("went away") from None
        cancelling.append(task.cancelling())

    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handle, timeout_s=1)
        await world.publish("hangs", "a", "b")
        await world.clock.advance(60)
        (letter,) = await world.dead()
        assert (letter.reason, letter.error_type) == ("timeout", "TimeoutError")
        assert "went away" in letter.trace
        assert cancelling == [0, 0]
