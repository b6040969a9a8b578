"""Redrive: what was given up is delivered again, to the subscription that gave it up, once its owner has seen which."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from tests.core.test_quarantine import Damaged
from tests.core.world import Heard, Held, KeptMemory, Policy, StoreWrapper, World

from squall import (
    Backlog,
    ConfigError,
    Context,
    DeadLetter,
    DeadLetterQuery,
    NotRunning,
    Observer,
    OutdatedToken,
    Plugin,
    Reject,
    SubscriptionError,
    hookimpl,
)
from squall.core.errors import StoreError
from squall.core.store import Redrive


class Told(Plugin, Observer):
    """An observer of redrives."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, list[int], str]] = []

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self

    def redriven(self, subscription_id: str, letters: Sequence[DeadLetter], origin: str) -> None:
        self.heard.append((subscription_id, [letter.event.seq for letter in letters], origin))


async def give_back(world: World, query: DeadLetterQuery | None = None) -> list[int]:
    """A redrive with its dry run; the seqs that were given back."""
    plan = await world.router.plan_redrive(query)
    found = await world.router.redrive(plan.token, query, per_second=1_000_000, origin="ops")
    assert found.left == []
    await world.clock.advance(0.01)
    return [letter.event.seq for letter in found.letters]


@pytest.mark.parametrize("name", ["invoices", None])
async def test_a_dead_letter_goes_back_to_its_subscription_alone(name: str | None) -> None:
    """Under its own id and seq, and it stays among the letters, marked; nothing of it is pending in the end."""
    told, broken, whole = Told(), Heard(Reject("no")), Heard()
    async with World(told) as world:
        own = await world.subscriber.subscribe(">", broken, name=name)
        await world.subscriber.subscribe(">", whole, name="other")
        (event_id,) = await world.publish("order.created")
        await world.clock.settle()
        broken.fail = None
        assert await give_back(world) == [1]
        assert (broken.ids, whole.ids) == ([event_id] * 2, [event_id])
        (letter,) = await world.dead()
        assert (letter.redrives, letter.redriven_ns > 0) == (1, True)
        assert (await world.router.store.counts()).dead_letters == 0
        assert world.router.get_metrics().pending == await world.router.backlog(own) == 0
        assert told.heard == [(own, [1], "ops")]


@pytest.mark.parametrize("name", ["invoices", None])
async def test_attempts_start_anew_and_the_letter_comes_back(name: str | None) -> None:
    """As often as the policy tries an event; then the same letter waits again, and remembers its redrives."""
    broken = Heard(ValueError("no"))
    async with World(Policy()) as world:
        own = await world.subscriber.subscribe(">", broken, name=name)
        await world.publish("x")
        await world.clock.advance(5)
        assert len(broken.events) == 3
        for redrives in (1, 2):
            await give_back(world)
            await world.clock.advance(5)
            (letter,) = await world.dead()
            assert (letter.attempts, letter.redrives, letter.redriven_ns) == (3, redrives, 0)
            assert len(broken.events) == 3 * (redrives + 1)
        assert await world.router.backlog(own) == 0


async def test_a_redrive_survives_a_restart() -> None:
    """What was given back and not handled is owed to whoever takes the subscription up."""
    broken, held, heard = Heard(Reject("no")), Held(), Heard()
    async with World() as world:
        own = await world.subscriber.subscribe(">", broken, name="invoices")
        await world.publish("x", "y")
        await world.clock.settle()
        await world.subscriber.detach(own)
        await world.subscriber.subscribe(">", held, name="invoices")
        assert await give_back(world) == [1, 2]
        assert len(held.calls) == 1
        await world.stop()
        await world.router.start()
        assert await world.subscriber.subscribe(">", heard, name="invoices") == own
        await world.clock.settle()
        assert heard.seqs == [1, 2]
        assert [letter.redrives for letter in await world.dead()] == [1, 1]
        assert list((await _attempts(world)).values()) == []


async def _attempts(world: World) -> dict[int, object]:
    assert isinstance(world.kept, KeptMemory)
    assert world.kept.memory is not None
    await world.clock.settle()
    (durable,) = world.kept.memory._durable.values()
    return dict(durable.attempts)


