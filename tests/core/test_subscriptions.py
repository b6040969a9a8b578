"""Subscriptions: what they are owed, across restarts, catching up, pauses and their end."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.core.world import FromAnswers, Heard, Held, KeptMemory, OnStored, Policy, StoreWrapper, World, until

from squall import (
    Event,
    EventData,
    Filter,
    Gate,
    Plugin,
    Priority,
    StoreError,
    Subscription,
    SubscriptionError,
    hookimpl,
)
from squall.core.plugin import Context
from squall.core.store import Attached, DurableSpec, Page, Query

# Which events


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "abcd"),
        ({"priority_min": Priority.HIGH}, "ab"),
        ({"priority_filter": Priority.HIGH}, "b"),
        ({"priority_filter": Priority.LOW, "priority_min": Priority.HIGH}, ""),
        ({"filters": [Filter(min_bytes=1)]}, "c"),
        ({"filters": [lambda event: event.type in "ad"]}, "ad"),
        ({"filters": [Filter(max_bytes=0), lambda event: event.type in "acd"], "priority_min": Priority.NORMAL}, "a"),
    ],
)
@pytest.mark.parametrize("name", [None, "durable"])
async def test_a_subscription_gets_what_pattern_priority_and_filters_agree_on(
    options: dict[str, Any], wanted: str, name: str | None
) -> None:
    """All must hold; the others are settled without being delivered."""
    heard = Heard()
    if name and any(not isinstance(one, Filter) for one in options.get("filters", [])):
        options = {**options, "filters": [Filter(any=tuple(Filter(type=one) for one in wanted))]}
    async with World() as world:
        await world.subscriber.subscribe("*", heard, name=name, **options)
        for kind, priority in zip("abcd", Priority, strict=True):
            await world.publisher.publish(kind, b"1" if kind == "c" else b"", priority)
        await world.clock.settle()
        assert sorted(heard.types) == [*wanted]
        assert world.router.get_metrics().pending == 0


async def test_a_filter_that_raises_is_not_the_publishers_problem() -> None:
    """The event is delivered rather than lost, and the mistake is logged."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard, filters=[lambda event: bool(1 // 0)])
        await world.publish("a")
        await world.clock.settle()
        assert heard.types == ["a"]
        assert "a filter raised" in world.log.text


async def test_filters_of_a_durable_subscription_are_data() -> None:
    """They are stored with it: a function is refused, and nothing is left of the attempt."""
    async with World() as world:
        with pytest.raises(SubscriptionError, match=r"are data.*expected squall\.Filter"):
            await world.subscriber.subscribe(">", Heard(), filters=[lambda event: True], name="billing")
        assert world.router.get_metrics().subscriptions == 0
        await world.subscriber.subscribe("a", Heard(), name="billing")


WRONG_OPTIONS: list[Any] = [
    ({"concurrency": 0}, "concurrency: expected 1 to 10000, got 0"),
    ({"concurrency": True}, "concurrency: expected"),
    ({"in_flight": 0}, "in_flight: expected"),
    ({"timeout_s": 0}, r"timeout_s: expected 0\.001 to"),
    ({"timeout_s": "5"}, "timeout_s: expected"),
    ({"delivery": "exactly-once"}, "delivery: expected one of at-least-once, at-most-once"),
    ({"overflow": "drop_old"}, "overflow: expected one of"),
    ({"on_retry": "stop"}, "on_retry: expected one of"),
    ({"pattern": "a..b"}, "pattern: "),
    pytest.param({"concurrency": 1.5}, "concurrency: expected"),
    pytest.param({"start": "latest"}, "start: expected"),
    pytest.param({"start": -1}, "start: expected"),
    pytest.param({"name": ""}, "name: expected"),
    pytest.param({"name": "x" * 257}, "name: expected"),
    pytest.param({"name": 7}, "name: expected"),
    pytest.param({"priority_min": "HIGH"}, "priority_min: expected"),
    pytest.param({"priority_filter": "HIGH"}, "priority_filter: expected"),
    pytest.param({"filters": ["a"]}, "filters: expected"),
]


@pytest.mark.parametrize(("options", "complaint"), WRONG_OPTIONS)
async def test_a_wrong_option_is_refused_at_subscribe(options: dict[str, Any], complaint: str) -> None:
    """By name, with what is expected and what was given; nothing is subscribed."""
    async with World() as world:
        with pytest.raises(SubscriptionError, match=complaint):
            await world.subscriber.subscribe(**{"pattern": ">", "handler": Heard(), **options})
        assert world.router.get_metrics().subscriptions == 0


