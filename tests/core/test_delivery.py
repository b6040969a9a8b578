"""How deliveries end: by themselves, by hand, by what a handler raises, by a policy; dead letters and their fields."""

from __future__ import annotations

import asyncio
import functools
import gc
import logging
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.core.world import FromAnswers, Heard, Held, KeptMemory, Policy, StoreWrapper, World, until

from squall import (
    Decision,
    Delivery,
    Event,
    FailedDelivery,
    Nak,
    Priority,
    Reject,
    Retry,
    SquallError,
    StoreError,
    SubscriptionError,
    Term,
)
from squall.core.store import Progress

ByHand = Callable[[Event, Delivery], Awaitable[None]]


async def test_as_many_handlers_run_at_once_as_asked() -> None:
    """Concurrency is there as soon as there is work for it, not once the first handler has ended."""
    held = Held()
    async with World() as world:
        await world.subscriber.subscribe(">", held, concurrency=3)
        await world.publish(*"abcd")
        await world.clock.settle()
        running = len(held.running)
        held.finish_all()
        await world.clock.settle()
        held.finish_all()
        assert running == 3


async def test_one_handler_at_a_time_is_the_default() -> None:
    """The next begins when the one before has ended."""
    held = Held()
    async with World() as world:
        await world.subscriber.subscribe(">", held)
        await world.publish("a", "b")
        await world.clock.settle()
        assert held.seqs == [1]
        held.finish_all()
        await world.clock.settle()
        assert held.seqs == [1, 2]
        held.finish_all()


async def test_a_slow_subscriber_delays_nobody_else() -> None:
    """Each subscription has its own queue and workers."""
    held, heard = Held(), Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", held)
        await world.subscriber.subscribe(">", heard)
        await world.publish(*"abc")
        await world.clock.settle()
        assert (len(held.running), heard.types) == (1, ["a", "b", "c"])
        for _ in range(3):
            held.finish_all()
            await world.clock.settle()


async def test_returning_is_an_acknowledgement() -> None:
    """Counted on the subscription and in the router's metrics; nothing is left."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        await world.publish(*"abc")
        await world.clock.settle()
        metrics = world.router.get_metrics()
        assert (metrics.delivered, metrics.failed, metrics.dead_lettered, metrics.pending) == (3, 0, 0, 0)


# By hand


async def told(words: ByHand, *policies: Policy) -> tuple[list[float], list[str], World]:
    """What becomes of one event whose handler says these words: the times of its attempts, and its dead letter."""
    times_s: list[float] = []

    async def handle(event: Event, delivery: Delivery) -> None:
        times_s.append((world.clock.monotonic_ns() - start_ns) / 1e9)
        await words(event, delivery)

    async with World(*policies) as world:
        start_ns = world.clock.monotonic_ns()
        await world.subscriber.subscribe(">", handle)
        await world.publish("a")
        await world.clock.advance(20)
        letters = [f"{letter.reason}: {letter.error}" for letter in await world.dead()]
        assert world.router.get_metrics().pending == 0
    return times_s, letters, world


async def test_ack_by_hand_is_an_acknowledgement() -> None:
    """Even when nothing is said, returning acks."""

    async def ack(event: Event, delivery: Delivery) -> None:
        delivery.ack()

    async def silent(event: Event, delivery: Delivery) -> None:
        pass

    for words in (ack, silent):
        assert (await told(words))[:2] == ([0.0], [])


async def test_nak_by_hand_comes_again() -> None:
    """After the delay named, else as the policy says; until the policy ends it."""

    async def nak(event: Event, delivery: Delivery) -> None:
        delivery.nak(2.5)

    async def nak_by_policy(event: Event, delivery: Delivery) -> None:
        delivery.nak()

    assert (await told(nak, Policy()))[:2] == ([0.0, 2.5, 5.0], ["delivery_limit: retry in 2.5 s"])
    assert (await told(nak_by_policy, Policy()))[:2] == ([0.0, 1.0, 2.0], ["delivery_limit: retry"])


async def test_term_by_hand_is_the_end() -> None:
    """A dead letter with the handler's own reason, without another attempt."""

    async def term(event: Event, delivery: Delivery) -> None:
        delivery.term("no such customer")

    assert (await told(term, Policy()))[:2] == ([0.0], ["rejected: no such customer"])


async def test_a_second_word_is_an_error_of_the_handler() -> None:
    """The first counts, and the handler learns of its mistake."""
    mistakes: list[str] = []

    async def twice(event: Event, delivery: Delivery) -> None:
        delivery.ack()
        with pytest.raises(SquallError, match="already settled") as caught:
            delivery.nak()
        mistakes.append(str(caught.value))

    assert (await told(twice, Policy()))[:2] == ([0.0], [])
    assert len(mistakes) == 1


