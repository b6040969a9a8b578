"""Ids that publishers give: what is published again within the window is stored once, whatever became of the first."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Sequence
from pathlib import Path
from uuid import uuid4

import pytest
from tests.core.world import Heard, KeptMemory, ManualStore, StoreWrapper, World, paused, stored, until

from squall import (
    Conflict,
    Context,
    EventData,
    EventRouter,
    Plugin,
    Query,
    Refused,
    RoutingRule,
    StoreError,
    around,
    hookimpl,
)
from squall.core.config import Backlog
from squall.core.errors import InvalidEvent
from squall.core.event import Event
from squall.core.middleware import Middleware, Next
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin

ID, OTHER = "6f098ad8-fcd7-43f9-8b1c-dea496a4e578", "0c0f3f9e-51c5-4a86-8f0b-6c4f4a3bb1f5"
WINDOW_S = 120.0


async def test_a_repeated_publish_is_stored_and_delivered_once() -> None:
    """Its receipt names the first one's seq; the correlation id is the caller's id too."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        await world.publish("before")
        first = await world.publisher.publish_with_receipt("a", b"1", event_id=ID.upper(), metadata={"n": 1})
        again = await world.publisher.publish_with_receipt("a", b"1", event_id=ID, metadata={"n": 2})
        assert await world.publisher.publish("a", b"1", event_id=ID) == ID
        await world.clock.settle()
        assert (first.id, first.seq, first.duplicate) == (ID, 2, False)
        assert again == first._replace(duplicate=True)
        assert await stored(world) == heard.types == ["before", "a"]
        assert heard.events[-1].correlation_id == ID


@pytest.mark.parametrize(("event_type", "payload", "key"), [("b", b"1", None), ("a", b"2", None), ("a", b"1", "k")])
async def test_another_event_under_the_same_id_is_a_conflict(event_type: str, payload: bytes, key: str | None) -> None:
    async with World() as world:
        await world.publisher.publish("a", b"1", event_id=ID)
        with pytest.raises(Conflict, match=f"event_id {ID}: another event .* nothing was stored") as caught:
            await world.publisher.publish(event_type, payload, event_id=ID, key=key)
        assert caught.value.outcome == "fail"
        assert await stored(world) == ["a"]


@pytest.mark.parametrize("bad", ["", "order-17", 17, ID + "0"])
async def test_an_id_is_a_uuid(bad: str) -> None:
    async with World() as world:
        with pytest.raises(InvalidEvent, match="event_id: expected a UUID"):
            await world.publisher.publish("a", b"", event_id=bad)
        with pytest.raises(InvalidEvent, match=r"events\[1\].event_id: expected a UUID"):
            await world.publisher.publish_batch([EventData("a", b""), EventData("a", b"", event_id=bad)])


async def test_who_repeats_while_the_first_is_being_stored_waits_for_it() -> None:
    kept = KeptMemory(ManualStore)
    async with World(store=kept) as world:
        publishing = [world.publishing("a", event_id=ID) for _ in range(3)]
        await until(lambda: kept.store.waiting)
        await world.clock.settle()
        assert len(kept.store.waiting) == 1
        kept.store.commit()
        assert await asyncio.gather(*publishing) == [ID] * 3
        assert await stored(world) == ["a"]


async def test_what_surely_was_not_stored_is_stored_when_it_is_repeated() -> None:
    kept = KeptMemory(ManualStore)
    async with World(store=kept) as world:
        first, second = world.publishing("a", event_id=ID), world.publishing("a", event_id=ID)
        await until(lambda: kept.store.waiting)
        kept.store.fail()
        with pytest.raises(StoreError):
            await first
        await until(lambda: kept.store.waiting)
        kept.store.commit()
        assert await second == ID
        assert (await stored(world)).count("a") == 1


@pytest.mark.parametrize("was_stored", [True, False])
async def test_what_may_have_been_stored_is_looked_up_when_it_is_repeated(was_stored: bool) -> None:
    """The store's answer was lost, or its publisher was cancelled: neither twice nor never."""
    kept = KeptMemory(ManualStore)
    async with World(store=kept) as world:
        first = world.publishing("a", event_id=ID)
        await until(lambda: kept.store.waiting)
        if was_stored:
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            kept.store.commit()
        else:
            kept.store.fail(StoreError("the answer was lost", "info"))
            with pytest.raises(StoreError):
                await first
        kept.store.auto = True
        receipt = await world.publisher.publish_with_receipt("a", b"", event_id=ID)
        assert receipt.duplicate is was_stored
        assert (await stored(world)).count("a") == 1
        assert await world.publisher.publish_with_receipt("a", b"", event_id=ID) == receipt._replace(duplicate=True)