# Durable


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


class LateToTell(StoreWrapper):
    """Announces what it has stored when the test says so: until then it can be read already."""

    async def open(self, on_stored: OnStored) -> int:
        self.untold: list[Event] = []
        self.on_stored = on_stored
        return await self.inner.open(self.untold.extend)

    def tell(self) -> None:
        events = [*self.untold]
        self.untold.clear()
        self.on_stored(events)


async def test_an_event_that_was_read_before_it_was_announced_is_delivered_once() -> None:
    """A store may let it be seen a moment early."""
    kept, heard = KeptMemory(LateToTell), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, start="earliest")
        await world.publish("a", "b")
        await world.subscriber.subscribe(">", heard, name="late", start="earliest")
        await world.clock.settle(50)
        kept.store.tell()
        await world.clock.settle(50)
        await world.publish("c")
        kept.store.tell()
        await world.clock.settle(50)
        assert sorted(heard.types) == ["a", "a", "b", "b", "c", "c"]


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


# Catching up


@pytest.mark.parametrize("name", [None, "billing"])
@pytest.mark.parametrize(
    ("start", "wanted"), [("new", [6]), ("earliest", [1, 2, 3, 4, 5, 6]), (3, [3, 4, 5, 6]), (9, [])]
)
async def test_a_subscription_begins_where_it_is_told(
    name: str | None, start: int | Literal["new", "earliest"], wanted: list[int]
) -> None:
    """With what comes, with all there is, or with a seq, in the past or to come."""
    heard = Heard()
    async with World() as world:
        await world.publish(*"abcde")
        await world.subscriber.subscribe(">", heard, start=start, name=name)
        await world.publish("f")
        await world.clock.settle(60)
        assert heard.seqs == wanted


class Stepwise(StoreWrapper):
    """Reads take as many turns as the test says."""

    turns = 3

    async def read(self, query: Query) -> Page:
        for _ in range(self.turns):
            await asyncio.sleep(0)
        return await self.inner.read(query)


steps = st.one_of(
    st.tuples(st.just("publish"), st.sampled_from([*Priority]), st.integers(1, 5)),
    st.tuples(st.just("turn"), st.integers(1, 12)),
    st.tuples(st.sampled_from(["pause", "resume", "restart"])),
)


@pytest.mark.parametrize("start", ["earliest", "seq"])
@given(
    before=st.integers(0, 12), ops=st.lists(steps, max_size=25), in_flight=st.integers(1, 6), turns=st.integers(0, 4)
)
@example(before=2, ops=[], in_flight=1, turns=0)
@example(before=0, ops=[("turn", 3), *[("publish", Priority.CRITICAL, 1)] * 2], in_flight=1, turns=2)
@example(before=0, ops=[("turn", 3), ("publish", Priority.CRITICAL, 3)], in_flight=2, turns=2)
@settings(max_examples=40)
def test_catching_up_leaves_no_gap_and_no_overlap(
    start: str, before: int, ops: list[tuple[Any, ...]], in_flight: int, turns: int
) -> None:
    """However slow the reads, however small the window, whatever is published, paused or restarted meanwhile: each
    event once, each priority in order."""

    async def run() -> list[tuple[int, int]]:
        kept, heard, todo = KeptMemory(Stepwise), Heard(), [*ops]
        first: Any = "earliest" if start == "earliest" else before // 2 + 1
        published = before
        while True:
            async with World(store=kept) as world:
                kept.store.turns = turns
                if published == before:
                    await world.publish(*["a"] * (before - (await world.router.store.counts()).events))
                own = await world.subscriber.subscribe(">", heard, name="late", start=first, in_flight=in_flight)
                while todo:
                    match todo.pop(0):
                        case "publish", priority, n:
                            published += n
                            await world.publisher.publish_batch([EventData("a", b"", priority)] * n)
                        case "turn", n:
                            await world.clock.settle(n)
                        case ("restart",):
                            break
                        case (word,):
                            await getattr(world.subscriber, f"{word}_subscription")(own)
                else:
                    await world.subscriber.resume_subscription(own)
                    least = 1 if first == "earliest" else first
                    wanted = published - least + 1
                    await until(lambda wanted=wanted: len(heard.events) >= wanted)  # type: ignore[misc]
                    await world.clock.settle(50)
                    assert sorted(heard.seqs) == [*range(least, published + 1)]
                    return [(int(one.priority), one.seq) for one in heard.events]
                await world.clock.settle(50)

    delivered = asyncio.run(run())
    for priority in Priority:
        seqs = [seq for level, seq in delivered if level == priority]
        assert seqs == sorted(seqs)