async def test_what_nobody_handles_now_is_delivered_when_somebody_does() -> None:
    """A durable subscription keeps it in the store; of an unnamed one that is gone the letter waits on."""
    broken, heard = Heard(Reject("no")), Heard()
    async with World() as world:
        own = await world.subscriber.subscribe(">", broken, name="invoices")
        gone = await world.subscriber.subscribe(">", broken)
        await world.publish("x")
        await world.clock.settle()
        await world.subscriber.detach(own)
        await world.subscriber.unsubscribe(gone)
        plan = await world.router.plan_redrive()
        assert len(plan.letters) == 2
        found = await world.router.redrive(plan.token)
        assert [letter.subscription_id for letter in found.letters] == [own]
        assert [letter.subscription_id for letter in found.left] == [gone]
        await world.subscriber.subscribe(">", heard, name="invoices")
        await world.clock.advance(0.1)
        assert heard.seqs == [1]
        assert (await world.router.store.counts()).dead_letters == 1


async def test_a_token_allows_what_its_dry_run_showed_and_nothing_else() -> None:
    """Another query, one letter more, or a second time: refused, and nothing is delivered."""
    broken = Heard(Reject("no"))
    async with World() as world:
        await world.subscriber.subscribe(">", broken, name="invoices")
        await world.publish("x", "y")
        await world.clock.settle()
        plan = await world.router.plan_redrive()
        assert [letter.event.type for letter in plan.letters] == ["x", "y"]
        for token, query in ((plan.token, DeadLetterQuery(limit=1)), ("", None), ("é", None)):
            with pytest.raises(OutdatedToken, match="nothing was redriven"):
                await world.router.redrive(token, query)
        await world.publish("z")
        await world.clock.settle()
        with pytest.raises(OutdatedToken, match="the 3 dead letters"):
            await world.router.redrive(plan.token)
        assert broken.types == ["x", "y", "z"]
        plan, broken.fail = await world.router.plan_redrive(), None
        both = await asyncio.gather(
            *(world.router.redrive(plan.token, per_second=1000) for _ in range(2)), return_exceptions=True
        )
        await world.clock.advance(1)
        with pytest.raises(OutdatedToken):
            await world.router.redrive(plan.token)
        assert broken.types == ["x", "y", "z"] * 2, both
        assert [letter.redrives for letter in await world.dead()] == [1, 1, 1]


async def test_a_query_chooses_among_those_that_wait() -> None:
    broken = Heard(Reject("no"))
    async with World() as world:
        for name in ("one", "two"):
            await world.subscriber.subscribe(">", broken, name=name)
        await world.publish("order.a", "user.b", "order.c")
        await world.clock.settle()

        async def found(**query: object) -> list[tuple[str, int]]:
            plan = await world.router.plan_redrive(DeadLetterQuery(**query))  # type: ignore[arg-type]
            return [(letter.subscription, letter.event.seq) for letter in plan.letters]

        assert await found(subscription="two") == [("two", 1), ("two", 2), ("two", 3)]
        assert await found(pattern="order.*", subscription="one") == [("one", 1), ("one", 3)]
        assert sorted(await found(seqs=(2, 9))) == [("one", 2), ("two", 2)]
        assert await found(reason="timeout") == []
        plan = await world.router.plan_redrive(DeadLetterQuery(subscription="one", limit=2))
        assert ([letter.event.seq for letter in plan.letters], plan.more) == ([1, 2], True)
        broken.fail = None
        assert await give_back(world, DeadLetterQuery(subscription="one", limit=2)) == [1, 2]
        assert await found(subscription="one") == [("one", 3)]


async def test_what_is_given_back_takes_room() -> None:
    """As anything that waits; the room is there again when it has ended."""
    heard = Heard(Reject("no"))
    async with World(backlog=Backlog(max_events=3, timeout=0.1)) as world:
        own = await world.subscriber.subscribe(">", heard, name="invoices")
        await world.publish("x")
        await world.clock.settle()
        heard.fail = None
        await world.subscriber.pause_subscription(own)
        assert await give_back(world) == [1]
        assert await world.places(own, 5) == 2
        await world.clock.settle()
        assert await world.places(own, 5) == 3