@pytest.mark.parametrize("late", [ValueError("after all"), Retry(9), Reject("after all")])
async def test_an_acknowledged_event_stays_so_whatever_the_handler_does_then(late: Exception) -> None:
    """`ack` is the end of the matter: no retry, no dead letter."""

    async def ack_and_raise(event: Event, delivery: Delivery) -> None:
        delivery.ack()
        raise late

    assert (await told(ack_and_raise, Policy()))[:2] == ([0.0], [])


async def test_a_nak_stays_a_nak_whatever_the_handler_does_then() -> None:
    """The first word counts: its delay, not the error that came after."""

    async def nak_and_raise(event: Event, delivery: Delivery) -> None:
        delivery.nak(4.0)
        raise ValueError("after all")

    assert (await told(nak_and_raise, Policy()))[0] == [0.0, 4.0, 8.0]


async def test_a_term_stays_a_term_whatever_the_handler_does_then() -> None:
    """The first word counts: a dead letter at once."""

    async def term_and_raise(event: Event, delivery: Delivery) -> None:
        delivery.term("no such customer")
        raise ValueError("after all")

    assert (await told(term_and_raise, Policy()))[:2] == ([0.0], ["rejected: no such customer"])


async def test_an_acknowledged_event_stays_so_when_its_handler_hangs_then() -> None:
    """It is cancelled for its time, and the event is done."""

    async def ack_and_hang(event: Event, delivery: Delivery) -> None:
        delivery.ack()
        await asyncio.Event().wait()

    times_s: list[float] = []

    async def handle(event: Event, delivery: Delivery) -> None:
        times_s.append(1.0)
        await ack_and_hang(event, delivery)

    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handle, timeout_s=1)
        await world.publish("a")
        await world.clock.advance(20)
        assert (len(times_s), await world.reasons()) == (1, [])


@pytest.mark.parametrize("answers", [[ValueError("broken"), None], [ValueError("broken")] * 3])
async def test_a_retry_that_has_ended_is_done_for_good(answers: list[Exception | None]) -> None:
    """Acknowledged or dead-lettered at last: a durable subscription that is taken up again is not given it."""
    kept, handler, heard = KeptMemory(), FromAnswers(*answers), Heard()
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", handler, name="billing")
        await world.publish("a")
        await world.clock.advance(5)
        assert len(handler.events) == len(answers)
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(5)
    assert heard.events == []


