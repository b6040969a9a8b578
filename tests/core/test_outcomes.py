"""What a publish is told, `ok`, `fail` or `info`, and that it is true: at each point where it may end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest
from tests.core.world import Heard, KeptMemory, ManualStore, World, event

from squall import (
    Context,
    Event,
    EventData,
    EventStore,
    Plugin,
    PublishError,
    Query,
    Refused,
    StoreError,
    around,
    guard,
    hookimpl,
)
from squall.core.config import Backlog
from squall.core.middleware import Middleware, Next

ROOM = 3
Publishing = asyncio.Task[str] | asyncio.Task[list[str]]


def manual(store: EventStore) -> ManualStore:
    return ManualStore(store)


class Layer(Plugin):
    """One layer of publish middleware."""

    def __init__(self, layer: Middleware) -> None:
        super().__init__()
        self.layer = layer

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> Middleware:
        return self.layer


@asynccontextmanager
async def full(*plugins: Plugin) -> AsyncIterator[tuple[World, ManualStore, Heard]]:
    """A store that commits by hand and a subscription with room for 3, which must all be free again at the end."""
    kept, heard = KeptMemory(manual), Heard()
    async with World(*plugins, store=kept, backlog=Backlog(max_events=ROOM, timeout=5)) as world:
        own = await world.subscriber.subscribe(">", heard)
        store: ManualStore = kept.store
        yield world, store, heard
        store.auto, store.error_at_append = True, None
        store.commit_all()
        await world.clock.settle()
        assert await world.places(own, ROOM + 2) == ROOM


async def stored(world: World) -> list[str]:
    return [one.type for one in (await world.router.store.read(Query(pattern=">"))).events]


async def test_an_acknowledged_event_is_stored_and_delivered() -> None:
    """The receipt says where it stands and what it is worth."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        receipts = [await world.publisher.publish_with_receipt("a", b"") for _ in range(3)]
        await world.clock.settle()
        assert [(one.id, one.seq) for one in receipts] == [(one.id, one.seq) for one in heard.events]
        assert [one.seq for one in receipts] == [1, 2, 3]
        assert {one.durability for one in receipts} == {world.router.durability} == {"memory"}


async def test_a_publish_is_not_acknowledged_before_the_store_has_it() -> None:
    """Nor delivered."""
    async with full() as (world, store, heard):
        task = publishing(world, batch=False)
        await world.clock.settle()
        assert not task.done()
        assert heard.types == []
        store.commit()
        await task
        await world.clock.settle()
        assert heard.types == ["a"]


@pytest.mark.parametrize("outcome", ["fail", "info"])
@pytest.mark.parametrize("batch", [False, True])
async def test_the_stores_word_on_a_failed_commit_is_passed_on(outcome: str, batch: bool) -> None:
    """`fail` when surely nothing was stored, `info` when that is unknown: never the one for the other."""
    async with full() as (world, store, heard):
        task = publishing(world, batch)
        await world.clock.settle()
        store.fail(StoreError("the disk is gone", outcome))  # type: ignore[arg-type]
        with pytest.raises(StoreError, match="the disk is gone") as caught:
            await task
        assert caught.value.outcome == outcome
        await world.clock.settle()
        assert heard.types == await stored(world) == []
        assert world.router.get_metrics().published == 0


@pytest.mark.parametrize("batch", [False, True])
async def test_a_store_that_refuses_at_once_has_stored_nothing(batch: bool) -> None:
    """The error of append itself reaches the publisher, and the room is free again."""
    async with full() as (world, store, heard):
        store.error_at_append = StoreError("no")
        for _ in range(ROOM + 1):
            task = publishing(world, batch)
            with pytest.raises(StoreError, match="no"):
                await task
        assert heard.types == []


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("at_append", [False, True])
async def test_a_store_that_breaks_its_word_leaks_no_room(at_append: bool, batch: bool) -> None:
    """An error of another kind is an error of the publish too, of unknown outcome, and its room comes back."""
    async with full() as (world, store, _):
        store.error_at_append = RuntimeError("a bug") if at_append else None
        task = publishing(world, batch)
        await world.clock.settle()
        if not at_append:
            store.fail(RuntimeError("a bug"))
        (error,) = await asyncio.gather(task, return_exceptions=True)
        assert isinstance(error, RuntimeError | PublishError)
        assert "a bug" in str(error)


