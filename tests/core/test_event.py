"""The event: payloads to bytes and back, times, and what is refused at publish with nothing stored."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st
from tests.core.world import Heard, World, event

from squall import Event, EventData, InvalidEvent, Priority
from squall.core.event import MAX_PAYLOAD_BYTES, check_text, encode

json_values = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.text(),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=6,
)


def decoded(payload: object, metadata: dict[str, Any] | None = None) -> Any:
    """What a subscriber reads of a payload."""
    encoded, content_type = encode(payload)
    own = {"content-type": content_type} if content_type else {}
    return event(payload=encoded, metadata={**own, **(metadata or {})}).data


@given(json_values)
def test_json_comes_back_as_it_went(payload: object) -> None:
    """Text, numbers, lists and mappings."""
    assert decoded(payload) == payload


@given(st.binary())
def test_bytes_are_left_alone(payload: bytes) -> None:
    """They are neither wrapped nor labelled; a bytearray and a view become bytes."""
    assert encode(payload) == (payload, None)
    assert decoded(bytearray(payload)) == decoded(memoryview(payload)) == payload


def test_a_protobuf_message_is_serialized_and_its_type_named() -> None:
    """event.data gives the message again."""
    message = Struct()
    message.update({"n": 1.0})
    assert encode(message)[1] == "application/protobuf; type=google.protobuf.Struct"
    assert decoded(message) == message


@pytest.mark.parametrize("payload", [object(), {1, lambda: 0}, float, 1j])
def test_what_cannot_be_serialized_is_refused(payload: object) -> None:
    """With the payload's type, and what is accepted."""
    with pytest.raises(InvalidEvent, match=r"expected bytes, a protobuf message, or what JSON can hold, got \w+"):
        encode(payload)


@pytest.mark.parametrize("number", [float("inf"), float("-inf"), float("nan")])
def test_numbers_that_json_cannot_hold_are_refused(number: float) -> None:
    """Nothing else than what was published arrives."""
    with pytest.raises(InvalidEvent, match="payload"):
        encode({"n": [number]})


def test_data_of_a_broken_payload_is_an_error_of_the_reader() -> None:
    """Not None, and not the bytes."""
    with pytest.raises(ValueError, match="truncated"):
        _ = event(payload=b"{", metadata={"content-type": "application/json"}).data


@given(st.datetimes(datetime(1970, 1, 1), datetime(2200, 1, 1)))
def test_a_timestamp_is_a_utc_datetime_whichever_way_it_was_given(moment: datetime) -> None:
    """Nanoseconds and datetimes are the same moment; time_ns goes back without a rounding error."""
    moment = moment.replace(tzinfo=UTC)
    given_ns = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) * 1000
    as_ns = Event("i", "a", "s", given_ns, Priority.LOW, "c", {}, b"", "1")  # type: ignore[arg-type]
    as_datetime = Event("i", "a", "s", moment, Priority.LOW, "c", {}, b"", "1")
    assert as_ns.timestamp == as_datetime.timestamp == moment
    assert as_ns.time_ns == as_datetime.time_ns == given_ns


@pytest.mark.parametrize("bad", ["", "x" * 257, None, 7, b"a"])
def test_texts_have_one_to_256_characters(bad: object) -> None:
    """The message says which text, and how long it is or what it is."""
    with pytest.raises(
        InvalidEvent, match=r"key: expected text of 1 to 256 characters, got (0|257|NoneType|int|bytes)"
    ):
        check_text("key", bad)
    check_text("key", "x" * 256)


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"event_type": "order..created"}, "event_type: "),
    ({"event_type": 7}, "event_type: "),
    ({"event_type": "$squall.started"}, "event_type: expected one that does not begin with"),
    ({"payload": object()}, "payload: "),
    ({"payload": b"." * (MAX_PAYLOAD_BYTES + 1)}, "payload: expected at most 1048576 bytes, got 1048577"),
    ({"priority": 2}, "priority: expected a squall.Priority, got 2"),
    ({"priority": "HIGH"}, "priority: expected a squall.Priority"),
    ({"correlation_id": ""}, "correlation_id: "),
    ({"correlation_id": 7}, "correlation_id: "),
    ({"key": "k" * 257}, "key: "),
]


