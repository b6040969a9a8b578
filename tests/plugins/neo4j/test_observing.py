"""What is counted in memory: cheap per batch, bounded, and exact where many things are told apart no more."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from types import FrameType
from typing import Any

import pytest
from tests.core.events import event
from tests.core.world import Heard, World
from tests.plugins.serve.served import Served

from squall import Ack, Attempt, Context, Event, Nak, Observer, Plugin, Subscription, Term, hookimpl
from squall.core.delivery import ACK, Attempts
from squall.core.store import DeadLetter
from squall.plugins.memory import MemoryPlugin
from squall.plugins.neo4j.batches import MAX_ROWS, Batch, Batches
from squall.plugins.neo4j.observing import OTHERS, FlowObserver

NOW_NS = 1_767_225_600_000_000_000


def observer(max_waiting: int = 1000) -> FlowObserver:
    return FlowObserver("router-1", lambda: NOW_NS, max_waiting, 3600.0)


def subscription(number: int = 0, **more: Any) -> Subscription:
    made = datetime(2026, 1, 1, tzinfo=UTC)
    pattern = more.pop("pattern", ">")
    return Subscription(f"subscription-{number}", "billing", pattern, Heard(), [], None, made, **more)


def own_event(topic: str) -> Event:
    """An event that this router has published."""
    made = event(topic)
    made.published_ns = 1
    return made


def calls(work: Callable[[], object]) -> int:
    """How many functions a call calls, in Python and in C, in all that it calls."""
    count = 0

    def profile(frame: FrameType, what: str, argument: object) -> None:
        nonlocal count
        count += what in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(before)
    return count


def test_a_batch_costs_as_many_calls_as_it_has_flows_not_events() -> None:
    """Publishes and deliveries: a thousand events of one topic are one update, of three topics three."""

    def cost(n: int, topics: int) -> tuple[int, int]:
        counting, own = observer(), subscription()
        events = [own_event(f"topic.{number % topics}") for number in range(n)]
        attempts = Attempts([Attempt(one, 0, 1) for one in events], [])
        counting.published(events)
        counting.settled(own, attempts, 0, "ok")
        return (
            calls(lambda: counting.published(events)),
            calls(lambda: counting.settled(own, attempts, 0, "ok")),
        )

    assert cost(1000, 1) == cost(10, 1)
    assert cost(1000, 3) == cost(10, 3)
    one, three, six = cost(1000, 1), cost(1000, 3), cost(1000, 6)
    assert all(more - less <= 3 * 5 for more, less in zip(six, three, strict=True))
    assert max(one) < 25


def rows(counting: FlowObserver, kind: str) -> list[dict[str, Any]]:
    return [dict(row) for one, row in counting.take() if one == kind]


def test_flows_past_the_bound_are_counted_as_others() -> None:
    """No event is lost from the sums, however many topics, sources and subscriptions there are."""
    counting = observer(max_waiting=100)
    for number in range(1000):
        one = own_event(f"topic.{number}")
        counting.published([one])
        counting.settled(subscription(number), Attempts([Attempt(one, 0, 1)]), 0, "ok")
    taken = list(counting.take())
    publishes = [row for kind, row in taken if kind == "publishes"]
    deliveries = [row for kind, row in taken if kind == "deliveries"]
    assert (len(publishes), len(deliveries)) == (101, 101)
    assert sum(int(str(row["count"])) for row in publishes) == 1000
    assert sum(int(str(row["delivered"])) for row in deliveries) == 1000
    (other,) = (row for row in deliveries if row["topic"] == OTHERS)
    assert (other["service"], other["subscription"], other["delivered"]) == (OTHERS, None, 900)


def test_the_oldest_audit_rows_make_room_and_are_counted() -> None:
    """So that a graph that is gone for long costs no memory."""
    counting = observer(max_waiting=100)
    for number in range(250):
        counting.subscription_changed(subscription(number), "subscribed")
    assert counting.rows_dropped == 150 + 150  # audit rows, and states of subscriptions
    assert [row["subscription"] for row in rows(counting, "audit")] == [f"subscription-{n}" for n in range(150, 250)]


def test_how_deliveries_ended_is_counted_once_the_store_has_it() -> None:
    """A refused settlement counts nothing; an acknowledgement by hand counts like any other."""
    counting = observer()
    one = event("a")
    attempts = Attempts([
        Attempt(one, 0, 1),
        Attempt(one, 0, 1, decision=Ack()),
        Attempt(one, 0, 1, outcome="error", decision=Nak(1.0)),
        Attempt(one, 0, 1, outcome="error", decision=Nak(1.0)),
        Attempt(one, 0, 1, outcome="error", decision=Term("rejected")),
        Attempt(one, 0, 1, outcome="error", decision=ACK),
    ])  # fmt: skip
    counting.settled(subscription(), attempts, 0, "refused")
    assert list(counting.take()) == []
    counting.settled(subscription(), attempts, 0, "ok")
    (row,) = rows(counting, "deliveries")
    assert (row["delivered"], row["failed"], row["dead_lettered"]) == (3, 2, 1)


def test_a_mixed_batch_is_told_apart() -> None:
    """By source and topic; where the pattern has no wildcard, the topic is known without a look."""
    counting = observer()
    topics = ["a", "b", "a", "a"]
    counting.published([own_event(topic) for topic in topics])
    attempts = Attempts([Attempt(event(topic), 0, 1) for topic in topics])
    counting.settled(subscription(1), attempts, 0, "ok")
    counting.settled(subscription(2, pattern="a"), Attempts(attempts[2:]), 0, "ok")
    counting.settled(subscription(1), Attempts(), 0, "ok")
    taken = list(counting.take())
    flows = [(row["topic"], row["service"], row["count"]) for kind, row in taken if kind == "publishes"]
    assert flows == [("a", "shop", 3), ("b", "shop", 1)]
    ended = [(row["topic"], row["subscription"], row["delivered"]) for kind, row in taken if kind == "deliveries"]
    assert ended == [("a", "subscription-1", 3), ("a", "subscription-2", 2), ("b", "subscription-1", 1)]


def test_what_other_routers_published_is_theirs_to_count() -> None:
    """Of a store that several share, each is told all."""
    counting = observer()
    counting.published([event("a"), own_event("a")])
    (row,) = rows(counting, "publishes")
    assert row["count"] == 1


def test_publishes_are_told_apart_by_where_they_came_from() -> None:
    """Those of this process have no address; one batch may have several."""
    counting = observer()
    events = [own_event("a") for _ in range(4)]
    events[1].origin = events[3].origin = "192.0.2.7"
    counting.published(events)
    counting.published(events[:1])
    told = rows(counting, "publishes")
    assert [(row["topic"], row["origin"], row["count"]) for row in told] == [("a", None, 3), ("a", "192.0.2.7", 2)]
    assert len({row["audit"] for row in told}) == 2


def test_a_redrive_is_one_row_however_many_letters_it_gives_back() -> None:
    """With the first of their numbers."""
    counting = observer()
    letters = [
        DeadLetter(event("a", seq=number), "s-1", "invoices", "a.>", "rejected", 1, 0, 0, "", "", "")
        for number in range(1, 31)
    ]
    counting.redriven("s-1", letters, "192.0.2.7")
    counting.redriven("s-1", letters[:2], "")
    many, few = rows(counting, "audit")
    told = ("redrove", "s-1", "invoices", "a.>", "192.0.2.7")
    assert tuple(many[name] for name in ("action", "subscription", "name", "pattern", "origin")) == told
    assert str(many["detail"]).startswith("dead letters of 30 events: 1, 2, 3,")
    assert str(many["detail"]).endswith(", 20, …")
    assert (few["detail"], few["origin"]) == ("dead letters of 2 events: 1, 2", None)


class Watching(Plugin):
    """Enables an observer, and pauses the subscription by a gate, as a breaker may."""

    def __init__(self, counting: FlowObserver) -> None:
        super().__init__()
        self.counting = counting

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self.counting

    @hookimpl
    def squall_gate(self, ctx: Context, subscription: Subscription) -> None:
        self.changed, self.subscription = ctx.changed, subscription


async def test_the_address_of_a_remote_client_is_noted() -> None:
    """Of what is done with its subscription; one of the router's own process has none."""
    counting = observer()
    async with Served(MemoryPlugin(), Watching(counting)) as served, served.client() as client:
        await served.router.subscriber("here").subscribe("a", Heard())
        await client.subscribe("a")
    told = [(row["action"], row["service"], row["origin"]) for row in rows(counting, "audit")]
    assert told[:2] == [("subscribed", "here", None), ("subscribed", "billing", "127.0.0.1")]
    assert ("detached", "billing", "127.0.0.1") in told


