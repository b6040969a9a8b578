"""A delivery that fails: retries by policy or by the handler's wish, crashes, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from typing import Any

import pytest
from tests.core.world import FromAnswers, Heard, KeptMemory, Policy, World, until

from squall import (
    Decision,
    Event,
    FailedDelivery,
    Nak,
    Reject,
    Retry,
    Term,
)


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


@pytest.mark.slow  # five seconds' worth of retries
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
