"""Dead letters: one an event and subscription, with the whole story."""

from __future__ import annotations

from tests.core.world import Heard, Policy, World

from squall import (
    Event,
    Priority,
)


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
