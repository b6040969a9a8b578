"""Leaving a subscription without ending it: what is in hand goes back uncounted, and the name is free for the next."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.core.world import Heard, Held, KeptMemory, Policy, SlowToSettle, StoreWrapper, World, until

from squall import Context, Event, EventStore, Observer, Plugin, StoreError, Subscription, SubscriptionError, hookimpl
from squall.core.delivery import Attempts
from squall.core.store import Attached, Progress, Settlement


async def leave(world: World, kept: KeptMemory) -> asyncio.Future[None]:
    """Billing has handled event a, which the store refuses to settle while `refuse` is set, and is leaving."""
    heard = Heard()
    own = await world.subscriber.subscribe(">", heard, name="billing")
    kept.store.refuse = True
    await world.publish("a")
    await until(lambda: heard.events)
    leaving = asyncio.ensure_future(world.subscriber.detach(own))
    await world.clock.settle()
    return leaving


async def test_a_durable_one_is_taken_up_again_by_its_name() -> None:
    """Under the same id, in the same router: nothing is lost, and only what was in hand comes again."""
    held, heard = Held(), Heard()
    async with World(Policy()) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", concurrency=2)
        await world.publish("a", "b", "c", "d")
        await until(lambda: len(held.running) == 2)
        held.running[0].finish()
        await until(lambda: len(held.calls) == 3)
        await world.subscriber.detach(own)
        assert held.cancelled == 2
        await world.publish("e")
        assert await world.subscriber.subscribe(">", heard, name="billing") == own
        await world.clock.settle()
        assert heard.types == ["b", "c", "d", "e"]
        assert await world.dead() == []


async def test_what_was_in_hand_has_used_no_attempt() -> None:
    """Detached ten times, an event with three attempts is still delivered."""
    held = Held()
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", held, name="billing")
        await world.publish("a")
        for round_ in range(10):
            await until(lambda n=round_: len(held.calls) == n + 1)  # type: ignore[misc]
            await world.subscriber.detach(next(iter(world.router.subscriptions.dispatchers)))
            await world.subscriber.subscribe(">", held, name="billing")
        await until(lambda: held.running)
        held.finish_all()
        await world.clock.advance(5)
        assert len(held.calls) == 11
        assert await world.dead() == []


async def test_an_unnamed_one_is_gone() -> None:
    """Its running handler is cancelled, and who waits for its room goes on."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", held)
        await world.publish("a", "b")
        await until(lambda: held.running)
        await world.subscriber.detach(own)
        await world.publish("c")
        assert held.cancelled == 1
        assert [call.event.type for call in held.calls] == ["a"]
        metrics = world.router.get_metrics()
        assert (metrics.subscriptions, metrics.pending, metrics.cancelled) == (0, 0, 2)
        with pytest.raises(SubscriptionError):
            await world.subscriber.detach(own)


async def test_nobody_takes_the_name_before_the_store_has_the_last_settlement() -> None:
    """Else what was settled at the end would be given again."""
    again, kept = Heard(), KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        leaving = await leave(world, kept)
        assert not leaving.done()
        with pytest.raises(SubscriptionError, match="attached already"):
            await world.subscriber.subscribe(">", again, name="billing")
        kept.store.refuse = False
        await world.clock.advance(2)
        await leaving
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.settle()
        assert again.events == []


async def test_a_settlement_that_comes_late_takes_nothing_with_it() -> None:
    """One that was refused before is given again after the last one was taken: what is still owed stays owed."""
    heard, again = Heard(ValueError("broken")), Heard()
    kept = KeptMemory(SlowToSettle)
    async with World(Policy(), store=kept) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing")
        kept.store.refuse = True
        await world.publish("a")
        await until(lambda: heard.events)
        await world.clock.settle()
        await world.subscriber.pause_subscription(own)
        await world.publish("b", "c")
        kept.store.refuse = False
        await world.subscriber.detach(own)
        await world.clock.advance(5)
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.advance(5)
        assert sorted(again.types) == ["a", "b", "c"]
        assert world.router.get_metrics().cancelled == 0


async def test_what_is_stored_while_one_leaves_stays_owed() -> None:
    """Its workers and its last settlement take their time; others publish meanwhile."""
    again, kept = Heard(), KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        leaving = await leave(world, kept)
        await world.publish("b", "c")
        kept.store.refuse = False
        await world.clock.advance(2)
        await leaving
        await world.publish("d")
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.advance(1)
        assert again.types == ["b", "c", "d"]


