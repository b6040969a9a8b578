"""squall_observer: told in batches what happened; one that raises is disabled, never the event's problem."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import pytest
from tests.core.world import FromAnswers, Heard, KeptMemory, ManualStore, Policy, SlowToSettle, World

from squall import (
    Attempt,
    Context,
    Event,
    Nak,
    Observer,
    Plugin,
    RoutingRule,
    Subscription,
    SubscriptionError,
    Term,
    hookimpl,
)
from squall.core.config import Backlog


class Notes(Observer, Plugin):
    """Writes down what it is told; raises in the method that `wrong` names."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong
        self.calls: list[str] = []
        self.events: list[Event] = []
        self.drops: list[tuple[str, str | None, str]] = []
        self.attempts: list[Attempt] = []
        self.answers: list[tuple[int, str]] = []
        self.gates: list[tuple[str, str, str]] = []
        self.changes: list[tuple[str, str]] = []
        self.invoked_ns: list[int] = []
        self.settled_attempts: list[Attempt] = []

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self

    def _note(self, method: str) -> None:
        self.calls.append(method)
        if method == self.wrong:
            raise ValueError("observer is broken")

    def published(self, events: Sequence[Event]) -> None:
        self.events.extend(events)
        self._note("published")

    def dropped(self, event: Event, subscription_id: str | None, why: str) -> None:
        self.drops.append((event.type, subscription_id, why))
        self._note("dropped")

    def attempted(self, subscription: Subscription, attempts: Sequence[Attempt], settle_invoked_ns: int) -> None:
        self.attempts.extend(attempts)
        self.invoked_ns.append(settle_invoked_ns)
        self._note("attempted")

    def settled(self, subscription: Subscription, attempts: Sequence[Attempt], ok_ns: int, answer: str) -> None:
        self.settled_attempts.extend(attempts)
        self.answers.append((len(attempts), answer))
        self._note("settled")

    def subscription_changed(self, subscription: Subscription, change: str) -> None:
        self.changes.append((subscription.label, change))
        self._note("subscription_changed")

    def gate_changed(self, subscription: Subscription, gate: str, state: str) -> None:
        self.gates.append((subscription.label, gate, state))
        self._note("gate_changed")


class Changes(Plugin):
    """Says that a gate changed."""

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> None:
        self.changed = ctx.changed


async def a_day(world: World, changes: Changes, heard: Heard) -> str:
    """Something of everything: two events, a retry, a drop by rule, one by overflow, a gate that changes."""
    handler = FromAnswers(None, ValueError("broken"))
    own = await world.subscriber.subscribe("a", handler, name="billing")
    full = await world.subscriber.subscribe("full", heard, overflow="drop_new")
    await world.subscriber.pause_subscription(full)
    world.router.add_routing_rule(RoutingRule("debug", drop=True))
    await world.publish("a", "a", "debug", "full", "full", "full")
    await world.clock.advance(2)
    changes.changed(own, "breaker", "open")
    await world.subscriber.resume_subscription(full)
    await world.clock.advance(1)
    return full


async def test_an_observer_is_told_everything() -> None:
    """What was published, dropped by whom and why, attempted with what decision, settled, and gates."""
    notes, changes = Notes(), Changes()
    async with World(notes, changes, Policy(), backlog=Backlog(max_events=2)) as world:
        full = await a_day(world, changes, Heard())
        assert [one.type for one in notes.events] == ["a", "a", "full", "full", "full"]
        assert notes.drops == [("debug", None, "routing rule"), ("full", full, "overflow")]
        told = [(one.event.type, one.attempt, one.outcome, one.decision) for one in notes.attempts]
        assert [one for one in told if one[0] == "a"] == [
            ("a", 1, "ok", ()),
            ("a", 1, "error", Nak(1.0)),
            ("a", 2, "ok", ()),
        ]
        assert len(told) == 5
        assert notes.settled_attempts == notes.attempts
        assert {answer for _, answer in notes.answers} == {"ok"}
        assert notes.gates == [("billing", "breaker", "open")]


async def test_a_dead_letter_is_told_with_its_decision_and_error() -> None:
    """So that an observer may count reasons."""
    notes, error = Notes(), ValueError("broken")
    async with World(notes, Policy(lambda delivery, error: Term("delivery_limit", "enough"))) as world:
        await world.subscriber.subscribe(">", Heard(error))
        await world.publish("a")
        await world.clock.settle()
        (attempt,) = notes.attempts
        assert (attempt.decision, attempt.error) == (Term("delivery_limit", "enough"), error)