class BrokenReads(StoreWrapper):
    """Reading fails as often as `failures` says."""

    failures = 1

    async def read(self, query: Query) -> Page:
        if self.failures:
            self.failures -= 1
            raise StoreError("the disk is gone")
        return await self.inner.read(query)


async def test_a_backlog_that_cannot_be_read_is_read_later() -> None:
    """Loudly, and by the router's own clock."""
    heard = Heard()
    async with World(store=KeptMemory(BrokenReads)) as world:
        await world.publish("a")
        await world.subscriber.subscribe(">", heard, start="earliest")
        await world.clock.settle()
        assert heard.types == []
        assert any("the disk is gone" in message for message in world.log.at_least(logging.ERROR))
        await world.clock.advance(60)
        assert heard.types == ["a"]


# Pause, resume and the end, under load and from inside


async def test_a_paused_subscription_is_owed_everything() -> None:
    """Nothing begins, what runs may end, retries wait; then all of it comes."""
    handler = FromAnswers(ValueError("broken"))
    async with World(Policy()) as world:
        own = await world.subscriber.subscribe(">", handler)
        await world.publish("a")
        await world.clock.settle()
        await world.subscriber.pause_subscription(own)
        await world.subscriber.pause_subscription(own)
        await world.publish("b")
        await world.clock.advance(10)
        assert [one.type for one in handler.events] == ["a"]
        assert world.router.get_metrics().pending == 2
        await world.subscriber.resume_subscription(own)
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert [one.type for one in handler.events] == ["a", "a", "b"]