async def test_an_event_acknowledged_on_a_later_attempt_is_done_for_good() -> None:
    """A durable subscription that is taken up again is not given it: its attempt row goes with the acknowledgement."""
    calls = 0

    async def handle(event: Event, delivery: Delivery) -> None:
        nonlocal calls
        calls += 1
        if calls > 1:
            delivery.ack()
        raise ValueError("not yet")

    kept, heard = KeptMemory(), Heard()
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", handle, name="billing")
        await world.publish("a")
        await world.clock.advance(5)
        assert calls == 2
    async with World(Policy(), store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        await world.clock.advance(5)
    assert heard.events == []


# By what a handler raises


async def test_retry_and_reject_settle_as_nak_and_term_do() -> None:
    """Raised from however deep in the handler."""
    handler = FromAnswers(Retry(2.0), Retry(), Reject("no such customer"))
    async with World(Policy(lambda delivery, error: Nak(getattr(error, "delay_s", None) or 1.0))) as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a")
        for advance_s, attempts in ((1.9, 1), (0.1, 2), (0.9, 2), (0.1, 3)):
            await world.clock.advance(advance_s)
            assert len(handler.events) == attempts
        assert [(one.reason, one.error) for one in await world.dead()] == [("rejected", "no such customer")]


async def test_without_a_policy_a_failed_delivery_is_dead_lettered_at_once() -> None:
    """Retry is still heard: the handler asked for it."""
    handler = FromAnswers(ValueError("broken"), Retry(1.0))
    async with World() as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a", "b")
        await world.clock.advance(3)
        assert [one.type for one in handler.events] == ["a", "b", "b"]
        assert await world.reasons() == ["delivery_limit"]


async def test_a_policy_counts_attempts_until_it_ends_them() -> None:
    """It is shown the event, the attempt's number and outcome; delays are kept to the moment."""
    shown: list[FailedDelivery] = []

    def decide(delivery: FailedDelivery, error: BaseException) -> Decision:
        shown.append(delivery)
        return Nak(delivery.attempt * 1.0) if delivery.attempt < 3 else Term("delivery_limit", "enough")

    heard = Heard(ValueError("broken"))
    async with World(Policy(decide)) as world:
        start_ns = world.clock.monotonic_ns()
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        await world.clock.advance(10)
        assert [(one.attempt, one.outcome) for one in shown] == [(1, "error"), (2, "error"), (3, "error")]
        assert [(one.now_ns - start_ns) / 1e9 for one in shown] == [0.0, 1.0, 3.0]
        assert {one.first_ns - start_ns for one in shown} == {0}
        assert {one.event.seq for one in shown} == {1}
        metrics = world.router.get_metrics()
        assert (metrics.delivered, metrics.failed, metrics.dead_lettered, metrics.delayed) == (0, 3, 1, 0)


async def test_an_acknowledgement_on_a_later_attempt_is_a_delivery() -> None:
    """One failure and one delivery, in the subscription's counts and the router's."""
    handler = FromAnswers(ValueError("broken"))
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a")
        await world.clock.advance(2)
        metrics = world.router.get_metrics()
        assert (metrics.delivered, metrics.failed) == (1, 1)


async def test_a_delayed_retry_releases_its_slot() -> None:
    """Others are delivered during the backoff."""
    handler = FromAnswers(ValueError("broken"))
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a", "b", "c")
        await world.clock.settle()
        assert [one.type for one in handler.events] == ["a", "b", "c"]
        assert world.router.get_metrics().delayed == 1
        await world.clock.advance(1)
        assert [one.type for one in handler.events] == ["a", "b", "c", "a"]


async def test_a_cancellation_that_a_handler_lets_out_is_a_failure_of_its_own() -> None:
    """Of something that it awaited, not of the worker: the worker lives on."""
    handler = FromAnswers(asyncio.CancelledError())
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a", "b")
        await world.clock.advance(2)
        assert [one.type for one in handler.events] == ["a", "b", "a"]
        assert not world.log.at_least(logging.ERROR)


class Crash(BaseException):
    """What no handler should let out."""


async def test_a_handler_that_crashes_its_worker_costs_one_attempt() -> None:
    """The worker is replaced, loudly; the event comes again, and the others are delivered."""
    handler = FromAnswers(Crash("bang"))
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a", "b")
        await world.clock.advance(2)
        assert [one.type for one in handler.events] == ["a", "b", "a"]
        assert any("died" in message and "bang" in message for message in world.log.at_least(logging.ERROR))


async def test_a_policy_that_raises_costs_the_event_its_retries_only() -> None:
    """It is dead-lettered with both errors named, and logged; the others are not touched."""

    def decide(delivery: FailedDelivery, error: BaseException) -> Decision:
        raise KeyError("policy")

    handler = FromAnswers(ValueError("broken"))
    async with World(Policy(decide)) as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a", "b")
        await world.clock.advance(2)
        assert [one.type for one in handler.events] == ["a", "b"]
        (letter,) = await world.dead()
        assert "KeyError" in letter.error
        assert "broken" in letter.error
        assert "settle policy raised" in world.log.text


async def test_a_policy_that_answers_nonsense_loses_nothing() -> None:
    """Whatever is no decision is no acknowledgement."""
    nonsense: Any = "later"
    handler = FromAnswers(ValueError("broken"))
    async with World(Policy(lambda delivery, error: nonsense)) as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a")
        await world.clock.advance(2)
        assert await world.reasons() == ["delivery_limit"]


async def test_a_dead_letter_has_the_whole_story() -> None:
    """The original event unchanged, whose subscription, why, how often, from when to when, and the error's trace."""

    async def handle(event: Event) -> None:
        raise ValueError(f"broken at {attempt(event)}")

    seen: list[Event] = []

    def attempt(event: Event) -> int:
        seen.append(event)
        return len(seen)

    async with World(Policy()) as world:
        own = await world.subscriber.subscribe("order.*", handle, name="invoices")
        event_id = await world.publisher.publish("order.created", b"\x00\xff", Priority.HIGH, key="k")
        first_ns = world.clock.time_ns()
        await world.clock.advance(5)
        (letter,) = await world.dead()
        assert (letter.event.id, letter.event.payload, letter.event.key) == (event_id, b"\x00\xff", "k")
        assert (letter.event.priority, letter.event.seq) == (Priority.HIGH, 1)
        assert (letter.subscription_id, letter.subscription, letter.pattern) == (own, "invoices", "order.*")
        assert (letter.reason, letter.attempts) == ("delivery_limit", 3)
        assert (letter.first_ns, letter.last_ns) == (first_ns, first_ns + 2_000_000_000)
        assert (letter.error_type, letter.error) == ("ValueError", "broken at 3")
        assert "in handle" in letter.trace


async def test_each_subscription_has_dead_letters_of_its_own() -> None:
    """One per event and subscription; the other subscription's delivery stands."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", Heard(ValueError("a")), name="one")
        await world.subscriber.subscribe(">", Heard(ValueError("b")), name="two")
        await world.subscriber.subscribe(">", heard)
        await world.publish("x", "y")
        await world.clock.settle()
        assert sorted((one.event.seq, one.subscription) for one in await world.dead()) == [
            (1, "one"),
            (1, "two"),
            (2, "one"),
            (2, "two"),
        ]
        assert heard.types == ["x", "y"]


@pytest.mark.parametrize("name", [None, "durable"])
async def test_a_thousand_retries_do_not_hold_a_subscription(name: str | None) -> None:
    """Whether its retries are stored or not: what waits for another attempt is no reason to deliver nothing."""
    heard = Heard(ValueError("broken"))
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", heard, name=name, in_flight=5000)
        await world.publish(*["a"] * 1500)
        await until(lambda: len(heard.events) == 1500)
        heard.fail = None
        await world.clock.advance(2)
        assert len(heard.events) == 3000
        metrics = world.router.get_metrics()
        assert (metrics.delayed, metrics.pending, metrics.dead_lettered) == (0, 0, 0)


async def test_nothing_is_kept_of_what_a_handler_raised() -> None:
    """Once its delivery has ended, but for the last one of a worker: an error holds the frames that it came through."""

    class Broken(Exception):
        pass

    raised: list[weakref.ref[Broken]] = []

    async def handle(event: Event) -> None:
        error = Broken()
        raised.append(weakref.ref(error))
        raise error

    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handle)
        await world.subscriber.subscribe(">", handle, name="durable", concurrency=3)
        await world.subscriber.subscribe(">", handle, delivery="at-most-once")
        await world.publish(*"abcdef")
        await world.clock.advance(5)
        assert len(raised) == 6 * (3 + 3 + 1)
        gc.collect()
        assert sum(one() is not None for one in raised) <= 5


class SlowToSettle(StoreWrapper):
    """Refuses settlements while `refuse` is set."""

    refuse = False

    def settle(self, progress: Progress) -> None:
        if not self.refuse:
            self.inner.settle(progress)
            return
        loop = asyncio.get_running_loop()
        loop.call_soon(lambda: progress.committed(progress.take(), StoreError("no settlements today")))


async def test_settlements_that_the_store_refuses_are_given_again() -> None:
    """Nothing is lost and one warning says so; a durable subscription resumes behind them."""
    kept, heard = KeptMemory(SlowToSettle), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard, name="billing")
        kept.store.refuse = True
        heard.fail = ValueError("broken")
        await world.publish("a")
        await world.clock.advance(5)
        heard.fail = None
        await world.publish("b")
        await world.clock.advance(5)
        assert await world.reasons() == []
        assert len(world.log.at_least(logging.WARNING)) == 1
        kept.store.refuse = False
        await world.clock.advance(5)
        assert await world.reasons() == ["delivery_limit"]
    async with World(store=kept) as world:
        again = Heard()
        await world.subscriber.subscribe(">", again, name="billing")
        await world.clock.advance(5)
        assert again.events == []


# What a handler may be


async def test_handlers_of_every_shape_are_called_as_they_ask() -> None:
    """Functions, methods, callable objects and partials, of one or two parameters."""
    heard = list[str]()

    async def plain(event: Event) -> None:
        heard.append("plain")

    async def by_hand(event: Event, own: Delivery) -> None:
        own.ack()
        heard.append("by_hand")

    async def optional(event: Event, delivery: Delivery | None = None) -> None:
        assert delivery is not None
        heard.append("optional")

    async def other(event: Event, times: int = 2) -> None:
        assert times == 2
        heard.append("other")

    async def bound(first: int, event: Event) -> None:
        heard.append("bound")

    async with World() as world:
        for handler in (plain, by_hand, optional, other, functools.partial(bound, 1), Heard(), Heard().__call__):
            await world.subscriber.subscribe(">", handler)
        await world.publish("a")
        await world.clock.settle()
        assert await world.reasons() == []
        assert sorted(heard) == ["bound", "by_hand", "optional", "other", "plain"]


def not_async(event: Event) -> None:
    """A plain function: it would block everybody."""


async def of_none() -> None:
    """Takes nothing."""


async def of_three(event: Event, delivery: Delivery, more: int) -> None:
    """Asks for more than there is."""


@pytest.mark.parametrize("handler", [not_async, of_none, of_three, print, None, "handler", lambda event: None])
async def test_what_is_no_handler_is_refused(handler: Any) -> None:
    """At subscribe, with what is expected."""
    async with World() as world:
        with pytest.raises(SubscriptionError, match=r"handler: expected .* got "):
            await world.subscriber.subscribe(">", handler)
        assert world.router.get_metrics().subscriptions == 0


# At most once


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