@pytest.mark.parametrize(("wrong", "complaint"), REFUSED)
async def test_a_wrong_publish_is_refused_with_nothing_stored(wrong: dict[str, Any], complaint: str) -> None:
    """At once, naming the parameter; the outcome is `fail`; the same inside a batch, with its place there."""
    heard = Heard()
    right: dict[str, Any] = {"event_type": "order.created", "payload": b""}
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        with pytest.raises(InvalidEvent, match=complaint) as caught:
            await world.publisher.publish(**{**right, **wrong})
        assert caught.value.outcome == "fail"
        batch = [EventData(**right), EventData(**{**right, **wrong})]
        with pytest.raises(InvalidEvent, match=rf"events\[1\].{complaint}.*nothing of the batch was stored"):
            await world.publisher.publish_batch(batch)
        await world.clock.settle()
        assert not heard.events
        assert (await world.router.store.counts()).events == 0
        assert world.router.get_metrics().published == 0


async def test_a_wrong_source_is_refused_when_the_publisher_is_made() -> None:
    """Not at each publish."""
    world = World()
    with pytest.raises(InvalidEvent, match="source: "):
        world.router.publisher("")
    with pytest.raises(InvalidEvent, match="subscriber_id: "):
        world.router.subscriber("x" * 257)


async def test_an_event_says_where_and_when_it_came_from() -> None:
    """Its own id is the correlation id where none is given; metadata is a copy, so that a caller may go on with its."""
    heard, metadata = Heard(), {"a": 1}
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        receipt = await world.publisher.publish_with_receipt("order.created", {"n": 1}, metadata=metadata)
        metadata["a"] = 2
        await world.clock.settle()
        (one,) = heard.events
        assert (one.id, one.seq) == (receipt.id, receipt.seq) == (one.correlation_id, 1)
        assert (receipt.durability, receipt.duplicate) == ("memory", False)
        assert one.metadata == {"a": 1, "content-type": "application/json"}
        assert (one.source, one.time_ns, one.published_ns) == (
            "shop",
            world.clock.time_ns(),
            world.clock.monotonic_ns(),
        )


async def test_a_content_type_of_ones_own_is_kept() -> None:
    """The publisher knows best what its payload is."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        await world.publisher.publish("a", {"n": 1}, metadata={"content-type": "application/vnd.shop+json"})
        await world.clock.settle()
        assert heard.events[0].metadata["content-type"] == "application/vnd.shop+json"
        assert heard.events[0].data == b'{"n":1}'


@pytest.mark.parametrize("value", [object(), {1: object()}, lambda: None])
async def test_metadata_that_no_store_could_keep_is_refused(value: object) -> None:
    """By name and before anything is stored, whatever store there is."""
    async with World() as world:
        with pytest.raises(InvalidEvent, match="metadata: expected what JSON can hold"):
            await world.publisher.publish("a", b"", metadata={"region": value})
        assert (await world.router.store.counts()).events == 0


async def test_rates_count_from_the_subscription_on() -> None:
    """The first window of a second too: not from the machine's own start."""
    async with World() as world:
        await world.subscriber.subscribe(">", Heard())
        for _ in range(50):
            await world.publish("a")
        await world.clock.advance(1.1)
        assert world.router.get_metrics().processing_rates[Priority.NORMAL] == pytest.approx(50, rel=0.06)


async def test_rates_are_the_same_for_every_reader() -> None:
    """Reading changes nothing: who reads often does not leave others a window of its own. An idle second ends them."""
    async with World() as world:
        await world.subscriber.subscribe(">", Heard())
        for _ in range(50):
            await world.publish("a", priority=Priority.HIGH)
        for _ in range(24):
            await world.clock.advance(0.05)
            seen = world.router.get_metrics().processing_rates
        assert seen == world.router.get_metrics().processing_rates
        assert seen[Priority.HIGH] == pytest.approx(50, rel=0.06)
        await world.clock.advance(1.1)
        assert world.router.get_metrics().processing_rates[Priority.HIGH] == 0


async def test_the_time_of_an_event_follows_a_wall_clock_that_was_set() -> None:
    """With the next sweep, and though the monotonic clock knows nothing of it."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        world.clock.wall_offset_ns += 3_600_000_000_000
        await world.clock.advance(0.1)
        await world.publish("a")
        await world.clock.settle()
        assert abs(heard.events[0].time_ns - world.clock.time_ns()) < 1_000_000_000
