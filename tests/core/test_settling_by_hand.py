"""What a handler says by hand: the first word counts, whatever it does then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.core.world import Heard, KeptMemory, Policy, World

from squall import (
    Delivery,
    Event,
    Reject,
    Retry,
    SquallError,
)

ByHand = Callable[[Event, Delivery], Awaitable[None]]


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


async def test_a_nak_without_a_delay_of_its_own_is_not_one_of_no_delay() -> None:
    """`nak(0)` comes again at once; `nak()` as the policy says."""

    async def at_once(event: Event, delivery: Delivery) -> None:
        delivery.nak(0)

    assert (await told(at_once, Policy()))[0] == [0.0, 0.0, 0.0]
