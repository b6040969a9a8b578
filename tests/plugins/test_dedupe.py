"""Dedupe: what a handler ended well with is not handled again, and what it did not end well with is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Literal
from uuid import UUID

import pytest
from tests.core.world import FromAnswers, Heard, Held, KeptMemory, Policy, SlowToSettle, World
from tests.fast import first

from squall import Delivery, Event, Nak, Reject, StoreError
from squall.core.errors import ConfigError
from squall.plugins.dedupe import DedupePlugin

ID = "0b6f0a6c-3c0c-4d8e-9d55-6b1d5f5c7a01"


def numbered(number: int) -> str:
    """An event's id."""
    return str(UUID(int=number, version=4))


def twice() -> KeptMemory:
    """A store that does not recognise ids: what is published again is stored, and delivered, again."""
    return KeptMemory(dedupe_window_s=0)


def count(plugin: DedupePlugin, family: str) -> list[int]:
    """The samples of a family, one a subscription."""
    lines = plugin.squall_metrics_text().splitlines()
    return [int(line.rpartition(" ")[2]) for line in lines if line.startswith(f"squall_dedupe_{family}{{")]


async def publish(world: World, *ids: str) -> None:
    """One event an id; what they cause at once is over then."""
    for one in ids:
        await world.publisher.publish("order.created", b"", event_id=one)
    await world.clock.settle()


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
@pytest.mark.parametrize("name", [None, "billing"])
@pytest.mark.parametrize("deduped", [True, False])
async def test_an_event_that_comes_again_is_acked_and_not_handled(
    deduped: bool, name: str | None, delivery: Literal["at-least-once", "at-most-once"], concurrency: int
) -> None:
    """Without the plugin it is handled as often as it comes."""
    heard, plugin = Heard(), DedupePlugin()
    async with World(*[plugin] * deduped, store=twice()) as world:
        await world.subscriber.subscribe(">", heard, name=name, delivery=delivery, concurrency=concurrency)
        await publish(world, ID, ID, ID)
        await world.clock.advance(1)
        metrics = world.router.get_metrics()
        assert heard.ids == ([ID] if deduped else [ID] * 3)
        assert (metrics.delivered, metrics.pending, metrics.failed) == (3, 0, 0)
        assert count(plugin, "skipped_total") == [2] * deduped


async def test_each_subscription_has_its_own_handler_to_speak_of() -> None:
    """What one has handled is no repetition to another."""
    heard, broken, plugin = Heard(), FromAnswers(*[ValueError("broken")] * 2), DedupePlugin()
    async with World(plugin, store=twice()) as world:
        await world.subscriber.subscribe(">", heard)
        await world.subscriber.subscribe(">", broken)
        await publish(world, ID, ID, ID)
        assert len(heard.events) == 1
        assert len(broken.events) == 3
        assert count(plugin, "skipped_total") == [2, 0]


async def test_an_entry_of_metadata_tells_repetitions() -> None:
    """Of events of one type, whatever their ids; those without it are told by their ids, and nothing else."""
    heard = Heard()
    async with World(DedupePlugin(key="request"), store=twice()) as world:
        await world.subscriber.subscribe(">", heard)
        given: list[tuple[str, object]] = [("a", "r-1"), ("a", "r-1"), ("b", "r-1"), ("a", "r-2")]
        given += [("a", 7), ("a", "7"), ("a", 7), ("a", {"x": 1})]
        for number, (event_type, request) in enumerate(given):
            metadata = {"request": request}
            await world.publisher.publish(event_type, b"", event_id=numbered(number), metadata=metadata)
        await world.clock.settle()
        assert [event.metadata["request"] for event in heard.events] == ["r-1", "r-1", "r-2", 7, "7", {"x": 1}]
        heard.events.clear()
        await publish(world, numbered(20), numbered(21), numbered(20))
        assert heard.ids == [numbered(20), numbered(21)]


async def test_what_failed_is_tried_again() -> None:
    """Only an end that was good is remembered; then it is."""
    handler = FromAnswers(ValueError("broken"), ValueError("still"), None)
    async with World(Policy(), DedupePlugin(), store=twice()) as world:
        await world.subscriber.subscribe(">", handler)
        await publish(world, ID)
        await world.clock.advance(5)
        assert len(handler.events) == 3
        await publish(world, ID)
        assert len(handler.events) == 3
        assert await world.dead() == []


def nak(delivery: Delivery) -> None:
    delivery.nak(1.0)


def term(delivery: Delivery) -> None:
    delivery.term("no")