async def test_the_window_ends() -> None:
    """Afterwards the id is as good as new, and what was remembered of it is let go."""
    async with World() as world:
        await world.publisher.publish("a", b"", event_id=ID)
        await world.clock.advance(WINDOW_S - 1)
        assert (await world.publisher.publish_with_receipt("a", b"", event_id=ID)).duplicate
        await world.clock.advance(2)
        assert not (await world.publisher.publish_with_receipt("a", b"", event_id=ID)).duplicate
        assert await stored(world) == ["a", "a"]
        await world.clock.advance(WINDOW_S + 1)
        await world.publisher.publish("a", b"", event_id=OTHER)
        assert list(world.router.intake.dedupe.seen) == [OTHER]


async def test_ids_are_remembered_over_a_restart() -> None:
    """For what is left of their window; a routing rule that has changed the type is no conflict."""
    kept = KeptMemory()
    async with World(store=kept) as world:
        world.router.add_routing_rule(RoutingRule("a", target="routed"))
        await world.publisher.publish("a", b"1", event_id=ID)
        await world.clock.advance(WINDOW_S - 10)
        clock = world.clock
    async with World(store=kept, clock=clock) as world:
        assert (await world.publisher.publish_with_receipt("a", b"1", event_id=ID)).duplicate
        with pytest.raises(Conflict):
            await world.publisher.publish("a", b"2", event_id=ID)
        await world.clock.advance(11)
        assert not (await world.publisher.publish_with_receipt("a", b"1", event_id=ID)).duplicate


async def test_of_a_batch_only_what_is_new_is_stored() -> None:
    """All of that or none; the receipts are in the batch's order."""
    async with World() as world:
        await world.publisher.publish("a", b"", event_id=ID)
        receipts = await world.publisher.publish_batch_with_receipts(
            [EventData("b", b""), EventData("a", b"", event_id=ID), EventData("c", b"", event_id=OTHER)]
        )
        assert [(one.seq, one.duplicate) for one in receipts] == [(2, False), (1, True), (3, False)]
        assert await stored(world) == ["a", "b", "c"]
        fresh = str(uuid4())
        with pytest.raises(Conflict, match="another event was published with it"):
            await world.publisher.publish_batch([EventData(one, b"", event_id=fresh) for one in "de"])
        with pytest.raises(Conflict):
            await world.publisher.publish_batch([EventData("d", b"", event_id=fresh), EventData("d", b"", event_id=ID)])
        assert await stored(world) == ["a", "b", "c"]
        assert not (await world.publisher.publish_with_receipt("d", b"", event_id=fresh)).duplicate


class RefusesOnce(Plugin):
    """Publish middleware that refuses the first event."""

    refused = False

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        async def refuse(event: Event, following: Next) -> None:
            if not self.refused:
                self.refused = True
                raise Refused("not now")
            await following(event)

        return around(refuse)


async def test_what_middleware_refused_may_be_repeated() -> None:
    async with World(RefusesOnce()) as world:
        with pytest.raises(Refused):
            await world.publisher.publish("a", b"", event_id=ID)
        assert not (await world.publisher.publish_with_receipt("a", b"", event_id=ID)).duplicate
        assert (await world.publisher.publish_with_receipt("a", b"", event_id=ID)).duplicate


async def test_an_id_that_is_given_while_a_batch_waits_for_another_is_waited_for_too() -> None:
    """The batch looked at it before it was there."""
    kept = KeptMemory(ManualStore)
    async with World(store=kept) as world:
        first = world.publishing("b", event_id=OTHER)
        await until(lambda: kept.store.waiting)
        both = [EventData("a", b"", event_id=ID), EventData("b", b"", event_id=OTHER)]
        batch = asyncio.ensure_future(world.publisher.publish_batch_with_receipts(both))
        await world.clock.settle()
        second = world.publishing("a", event_id=ID)
        await world.clock.settle()
        kept.store.commit()
        await first
        await world.clock.settle()
        kept.store.commit_all()
        await second
        assert [one.duplicate for one in await batch] == [True, True]
        assert await stored(world) == ["b", "a"]


async def test_a_batch_may_repeat_itself() -> None:
    """The second is a repetition, as it would be a moment later; both have the first one's seq."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        one, other = EventData("a", b"", event_id=ID), EventData("b", b"")
        receipts = await world.publisher.publish_batch_with_receipts([one, other, one])
        assert [(receipt.seq, receipt.duplicate) for receipt in receipts] == [(1, False), (2, False), (1, True)]
        await world.clock.settle()
        assert await stored(world) == heard.types == ["a", "b"]


async def test_a_batch_is_too_large_with_its_repetitions() -> None:
    """As it would be if nothing of it had been stored before."""
    async with World() as world:
        await world.publisher.publish("a", b"", event_id=ID)
        with pytest.raises(InvalidEvent, match="expected at most 1000, got 1001"):
            await world.publisher.publish_batch([EventData("a", b"", event_id=ID)] * 1001)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_what_the_store_was_given_goes_on_without_its_publisher(is_stored: bool) -> None:
    """Who repeats a publish that was cancelled waits for what becomes of the first, and has a true answer."""
    kept = KeptMemory(ManualStore)
    async with World(store=kept) as world:
        first = world.publishing("a", event_id=ID)
        await until(lambda: kept.store.waiting)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        again = asyncio.ensure_future(world.publisher.publish_with_receipt("a", b"", event_id=ID))
        await world.clock.settle()
        assert not again.done()
        kept.store.auto = True
        kept.store.commit() if is_stored else kept.store.fail()
        assert (await again).duplicate is is_stored
        assert (await stored(world)).count("a") == 1
        assert world.router.intake.dedupe.storing == {}


async def test_who_gives_up_before_the_store_is_asked_has_stored_nothing() -> None:
    """It waited for room: the room is whole, and the id is nobody's."""
    async with World(backlog=Backlog(max_events=2, timeout=60)) as world:
        own = await paused(world)
        await world.publish("a", "b")
        waiting = world.publishing("c", event_id=ID)
        await world.clock.settle()
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert world.router.intake.dedupe.seen == {}
        await world.subscriber.resume_subscription(own)
        assert not (await world.publisher.publish_with_receipt("d", b"", event_id=ID)).duplicate
        await world.clock.settle()
        assert await world.places(own, 5) == 2


