"""Durable subscriptions: what they are owed, over restarts and deaths of the process, and who holds their name."""

from __future__ import annotations

import asyncio
import logging
from typing import Literal

import pytest
from tests.core.world import FromAnswers, Heard, Held, KeptMemory, Policy, StoreWrapper, World, until

from squall import (
    Event,
    Filter,
    Nak,
    Priority,
    SubscriptionError,
    VirtualClock,
)
from squall.core.store import Attached, DurableSpec, Page, Query


async def test_a_durable_subscription_goes_on_where_it_was() -> None:
    """Under the same id: what was settled is not given again, what was published meanwhile and what was in hand is."""
    kept, first, second, held = KeptMemory(), Heard(), Heard(), Held()
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe("a", first, name="billing")
        await world.publish("a", "a")
        await world.clock.settle()
    async with World(store=kept) as world:
        await world.publish("a", "b", "a")
        assert await world.subscriber.subscribe("a", held, name="billing") == own
        await until(lambda: held.running)
        await world.stop(timeout_s=0.1)
    async with World(store=kept) as world:
        assert await world.subscriber.subscribe("a", second, name="billing") == own
        await world.publish("a")
        await world.clock.settle()
    assert (first.seqs, held.seqs, second.seqs) == ([1, 2], [3], [3, 5, 6])


async def test_a_durable_retry_keeps_its_attempts_and_its_delay_over_a_restart() -> None:
    """The third attempt is still the last."""
    kept, heard = KeptMemory(), Heard(ValueError("broken"))
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.publish("a")
        await world.clock.advance(0.5)
        assert len(heard.events) == 1
        clock = world.clock
    async with World(Policy(), store=kept, clock=clock) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.publish("b")
        await clock.advance(0.3)
        assert heard.types == ["a", "b"]
        await clock.advance(5)
        assert heard.types == ["a", "b", "a", "b", "a", "b"]
        assert [one.attempts for one in await world.dead()] == [3, 3]


async def test_out_of_order_settlements_survive_a_restart() -> None:
    """Of five in hand the second and fourth were done: the others come again, in order."""
    kept, held, heard = KeptMemory(), Held(), Heard()
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", concurrency=5)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcde")
        await world.clock.settle()
        await world.subscriber.resume_subscription(own)
        await until(lambda: len(held.running) == 5)
        held.calls[1].finish()
        held.calls[3].finish()
        await world.stop(timeout_s=0.1)
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.settle()
        assert heard.types == ["a", "c", "e"]


async def test_what_was_in_hand_when_the_process_died_comes_again() -> None:
    """Nobody stopped the router: the store knows what was settled, and nothing else is."""
    kept, held, heard = KeptMemory(), Held(), Heard()
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", concurrency=4)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcde")
        await world.clock.settle()
        await world.subscriber.resume_subscription(own)
        await until(lambda: len(held.running) == 4)
        held.calls[1].finish()
        await until(lambda: len(held.running) == 4)
        held.calls[3].finish()
        await world.clock.settle()
        async with World(store=kept) as after:  # the first one is never heard of again
            await after.subscriber.subscribe(">", heard, name="billing")
            await after.clock.settle()
            assert heard.types == ["a", "c", "e"]
        held.finish_all()
        await world.clock.settle()


async def test_another_pattern_or_filter_needs_update() -> None:
    """The error says both; with `update` it counts from now on. Other options may change freely."""
    kept, heard = KeptMemory(), Heard()
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe("a", heard, name="billing", filters=[Filter(max_bytes=9)])
    async with World(store=kept) as world:
        await world.publish("a", "b")
        with pytest.raises(SubscriptionError, match=r"stored with pattern 'a'.* now asked for 'b'.*update=True"):
            await world.subscriber.subscribe("b", heard, name="billing", filters=[Filter(max_bytes=9)])
        with pytest.raises(SubscriptionError, match="update=True"):
            await world.subscriber.subscribe("a", heard, name="billing")
        with pytest.raises(SubscriptionError, match="update=True"):
            await world.subscriber.subscribe(
                "a", heard, name="billing", filters=[Filter(max_bytes=9)], priority_min=Priority.HIGH
            )
        with pytest.raises(SubscriptionError, match="update=True"):
            await world.subscriber.subscribe(
                "a", heard, name="billing", filters=[Filter(max_bytes=9)], priority_filter=Priority.NORMAL
            )
        again = await world.subscriber.subscribe("b", heard, name="billing", update=True, timeout_s=5, concurrency=3)
        await world.publish("b", "a")
        await world.clock.settle()
        assert (again, heard.seqs) == (own, [3])