async def test_a_handler_may_detach_its_own_subscription() -> None:
    """It ends what it has in hand, which is settled; others that run are cancelled; the rest is owed."""
    held, heard = Held(), Heard()
    told: list[str] = []

    async def leave(event: Event) -> None:
        if event.type == "leave":
            await world.subscriber.detach(own)
            await world.clock.sleep(1)  # it still has its time
            told.append(event.type)
        else:
            await held(event)

    async with World(Policy()) as world:
        own = await world.subscriber.subscribe(">", leave, name="billing", concurrency=2)
        await world.publish("a", "leave", "b", "c")
        await until(lambda: held.cancelled)
        with pytest.raises(SubscriptionError, match="attached already"):
            await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(2)
        assert told == ["leave"]
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.settle()
        assert heard.types == ["a", "b", "c"]


async def test_a_handler_that_detaches_may_end_at_once() -> None:
    """The first thing that its worker does then is to end too."""
    heard, again = Heard(), Heard()

    async def leave(event: Event) -> None:
        await heard(event)
        await world.subscriber.detach(own)

    async with World() as world:
        own = await world.subscriber.subscribe(">", leave, name="billing")
        await world.publish("a")
        await until(lambda: heard.events)
        await world.publish("b")
        await world.clock.settle()
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.settle()
        assert (heard.types, again.types) == (["a"], ["b"])


async def test_a_handler_that_detaches_and_never_ends_is_over_its_time() -> None:
    """Then the name is free."""
    heard = Heard()

    async def leave(event: Event) -> None:
        await world.subscriber.detach(own)
        await asyncio.get_running_loop().create_future()

    async with World() as world:
        own = await world.subscriber.subscribe(">", leave, name="billing", timeout_s=5)
        await world.publish("a", "b")
        await world.clock.advance(6)
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.settle()
        assert (heard.types, await world.reasons()) == (["b"], ["delivery_limit"])


async def test_who_gives_up_a_detach_does_not_end_it() -> None:
    """What was settled last is written, and the name is free then."""
    again, kept = Heard(), KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        leaving = await leave(world, kept)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        kept.store.refuse = False
        await world.clock.advance(2)
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.settle()
        assert again.events == []


async def test_a_detach_ends_though_the_store_refuses_settlements() -> None:
    """After ten seconds, with an error; what was settled last is given again, and nothing that comes late takes it."""
    again, kept = Heard(), KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        leaving = await leave(world, kept)
        await world.clock.advance(9)
        assert not leaving.done()
        await world.clock.advance(2)
        with pytest.raises(StoreError, match="within 10 s; what it settled last may be delivered again"):
            await leaving
        kept.store.refuse = False
        await world.clock.advance(5)
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.settle()
        assert again.types == ["a"]


async def test_a_stop_ends_a_detach() -> None:
    """Within the stop's own time, whatever the store does."""
    kept = KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        leaving = await leave(world, kept)
        await world.stop(timeout_s=0.1)
        with pytest.raises(StoreError, match="the router has stopped"):
            await leaving


async def test_what_leaves_is_counted_and_watched_meanwhile() -> None:
    """Its sums do not vanish from the router's while it waits for the store."""
    kept = KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        leaving = await leave(world, kept)
        assert world.router.get_metrics().delivered == 1
        kept.store.refuse = False
        await world.clock.advance(2)
        await leaving
        assert world.router.get_metrics().delivered == 1


async def test_how_much_waits_for_a_name_can_be_asked() -> None:
    """Attached, beyond its window, after detach, and attached again; by its id too."""
    held, heard = Held(), Heard()
    async with World(Policy()) as world:
        own = await world.subscriber.subscribe("a", held, name="billing", in_flight=2)
        await world.publish(*["a"] * 7, "other")
        await until(lambda: held.running)
        assert [await world.router.backlog(one) for one in ("billing", own)] == [7, 7]
        held.running[0].finish()
        await until(lambda: len(held.calls) == 2)
        await world.subscriber.detach(own)
        await world.publish("a", "other", "a")
        await world.clock.advance(60)
        assert [await world.router.backlog(one) for one in ("billing", own)] == [8, 8]
        await world.subscriber.subscribe("a", heard, name="billing")
        await world.clock.settle()
        assert (len(heard.events), await world.router.backlog("billing")) == (8, 0)
        await world.subscriber.unsubscribe(own)
        with pytest.raises(SubscriptionError, match="no subscription 'billing'"):
            await world.router.backlog("billing")


async def test_what_waits_to_be_tried_again_is_owed_too() -> None:
    """A retry that is not due, and an event whose time has not come."""
    async with World(Policy()) as world:
        own = await world.subscriber.subscribe(">", Heard(ValueError("broken")), name="billing")
        await world.publish("a")
        await world.publisher.publish("b", b"", delay_s=60)
        await world.clock.advance(0.5)
        await world.subscriber.detach(own)
        assert await world.router.backlog("billing") == 2


