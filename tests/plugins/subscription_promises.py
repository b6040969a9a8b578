"""What every store promises of subscriptions: where they stand, what they settle, and their dead letters."""

from __future__ import annotations

import asyncio

import pytest
from tests.plugins.store_bench import NOW_NS, Bench, FakeProgress, Promise, assert_dead, dead_letter, make_event, until

from squall.core.errors import SubscriptionError
from squall.core.store import (
    AttemptRow,
    Cursor,
)


async def a_new_durable_subscription_is_owed_what_comes_after(bench: Bench) -> None:
    """Not what was appended before, even when that is not committed yet."""
    events = [make_event(index) for index in range(3)]
    waits = [asyncio.ensure_future(bench.append(event)) for event in events]
    await asyncio.sleep(0)
    attached = await bench.attach()
    await asyncio.gather(*waits)
    assert attached.from_seq == events[-1].seq + 1
    following = make_event(3)
    await bench.append(following)
    assert following.seq >= attached.from_seq
    assert (list(attached.cursors), list(attached.attempts)) == ([], [])


async def a_durable_subscription_starts_where_it_asks(bench: Bench) -> None:
    assert (await bench.attach("before", start="earliest")).from_seq <= bench.head + 1
    events = await bench.fill(20)
    assert (await bench.attach("early", start="earliest")).from_seq <= events[0].seq
    assert (await bench.attach("at", start=events[9].seq)).from_seq == events[9].seq
    assert (await bench.attach("later", start=events[-1].seq + 50)).from_seq == events[-1].seq + 50
    await bench.append(more := make_event(20))
    assert more.seq == events[-1].seq + 1, "a subscription's start changed how events are numbered"


async def attaching_again_finds_where_it_stood(bench: Bench) -> None:
    """The same id and start, the cursors with their open seqs, the attempts; `start` counts only the first time."""
    events = await bench.fill(30)
    attached = await bench.attach(start=events[0].seq)
    progress = FakeProgress(attached.id)
    progress.cursors = [Cursor(0, events[3].seq), Cursor(2, events[20].seq, (events[5].seq, events[9].seq))]
    progress.naks = [AttemptRow(events[6].seq, 2, NOW_NS, "ValueError: no"), AttemptRow(events[8].seq, 1, 0, "")]
    await bench.settle(progress)
    again = await bench.attach(start="new")
    assert (again.id, again.from_seq) == (attached.id, attached.from_seq)
    assert sorted(again.cursors) == progress.cursors
    assert sorted(again.attempts) == progress.taken[0].naks


async def the_latest_settlement_counts(bench: Bench) -> None:
    """A cursor replaces the one before it; an attempt row is updated, and goes when it is cleared."""
    events = await bench.fill(30)
    attached = await bench.attach(start="earliest")
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[9].seq, (events[1].seq,))])
    progress.naks = [AttemptRow(events[index].seq, 1, index, "first") for index in range(5)]
    await bench.settle(progress)
    progress.cursors = [Cursor(2, events[20].seq)]
    progress.naks = [AttemptRow(events[0].seq, 2, 77, "second")]
    progress.cleared = [events[1].seq, events[2].seq]
    await bench.settle(progress)
    again = await bench.attach()
    assert list(again.cursors) == [Cursor(2, events[20].seq)]
    assert sorted(again.attempts) == [
        AttemptRow(events[0].seq, 2, 77, "second"),
        AttemptRow(events[3].seq, 1, 3, "first"),
        AttemptRow(events[4].seq, 1, 4, "first"),
    ]


async def a_retry_that_ended_before_its_failure_was_stored_leaves_nothing(bench: Bench) -> None:
    """One settlement may hold the failed attempt, and that the event was settled after all."""
    events = await bench.fill(5)
    attached = await bench.attach(start="earliest")
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[4].seq)])
    progress.naks = [AttemptRow(events[index].seq, 1, 0, "") for index in range(3)]
    progress.cleared, progress.dead = [events[0].seq, events[1].seq], [dead_letter(events[1], attached)]
    await bench.settle(progress)
    assert list((await bench.attach()).attempts) == [AttemptRow(events[2].seq, 1, 0, "")]


async def a_settlement_is_taken_and_answered_once(bench: Bench) -> None:
    """Neither within the call that asks for it, and both soon, though nothing else is to be stored."""
    attached = await bench.attach()
    progress = FakeProgress(attached.id, cursors=[Cursor(2, 5)])
    for _ in range(3):
        bench.store.settle(progress)
    assert (progress.taken, progress.told) == ([], [])
    await until(lambda: bool(progress.told))
    await bench.append(make_event(0))
    assert len(progress.taken) == 1
    assert [(settlement is progress.taken[0], error) for settlement, error in progress.told] == [(True, None)]