async def test_update_of_what_has_not_changed_changes_nothing() -> None:
    """What is owed stays owed."""
    kept, heard = KeptMemory(), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe("a", heard, name="billing")
    async with World(store=kept) as world:
        await world.publish("a")
        await world.subscriber.subscribe("a", heard, name="billing", update=True)
        await world.clock.settle()
        assert heard.types == ["a"]


async def test_a_name_is_attached_once() -> None:
    """A second handler for it is refused while the first is there."""
    async with World() as world:
        own = await world.subscriber.subscribe(">", Heard(), name="billing")
        with pytest.raises(SubscriptionError, match="'billing' is attached already"):
            await world.subscriber.subscribe(">", Heard(), name="billing")
        await world.subscriber.unsubscribe(own)
        await world.subscriber.subscribe(">", Heard(), name="billing")


class SlowToAttach(StoreWrapper):
    """Takes some turns of the loop for what a database would."""

    async def attach(self, spec: DurableSpec) -> Attached:
        for _ in range(3):
            await asyncio.sleep(0)
        return await self.inner.attach(spec)

    async def read(self, query: Query) -> Page:
        for _ in range(3):
            await asyncio.sleep(0)
        return await self.inner.read(query)


async def test_a_name_is_attached_once_though_two_ask_at_the_same_time() -> None:
    """Else each event would be delivered to both."""
    one, two = Heard(), Heard()
    async with World(store=KeptMemory(SlowToAttach)) as world:
        both = [world.subscriber.subscribe(">", handler, name="billing") for handler in (one, two)]
        answers = await asyncio.gather(*both, return_exceptions=True)
        await world.publish("a")
        await world.clock.settle()
        assert sorted(isinstance(answer, SubscriptionError) for answer in answers) == [False, True]
        assert len(one.events) + len(two.events) == 1


async def test_unsubscribing_a_durable_subscription_ends_it() -> None:
    """Of it nothing more is owed: the name begins anew, under another id."""
    kept, heard = KeptMemory(), Heard()
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing")
        await world.subscriber.pause_subscription(own)
        await world.publish("a")
        await world.subscriber.unsubscribe(own)
        await world.publish("b")
        again = await world.subscriber.subscribe(">", heard, name="billing")
        await world.publish("c")
        await world.clock.settle()
        assert again != own
        assert heard.types == ["c"]


async def test_an_unnamed_subscription_lives_with_the_router() -> None:
    """After a restart it is unknown."""
    kept, heard = KeptMemory(), Heard()
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", heard)
    async with World(store=kept) as world:
        await world.publish("a")
        await world.clock.settle()
        assert heard.types == []
        for method in (
            world.subscriber.unsubscribe,
            world.subscriber.pause_subscription,
            world.subscriber.resume_subscription,
        ):
            with pytest.raises(SubscriptionError, match=f"there is no subscription '{own}'"):
                await method(own)


@pytest.mark.parametrize("handed_on", [False, True])
async def test_what_waited_for_its_key_when_the_process_died_comes_again(handed_on: bool) -> None:
    """Though a later event was settled meanwhile, and also when it had just been handed its key."""
    kept, held, heard = KeptMemory(), Held(), Heard()
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", concurrency=2)
        await world.publish("first", "second", key="k")
        await world.publish("other")
        await until(lambda: len(held.running) == 2)
        held.calls[1].finish()
        if handed_on:
            await world.subscriber.pause_subscription(own)
            held.calls[0].finish()
        await world.clock.settle()
        assert [call.event.type for call in held.calls] == ["first", "other"]
        async with World(store=kept) as after:  # the first one is never heard of again
            await after.subscriber.subscribe(">", heard, name="billing")
            await after.clock.settle()
        held.finish_all()
        await world.clock.settle()
    assert heard.types == (["second"] if handed_on else ["first", "second"])


class CursorsBehind(StoreWrapper):
    """Keeps attempts, and has lost the cursors: as a store may that writes them less often."""

    async def attach(self, spec: DurableSpec) -> Attached:
        return (await self.inner.attach(spec))._replace(cursors=())