async def test_a_handler_that_runs_may_end_after_a_pause() -> None:
    """Its event is settled; the next one waits."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", held)
        await world.publish("a", "b")
        await world.clock.settle()
        await world.subscriber.pause_subscription(own)
        held.finish_all()
        await world.clock.settle()
        metrics = world.router.get_metrics()
        assert (len(held.calls), metrics.delivered, metrics.pending) == (1, 1, 1)
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        held.finish_all()


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_a_handler_may_pause_its_own_subscription(concurrency: int) -> None:
    """Nothing begins after it."""
    heard = Heard()

    async def handle(event: Event) -> None:
        await heard(event)
        if event.type == "stop":
            await world.subscriber.pause_subscription(own)

    async with World() as world:
        own = await world.subscriber.subscribe(">", handle, concurrency=concurrency)
        await world.publish("a", "stop", "b", "c")
        await world.clock.advance(1)
        assert heard.types == ["a", "stop"]
        await world.subscriber.resume_subscription(own)
        await world.clock.settle()
        assert heard.types == ["a", "stop", "b", "c"]


@pytest.mark.parametrize("name", [None, "durable"])
async def test_a_handler_may_end_its_own_subscription(name: str | None) -> None:
    """Its own event is settled, the rest is cancelled and counted, and no task is left behind."""
    heard = Heard()

    async def handle(event: Event) -> None:
        await heard(event)
        await world.subscriber.unsubscribe(own)

    async with World() as world:
        own = await world.subscriber.subscribe(">", handle, name=name)
        await world.publish("a", "b", "c")
        await world.clock.advance(1)
        await world.publish("d")
        await world.clock.advance(1)
        metrics = world.router.get_metrics()
        assert heard.types == ["a"]
        assert (metrics.delivered, metrics.cancelled, metrics.subscriptions) == (1, 2, 0)
        await world.stop()
        await assert_nothing_runs()


async def assert_nothing_runs() -> None:
    """No task but the test's own, once the loop had its turns."""
    for _ in range(20):
        await asyncio.sleep(0)
    others = [task.get_name() for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert others == []


@pytest.mark.parametrize("name", [None, "durable"])
async def test_ending_a_subscription_under_load_ends_its_tasks(name: str | None) -> None:
    """The handler that runs may end; nothing begins after it."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", held, concurrency=2, name=name)
        await world.subscriber.pause_subscription(own)
        await world.publish(*"abcd")
        await world.clock.settle()
        await world.subscriber.resume_subscription(own)
        await until(lambda: len(held.running) == 2)
        await world.subscriber.unsubscribe(own)
        await world.clock.settle()
        assert len(held.running) == 2
        held.finish_all()
        await world.clock.advance(1)
        assert len(held.calls) == 2
        metrics = world.router.get_metrics()
        assert (metrics.delivered, metrics.cancelled) == (2, 2)
        await world.stop()
        await assert_nothing_runs()


async def test_a_handler_of_an_ended_subscription_has_its_time_and_no_more() -> None:
    """It is still cancelled when its time is over."""
    held = Held()
    async with World() as world:
        own = await world.subscriber.subscribe(">", held, timeout_s=1)
        await world.publish("a")
        await until(lambda: held.running)
        await world.subscriber.unsubscribe(own)
        await world.clock.advance(5)
        cancelled = held.cancelled
        held.finish_all()
        assert cancelled == 1


async def test_a_router_that_stops_waits_for_handlers_of_ended_subscriptions() -> None:
    """As for all others: it does not leave them running."""
    held = Held()
    world = World()
    await world.router.start()
    own = await world.subscriber.subscribe(">", held)
    await world.publish("a")
    await until(lambda: held.running)
    await world.subscriber.unsubscribe(own)
    await world.stop(timeout_s=0.2)
    running = len(held.running)
    held.finish_all()
    await world.clock.settle()
    assert running == 0


async def test_a_subscription_may_end_while_it_catches_up() -> None:
    """It reads no more, and nothing is delivered after its end."""
    heard, kept = Heard(), KeptMemory(Stepwise)
    async with World(store=kept) as world:
        await world.publish(*["a"] * 20)
        kept.store.turns = 5
        own = await world.subscriber.subscribe(">", heard, start="earliest", in_flight=2)
        await world.clock.settle(7)
        await world.subscriber.unsubscribe(own)
        already = len(heard.events)
        await world.clock.settle(100)
        assert len(heard.events) == already
        await world.stop()
        await assert_nothing_runs()


async def test_a_retry_of_an_ended_subscription_is_counted_as_cancelled() -> None:
    """Whether it waited for its time, or failed after the end."""
    handler, held = FromAnswers(ValueError("broken")), Held()
    async with World(Policy()) as world:
        one = await world.subscriber.subscribe("a", handler)
        two = await world.subscriber.subscribe("b", held)
        await world.publish("a", "b")
        await world.clock.settle()
        await world.subscriber.unsubscribe(one)
        await world.subscriber.unsubscribe(two)
        held.calls[0].fail(ValueError("broken"))
        await world.clock.advance(5)
        metrics = world.router.get_metrics()
        assert (len(handler.events), len(held.calls)) == (1, 1)
        assert metrics.cancelled == 2


class NoGate(Plugin):
    """Raises for some subscriptions."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> Gate | None:
        if subscription.pattern == "bad":
            raise ValueError("no gate today")
        return None


@pytest.mark.parametrize("name", [None, "billing"])
async def test_a_subscribe_that_fails_leaves_nothing_behind(name: str | None) -> None:
    """A plugin that raises for it: the name is as free as before."""
    heard = Heard()
    async with World(NoGate()) as world:
        with pytest.raises(Exception, match="squall_gate"):
            await world.subscriber.subscribe("bad", Heard(), name=name)
        assert world.router.get_metrics().subscriptions == 0
        await world.subscriber.subscribe("good", heard, name=name)
        await world.publish("good")
        await world.clock.settle()
        assert heard.types == ["good"]


async def test_a_planted_gap_would_be_noticed() -> None:
    """The check of catching up fails for a store that skips an event when it is read."""

    class Skips(Stepwise):
        async def read(self, query: Query) -> Page:
            page = await super().read(query)
            return Page([one for one in page.events if one.seq != 3], page.searched_to)

    heard = Heard()
    async with World(store=KeptMemory(Skips)) as world:
        await world.publish(*"abcde")
        await world.subscriber.subscribe(">", heard, start="earliest")
        await world.clock.settle(60)
        assert heard.seqs == [1, 2, 4, 5]


async def test_a_subscriptions_sums_can_be_read_after_its_end() -> None:
    """What ran when it ended is counted when it ends; what waited was cancelled then, and nothing is pending."""
    held = Held()
    async with World() as world:
        found = await world.subscriber.subscribe("a", held)
        meter = world.router.subscriptions.meter(found)
        await world.publish("a", "a", "a")
        await world.clock.settle()
        sums = await meter.read()
        assert (sums.acked, sums.cancelled, sums.pending) == (0, 0, 3)
        await world.subscriber.unsubscribe(found)
        held.running[0].finish()
        await world.clock.advance(1)
        sums = await meter.read()
        assert (sums.acked, sums.cancelled, sums.pending) == (1, 2, 0)
        with pytest.raises(SubscriptionError, match="there is no subscription"):
            world.router.subscriptions.meter(found)
