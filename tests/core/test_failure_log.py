"""A handler that fails is told in the log: once for a subscription, and again when it had been quiet for long."""

from __future__ import annotations

import logging
import os

import pytest
from tests.core.world import FromAnswers, Heard, Held, Policy, World, until

from squall import Backlog, Event, Reject, Retry
from squall.core import failures


async def broken(event: Event) -> None:
    """What somebody new may write."""
    print(evnt.data)  # type: ignore[name-defined]  # noqa: F821, T201


def warnings(world: World) -> list[str]:
    return world.log.at_least(logging.WARNING)


async def test_the_first_failed_attempt_is_told_with_all_that_helps() -> None:
    """Whose, which event, what was raised and where, what happens next; and no further one, of any event."""
    async with World(Policy()) as world:
        await world.subscriber.subscribe("order.>", broken, name="billing-orders")
        (event_id, *_) = await world.publish("order.created", "order.paid")
        await world.clock.advance(0.5)
        (told,) = warnings(world)
        for part in (
            f"subscription billing-orders: event {event_id} (order.created) failed: NameError: name 'evnt' is not",
            f"({__file__}:",
            "in broken)",
            "delivered again in 1 s",
            "further ones are counted",
        ):
            assert part in told
        await world.clock.advance(1)
        assert warnings(world) == [told]
        assert len([one for one in world.log.records if one.levelno == logging.DEBUG]) == 3


async def test_the_first_dead_letter_is_told_too() -> None:
    """Attempts that led there were told before; other dead letters are not."""
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", Heard(ValueError("no")))
        await world.publish("a", "b")
        await world.clock.advance(10)
        first, dead = warnings(world)
        assert "delivered again" in first
        assert "(a) failed: ValueError: no" in dead
        assert "it is among the dead letters now, reason delivery_limit" in dead


async def test_each_subscription_has_its_own() -> None:
    async with World(Policy()) as world:
        for name in ("one", "two"):
            await world.subscriber.subscribe(">", Heard(ValueError("no")), name=name)
        await world.publish("a", "b")
        await world.clock.advance(0.5)
        assert [told.split(":")[0] for told in warnings(world)] == ["subscription one", "subscription two"]


async def test_a_new_trouble_is_told_again_and_a_lasting_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """After ten seconds here without a failure; what fails every nine is one trouble."""
    monkeypatch.setattr(failures, "QUIET_NS", 10_000_000_000)
    handler = FromAnswers(*[Reject("no")] * 4)
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handler)
        for pause_s, count in ((9, 1), (9, 1), (11, 1), (0, 2)):
            await world.publish("a")
            await world.clock.advance(0.1)
            assert len(warnings(world)) == count
            await world.clock.advance(pause_s)


@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
async def test_what_happens_next_is_true(delivery: str) -> None:
    """Without a policy the first failure is the last; at most once, there is no second try and no letter."""
    async with World() as world:
        await world.subscriber.subscribe(">", Heard(ValueError("no")), delivery=delivery)  # type: ignore[arg-type]
        await world.publish("a")
        await world.clock.advance(1)
        (told,) = warnings(world)
        dead = delivery == "at-least-once"
        assert ("dead letters now, reason delivery_limit" in told) is dead is bool(await world.dead())
        assert ("is lost to this subscription" in told) is not dead


async def test_a_timeout_is_told() -> None:
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", Held(), timeout_s=1.0)
        await world.publish("a")
        await world.clock.advance(1.5)
        assert "TimeoutError: handler took longer than 1.0 s" in warnings(world)[0]


async def test_what_a_handler_asks_for_is_no_trouble() -> None:
    """Retry is a wish; and it keeps no failure from being told."""
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", FromAnswers(Retry(1.0), ValueError("no")))
        await world.publish("a")
        await world.clock.advance(0.5)
        assert warnings(world) == []
        await world.clock.advance(1)
        assert "ValueError" in warnings(world)[0]


async def test_what_finds_no_room_is_told_as_any_dead_letter() -> None:
    async with World(backlog=Backlog(max_events=1, overflow="drop_old")) as world:
        own = await world.subscriber.subscribe(">", Heard())
        await world.subscriber.pause_subscription(own)
        await world.publish("a", "b", "c")
        (told,) = warnings(world)
        assert "(a) failed: Overflow: at most 1 may wait: drop_old" in told
        assert "dead letters now, reason overflow" in told


async def test_secrets_stay_out_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole, also where the text is cut."""
    monkeypatch.setenv("SHOP_API_KEY", "k" * 30)
    assert "SHOP_API_KEY" in os.environ
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", Heard(ValueError("x" * 470 + "k" * 30 + " https://a:b0ttle@c")))
        await world.subscriber.subscribe(">", Heard(ValueError("https://a:b0ttle@c")))
        await world.publish("a")
        await world.clock.advance(0.5)
        assert len(warnings(world)) == 2
        assert "kkk" not in world.log.text
        assert "b0ttle" not in world.log.text


async def test_success_costs_no_word() -> None:
    """Neither does a success after failures."""
    handler = FromAnswers(ValueError("no"))
    async with World(Policy()) as world:
        await world.subscriber.subscribe(">", handler)
        await world.publish("a", "b")
        await world.clock.advance(2)
        await until(lambda: len(handler.events) == 3)
        assert len(world.log.records) == 1