@pytest.mark.parametrize("say", [nak, term])
async def test_a_handler_that_returns_after_another_word_has_not_ended_well(say: Callable[[Delivery], None]) -> None:
    """What it said by hand counts; an ack by hand counts, too, whatever the handler raises afterwards."""
    words: list[Callable[[Delivery], None]] = [say, Delivery.ack]
    calls = 0

    async def handle(event: Event, delivery: Delivery) -> None:
        nonlocal calls
        calls += 1
        word = words.pop(0)
        word(delivery)
        if word is Delivery.ack:
            raise ValueError("after its word")

    async with World(DedupePlugin(), store=twice()) as world:
        await world.subscriber.subscribe(">", handle)
        await publish(world, ID)
        if say is term:
            await publish(world, ID)
        await world.clock.advance(2)
        assert calls == 2
        await publish(world, ID)
        assert calls == 2


async def test_a_handler_that_returns_too_late_has_not_ended_well() -> None:
    """It swallowed its cancellation and returned: a timeout, and tried again."""
    calls = 0

    async def handle(event: Event) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            try:
                await asyncio.get_running_loop().create_future()
            except asyncio.CancelledError:
                return

    async with World(Policy(), DedupePlugin()) as world:
        await world.subscriber.subscribe(">", handle, timeout_s=1)
        await publish(world, ID)
        await world.clock.advance(3)
        assert calls == 2
        assert world.router.get_metrics().pending == 0


async def test_who_is_abandoned_is_waited_for_no_longer() -> None:
    """Its attempt is over when the kernel gives it up; what it does afterwards is not counted on."""
    held, plugin = Held(stubborn=True), DedupePlugin()
    async with World(Policy(), plugin) as world:
        await world.subscriber.subscribe(">", held, timeout_s=1)
        await publish(world, ID)
        await world.clock.advance(4)
        assert held.seqs == [1, 1]
        held.finish_all()
        await world.clock.settle()
        assert world.router.get_metrics().pending == 0
        assert count(plugin, "remembered") == [1]


async def test_a_repetition_waits_for_the_first() -> None:
    """While that runs it is not known whether it will end well. When it has, no other is handled."""
    held, plugin = Held(), DedupePlugin()
    async with World(plugin, store=twice()) as world:
        await world.subscriber.subscribe(">", held, concurrency=4)
        await publish(world, ID, ID, ID, numbered(1))
        assert held.seqs == [1, 4]  # and nothing else waits
        held.calls[0].finish()
        await world.clock.settle()
        assert held.seqs == [1, 4]
        assert count(plugin, "skipped_total") == [2]
        held.finish_all()


async def test_where_the_first_fails_one_that_waits_is_handled() -> None:
    """One, and the other waits for that."""
    held = Held()
    async with World(DedupePlugin(), store=twice()) as world:
        await world.subscriber.subscribe(">", held, concurrency=4)
        await publish(world, ID, ID, ID)
        held.calls[0].fail(Reject("no"))
        await world.clock.settle()
        assert held.seqs == [1, 2]
        held.calls[1].finish()
        await world.clock.settle()
        assert held.seqs == [1, 2]
        assert await world.reasons() == ["rejected"]
        assert world.router.get_metrics().pending == 0


async def test_who_waits_may_be_cut_off_without_harm_to_the_others() -> None:
    """Its time counts as its handler's. Whom it waited for goes on, and so does who waits beside it."""
    held, plugin = Held(), DedupePlugin()
    async with World(Policy(), plugin, store=twice()) as world:
        await world.subscriber.subscribe(">", held.by_hand, concurrency=4, timeout_s=2)
        await publish(world, ID)
        await world.clock.advance(1.5)
        await publish(world, ID)
        for _ in range(4):
            delivery = held.calls[0].delivery
            assert delivery is not None
            delivery.in_progress()
            await world.clock.advance(1)
        await publish(world, ID)
        assert world.router.get_metrics().failed >= 1
        held.calls[0].finish()
        await world.clock.advance(5)
        assert held.seqs == [1]
        assert count(plugin, "skipped_total") == [2]
        assert world.router.get_metrics().pending == 0


async def test_what_is_remembered_is_bounded_in_time() -> None:
    """From the handler's good end on."""
    heard, plugin = Heard(), DedupePlugin(window="10s")
    async with World(plugin, store=twice()) as world:
        await world.subscriber.subscribe(">", heard)
        await publish(world, ID)
        await world.clock.advance(9.9)
        await publish(world, ID)
        assert len(heard.events) == 1
        await world.clock.advance(0.2)  # a skip is no good end of its own
        assert count(plugin, "remembered") == [0]
        await publish(world, ID, ID)
        assert len(heard.events) == 2
        assert count(plugin, "crowded_out_total") == [0]


async def test_what_failed_at_most_once_is_no_good_end() -> None:
    """It was settled before, and is not tried again; what is published again is handled."""
    handler = FromAnswers(ValueError("broken"), None)
    async with World(DedupePlugin(), store=twice()) as world:
        await world.subscriber.subscribe(">", handler, delivery="at-most-once")
        for _ in range(3):
            await publish(world, ID)
        assert len(handler.events) == 2


