"""Events that are delivered no sooner than after a delay, and no later than their time to live."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
from tests.core.world import Drops, FromAnswers, Heard, Held, KeptMemory, Policy, Settlements, World, until

from squall import EventData, EventRouter, Priority, Query
from squall.core.clock import VirtualClock
from squall.core.config import Backlog
from squall.core.errors import Expired, InvalidEvent
from squall.plugins.sqlite import SqlitePlugin


class Jumping(VirtualClock):
    """A virtual clock whose wall time can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.jump_ns = 0

    def time_ns(self) -> int:
        return super().time_ns() + self.jump_ns


async def test_a_delayed_event_waits_and_holds_nobody() -> None:
    """Others pass it; when it is due it is next."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        await world.publisher.publish("late", b"", delay_s=10)
        await world.publish("a")
        await world.clock.advance(9.9)
        assert heard.types == ["a"]
        assert world.router.get_metrics().delayed == 1
        await world.clock.advance(0.2)
        assert heard.types == ["a", "late"]


async def test_delays_of_a_batch_and_of_publish_with_receipt() -> None:
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        await world.publisher.publish_batch([EventData("c", b"", delay_s=3), EventData("a", b"", delay_s=1)])
        await world.publisher.publish_with_receipt("b", b"", delay_s=2)
        await world.clock.advance(3.5)
        assert heard.types == ["a", "b", "c"]


async def test_a_delay_is_kept_over_a_restart() -> None:
    """What is left of it; what was settled meanwhile does not come again."""
    kept, heard = KeptMemory(), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.publisher.publish("late", b"", delay_s=10)
        await world.publish("a")
        await world.clock.advance(4)
        clock = world.clock
    async with World(store=kept, clock=clock) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await clock.advance(5.5)
        assert heard.types == ["a"]
        await clock.advance(1)
        assert heard.types == ["a", "late"]
    async with World(store=kept, clock=clock) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await clock.advance(1)
        assert heard.types == ["a", "late"]


async def test_a_jump_of_the_wall_clock_moves_neither() -> None:
    heard, clock = Heard(), Jumping()
    async with World(clock=clock) as world:
        await world.subscriber.subscribe(">", heard)
        await world.publisher.publish("late", b"", delay_s=10, ttl_s=20)
        clock.jump_ns = 86_400 * 10**9
        await clock.advance(9)
        assert heard.types == []
        await clock.advance(2)
        assert heard.types == ["late"]


@pytest.mark.parametrize(
    "options", [{}, {"concurrency": 3}, {"name": "billing"}, {"delivery": "at-most-once"}], ids=str
)
async def test_what_is_over_before_its_turn_expires(options: dict[str, object]) -> None:
    """It is counted and told, its room comes back, and what comes after it is delivered."""
    held, drops = Held(), Drops()
    async with World(drops, backlog=Backlog(max_events=3)) as world:
        own = await world.subscriber.subscribe(">", held, **options)  # type: ignore[arg-type]
        await world.subscriber.pause_subscription(own)
        await world.publisher.publish("short", b"", ttl_s=5, key="k")
        await world.publisher.publish("long", b"", ttl_s=60, key="k")
        await world.clock.advance(6)
        await world.subscriber.resume_subscription(own)
        await until(lambda: held.running)
        assert [call.event.type for call in held.running] == ["long"]
        held.finish_all()
        await world.clock.advance(1)
        metrics = world.router.get_metrics()
        assert (metrics.expired, metrics.pending, drops.reasons) == (1, 0, [("short", "expired")])
        assert await world.places(own, 5) == 3


async def test_an_expired_event_stays_settled_after_a_restart() -> None:
    kept, heard = KeptMemory(), Heard()
    async with World(store=kept) as world:
        own = await world.subscriber.subscribe(">", heard, name="billing")
        await world.subscriber.pause_subscription(own)
        await world.publisher.publish("short", b"", ttl_s=5)
        await world.clock.advance(6)
        await world.subscriber.resume_subscription(own)
        await world.clock.advance(1)
        clock = world.clock
    async with World(store=kept, clock=clock) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await clock.advance(1)
        assert world.router.get_metrics().expired == 0
        assert heard.types == []


async def test_a_retry_that_is_due_too_late_expires() -> None:
    """It does not reach the dead letters, and its attempts are forgotten."""
    kept, heard = KeptMemory(), Heard(ValueError("broken"))
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.publisher.publish("a", b"", ttl_s=0.5)
        await world.clock.advance(3)
        assert (len(heard.events), world.router.get_metrics().expired, await world.dead()) == (1, 1, [])
        clock = world.clock
    async with World(Policy(), store=kept, clock=clock) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await clock.advance(3)
        assert len(heard.events) == 1


@pytest.mark.parametrize("options", [{}, {"concurrency": 3}, {"on_retry": "block_key"}], ids=str)
async def test_a_handler_that_hands_on_may_say_that_an_event_expired(options: dict[str, object]) -> None:
    """Whom it hands it to had not begun: it is settled as what expires before its turn, after a failed attempt too."""
    kept, drops = KeptMemory(), Drops()
    heard = FromAnswers(ValueError("broken"), Expired(), None)
    async with World(Policy(), drops, store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing", **options)  # type: ignore[arg-type]
        await world.publisher.publish("a", b"", ttl_s=5, key="k")
        await world.clock.advance(2)
        await world.publisher.publish("b", b"", key="k")
        await until(lambda: len(heard.events) == 3)
        assert [event.type for event in heard.events] == ["a", "a", "b"]
        await world.clock.advance(1)
        metrics = world.router.get_metrics()
        assert (metrics.expired, metrics.failed, metrics.pending, await world.dead()) == (1, 1, 0, [])
        assert drops.reasons == [("a", "expired")]
        clock = world.clock
    async with World(Policy(), store=kept, clock=clock) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await clock.advance(3)
        assert len(heard.events) == 3


async def test_a_crowd_that_expires_leaves_the_loop_its_turns() -> None:
    heard = Heard()
    async with World() as world:
        own = await world.subscriber.subscribe(">", heard)
        await world.subscriber.pause_subscription(own)
        for _ in range(10):
            await world.publisher.publish_batch([EventData("a", b"", ttl_s=1)] * 100)
        await world.clock.advance(2)
        await world.subscriber.resume_subscription(own)
        seen = []
        while world.router.get_metrics().expired < 1000:
            seen.append(world.router.get_metrics().expired)
            await asyncio.sleep(0)
        assert len(set(seen)) > 10


@pytest.mark.parametrize("option", ["delay_s", "ttl_s"])
@pytest.mark.parametrize("bad", [-1, float("nan"), float("inf"), "5", True, 10**9])
async def test_times_are_seconds(option: str, bad: object) -> None:
    async with World() as world:
        with pytest.raises(InvalidEvent, match=f"{option}: expected seconds above 0"):
            await world.publisher.publish("a", b"", Priority.HIGH, **{option: bad})  # type: ignore[arg-type]


@pytest.mark.parametrize("ttl_s", [0.5, 1.999, 2])
async def test_what_would_expire_before_it_is_due_is_refused(ttl_s: float) -> None:
    """It would be acknowledged, and never delivered."""
    async with World() as world:
        told = "ttl_s: expected more than delay_s, which is 2 s, got .* s: the event would expire before it may be"
        with pytest.raises(InvalidEvent, match=told):
            await world.publisher.publish("a", b"", delay_s=2, ttl_s=ttl_s)
        with pytest.raises(InvalidEvent, match=told):
            await world.publisher.publish_batch([EventData("a", b"", delay_s=2, ttl_s=ttl_s)])
        await world.publisher.publish("a", b"", delay_s=2, ttl_s=2.001)
        assert (await world.router.store.counts()).events == 1


async def test_nothing_is_remembered_of_a_delay_that_is_over() -> None:
    """A subscription without a name has no cursor to keep it open in."""
    heard = Heard()
    async with World() as world:
        own = await world.subscriber.subscribe(">", heard)
        await world.publisher.publish("late", b"", delay_s=1)
        await world.clock.advance(2)
        assert heard.types == ["late"]
        assert world.router.subscriptions.get(own).progress.returned == {}


async def test_who_routes_an_event_again_does_not_prolong_its_time() -> None:
    """Its time to live counts from when it was published first, whether it was kept in memory or read anew."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        await world.publisher.publish("a", b"", ttl_s=5)
        await world.clock.advance(4)
        (known,) = (await world.router.store.read(Query())).events
        read = msgspec.structs.replace(known, published_ns=0)
        await world.router.route_event(known)
        await world.clock.advance(0.5)
        assert len(heard.events) == 2
        await world.clock.advance(2)
        await world.router.route_event(known)
        await world.router.route_event(read)
        await world.clock.advance(1)
        assert (len(heard.events), world.router.get_metrics().expired) == (2, 2)