async def test_a_retry_that_the_cursor_has_not_reached_comes_once_and_at_its_time() -> None:
    """By its attempt row, and not by reading the backlog too."""
    kept, heard = KeptMemory(CursorsBehind), Heard()
    async with World(Policy(lambda delivery, error: Nak(30.0)), store=kept) as world:
        await world.subscriber.subscribe(">", FromAnswers(ValueError("broken")), name="billing", start="earliest")
        await world.publish("a", "b")
        await world.clock.advance(1)
        clock = world.clock
    async with World(Policy(), store=kept, clock=clock) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await clock.advance(10)
        assert heard.types == ["b"]
        await clock.advance(60)
        assert heard.types == ["b", "a"]


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
async def test_what_was_handed_its_key_and_handled_is_done_for_good(
    delivery: Literal["at-least-once", "at-most-once"],
) -> None:
    """A later life is not given it, nor what was taken up from an earlier one."""
    kept, heard = KeptMemory(), Heard()

    async def handle(event: Event) -> None:
        await asyncio.sleep(0)
        await heard(event)

    async def live(*types: str) -> None:
        async with World(store=kept) as world:
            await world.publish(*types, key="k")
            await world.subscriber.subscribe(
                ">", handle, name="billing", delivery=delivery, concurrency=3, start="earliest"
            )
            await world.clock.advance(1)

    await live(*"abc")
    await live()
    await live("d")
    assert heard.types == [*"abcd"]


async def test_what_was_taken_up_again_and_handled_is_done_for_good() -> None:
    """It was in hand when the router stopped; the third life is not given it."""
    kept, held, second, third = KeptMemory(), Held(), Heard(), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", held, name="billing")
        await world.publish("a")
        await until(lambda: held.running)
        await world.stop(timeout_s=0.1)
    for heard in (second, third):
        async with World(store=kept) as world:
            await world.subscriber.subscribe(">", heard, name="billing")
            await world.clock.advance(1)
    assert (second.types, third.types) == (["a"], [])


async def test_a_retry_that_is_due_does_not_hide_what_was_settled_after_it() -> None:
    """When the process dies then, what was handled meanwhile is not given again."""
    kept, held, heard = KeptMemory(), Held(), Heard()
    async with World(Policy(), store=kept) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", concurrency=2)
        await world.publish(*"ab")
        await until(lambda: len(held.running) == 2)
        held.calls[0].fail(ValueError("broken"))
        await world.clock.settle()
        await world.publish(*"cd")
        await until(lambda: len(held.calls) == 3)
        await world.clock.advance(1.1)  # the first is due again, and both workers are busy
        await world.subscriber.pause_subscription(own)
        held.calls[2].finish()
        await world.clock.settle()
        async with World(Policy(), store=kept, clock=VirtualClock(world.clock.monotonic_ns())) as after:
            await after.subscriber.subscribe(">", heard, name="billing")
            await after.clock.advance(1)
        held.finish_all()
        await world.clock.settle()
    assert sorted(heard.types) == ["a", "b", "d"]


async def test_thousands_of_retries_survive_a_restart() -> None:
    """All of them, however many are read at a time."""
    kept, heard = KeptMemory(), Heard()

    async def handle(event: Event) -> None:
        raise ValueError("broken")

    async with World(Policy(lambda delivery, error: Nak(5.0)), store=kept) as world:
        await world.subscriber.subscribe(">", handle, name="billing", in_flight=5000)
        await world.publish(*["a"] * 1201)
        await world.clock.advance(1)
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(10)
    assert sorted(heard.seqs) == [*range(1, 1202)]


async def test_what_was_taken_up_and_waits_is_taken_up_again_after_another_death() -> None:
    """Of two that were in hand one is handled, and the process dies before the other one's turn."""
    kept, first, second, third = KeptMemory(), Held(), Held(), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", first, name="billing", concurrency=2)
        await world.publish(*"abc")
        await until(lambda: len(first.running) == 2)
        await world.stop(timeout_s=0.1)
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", second, name="billing")
        await until(lambda: second.running)
        await world.subscriber.pause_subscription(own)
        second.finish_all()
        await world.clock.settle()
        async with World(store=kept) as after:  # the second one is never heard of again
            await after.subscriber.subscribe(">", third, name="billing")
            await after.clock.settle()
    assert (second.seqs, third.types) == ([1], ["b", "c"])


async def test_what_an_update_gives_up_is_told() -> None:
    """With up to how many events; nothing is told where nothing was owed, or nothing changes."""
    kept, heard = KeptMemory(), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe("a", heard, name="billing")
        await world.publish("a", "a")
        await world.clock.settle()
    async with World(store=kept) as world:
        await world.publish("a", "a", "a")
        await world.subscriber.subscribe("a", heard, name="billing", update=True)
        await world.clock.settle()
        assert world.log.at_least(logging.WARNING) == []
    async with World(store=kept) as world:
        await world.publish("a", "a")
        await world.subscriber.subscribe(">", heard, name="billing", update=True)
        await world.clock.settle()
        (warning,) = world.log.at_least(logging.WARNING)
        assert "'billing': its pattern or filters are others now" in warning
        assert "is not delivered any more (events: up to 2)" in warning
    assert len(heard.events) == 5