async def test_what_is_over_its_time_is_handled_though_nothing_else_ended_since() -> None:
    """Its age counts when it is asked for, and not when somebody comes by to tidy up."""
    heard = Heard()
    async with World(DedupePlugin(window="10s"), store=twice()) as world:
        await world.subscriber.subscribe(">", heard)
        await publish(world, ID)
        await world.clock.advance(10.1)
        await publish(world, ID)
        assert len(heard.events) == 2


async def test_what_is_remembered_is_bounded_in_number() -> None:
    """The oldest goes, and that is counted."""
    heard, plugin = Heard(), DedupePlugin(max_events=2)
    async with World(plugin, store=twice()) as world:
        await world.subscriber.subscribe(">", heard)
        await publish(world, *(numbered(number) for number in (1, 2, 3)))
        assert count(plugin, "remembered") == [2]
        assert count(plugin, "crowded_out_total") == [1]
        await publish(world, *(numbered(number) for number in (2, 3, 1)))
        assert heard.ids == [numbered(number) for number in (1, 2, 3, 1)]


@pytest.mark.parametrize("name", [None, "billing"])
async def test_what_is_redriven_is_handled_again(name: str | None) -> None:
    """Its handler never ended well. What was handled under another seq meanwhile is not."""
    heard = Heard(Reject("not today"))
    async with World(DedupePlugin(), store=twice()) as world:
        await world.subscriber.subscribe(">", heard, name=name)
        await publish(world, ID, ID)
        assert len(await world.dead()) == 2
        heard.fail = None
        plan = await world.router.plan_redrive()
        await world.router.redrive(plan.token, per_second=1_000_000)
        await world.clock.advance(0.1)
        assert heard.seqs == [1, 2, 1]
        assert world.router.get_metrics().pending == 0


async def unsettled(world: World, heard: Heard) -> None:
    """A named subscription's handler has ended well; the store refuses to hear of it, and the router is left."""
    own = await world.subscriber.subscribe(">", heard, name="billing")
    await world.publisher.publish("a", b"", event_id=ID)
    await world.clock.settle()
    assert len(heard.events) == 1
    with pytest.raises(StoreError):
        await world.finish(asyncio.ensure_future(world.subscriber.detach(own)), 15)


@pytest.mark.parametrize("deduped", [True, False])
async def test_a_settlement_that_was_lost_is_no_second_call(deduped: bool) -> None:
    """Of a subscription that is left and taken up again; without the plugin it is one."""
    kept, heard = KeptMemory(SlowToSettle), Heard()
    async with World(*[DedupePlugin()] * deduped, store=kept) as world:
        kept.store.refuse = True
        await unsettled(world, heard)
        kept.store.refuse = False
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(2)
        assert len(heard.events) == (1 if deduped else 2)
        assert world.router.get_metrics().pending == 0


@pytest.mark.parametrize("same_process", [True, False])
async def test_what_is_remembered_lives_as_long_as_the_process(same_process: bool) -> None:
    """A router that is started again in it still knows; in another process nobody does."""
    kept, heard, plugin = KeptMemory(SlowToSettle), Heard(), DedupePlugin()
    async with World(plugin, store=kept) as world:
        kept.store.refuse = True
        await unsettled(world, heard)
    kept.store.refuse = False
    async with World(plugin if same_process else DedupePlugin(), store=kept, clock=world.clock) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(2)
        assert len(heard.events) == (1 if same_process else 2)


async def test_what_was_in_hand_when_it_was_left_is_handled_when_it_is_taken_up() -> None:
    """Cancelled, it has not ended; and who waited for it does not wait for ever."""
    held, plugin = Held(), DedupePlugin()
    async with World(plugin, store=twice()) as world:
        own = await world.subscriber.subscribe(">", held, name="billing", concurrency=4)
        await publish(world, ID, ID)
        await world.finish(asyncio.ensure_future(world.subscriber.detach(own)), 15)
        assert (held.seqs, held.cancelled) == ([1], 1)
        await world.subscriber.subscribe(">", held, name="billing", concurrency=4)
        await world.clock.settle()
        assert held.seqs == [1, 1]
        held.finish_all()
        await world.clock.settle()
        assert held.seqs == [1, 1]
        assert count(plugin, "skipped_total") == [1]


async def test_what_ends_takes_its_memory_along() -> None:
    """Once what still runs has ended; who waits for that is not forgotten before."""
    held, plugin = Held(), DedupePlugin()
    async with World(plugin, store=twice()) as world:
        own = await world.subscriber.subscribe(">", held, concurrency=4)
        await publish(world, numbered(1))
        held.calls[0].finish()
        await publish(world, ID, ID)
        await world.subscriber.unsubscribe(own)
        held.calls[1].finish()
        await world.clock.settle()
        assert held.seqs == [1, 2]
        assert world.router.get_metrics().pending == 0
        assert count(plugin, "skipped_total") == []