@pytest.mark.parametrize("many", [10, 500])
async def test_a_commit_costs_nothing_for_what_is_delayed(many: int) -> None:
    """Each delay is stored once, as a retry is; what is settled afterwards carries none of it."""
    kept, heard = KeptMemory(Settlements), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.publisher.publish_batch([EventData("late", b"", delay_s=60) for _ in range(many)])
        await world.clock.settle()
        stored = [row for one in kept.store.taken for row in one.naks]
        assert [(row.seq, row.attempts) for row in stored] == [(seq, 0) for seq in range(1, many + 1)]
        kept.store.taken.clear()
        await world.publish("a")
        await world.clock.settle()
        assert heard.types == ["a"]
        (last,) = kept.store.taken
        assert (last.naks, last.cleared, [one.open_seqs for one in last.cursors]) == ([], [], [()] * 4)
        await world.clock.advance(61)
        assert len(heard.events) == many + 1
        assert sorted(seq for one in kept.store.taken for seq in one.cleared) == [*range(1, many + 1)]


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
async def test_delays_of_a_file_are_rows_that_come_and_go(delivery: Any, tmp_path: Path) -> None:
    """Kept over a restart, delivered once, and gone afterwards."""
    path, clock, heard = str(tmp_path / "squall.db"), VirtualClock(), Heard()
    for _ in range(2):
        async with EventRouter([SqlitePlugin(path=path)], clock=clock) as router:
            own = await router.subscriber("shop").subscribe(">", heard, name="billing", delivery=delivery)
            if not heard.events:
                await router.publisher("shop").publish_batch(
                    [EventData("late", b"", delay_s=60 + number) for number in range(50)] + [EventData("a", b"")]
                )
                await settled(clock, lambda: heard.events)
                await settled(clock, lambda: attempts(path) == 50)
            else:
                assert router.get_metrics().delayed == 50
                await settled(clock, lambda: len(heard.events) == 51, by_s=10)
                leaving = asyncio.ensure_future(router.subscriber("shop").detach(own))
                await settled(clock, leaving.done)
                await leaving
                assert attempts(path) == 0
            stopping = asyncio.ensure_future(router.stop(timeout_s=0))
            await settled(clock, stopping.done)
    assert heard.types == ["a", *["late"] * 50]