async def test_the_address_that_publishes_came_from_is_noted() -> None:
    """By HTTP, and by the WebSocket, one by one and as a batch; and what is published here has none."""
    counting = observer()
    async with Served(MemoryPlugin(), Watching(counting)) as served, served.client() as client:
        await served.router.publisher("shop").publish("a", b"")
        assert (await served.post(b"", id="1", source="shop", type="a", specversion="1.0")).status == 200
        one = {"id": "2", "source": "shop", "type": "a", "specversion": "1.0"}
        assert (await served.post([one], "application/cloudevents-batch+json")).status == 200
        await client.publish("a")
        await client.publish("a", "a", atomic=True)
    assert [(row["origin"], row["count"]) for row in rows(counting, "publishes")] == [(None, 1), ("127.0.0.1", 5)]


async def test_a_pause_by_a_plugin_is_noted_too() -> None:
    """Once, with the gate that did it; and the resumption by whoever did that."""
    counting = observer()
    watching = Watching(counting)
    async with World(watching) as world:
        own = await world.subscriber.subscribe("a", Heard())
        watching.changed(own, "breaker", "open")
        watching.subscription.paused = True
        watching.changed(own, "dead_letters", "open")
        watching.changed(own, "breaker", "closed")
        await world.subscriber.resume_subscription(own)
    told = [(row["action"], row["detail"]) for row in rows(counting, "audit")]
    assert told == [("subscribed", None), ("paused", "by its gate dead_letters"), ("resumed", None)]