async def test_who_waits_when_it_ends_is_waited_for_in_turn() -> None:
    """The first fails after its subscription has ended: one that waited is handled, and the last learns of its end."""
    held = Held()
    async with World(DedupePlugin(), store=twice()) as world:
        own = await world.subscriber.subscribe(">", held, concurrency=4)
        await publish(world, ID, ID, ID)
        await world.subscriber.unsubscribe(own)
        held.calls[0].fail(Reject("no"))
        await world.clock.settle()
        assert held.seqs == [1, 2]
        held.calls[1].finish()
        await world.clock.settle()
        assert held.seqs == [1, 2]
        assert world.router.get_metrics().pending == 0


async def test_a_named_one_that_is_left_is_forgotten_when_its_time_is_over() -> None:
    """Its memory is let go when the next subscription comes."""
    plugin = DedupePlugin(window="10s")
    async with World(plugin) as world:
        own = await world.subscriber.subscribe(">", Heard(), name="billing")
        await publish(world, ID)
        await world.finish(asyncio.ensure_future(world.subscriber.detach(own)), 15)
        await world.subscriber.subscribe(">", Heard())
        assert count(plugin, "remembered") == [1, 0]
        await world.clock.advance(11)
        await world.subscriber.subscribe(">", Heard())
        assert count(plugin, "remembered") == [0, 0]


async def test_the_numbers_are_text_of_prometheus() -> None:
    """Labels are quoted as its format wants it."""
    plugin = DedupePlugin()
    async with World(plugin, store=twice()) as world:
        own = await world.router.subscriber('a"b\\').subscribe(">", Heard())
        await publish(world, ID, ID)
        text = "".join(world.router.ask("squall_metrics_text"))
        assert f'squall_dedupe_skipped_total{{subscription="a\\"b\\\\",id="{own}"}} 1\n' in text
        assert "# TYPE squall_dedupe_skipped_total counter\n" in text
        assert "# TYPE squall_dedupe_remembered gauge\n" in text


@pytest.mark.parametrize(
    ("options", "said"),
    [({"window": 0}, "more than 0"), ({"max_events": 0}, "at least 1"), ({"key": ""}, "text that is not empty")],
)
def test_options_that_mean_nothing_are_told(options: dict[str, object], said: str) -> None:
    """When the plugin is made."""
    with pytest.raises(ConfigError, match=said):
        DedupePlugin(None, **options)


class Scripted:
    """A handler that takes its time and ends well or not, by chance, and holds the plugin to its word meanwhile."""

    def __init__(self, world: World, random: Random) -> None:
        self._world, self._random = world, random
        self.calls = 0
        self.running: set[str] = set()
        self.well: set[str] = set()

    async def __call__(self, event: Event, delivery: Delivery) -> None:
        assert event.id not in self.running, "two at once"
        assert event.id not in self.well, "again, though it had ended well"
        self.calls += 1
        self.running.add(event.id)
        try:
            await self._world.clock.sleep(self._random.choice((0.0, 0.0, 0.01, 0.5, 3.0)))  # which is too long
            answer = self._random.choice(("ok", "ok", "ok", "raise", "nak", "ack and raise"))
            if answer == "nak":
                delivery.nak(0.05)
            elif answer == "raise":
                raise ValueError("by chance")
            else:
                delivery.ack()
                self.well.add(event.id)
                if answer != "ok":
                    raise ValueError("after its word")
        finally:
            self.running.discard(event.id)


@pytest.mark.parametrize("seed", first(2, range(20)))
async def test_whatever_handlers_do_none_ends_well_twice(seed: int) -> None:
    """Nor do two run at once for the same; and every event ends, each at least once well."""
    random, plugin = Random(seed), DedupePlugin()
    always = Policy(lambda delivery, error: Nak(0.1))
    async with World(always, plugin, store=twice()) as world:
        handler = Scripted(world, random)
        name = random.choice((None, "billing"))
        await world.subscriber.subscribe(">", handler, name=name, concurrency=random.choice((1, 2, 8)), timeout_s=2)
        for _ in range(60):
            await world.publisher.publish("a", b"", event_id=numbered(random.randrange(8)))
            await world.clock.advance(random.choice((0.0, 0.0, 0.01, 0.3)))
        await world.clock.advance(300)
        metrics = world.router.get_metrics()
        assert (metrics.pending, metrics.dead_lettered) == (0, 0)
        assert handler.well == {numbered(number) for number in range(8)}
        assert sum(count(plugin, "skipped_total")) == 60 - 8