async def test_a_refused_settlement_is_told_and_told_again_until_it_is_taken() -> None:
    """So that an observer sees a store that is down, and knows what is settled in the end."""
    notes, kept = Notes(), KeptMemory(SlowToSettle)
    async with World(notes, store=kept) as world:
        await world.subscriber.subscribe(">", Heard(), name="billing")
        kept.store.refuse = True
        await world.publish("a")
        await world.clock.advance(2.5)
        assert {answer for _, answer in notes.answers} == {"refused"}
        kept.store.refuse = False
        await world.clock.advance(2.5)
        assert [answer for _, answer in notes.answers].count("ok") == 1
        assert notes.answers[-1] == (1, "ok")


async def test_nothing_is_told_as_published_before_it_is_stored() -> None:
    """Nor what the store refused."""
    notes, kept = Notes(), KeptMemory(ManualStore)
    async with World(notes, store=kept) as world:
        doomed, good = world.publishing("doomed"), world.publishing("good")
        await world.clock.settle()
        assert notes.events == []
        kept.store.fail()
        kept.store.commit()
        await good
        await world.clock.advance(0.1)
        assert doomed.exception() is not None
        assert [one.type for one in notes.events] == ["good"]


async def test_observers_are_told_in_batches() -> None:
    """A thousand events cost a few calls."""
    notes = Notes()
    async with World(notes) as world:
        await world.subscriber.subscribe(">", Heard())
        for _ in range(1000):
            await world.publish("a")
        await world.clock.advance(0.1)
        assert len(notes.events) == len(notes.attempts) == len(notes.settled_attempts) == 1000
        assert len(notes.calls) < 150


async def test_what_was_told_late_is_told_before_the_end() -> None:
    """Stopping loses no observation."""
    notes = Notes()
    async with World(notes) as world:
        await world.subscriber.subscribe(">", Heard())
        await world.publish("a")
    assert sorted(notes.calls) == ["attempted", "published", "settled", "subscription_changed"]


async def test_what_is_done_with_subscriptions_is_told_when_it_is_done() -> None:
    """By their owners, with and without a name; what fails is not told, nor what the router does when it stops."""
    notes = Notes()
    async with World(notes) as world:
        own = await world.subscriber.subscribe("a", Heard())
        await world.subscriber.pause_subscription(own)
        await world.subscriber.resume_subscription(own)
        named = await world.subscriber.subscribe("b", Heard(), name="invoices")
        for wrong in (world.subscriber.pause_subscription, world.subscriber.detach, world.subscriber.unsubscribe):
            with pytest.raises(SubscriptionError):
                await wrong("nobody")
        with pytest.raises(SubscriptionError):
            await world.subscriber.subscribe("b", Heard(), name="invoices")
        await world.subscriber.detach(named)
        await world.subscriber.subscribe("b", Heard(), name="invoices")
        await world.subscriber.unsubscribe(own)
        await world.subscriber.unsubscribe(named)
        await world.subscriber.subscribe("c", Heard(), name="left over")
    assert notes.changes == [
        ("billing", "subscribed"),
        ("billing", "paused"),
        ("billing", "resumed"),
        ("invoices", "subscribed"),
        ("invoices", "detached"),
        ("invoices", "subscribed"),
        ("billing", "unsubscribed"),
        ("invoices", "unsubscribed"),
        ("left over", "subscribed"),
    ]


@pytest.mark.parametrize(
    "method", ["published", "dropped", "attempted", "settled", "subscription_changed", "gate_changed"]
)
async def test_an_observer_that_raises_is_disabled_loudly(method: str) -> None:
    """In whatever method: it is told nothing more, the log names it, and neither events nor other observers notice."""
    wrong, right, plain, changes, heard = Notes(method), Notes(), Notes(), Changes(), Heard()
    async with World(plain, changes, Policy(), backlog=Backlog(max_events=2)) as world:
        await a_day(world, changes, Heard())
        await a_day_again(world, changes)
    async with World(wrong, right, changes, Policy(), backlog=Backlog(max_events=2)) as world:
        await a_day(world, changes, heard)
        await a_day_again(world, changes)
        assert await world.reasons() == []
        assert heard.types == ["full", "full"]
        (told,) = world.log.at_least(logging.ERROR)
        assert told == f"observer Notes raised in {method} and is disabled"
    assert right.calls == plain.calls
    assert wrong.calls.count(method) == 1
    assert wrong.calls[-1] == method


async def a_day_again(world: World, changes: Changes) -> None:
    """Once more of the same, with what is there."""
    for own in ("a", "debug"):
        await world.publish(own)
    await world.clock.advance(1)


class Quiet(Observer, Plugin):
    """Overrides nothing."""

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self


async def test_an_observer_is_asked_only_for_what_it_overrides() -> None:
    """One that overrides nothing is no work and no error."""
    heard = Heard()
    async with World(Quiet()) as world:
        await world.subscriber.subscribe(">", heard)
        await world.publish("a")
        await world.clock.settle()
        assert heard.types == ["a"]