@pytest.mark.parametrize("turns", range(1, 7))
async def test_publishes_to_a_file_may_be_cancelled_at_any_time(turns: int, tmp_path: Path) -> None:
    """Repeated, each is stored once."""
    async with EventRouter([SqlitePlugin(path=str(tmp_path / "squall.db"))]) as router:
        publisher = router.publisher("shop")
        for number in range(20):
            own = str(uuid4())
            first = asyncio.ensure_future(publisher.publish("a", number, event_id=own))
            for _ in range(turns):
                await asyncio.sleep(0)
            first.cancel()
            await asyncio.gather(first, return_exceptions=True)
            await publisher.publish("a", number, event_id=own)
        assert [one.data async for one in router.replay()] == [*range(20)]


async def test_a_ready_made_event_with_an_id_of_its_publisher_is_stored_once() -> None:
    """However it is published again."""
    async with World() as world:
        await world.publisher.publish("a", b"", event_id=ID)
        (known,) = (await world.router.store.read(Query())).events
        await world.router.route_event(known)
        assert await stored(world) == ["a"]


async def test_a_copy_has_an_id_that_squall_made() -> None:
    """It is nobody's repetition, after a restart too."""
    async with World() as world:
        world.router.add_routing_rule(RoutingRule("a", copy_to="b"))
        await world.publisher.publish("a", b"", event_id=ID)
        assert [one.own_id for one in (await world.router.store.read(Query())).events] == [True, False]


class Slow(Plugin):
    """Publish middleware that lets the first event pass, or refuses it, when the test says."""

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        self.word: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def wait(event: Event, following: Next) -> None:
            if event.id == ID:
                await asyncio.shield(self.word)
            await following(event)

        return around(wait)


@pytest.mark.parametrize("refused", [True, False])
async def test_a_publish_may_take_longer_than_the_window(refused: bool) -> None:
    """Who repeats it waits for it, and has a true answer, whatever was published meanwhile."""
    slow = Slow()
    async with World(slow) as world:
        first = world.publishing("a", event_id=ID)
        again = asyncio.ensure_future(world.publisher.publish_with_receipt("a", b"", event_id=ID))
        await world.clock.advance(WINDOW_S + 1)
        late = asyncio.ensure_future(world.publisher.publish_with_receipt("a", b"", event_id=ID))
        await world.publisher.publish("b", b"", event_id=OTHER)
        if refused:
            slow.word.set_exception(Refused("no"))
            with pytest.raises(Refused):
                await first
            slow.word = asyncio.get_running_loop().create_future()
            await world.clock.settle()
        slow.word.set_result(None)
        receipts = [await again, await late]
        assert [one.duplicate for one in receipts] == [not refused, True]
        assert (await stored(world)).count("a") == 1
        assert world.router.intake.dedupe.storing == {}
        await world.clock.advance(WINDOW_S + 1)
        await world.publisher.publish("c", b"", event_id=str(uuid4()))
        assert ID not in world.router.intake.dedupe.seen


class FailsTwice(StoreWrapper):
    """Refuses the first two appends."""

    tries = 0

    def append(self, events: Sequence[Event]) -> Awaitable[None] | None:
        self.tries += 1
        if self.tries <= 2:
            raise StoreError("down")
        return self.inner.append(events)


async def test_a_store_that_fails_twice_leaves_no_error_that_nobody_read(caplog: pytest.LogCaptureFixture) -> None:
    """A publish that is tried again asks the store again: what it said before was told."""
    kept = KeptMemory(FailsTwice)
    retry = RetryPlugin(None, attempts=4, base="1s", cap="1s", publish_deadline="10s")
    async with World(retry, store=kept) as world:
        publishing = world.publishing("a", event_id=ID)
        await world.clock.advance(5)
        assert await publishing == ID
    assert kept.store.tries == 3
    gc.collect()
    assert "never retrieved" not in caplog.text