async def settlements_do_not_mix(bench: Bench) -> None:
    events = await bench.fill(10)
    names = ("one", "two", "three")
    progresses = {}
    for index, name in enumerate(names):
        progress = progresses[name] = FakeProgress((await bench.attach(name, start="earliest")).id)
        progress.cursors = [Cursor(2, events[index + 3].seq, (events[index].seq,))]
        progress.naks = [AttemptRow(events[index].seq, index + 1, index, name)]
        bench.store.settle(progress)
    await until(lambda: all(progress.told for progress in progresses.values()))
    for name in names:
        again = await bench.attach(name)
        assert (again.id, list(again.cursors)) == (progresses[name].subscription_id, progresses[name].cursors)
        assert list(again.attempts) == progresses[name].taken[0].naks


async def a_changed_subscription_must_say_so(bench: Bench) -> None:
    """Another pattern or other filters are refused, and with update=True they count from the head on."""
    attached = await bench.attach(pattern="order.>", start="earliest")
    events = await bench.fill(10)
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[4].seq)])
    progress.naks = [AttemptRow(events[0].seq, 1, 0, "")]
    await bench.settle(progress)
    for values in ({"pattern": "user.>"}, {"pattern": "order.>", "filters": '[{"source":"web"}]'}):
        with pytest.raises(SubscriptionError, match="billing"):
            await bench.attach(**values)
        assert (await bench.attach(pattern="order.>")).from_seq == attached.from_seq
    updated = await bench.attach(pattern="user.>", update=True)
    assert (updated.id, updated.from_seq) == (attached.id, events[-1].seq + 1)
    assert (list(updated.cursors), list(updated.attempts)) == ([], [])
    assert (await bench.attach(pattern="user.>", update=True)).from_seq == updated.from_seq


async def a_detached_subscription_is_forgotten(bench: Bench) -> None:
    attached = await bench.attach(start="earliest")
    events = await bench.fill(10)
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[4].seq)])
    progress.naks = [AttemptRow(events[0].seq, 1, 0, "")]
    await bench.settle(progress)
    await bench.store.detach(attached.id)
    again = await bench.attach(pattern="other.>")
    assert again.id != attached.id
    assert (again.from_seq, list(again.cursors), list(again.attempts)) == (events[-1].seq + 1, [], [])


async def dead_letters_keep_everything(bench: Bench) -> None:
    """In the order of their arrival, paged, by subscription's id or name, also those of an unnamed subscription."""
    events = await bench.fill(12, lambda index: make_event(index, metadata={"n": index}, key=f"k{index}"))
    one, two = await bench.attach("one"), await bench.attach("two")
    progress, other = FakeProgress(one.id), FakeProgress("live-1", durable=False)
    first = [dead_letter(event, one, "one") for event in events[:5]]
    second = [
        dead_letter(event, two, "two")._replace(subscription_id="live-1", subscription="") for event in events[3:8]
    ]
    progress.dead, other.dead = first[:3], list(second)
    await bench.settle(progress)
    await bench.settle(other)
    progress.dead = first[3:]
    await bench.settle(progress)
    store = bench.store
    assert_dead(await store.dead_letters(), first[:3] + second + first[3:])
    assert_dead(await store.dead_letters("one"), first)
    assert_dead(await store.dead_letters(one.id), first)
    assert_dead(await store.dead_letters("live-1"), second)
    assert_dead(await store.dead_letters(two.id), [])
    assert_dead(await store.dead_letters("one", after=2, limit=2), first[2:4])
    assert_dead(await store.dead_letters(after=4, limit=3), second[1:4])


async def an_unnamed_subscription_leaves_dead_letters_only(bench: Bench) -> None:
    """Its cursors and attempts are nobody's; storing them would leave rows that nothing ever clears."""
    events = await bench.fill(3)
    attached = await bench.attach(start="earliest")
    progress = FakeProgress(attached.id, durable=False, cursors=[Cursor(2, 3)], naks=[AttemptRow(1, 1, 0, "")])
    progress.dead = [dead_letter(events[0], attached)]
    await bench.settle(progress)
    again = await bench.attach()
    assert (list(again.cursors), list(again.attempts)) == ([], [])
    assert (await bench.store.counts()).dead_letters == 1


SUBSCRIPTION_PROMISES: tuple[Promise, ...] = (
    a_new_durable_subscription_is_owed_what_comes_after,
    a_durable_subscription_starts_where_it_asks,
    attaching_again_finds_where_it_stood,
    the_latest_settlement_counts,
    a_retry_that_ended_before_its_failure_was_stored_leaves_nothing,
    a_settlement_is_taken_and_answered_once,
    settlements_do_not_mix,
    a_changed_subscription_must_say_so,
    a_detached_subscription_is_forgotten,
    dead_letters_keep_everything,
    an_unnamed_subscription_leaves_dead_letters_only,
)
