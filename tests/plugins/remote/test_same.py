"""What a local router promises its publishers and subscribers, a remote one promises too."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import Any, Literal

import pytest
from tests.core.world import FromAnswers, Heard, Held
from tests.plugins.remote.buses import Where, bus
from tests.plugins.serve.served import until

from squall import (
    Delivery,
    Event,
    EventData,
    EventPublisher,
    EventSubscriber,
    Filter,
    InvalidEvent,
    Priority,
    Reject,
    Retry,
    SquallError,
    SubscriptionError,
    WrongThread,
)
from squall.plugins.remote.publisher import RemotePublisher
from squall.plugins.remote.subscriber import RemoteSubscriber

pytestmark = pytest.mark.slow  # each has a server and connections to it

both = pytest.mark.parametrize("where", ["local", "remote"])


@pytest.mark.parametrize(("own", "theirs"), [(RemotePublisher, EventPublisher), (RemoteSubscriber, EventSubscriber)])
def test_calls_names_and_defaults_are_the_same(own: type, theirs: type) -> None:
    """Every public call takes what the local one takes."""
    calls = [name for name, _ in inspect.getmembers(theirs, inspect.isfunction) if not name.startswith("_")]
    assert calls
    for name in calls:
        assert inspect.signature(getattr(own, name)) == inspect.signature(getattr(theirs, name)), name


BAD_EVENTS: list[dict[str, Any]] = [
    {"event_type": "a b"},
    {"event_type": ""},
    {"event_type": "$own"},
    {"payload": object()},
    {"payload": b"x" * 1_048_577},
    {"payload": float("nan")},
    {"priority": 1},
    {"key": ""},
    {"correlation_id": 5},
    {"metadata": {"a": object()}},
    {"event_id": "no"},
    {"ttl_s": 0},
    {"delay_s": -1.0},
]


@pytest.mark.parametrize("number", range(len(BAD_EVENTS)))
async def test_a_wrong_event_is_refused_in_the_same_words(number: int) -> None:
    """Nothing of it is stored."""
    bad = BAD_EVENTS[number]
    said = []
    for where in ("local", "remote"):
        async with bus(where) as one:
            with pytest.raises(InvalidEvent) as caught:
                await one.publisher.publish(**{"event_type": "a", "payload": b"", **bad})
            assert caught.value.outcome == "fail"
            assert one.router.get_metrics().published == 0
            said.append(str(caught.value))
    assert said[0] == said[1]


async def _sync(event: Event) -> None: ...


BAD_SUBSCRIPTIONS: list[dict[str, Any]] = [
    {"pattern": "a..b"},
    {"handler": print},
    {"concurrency": 0},
    {"timeout_s": 0},
    {"delivery": "once"},
    {"start": 0},
    {"priority_min": 2},
    {"name": ""},
    {"name": "n", "overflow": "drop_old"},
    {"name": "n", "filters": [lambda event: True]},
]


@pytest.mark.parametrize("bad", BAD_SUBSCRIPTIONS, ids="-".join)
async def test_a_wrong_subscription_is_refused_in_the_same_words(bad: dict[str, Any]) -> None:
    """And there is none then."""
    said = []
    for where in ("local", "remote"):
        async with bus(where) as one:
            with pytest.raises(SubscriptionError) as caught:
                await one.subscriber.subscribe(**{"pattern": ">", "handler": _sync, **bad})
            said.append(str(caught.value))
    assert said[0].partition(" at 0x")[0] == said[1].partition(" at 0x")[0]


@both
async def test_a_name_is_attached_once(where: Where) -> None:
    """A second handler is refused, another pattern too, until it is asked for."""
    async with bus(where) as one:
        first = await one.subscriber.subscribe("a", Heard(), name="n")
        with pytest.raises(SubscriptionError, match="attached already"):
            await one.subscriber.subscribe("a", Heard(), name="n")
        await one.subscriber.detach(first)
        with pytest.raises(SubscriptionError, match="pattern"):
            await one.subscriber.subscribe("b", Heard(), name="n")
        assert await one.subscriber.subscribe("b", Heard(), name="n", update=True) == first


@both
@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({}, "abcd"),
        ({"priority_min": Priority.HIGH}, "ab"),
        ({"priority_filter": Priority.HIGH}, "b"),
        ({"filters": [Filter(min_bytes=1)]}, "c"),
        ({"filters": [Filter(priority=Priority.LOW)]}, "d"),
        ({"filters": [Filter(not_=Filter(any=(Filter(type="a"), Filter(type="b"))))]}, "cd"),
        ({"filters": [lambda event: event.type in "ad"]}, "ad"),
        ({"filters": [Filter(max_bytes=0), lambda event: event.type in "acd"]}, "ad"),
        ({"filters": [lambda event: bool(1 // 0)]}, "abcd"),
    ],
)
async def test_filters_and_priorities_agree(where: Where, options: dict[str, Any], wanted: str) -> None:
    """What is not wanted is not owed."""
    heard = Heard()
    async with bus(where) as one:
        await one.subscriber.subscribe("*", heard, **options)
        for kind, priority in zip("abcd", Priority, strict=True):
            await one.publisher.publish(kind, b"1" if kind == "c" else b"", priority)
        await until(lambda: one.router.get_metrics().published == 4)
        await one.idle()
        await until(lambda: sorted(heard.types) == [*wanted])


@both
@pytest.mark.parametrize(
    ("answers", "dead"),
    [
        ([ValueError("x"), None], []),
        ([Retry(0.01), Retry(), None], []),
        ([ValueError("x")] * 3, [("a", "ValueError")]),
        ([Reject("no")], [("a", "Reject")]),
    ],
)
async def test_how_a_handler_ends_decides(where: Where, answers: list[Exception | None], dead: list[Any]) -> None:
    """By return, by an error and the policy, by Retry and Reject."""
    handler = FromAnswers(*answers)
    async with bus(where) as one:
        await one.subscriber.subscribe("a", handler)
        await one.publisher.publish("a", b"")
        await until(lambda: len(handler.events) == len(answers))
        await one.idle()
        await one.died(*dead)


@both
async def test_a_handler_settles_by_hand(where: Where) -> None:
    """Its first word counts, whatever it does afterwards; a second one is an error."""
    seen: list[str] = []

    async def handler(event: Event, delivery: Delivery) -> None:
        again = event.type in seen
        seen.append(event.type)
        delivery.in_progress()
        if event.type == "nak" and not again:
            delivery.nak(0.01)
        elif event.type == "term":
            delivery.term("useless")
        else:
            delivery.ack()
            with pytest.raises(SquallError):
                delivery.nak()
            raise ValueError("after the word")

    async with bus(where) as one:
        await one.subscriber.subscribe("*", handler)
        for kind in ("ack", "nak", "term"):
            await one.publisher.publish(kind, b"")
        await until(lambda: len(seen) == 4)
        await one.idle()
        assert sorted(seen) == ["ack", "nak", "nak", "term"]
        await one.died(("term", "Reject"))


@both
async def test_a_handler_over_its_time_is_cancelled_and_tried_again(where: Where) -> None:
    """Until the attempts are spent."""
    held = Held()
    async with bus(where) as one:
        await one.subscriber.subscribe("a", held, timeout_s=0.05)
        await one.publisher.publish("a", b"")
        await until(lambda: (len(held.calls), held.cancelled) == (3, 3))
        await one.died(("a", "TimeoutError"))
        (letter,) = await one.router.store.dead_letters()
        assert letter.reason == "timeout"


@both
async def test_a_handler_that_ignores_its_cancellation_is_abandoned(where: Where) -> None:
    """Its slot is filled again: the next event is delivered."""
    held = Held(stubborn=True)
    async with bus(where) as one:
        await one.subscriber.subscribe("a", held, timeout_s=0.05)
        await one.publisher.publish("a", b"")
        await until(lambda: len(held.calls) == 2)
        held.finish_all()
        await one.idle()


@both
async def test_at_most_once_is_never_delivered_again(where: Where) -> None:
    """However it ends."""
    handler = FromAnswers(ValueError("x"), None)
    async with bus(where) as one:
        await one.subscriber.subscribe("*", handler, delivery="at-most-once")
        for kind in "abc":
            await one.publisher.publish(kind, b"")
        await until(lambda: len(handler.events) == 3)
        await one.idle()
        assert [event.type for event in handler.events] == ["a", "b", "c"]


@both
async def test_a_pause_holds_deliveries_and_owes_them(where: Where) -> None:
    """A handler that runs may end; what came meanwhile comes after the resume."""
    held = Held()
    async with bus(where) as one:
        own = await one.subscriber.subscribe("*", held)
        await one.publisher.publish("a", b"")
        await until(lambda: len(held.calls) == 1)
        await one.subscriber.pause_subscription(own)
        held.finish_all()
        await one.idle()
        await one.publisher.publish("b", b"")
        await asyncio.sleep(0.05)
        assert [call.event.type for call in held.calls] == ["a"]
        await one.subscriber.resume_subscription(own)
        await until(lambda: len(held.calls) == 2)
        held.finish_all()
        await one.idle()


@both
@pytest.mark.parametrize("options", [{}, {"name": "n"}, {"delivery": "at-most-once"}], ids=str)
@pytest.mark.parametrize("paused", [False, True])
async def test_what_is_over_before_its_turn_does_not_begin(
    where: Where, options: dict[str, Any], *, paused: bool
) -> None:
    """It expires behind a handler that takes long, or a pause; what comes after it begins."""
    held = Held()
    async with bus(where) as one:
        own = await one.subscriber.subscribe("*", held, **options)
        await one.publisher.publish("first", b"")
        await until(lambda: len(held.calls) == 1)
        if paused:
            await one.subscriber.pause_subscription(own)
        began = time.monotonic()
        await one.publisher.publish("short", b"", ttl_s=0.1)
        await one.publisher.publish("long", b"", ttl_s=60)
        await until(lambda: time.monotonic() > began + 0.2)
        held.finish_all()
        if paused:
            await one.subscriber.resume_subscription(own)
        await until(lambda: len(held.calls) == 2)
        assert [call.event.type for call in held.calls] == ["first", "long"]
        long = held.calls[-1].event
        assert 0 < long.expires_ns - long.time_ns <= 60 * 10**9  # remote, the time until it was sent counts too
        held.finish_all()
        await one.idle()
        settled_as_sent = where == "remote" and options.get("delivery") == "at-most-once"
        assert settled_as_sent or one.router.get_metrics().expired == 1
        await one.died()


@both
@pytest.mark.parametrize("delivery", ["at-least-once", "at-most-once"])
async def test_what_expired_makes_room_for_what_comes_after_it(
    where: Where, delivery: Literal["at-least-once", "at-most-once"]
) -> None:
    """Also where it was all that might be in flight."""
    heard = Heard()
    async with bus(where) as one:
        own = await one.subscriber.subscribe("*", heard, delivery=delivery, in_flight=2)
        await one.subscriber.pause_subscription(own)
        began = time.monotonic()
        for _ in range(2):
            await one.publisher.publish("short", b"", ttl_s=0.1)
        await one.publisher.publish("long", b"", ttl_s=60)
        await until(lambda: time.monotonic() > began + 0.2)
        await one.subscriber.resume_subscription(own)
        await until(lambda: heard.types == ["long"])
        await one.idle()


@both
async def test_a_retry_that_comes_too_late_expires(where: Where) -> None:
    """It is no dead letter, though its attempts are not spent."""
    handler = FromAnswers(Retry(0.3), None)
    async with bus(where) as one:
        await one.subscriber.subscribe("a", handler)
        await one.publisher.publish("a", b"", ttl_s=0.2)
        await one.idle()
        assert (len(handler.events), one.router.get_metrics().expired) == (1, 1)
        await one.died()


@both
@pytest.mark.parametrize("how", ["unsubscribe", "detach"])
async def test_leaving_a_durable_subscription(where: Where, how: str) -> None:
    """Detached it is owed what it was owed, unsubscribed it is owed nothing; neither is there any more."""
    heard, again = Heard(), Heard()
    async with bus(where) as one:
        own = await one.subscriber.subscribe("*", heard, name="n")
        await one.publisher.publish("a", b"")
        await until(lambda: heard.types == ["a"])
        await one.idle()
        await getattr(one.subscriber, how)(own)
        with pytest.raises(SubscriptionError):
            await one.subscriber.unsubscribe(own)
        await one.publisher.publish("b", b"")
        same = await one.subscriber.subscribe("*", again, name="n")
        await one.publisher.publish("c", b"")
        await until(lambda: "c" in again.types)
        assert heard.types == ["a"]
        assert again.types == (["b", "c"] if how == "detach" else ["c"])
        assert (same == own) == (how == "detach")


@both
async def test_detaching_cancels_what_runs_uncounted(where: Where) -> None:
    """It is delivered to who takes the name up."""
    held, again = Held(), Heard()
    async with bus(where) as one:
        own = await one.subscriber.subscribe("*", held, name="n")
        await one.publisher.publish("a", b"")
        await until(lambda: len(held.calls) == 1)
        await one.subscriber.detach(own)
        assert held.cancelled == 1
        await one.subscriber.subscribe("*", again, name="n")
        await until(lambda: again.types == ["a"])


@both
async def test_concurrency_is_used_and_kept_and_keys_stay_in_order(where: Where) -> None:
    """Never more handlers than allowed, never two of a key."""
    running: set[str] = set()
    seen: dict[str, list[int]] = {}
    most = 0

    async def handler(event: Event) -> None:
        nonlocal most
        key = event.key or ""
        assert key not in running
        running.add(key)
        most = max(most, len(running))
        await asyncio.sleep(0.001)
        seen.setdefault(key, []).append(event.data)
        running.discard(key)

    async with bus(where) as one:
        await one.subscriber.subscribe("a", handler, concurrency=4)
        await asyncio.gather(*(one.publisher.publish("a", number, key=f"k{number % 10}") for number in range(200)))
        await until(lambda: sum(map(len, seen.values())) == 200)
        assert most == 4
        assert seen == {f"k{key}": list(range(key, 200, 10)) for key in range(10)}


@both
async def test_a_batch_is_stored_whole_or_not_at_all(where: Where) -> None:
    """The wrong one is named."""
    heard = Heard()
    async with bus(where) as one:
        await one.subscriber.subscribe("*", heard)
        with pytest.raises(InvalidEvent, match=r"events\[1\]\.event_type"):
            await one.publisher.publish_batch([EventData("a", b""), EventData("b b", b"")])
        with pytest.raises(InvalidEvent, match="at most 1000, got 1001"):
            await one.publisher.publish_batch([EventData("a", b"")] * 1001)
        assert await one.publisher.publish_batch([]) == []
        receipts = await one.publisher.publish_batch_with_receipts([EventData(kind, b"") for kind in "abc"])
        await until(lambda: len(heard.events) == 3)
        assert [receipt.seq for receipt in receipts] == heard.seqs == [1, 2, 3]
        assert [receipt.id for receipt in receipts] == heard.ids


@both
async def test_publish_sync_is_for_other_threads(where: Where) -> None:
    """On the loop's own thread it would wait for itself."""
    async with bus(where) as one:
        assert await asyncio.to_thread(one.publisher.publish_sync, "a", {"n": 1}, priority=Priority.HIGH)
        assert one.router.get_metrics().published == 1
        with pytest.raises(WrongThread):
            one.publisher.publish_sync("a", b"")


@both
async def test_a_slow_subscriber_delays_no_other(where: Where) -> None:
    """Each has its own credit."""
    held, heard = Held(), Heard()
    async with bus(where) as one:
        slow = await one.subscriber.subscribe("*", held, in_flight=5)
        await one.subscriber.subscribe("*", heard)
        await asyncio.gather(*(one.publisher.publish("a", b"") for _ in range(500)))
        await until(lambda: len(heard.events) == 500)
        assert len(held.calls) == 1
        await one.subscriber.pause_subscription(slow)
        held.finish_all()
        await one.subscriber.unsubscribe(slow)  # else a stop waits for all that it has not handled