def by_guard(error: Exception) -> Middleware:
    def refuse(event: Event) -> None:
        raise error

    return guard(refuse)


def by_around(error: Exception) -> Middleware:
    async def refuse(event: Event, following: Next) -> None:
        raise error

    return around(refuse)


@pytest.mark.parametrize("layer", [by_guard, by_around])
@pytest.mark.parametrize("error", [Refused("too much", 1.5), ValueError("a bug")])
async def test_what_middleware_refuses_is_not_stored(
    layer: Callable[[Exception], Middleware], error: Exception
) -> None:
    """Its own PublishError reaches the publisher as it is; any other error is a refusal that names it."""
    heard = Heard()
    async with World(Layer(layer(error))) as world:
        await world.subscriber.subscribe(">", heard)
        with pytest.raises(Refused) as caught:
            await world.publish("a")
        with pytest.raises(Refused):
            await world.publisher.publish_batch([EventData("a", b"")])
        assert caught.value.outcome == "fail"
        assert caught.value is error or "ValueError: a bug" in str(caught.value)
        await world.clock.settle()
        assert heard.types == await stored(world) == []


@pytest.mark.parametrize(
    ("layer", "error"),
    [
        (by_guard, Refused("too much")),
        (by_guard, ValueError("a bug")),
        (by_around, Refused("too much")),
        (by_around, ValueError("a bug")),
    ],
)
async def test_each_refusal_is_counted(layer: Callable[[Exception], Middleware], error: Exception) -> None:
    """By whatever middleware and whatever error."""
    async with World(Layer(layer(error))) as world:
        for _ in range(2):
            with pytest.raises(Refused):
                await world.publish("a")
        assert world.router.get_metrics().refused == 2


async def test_middleware_that_never_goes_on_acknowledges_nothing() -> None:
    """An `around` that returns without having called the next layer: the publisher is not told that all is well."""

    async def forgets(event: Event, following: Next) -> None:
        pass

    async with World(Layer(around(forgets))) as world:
        with pytest.raises(PublishError):
            await world.publish("a")


# Cancelled, at each await


async def cancel(task: Publishing, world: World) -> None:
    """Cancel the publish where it stands now."""
    await world.clock.settle()
    assert not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()


def publishing(world: World, batch: bool) -> Publishing:
    """A publish of one event, or of a batch of two, of type `a`."""
    return world.publishing_batch(2, "a") if batch else world.publishing("a")


@pytest.mark.parametrize("batch", [False, True])
async def test_cancelled_in_middleware_nothing_is_stored(batch: bool) -> None:
    """The append has not begun."""
    open_door = asyncio.Event()

    async def wait(event: Event, following: Next) -> None:
        if event.type == "a":
            await open_door.wait()
        await following(event)

    async with full(Layer(around(wait))) as (world, store, heard):
        await cancel(publishing(world, batch), world)
        open_door.set()
        await world.clock.settle()
        assert store.waiting == []
        assert heard.types == []


@pytest.mark.parametrize("batch", [False, True])
async def test_cancelled_while_it_waits_for_room_nothing_is_stored(batch: bool) -> None:
    """Then or later, and the room that it waited for is another's."""
    async with full() as (world, store, heard):
        store.auto = True
        own = await world.subscriber.subscribe("a", heard)
        await world.subscriber.pause_subscription(own)
        await world.publish(*["a"] * ROOM)
        await cancel(publishing(world, batch), world)
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert await stored(world) == ["a"] * ROOM
        assert await world.places(own, ROOM + 2, "a") == ROOM
        await world.clock.settle()


@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("layers", [(), (Layer(guard(lambda event: None)),)])
async def test_cancelled_while_it_is_stored_the_event_is_delivered_if_it_was(
    batch: bool, layers: Sequence[Plugin]
) -> None:
    """The cancellation does not take it back: what is stored is owed."""
    async with full(*layers) as (world, store, heard):
        await cancel(publishing(world, batch), world)
        store.commit()
        await world.clock.settle()
        assert heard.types == await stored(world) == (["a", "a"] if batch else ["a"])