async def settled(clock: VirtualClock, condition: Callable[[], object], by_s: float = 0.02) -> None:
    """Move time on, and let the threads of a store work, until the condition holds."""
    async with asyncio.timeout(30):
        while not condition():
            await clock.advance(by_s)


def attempts(path: str) -> int:
    """How many attempt rows the file has."""
    db = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(db.execute("SELECT count(*) FROM attempt").get)
    finally:
        db.close()


@pytest.mark.parametrize("options", [{}, {"name": "billing"}, {"name": "billing", "delivery": "at-most-once"}], ids=str)
async def test_what_is_due_overtakes_nobody_that_was_published_before_it(options: Any) -> None:
    """In its place by seq, in the queue and after a restart: the store's mark has passed neither without the other."""
    kept, held, heard = KeptMemory(), Held(), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", held, **options)
        await world.publish("a", "b", "c")
        await world.publisher.publish("late", b"", delay_s=1)
        await world.publish("d")
        await world.clock.advance(2)
        for _ in range(2):
            held.finish_all()
            await world.clock.settle()
        if options:
            await world.stop(timeout_s=0.1)
            clock = world.clock
    assert [call.event.type for call in held.calls] == ["a", "b", "c"]
    if options:
        async with World(store=kept, clock=clock) as world:
            await world.subscriber.subscribe(">", heard, **options)
            await world.clock.settle()
            assert heard.types == ["c", "late", "d"][options.get("delivery") == "at-most-once" :]


async def test_a_delay_that_no_cursor_has_passed_is_read_in_its_turn() -> None:
    """It was stored while others before it still waited; it is delivered after them, once, and its row goes."""
    kept, held, heard = KeptMemory(), Held(), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", held, name="billing")
        await world.publish("a", "b", "c")
        await world.publisher.publish("late", b"", delay_s=1)
        await world.clock.advance(0.5)
        await world.stop(timeout_s=0.1)
        clock = world.clock
    await clock.advance(5)
    for _ in range(2):
        async with World(store=kept, clock=clock) as world:
            await world.subscriber.subscribe(">", heard, name="billing")
            await clock.advance(1)
            assert heard.types == ["a", "b", "c", "late"]
    assert kept.memory is not None
    assert kept.memory._durable["billing"].attempts == {}