async def test_so_many_are_given_back_per_second() -> None:
    """The first at once; the others when they are due, after a restart too."""
    heard = Heard(Reject("no"))
    async with World() as world:
        await world.subscriber.subscribe(">", heard, name="invoices")
        await world.publish("x", "x", "x", "x")
        await world.clock.settle()
        heard.fail = None
        heard.events.clear()
        await world.router.redrive((await world.router.plan_redrive()).token, per_second=2)
        await world.clock.advance(0.4)
        assert heard.seqs == [1]
        await world.clock.advance(0.2)
        assert heard.seqs == [1, 2]
        await world.stop()
        await world.router.start()
        await world.subscriber.subscribe(">", heard, name="invoices")
        await world.clock.advance(0.1)
        assert heard.seqs == [1, 2]
        await world.clock.advance(2)
        assert heard.seqs == [1, 2, 3, 4]


class Patient(StoreWrapper):
    """Its redrives wait for the test, once they are done."""

    def __init__(self, *inner: object) -> None:
        super().__init__(*inner)  # type: ignore[arg-type]
        self.go_on, self.done = asyncio.Event(), asyncio.Event()

    async def redrive(self, wanted: Sequence[Redrive]) -> list[Redrive]:
        given = await super().redrive(wanted)
        self.done.set()
        await self.go_on.wait()
        return given


async def test_who_gives_up_waiting_does_not_keep_it_from_being_delivered() -> None:
    """It is marked already, and nobody else would give it back."""
    heard = Heard(Reject("no"))
    async with World(store=KeptMemory(Patient)) as world:
        await world.subscriber.subscribe(">", heard, name="invoices")
        await world.publish("x")
        await world.clock.settle()
        heard.fail = None
        asking = asyncio.ensure_future(world.router.redrive((await world.router.plan_redrive()).token))
        await world.router.store.done.wait()  # type: ignore[attr-defined]
        asking.cancel()
        world.router.store.go_on.set()  # type: ignore[attr-defined]
        await world.clock.settle()
        assert asking.cancelled()
        assert heard.seqs == [1, 1]


async def test_who_takes_it_up_meanwhile_gets_it_once() -> None:
    """The store owes it already: what the redrive would put into its hands it has."""
    broken, heard = Heard(Reject("no")), Heard()
    async with World(store=KeptMemory(Patient)) as world:
        own = await world.subscriber.subscribe(">", broken, name="invoices")
        await world.publish("x")
        await world.clock.settle()
        asking = asyncio.ensure_future(world.router.redrive((await world.router.plan_redrive()).token))
        await world.router.store.done.wait()  # type: ignore[attr-defined]
        await world.finish(asyncio.ensure_future(world.subscriber.detach(own)), 5)
        await world.subscriber.subscribe(">", heard, name="invoices")
        await world.subscriber.pause_subscription(own)
        world.router.store.go_on.set()  # type: ignore[attr-defined]
        await asking
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert heard.seqs == [1]
        assert world.router.get_metrics().pending == 0


async def test_what_cannot_be_decoded_is_given_back_once_it_can() -> None:
    """What stands for it in the letters is no event for a handler: it waits on, and others beside it are given back.
    When somebody has mended the store, its subscription gets the event itself."""
    kept, heard = KeptMemory(Damaged), Heard(Reject("no"))
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", Heard(), name="invoices")
        await world.subscriber.detach(own)
        await world.publish("x", "y")
        kept.store.bad = {1}
        await world.subscriber.subscribe(">", heard, name="invoices")
        await world.clock.advance(0.1)
        assert sorted((one.event.seq, one.reason) for one in await world.dead()) == [
            (1, "undecodable"),
            (2, "rejected"),
        ]
        heard.fail = None
        found = await world.router.redrive((await world.router.plan_redrive()).token)
        assert ([one.event.seq for one in found.letters], [one.event.seq for one in found.left]) == ([2], [1])
        await world.clock.advance(0.1)
        assert heard.types == ["y", "y"]
        assert (await world.router.store.counts()).dead_letters == 1
        kept.store.bad = set()
        assert await give_back(world) == [1]
        assert heard.types == ["y", "y", "x"]
        assert world.router.get_metrics().pending == 0