async def test_a_name_that_was_refused_keeps_its_backlog_in_view() -> None:
    """Another pattern without `update` takes nothing up."""
    async with World() as world:
        own = await world.subscriber.subscribe("a", Heard(), name="billing")
        await world.subscriber.detach(own)
        await world.publish("a")
        with pytest.raises(SubscriptionError, match="stored with pattern"):
            await world.subscriber.subscribe("b", Heard(), name="billing")
        assert await world.router.backlog("billing") == 1


class OnlyTurns:
    """Gives everybody the turn at once; `held` are those that were not given up."""

    def __init__(self) -> None:
        self.held: list[str] = []

    async def take(self, subscription_id: str) -> tuple[Attached, asyncio.Future[None]]:
        self.held.append(subscription_id)
        return Attached(subscription_id, 1, (), ()), asyncio.get_running_loop().create_future()

    async def give_up(self, subscription_id: str) -> None:
        self.held.remove(subscription_id)


class Shared(SlowToSettle):
    """A store that several routers share, which ends no subscription while `refuse` is set."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.turns = OnlyTurns()
        self.capabilities = replace(store.capabilities, turns=self.turns)

    async def detach(self, subscription_id: str) -> None:
        if self.refuse:
            raise StoreError("not today")
        await super().detach(subscription_id)


@pytest.mark.parametrize("how", ["detach", "unsubscribe"])
async def test_the_turn_is_given_up_though_the_store_refuses(how: str) -> None:
    """Else no router would deliver it for as long as this one renews its lease."""
    kept = KeptMemory(Shared)
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", Heard(), name="billing")
        await until(lambda: kept.store.turns.held == [own])
        kept.store.refuse = True
        leave = world.subscriber.detach if how == "detach" else world.subscriber.unsubscribe
        leaving = asyncio.ensure_future(leave(own))
        await world.clock.advance(11)
        with pytest.raises(StoreError):
            await leaving
        assert kept.store.turns.held == []


async def test_what_it_is_owed_can_be_asked_while_it_leaves() -> None:
    """By id and by name, as before and afterwards."""
    heard, kept = Heard(), KeptMemory(SlowToSettle)
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing")
        await world.subscriber.pause_subscription(own)
        await world.publish("a", "b")
        kept.store.refuse = True
        leaving = asyncio.ensure_future(world.subscriber.detach(own))
        await world.clock.settle()
        assert not leaving.done()
        assert [await world.router.backlog(one) for one in ("billing", own)] == [2, 2]
        kept.store.refuse = False
        await world.clock.advance(2)
        await leaving
        assert await world.router.backlog("billing") == 2


async def test_once_it_is_given_up_no_cursor_passes_what_failed() -> None:
    """The store may ask once more before the subscription is closed: the failures are not in that settlement."""
    kept = KeptMemory(SlowToSettle)
    heard = Heard(ValueError("broken"))
    async with World(Policy(), store=kept) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing")
        kept.store.refuse = True
        await world.publish("a")
        await until(lambda: heard.events)
        progress = world.router.subscriptions.dispatchers[own].progress
        progress.give_up("the store took too long")
        settlement = progress.take()
        assert (settlement.naks, settlement.cursors) == ([], ())
        progress.committed(settlement, None)


class HeldBack(StoreWrapper):
    """Takes settlements, and says what became of them when the test does."""

    def __init__(self, store: EventStore) -> None:
        super().__init__(store)
        self.taken: list[tuple[Progress, Settlement]] = []

    def settle(self, progress: Progress) -> None:
        asyncio.get_running_loop().call_soon(lambda: self.taken.append((progress, progress.take())))


class Confirmed(Plugin, Observer):
    """Remembers of which events the store has the settlements."""

    def __init__(self) -> None:
        super().__init__()
        self.types: list[str] = []

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self

    def settled(self, subscription: Subscription, attempts: Attempts, ok_ns: int, answer: str) -> None:
        self.types += [one.event.type for one in attempts if answer == "ok"]


async def test_what_the_store_had_taken_before_is_confirmed_when_it_says_so() -> None:
    """Its cursors were whole then, though the subscription is closed by now; what was taken later is owed still."""
    heard, confirmed, kept = Heard(), Confirmed(), KeptMemory(HeldBack)
    async with World(confirmed, store=kept) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing")
        await world.publish("a")
        await until(lambda: kept.store.taken)
        leaving = asyncio.ensure_future(world.subscriber.detach(own))
        await world.clock.advance(11)
        with pytest.raises(StoreError, match="within 10 s"):
            await leaving
        for progress, settlement in kept.store.taken:
            progress.committed(settlement, None)
        assert confirmed.types == ["a"]
