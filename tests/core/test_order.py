"""Order: FIFO per (subscription, key, priority), one in flight per key, and what a retry does to its key."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.core.world import Heard, Held, KeptMemory, Policy, StoreWrapper, World
from tests.fast import first

from squall import Event, EventStore, Nak, Priority
from squall.core.keys import KeyLocks


class Work(NamedTuple):
    """An event to publish, and how its handler behaves: so long, and failing so often before it succeeds."""

    key: str | None
    priority: Priority
    tenths: int
    failures: int
    pause_tenths: int


class Begin(NamedTuple):
    """A handler's call; steps count every begin and end."""

    event: Event
    begun: int
    ended: int


works = st.builds(
    Work,
    st.sampled_from([None, "a", "b"]),
    st.sampled_from([Priority.HIGH, Priority.NORMAL]),
    st.integers(0, 2),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.sampled_from([0, 0, 0, 1, 3]),
)

OnRetry = Literal["skip", "block_key"]


async def history(
    works: Sequence[Work],
    concurrency: int,
    on_retry: OnRetry,
    *,
    name: str | None = None,
    backlog: bool = False,
    wrap: Callable[[EventStore], EventStore] = lambda store: store,
) -> list[Begin]:
    """Publish the works while their handlers run, or before; every call, in the order of their begins."""
    open_calls: dict[int, tuple[Event, int]] = {}
    begins: list[Begin] = []
    step, failed = 0, defaultdict[int, int](int)

    async def handle(event: Event) -> None:
        nonlocal step
        step += 1
        own = step
        open_calls[own] = (event, own)
        work = works[int(event.payload)]
        if work.tenths:
            await world.clock.sleep(work.tenths / 10)
        step += 1
        del open_calls[own]
        begins.append(Begin(event, own, step))
        if failed[event.seq] < work.failures:
            failed[event.seq] += 1
            raise ValueError(f"failure {failed[event.seq]}")

    policy = Policy(lambda delivery, error: Nak(0.1 * delivery.attempt))
    async with World(policy, store=KeptMemory(wrap)) as world:
        subscriber = world.subscriber
        own = await subscriber.subscribe("order.*", handle, concurrency=concurrency, on_retry=on_retry, name=name)
        if backlog:
            await subscriber.pause_subscription(own)
        for number, work in enumerate(works):
            await world.publisher.publish("order.a", str(number).encode(), work.priority, key=work.key)
            if work.pause_tenths:
                await world.clock.advance(work.pause_tenths / 10)
        await subscriber.resume_subscription(own)
        for _ in range(60):
            await world.clock.advance(0.5)
            if len(begins) == sum(work.failures + 1 for work in works):
                break
        else:
            raise AssertionError("not everything was delivered")
        assert not open_calls
    return sorted(begins, key=lambda begin: begin.begun)


def disorders(begins: Sequence[Begin], keyless: bool) -> list[str]:
    """First begins that are overtaken by a later seq of their key and priority."""
    found, greatest, seen = [], defaultdict[tuple[str | None, int], int](int), set[int]()
    for event, _, _ in begins:
        scope = (event.key, int(event.priority))
        if event.seq in seen or (event.key is None and not keyless):
            continue
        if event.seq < greatest[scope]:
            found.append(f"{event.seq} began after {greatest[scope]} in {scope}")
        seen.add(event.seq)
        greatest[scope] = max(greatest[scope], event.seq)
    return found


def overlaps(begins: Sequence[Begin]) -> list[str]:
    """Calls of one key that ran at once."""
    found, ends = [], defaultdict[str, int](int)
    for event, begun, ended in begins:
        if event.key is not None:
            if begun < ends[event.key]:
                found.append(f"{event.seq} began while its key {event.key} was in flight")
            ends[event.key] = max(ends[event.key], ended)
    return found


def overtakings(begins: Sequence[Begin]) -> list[str]:
    """Events that came between the attempts of another of their key."""
    found, last, done = [], dict[str, int](), set[int]()
    for event, _, _ in begins:
        if event.key is None:
            continue
        if event.seq in done:
            found.append(f"{event.seq} came again after {last[event.key]}")
        if last.get(event.key, event.seq) != event.seq:
            done.add(last[event.key])
        last[event.key] = event.seq
    return found