async def test_a_pause_holds_what_is_given_back() -> None:
    """Due or not; and it comes when the subscription is resumed."""
    heard = Heard(Reject("no"))
    async with World() as world:
        own = await world.subscriber.subscribe(">", heard, name="invoices")
        await world.publish("x", "x", "x")
        await world.clock.settle()
        await world.subscriber.pause_subscription(own)
        heard.fail = None
        heard.events.clear()
        await world.router.redrive((await world.router.plan_redrive()).token, per_second=1)
        await world.clock.advance(1.5)
        assert heard.events == []
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert heard.seqs == [1, 2]
        await world.clock.advance(1)
        assert heard.seqs == [1, 2, 3]


@pytest.mark.parametrize("per_second", [1, 1_000_000])
async def test_events_of_a_key_are_given_back_one_by_one_in_order(per_second: float) -> None:
    """Among themselves; and one that runs already is waited for."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", Heard(Reject("no")), name="invoices", concurrency=4)
        await world.publish("a", "b", "c", key="k")
        await world.clock.settle()
        await world.subscriber.detach(own)
        await world.subscriber.subscribe(">", held, name="invoices", concurrency=4)
        await world.publish("d", key="k")
        await world.clock.settle()
        await world.router.redrive((await world.router.plan_redrive()).token, per_second=per_second)
        await world.clock.advance(4)
        assert [call.event.type for call in held.calls] == ["d"]
        for count in (2, 3, 4):
            held.running[0].finish()
            await world.clock.settle()
            assert len(held.calls) == count
        held.finish_all()
        await world.clock.settle()
        assert [call.event.type for call in held.calls] == ["d", "a", "b", "c"]


class Forgetful(StoreWrapper):
    """Its redrives are done, or not, and the answer is lost."""

    def __init__(self, *inner: object) -> None:
        super().__init__(*inner)  # type: ignore[arg-type]
        self.does = True

    async def redrive(self, wanted: Sequence[Redrive]) -> list[Redrive]:
        if self.does:
            await super().redrive(wanted)
        raise StoreError("the connection was lost", "info")


async def test_a_redrive_whose_answer_is_lost_is_looked_up() -> None:
    """What the store has marked is delivered now, and not only after a restart; else the error is told."""
    kept, heard = KeptMemory(Forgetful), Heard(Reject("no"))
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="invoices")
        await world.publish("x", "y")
        await world.clock.settle()
        heard.fail = None
        kept.store.does = False
        with pytest.raises(StoreError, match="the connection was lost"):
            await world.router.redrive((await world.router.plan_redrive()).token)
        await world.clock.advance(1)
        assert heard.seqs == [1, 2]
        kept.store.does = True
        assert await give_back(world) == [1, 2]
        assert heard.seqs == [1, 2, 1, 2]
        assert world.router.get_metrics().pending == 0


async def test_what_is_wrong_is_told() -> None:
    for query, expected in (
        ({"limit": 0}, "limit: expected 1 to 1000, got 0"),
        ({"limit": True}, "limit: expected 1 to 1000, got True"),
        ({"reason": "bad"}, "reason: expected one of rejected, overflow"),
    ):
        with pytest.raises(ConfigError, match=expected):
            DeadLetterQuery(**query)
    with pytest.raises(SubscriptionError):
        DeadLetterQuery(pattern="a..b")
    async with World() as world:
        for per_second in (0, -1, float("nan"), float("inf"), "1"):
            with pytest.raises(ConfigError, match="per_second: expected more than 0"):
                await world.router.redrive("x", per_second=per_second)  # type: ignore[arg-type]
    with pytest.raises(NotRunning):
        await world.router.plan_redrive()
