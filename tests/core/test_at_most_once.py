"""At most once: settled before it is handled."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from tests.core.world import Heard, Held, KeptMemory, Policy, Settlements, SlowToSettle, World, until

from squall import (
    Attempt,
    Context,
    Event,
    Gate,
    Permits,
    Plugin,
    Priority,
    Subscription,
    WaitUntil,
    hookimpl,
)


async def test_at_most_once_is_settled_before_it_is_handled() -> None:
    """The store has the settlement when the handler begins: what fails, or dies, is not delivered again."""
    kept, held, heard = KeptMemory(), Held(), Heard()
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", held, name="metrics", delivery="at-most-once")
        await world.publish("a")
        await until(lambda: held.running)
        held.calls[0].fail(ValueError("broken"))
        await world.clock.advance(3)
        assert len(held.calls) == 1
        assert await world.reasons() == []
        assert world.router.get_metrics().failed == 1
        await world.publish("b")
        await until(lambda: len(held.calls) == 2)
        stopping = asyncio.ensure_future(world.stop(timeout_s=0.1))
        await asyncio.gather(stopping)
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="metrics", delivery="at-most-once")
        await world.publish("c")
        await world.clock.advance(3)
        assert heard.types == ["c"]


async def test_at_most_once_is_not_handled_before_it_is_settled() -> None:
    """While the store refuses settlements, no handler begins."""
    kept, heard = KeptMemory(SlowToSettle), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="metrics", delivery="at-most-once")
        kept.store.refuse = True
        await world.publish("a")
        await world.clock.advance(3)
        assert heard.types == []
        kept.store.refuse = False
        await world.clock.advance(3)
        assert heard.types == ["a"]


async def test_at_most_once_deliveries_are_counted() -> None:
    """As the others are."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard, delivery="at-most-once")
        await world.publish(*"abc")
        await world.clock.advance(1)
        assert len(heard.events) == 3
        assert world.router.get_metrics().delivered == 3


async def test_at_most_once_keeps_its_order() -> None:
    """And its keys apart."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard, delivery="at-most-once", concurrency=3)
        for number in range(200):
            await world.publisher.publish("a", b"", key=str(number % 3))
        await world.clock.advance(1)
        for key in "012":
            seqs = [one.seq for one in heard.events if one.key == key]
            assert seqs == sorted(seqs)
        assert len(heard.events) == 200


async def test_at_most_once_stands_still_when_paused() -> None:
    """A pause in the middle of what was settled together holds the rest."""
    heard = Heard()

    async def handle(event: Event) -> None:
        await heard(event)
        await world.subscriber.pause_subscription(own)

    async with World() as world:
        own = await world.subscriber.subscribe(">", handle, delivery="at-most-once")
        await world.publish(*"abc")
        await world.clock.advance(1)
        assert heard.types == ["a"]
        for _ in range(2):
            await world.subscriber.resume_subscription(own)
            await world.clock.advance(1)
        assert heard.types == ["a", "b", "c"]


class OnePermit(Plugin):
    """A gate that lets one delivery begin, and no other."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate:
        return _Permits(1)


class _Permits:
    longest_wait_s = 1.0

    def __init__(self, n: int) -> None:
        self._left = n

    def try_acquire(self, n: int) -> Permits | WaitUntil:
        self._left, left = 0, self._left
        return Permits(left) if left else WaitUntil(1 << 62)

    def record(self, permits: Permits, attempts: Sequence[Attempt]) -> None: ...

    def release(self, permits: Permits, n: int) -> None: ...


async def test_no_more_is_settled_ahead_than_may_begin() -> None:
    """Behind a gate that lets one through, one is at risk: the others are owed after a restart."""
    kept, heard, rest = KeptMemory(), Heard(), Heard()
    async with World(OnePermit(), store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing", delivery="at-most-once")
        await world.publish(*"abcde")
        await until(lambda: heard.events)
        await world.stop(timeout_s=0.1)
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", rest, name="billing", delivery="at-most-once")
        await world.clock.settle()
    assert (heard.types, rest.types) == (["a"], ["b", "c", "d", "e"])


@pytest.mark.parametrize("how", ["stop", "detach"])
@pytest.mark.parametrize("concurrency", [1, 3])
async def test_what_was_settled_ahead_and_has_not_begun_is_owed_again(how: str, concurrency: int) -> None:
    """Settled by the dozen, so that not each costs a commit; left in order, only what was in hand is not delivered."""
    kept, held, rest = KeptMemory(), Held(), Heard()
    options: dict[str, Any] = {"name": "billing", "delivery": "at-most-once", "concurrency": concurrency}
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", held, **options)
        await world.publish(*"abcdef")
        await until(lambda: len(held.running) == concurrency)
        if how == "detach":
            await world.subscriber.detach(own)
            await world.subscriber.subscribe(">", rest, **options)
            await world.clock.settle()
        await world.stop(timeout_s=0.1)
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", rest, **options)
        await world.clock.settle()
        assert sorted(rest.types) == [*"abcdef"[concurrency:]]
        assert len(held.calls) == concurrency


async def test_what_was_settled_ahead_is_let_go_of_when_it_is_ended() -> None:
    """And what is being settled just then: nothing of it can begin any more."""
    held, kept = Held(), KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", delivery="at-most-once", concurrency=2)
        await world.publish(*"abcdef")
        await until(lambda: len(held.running) == 2)
        ahead = world.router.subscriptions.dispatchers[own].ahead
        assert ahead is not None
        assert len(ahead) == 4
        await world.subscriber.unsubscribe(own)
        assert len(ahead) == 0
        own = await world.subscriber.subscribe(">", Heard(), name="billing", delivery="at-most-once")
        ahead = world.router.subscriptions.dispatchers[own].ahead
        assert ahead is not None
        kept.store.refuse = True
        await world.publish("g")
        await until(lambda: len(ahead) == 1)
        await world.subscriber.unsubscribe(own)
        kept.store.refuse = False
        await world.clock.advance(5)
        assert len(ahead) == 0
        held.finish_all()


class TwoPermits(OnePermit):
    """A gate that lets two deliveries begin, and no other."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate:
        return _Permits(2)


async def test_several_workers_settle_no_more_ahead_than_may_begin() -> None:
    """All of them together: what a process that dies has settled ahead is at risk."""
    kept, heard = KeptMemory(Settlements), Heard()
    async with World(TwoPermits(), store=kept) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing", delivery="at-most-once", concurrency=4)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcdefgh")
        await world.subscriber.resume_subscription(own)
        await world.clock.advance(1)
        assert heard.types == ["a", "b"]
        highs = [one.high for taken in kept.store.taken for one in taken.cursors if one.priority == Priority.NORMAL]
        assert max(highs) == 2
        await world.stop(timeout_s=0.1)


async def test_what_waits_for_its_key_is_owed_after_a_detach() -> None:
    """The one before it, which detaches the subscription and ends, hands it the key: it has not begun."""
    rest = Heard()

    async def leave(event: Event) -> None:
        await world.subscriber.detach(own)

    async with World() as world:
        own = await world.subscriber.subscribe(">", leave, name="billing", delivery="at-most-once", concurrency=2)
        await world.publish("a", "b", key="k")
        await world.clock.settle()
        await world.subscriber.subscribe(">", rest, name="billing", delivery="at-most-once", concurrency=2)
        await world.clock.settle()
        assert rest.types == ["b"]