@pytest.mark.parametrize("batch", [False, True])
async def test_cancelled_while_it_is_stored_its_room_comes_back_if_it_was_not(batch: bool) -> None:
    """Nobody is left to hear the store's error, but the room is not the publisher's."""
    async with full() as (world, store, heard):
        await cancel(publishing(world, batch), world)
        store.fail()
        await world.clock.settle()
        assert heard.types == []


# Subscriptions that come and go while an event is being stored


@pytest.mark.parametrize("batch", [False, True])
async def test_a_subscription_that_came_meanwhile_is_not_owed_the_event(batch: bool) -> None:
    """`new` begins with what is published after it."""
    late = Heard()
    async with full() as (world, store, heard):
        task = publishing(world, batch)
        await world.clock.settle()
        own = await world.subscriber.subscribe("a", late)
        store.commit()
        await task
        await world.clock.settle()
        assert (late.types, heard.types) == ([], ["a", "a"] if batch else ["a"])
        store.auto = True
        assert await world.places(own, ROOM + 2, "a") == ROOM
        await world.clock.settle()


@pytest.mark.parametrize(
    "batch",
    [False, True],
)
async def test_a_subscription_that_came_meanwhile_gets_no_room_from_a_failed_append(batch: bool) -> None:
    """It had reserved none."""
    async with full() as (world, store, _):
        task = publishing(world, batch)
        await world.clock.settle()
        own = await world.subscriber.subscribe("a", Heard())
        store.fail()
        await asyncio.gather(task, return_exceptions=True)
        store.auto = True
        assert await world.places(own, ROOM + 2, "a") == ROOM
        await world.clock.settle()


@pytest.mark.parametrize("commits", [True, False])
async def test_a_subscription_that_went_meanwhile_is_not_given_the_event(commits: bool) -> None:
    """Its end is the end of what it is owed; the others keep theirs."""
    gone = Heard()
    async with full() as (world, store, heard):
        own = await world.subscriber.subscribe("a", gone)
        task = publishing(world, False)
        await world.clock.settle()
        await world.subscriber.unsubscribe(own)
        if commits:
            store.commit()
        else:
            store.fail()
        await asyncio.gather(task, return_exceptions=True)
        await world.clock.settle()
        assert (gone.types, heard.types) == ([], ["a"] * commits)


async def test_a_cancelled_waiter_does_not_hold_up_the_others() -> None:
    """Those behind it get the room."""
    async with full() as (world, store, heard):
        store.auto = True
        own = await world.subscriber.subscribe("a", heard)
        await world.subscriber.pause_subscription(own)
        await world.publish(*["a"] * ROOM)
        doomed, waiting = publishing(world, False), publishing(world, False)
        await cancel(doomed, world)
        await world.subscriber.resume_subscription(own)
        await waiting
        await world.clock.settle()
        assert len(await stored(world)) == ROOM + 1


async def test_the_first_event_after_a_subscribe_is_owed_though_earlier_ones_are_still_being_stored() -> None:
    """Those are announced to it too, and are not its own."""
    kept, heard = KeptMemory(ManualStore), Heard()
    async with World(store=kept) as world:
        before = world.publishing("before")
        await world.clock.settle()
        await world.subscriber.subscribe(">", heard)
        after = world.publishing("after")
        await world.clock.settle()
        kept.store.commit_all()
        await asyncio.gather(before, after)
        await world.clock.settle()
        assert heard.types == ["after"]


async def test_an_event_that_is_routed_twice_before_it_is_stored_is_delivered_twice() -> None:
    """Also by a subscription that chooses among its type, and remembers for which events it has room."""
    kept, heard = KeptMemory(ManualStore), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, filters=[lambda one: True])
        routing = [asyncio.ensure_future(world.router.route_event(event("a"))) for _ in range(2)]
        await world.clock.settle()
        kept.store.commit_all()
        await asyncio.gather(*routing)
        await world.clock.settle()
        assert heard.types == ["a", "a"]