@pytest.mark.parametrize("name", [None, "durable"])
@pytest.mark.parametrize("on_retry", ["skip", "block_key"])
@pytest.mark.parametrize("concurrency", first(1, [2, 1, 5]))
@given(works=st.lists(works, min_size=1, max_size=14), backlog=st.booleans())
@settings(max_examples=25)
def test_order_holds(works: list[Work], backlog: bool, concurrency: int, on_retry: OnRetry, name: str | None) -> None:
    """For any keys, priorities, durations and failures; without a key too at concurrency 1."""
    begins = asyncio.run(history(works, concurrency, on_retry, name=name, backlog=backlog))
    assert disorders(begins, keyless=concurrency == 1) == []
    assert overlaps(begins) == []
    if on_retry == "block_key":
        assert overtakings(begins) == []


async def test_a_retry_lets_its_key_pass() -> None:
    """`skip`, the default: the next of the key does not wait for the backoff."""
    begins = await history([Work("a", Priority.NORMAL, 0, 1, 0), Work("a", Priority.NORMAL, 0, 0, 0)], 1, "skip")
    assert [begin.event.seq for begin in begins] == [1, 2, 1]
    assert overtakings(begins)


async def test_a_retry_holds_its_key_where_asked() -> None:
    """`block_key`: other keys go on meanwhile."""
    works = [Work(key, Priority.NORMAL, 0, failures, 0) for key, failures in (("a", 1), ("a", 0), ("b", 0))]
    begins = await history(works, 1, "block_key")
    assert [begin.event.seq for begin in begins] == [1, 3, 1, 2]


async def test_keys_run_side_by_side() -> None:
    """At concurrency 2, two keys are in flight at once, and a third event waits for its own key only."""
    works = [Work(key, Priority.NORMAL, 2, 0, 0) for key in "aab"]
    begins = await history(works, 2, "skip", backlog=True)
    assert [begin.event.seq for begin in begins] == [1, 3, 2]
    assert begins[1].begun < begins[0].ended


class Swaps(StoreWrapper):
    """Announces two events of a key in the wrong order."""

    async def open(self, on_stored: Callable[[Sequence[Event]], None]) -> int:
        held: list[Event] = []

        def announce(events: Sequence[Event]) -> None:
            held.extend(events)
            if len(held) > 1:
                on_stored([held.pop(), *held])
                held.clear()

        return await self.inner.open(announce)


async def test_swapped_events_would_be_noticed() -> None:
    """The check of order fails for a store that announces out of order."""
    works = [Work("a", Priority.NORMAL, 0, 0, 0)] * 2
    assert disorders(await history(works, 1, "skip"), keyless=True) == []
    assert disorders(await history(works, 1, "skip", wrap=Swaps), keyless=True)


async def test_keys_that_do_not_lock_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The check of overlap fails when locks let everyone in."""
    works = [Work("a", Priority.NORMAL, 2, 0, 0)] * 2
    assert overlaps(await history(works, 2, "skip", backlog=True)) == []
    monkeypatch.setattr(KeyLocks, "claim", lambda locks, event: True)
    assert overlaps(await history(works, 2, "skip", backlog=True))


class Crash(BaseException):
    """Ends the worker that runs the handler."""


async def test_a_key_is_free_when_the_worker_that_held_it_has_crashed() -> None:
    """The next of the key is delivered though the first is never tried again."""
    seen: list[str] = []

    async def handle(event: Event) -> None:
        seen.append(event.type)
        if event.type == "crashes":
            raise Crash

    async with World() as world:
        await world.subscriber.subscribe(">", handle, concurrency=2)
        await world.publish("crashes", "next", key="k")
        await world.clock.advance(1)
        assert await world.reasons() == ["delivery_limit"]
        assert seen == ["crashes", "next"]


async def test_a_key_is_free_when_the_handler_that_held_it_is_abandoned() -> None:
    """It swallows its cancellation: the next of the key does not wait for its end."""
    stubborn, heard = Held(stubborn=True), Heard()

    async def handle(event: Event) -> None:
        await (stubborn if event.type == "hangs" else heard)(event)

    async with World() as world:
        await world.subscriber.subscribe(">", handle, concurrency=2, timeout_s=1)
        await world.publish("hangs", "next", key="k")
        await world.clock.advance(5)
        types = heard.types
        stubborn.finish_all()
        await world.clock.settle()
        assert types == ["next"]