def test_a_batch_in_halves_is_taken_once_with_the_whole_or_without() -> None:
    """The graph takes a number above the one it has: after the whole none of its parts, after the batch before all."""
    (batch, after) = Batches().cut([("audit" if n % 3 else "publishes", {"n": n}) for n in range(2 * MAX_ROWS)])
    parts, whole = [batch, after], batch.number
    while any(part.size > 1 for part in parts):
        parts = [half for part in parts for half in (part.halves() if part.size > 1 else (part,))]
    numbers = [part.number for part in parts]
    assert numbers == sorted(set(numbers))
    assert numbers[0] > whole - 1
    assert [part.number for part in parts if part.number <= whole] == numbers[:MAX_ROWS]
    flat = [row for part in parts for rows in part.rows.values() for row in rows]
    assert flat == [row for one in (batch, after) for rows in one.rows.values() for row in rows]


@pytest.mark.parametrize("count", [0, 1, MAX_ROWS, MAX_ROWS + 1, 3 * MAX_ROWS])
def test_batches_have_so_many_rows_at_most_and_numbers_of_their_own(count: int) -> None:
    """Nothing is left out, and the order is kept."""
    cutting = Batches()
    given: list[tuple[Any, dict[str, object]]] = [("audit" if n % 3 else "publishes", {"n": n}) for n in range(count)]
    cut: list[Batch] = [*cutting.cut(given), *cutting.cut([("audit", {"n": -1})])]
    assert [batch.number for batch in cut] == list(range(1, len(cut) + 1))
    assert all(sum(map(len, batch.rows.values())) <= MAX_ROWS for batch in cut)
    for kind in ("audit", "publishes"):
        flat = [row for batch in cut[:-1] for row in batch.rows.get(kind, [])]
        assert flat == [row for one, row in given if one == kind]
