"""Traces go on: from a publish to its deliveries, from a handler to what it publishes, in from elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.core.world import Heard, until
from tests.plugins.tracing.traced import Row, of, rows, traced

from squall import Event, EventData, EventRouter

UPSTREAM = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNSAMPLED = UPSTREAM[:-1] + "0"
NEVER = 0.0


class Chain:
    """order.created is handled by billing, which publishes bill.made; that by ledger, which publishes ledger.kept."""

    def __init__(self, router: EventRouter) -> None:
        self.router, self.end = router, Heard()

    async def subscribe(self) -> None:
        publish = self.router.publisher("chain").publish

        async def bill(event: Event) -> None:
            await publish("bill.made", b"")

        async def keep(event: Event) -> None:
            await publish("ledger.kept", b"")

        await self.router.subscriber("billing").subscribe("order.>", bill)
        await self.router.subscriber("ledger").subscribe("bill.>", keep)
        await self.router.subscriber("end").subscribe("ledger.>", self.end)


def parents(spans: list[Row]) -> dict[str, str | None]:
    """Each span's name, and the name of the one that it is in."""
    names = {one.span: one.name for one in spans}
    return {one.name: None if one.parent is None else names[one.parent] for one in spans}


async def test_a_trace_goes_on_over_handlers_that_publish(tmp_path: Path) -> None:
    """Publish, handler, publish, handler, publish: one trace, each span in the one that led to it."""
    async with traced(tmp_path) as router:
        chain = Chain(router)
        await chain.subscribe()
        event_id = await router.publisher("shop").publish("order.created", b"")
        await until(lambda: chain.end.events)
    spans = rows(tmp_path)
    assert {one.trace for one in spans} == {event_id.replace("-", "")}
    assert parents(spans) == {
        "publish order.created": None,
        "store order.created": "publish order.created",
        "process order.created": "publish order.created",
        "ack order.created": "process order.created",
        "publish bill.made": "process order.created",
        "store bill.made": "publish bill.made",
        "process bill.made": "publish bill.made",
        "ack bill.made": "process bill.made",
        "publish ledger.kept": "process bill.made",
        "store ledger.kept": "publish ledger.kept",
        "process ledger.kept": "publish ledger.kept",
        "ack ledger.kept": "process ledger.kept",
    }


async def test_each_delivery_links_to_its_publish(tmp_path: Path) -> None:
    """Fan-out: every subscriber's delivery says which publish it is of."""
    async with traced(tmp_path) as router:
        heard = [Heard() for _ in range(3)]
        for number, one in enumerate(heard):
            await router.subscriber(f"s{number}").subscribe("order.>", one)
        await router.publisher("shop").publish("order.created", b"")
        await until(lambda: all(one.events for one in heard))
    spans = rows(tmp_path)
    (publish,) = of(spans, "publish")
    deliveries = of(spans, "process")
    assert {one.subscription for one in deliveries} == {"s0", "s1", "s2"}
    assert all(one.links == [{"trace": publish.trace, "span": publish.span, "what": "publish"}] for one in deliveries)
    assert all(one.waited == one.begun - publish.begun for one in deliveries)


async def test_two_publishes_of_one_handler_have_one_parent(tmp_path: Path) -> None:
    """The delivery is named once, whatever follows from it, also in tasks of the handler's own."""
    async with traced(tmp_path) as router:
        publish, heard = router.publisher("x").publish, Heard()

        async def handle(event: Event) -> None:
            await publish("out.one", b"")
            await asyncio.create_task(publish("out.two", b""))

        await router.subscriber("in").subscribe("in.>", handle)
        await router.subscriber("out").subscribe("out.>", heard)
        await publish("in.x", b"")
        await until(lambda: len(heard.events) == 2)
    spans = rows(tmp_path)
    (delivery,) = of(spans, "process", subscription="in")
    assert {one.parent for one in spans if one.name in ("publish out.one", "publish out.two")} == {delivery.span}


async def test_a_context_does_not_leak_into_the_next_delivery(tmp_path: Path) -> None:
    """What the handler of an event that is not traced publishes belongs to no trace before it."""
    async with traced(tmp_path, sample=NEVER) as router:
        publish, heard = router.publisher("x").publish, Heard()

        async def handle(event: Event) -> None:
            await publish("out.x", event.payload)

        await router.subscriber("in").subscribe("in.>", handle)
        await router.subscriber("out").subscribe("out.>", heard)
        await publish("in.x", b"traced", metadata={"traceparent": UPSTREAM})
        await publish("in.x", b"not traced")
        await until(lambda: len(heard.events) == 2)
        carried = {event.payload: event.metadata.get("traceparent") for event in heard.events}
    assert str(carried[b"traced"]).startswith(UPSTREAM[:35])
    assert carried[b"not traced"] is None


async def test_what_follows_is_sampled_as_what_led_to_it(tmp_path: Path) -> None:
    """An event that is not sampled leads to none that is, whatever their ids say."""
    async with traced(tmp_path, sample=0.5, keep=[]) as router:
        chain = Chain(router)
        await chain.subscribe()
        for _ in range(64):
            await router.publisher("shop").publish("order.created", b"")
        await until(lambda: len(chain.end.events) == 64)
    spans = rows(tmp_path)
    begun = of(spans, "publish", topic="order.created")
    assert 0 < len(begun) < 64
    assert {one.trace for one in spans} == {one.trace for one in begun}
    assert len(of(spans, "publish", topic="ledger.kept")) == len(begun)


async def test_a_trace_from_elsewhere_goes_on(tmp_path: Path) -> None:
    """Sampled there, sampled here, with its trace state; the event carries the publish's span on."""
    async with traced(tmp_path, sample=NEVER) as router:
        chain, heard = Chain(router), Heard()
        await chain.subscribe()
        await router.subscriber("x").subscribe("order.>", heard)
        await router.publisher("x").publish(
            "order.created", b"", metadata={"traceparent": UPSTREAM, "tracestate": "vendor=1"}
        )
        await until(lambda: chain.end.events and heard.events)
    spans = rows(tmp_path)
    assert {one.trace for one in spans} == {UPSTREAM[3:35]}
    (publish,) = of(spans, "publish", topic="order.created")
    assert publish.parent == UPSTREAM[36:52]
    assert heard.events[0].metadata["traceparent"] == f"00-{publish.trace}-{publish.span}-01"
    assert chain.end.events[0].metadata["tracestate"] == "vendor=1"


async def test_what_was_decided_elsewhere_is_not_traced(tmp_path: Path) -> None:
    """Not sampled there, not sampled here; but the context travels on."""
    async with traced(tmp_path, keep=[]) as router:
        chain = Chain(router)
        await chain.subscribe()
        await router.publisher("x").publish("order.created", b"", metadata={"traceparent": UNSAMPLED})
        await until(lambda: chain.end.events)
    assert rows(tmp_path) == []
    assert chain.end.events[0].metadata["traceparent"] == UNSAMPLED


async def test_a_malformed_context_is_taken_out(tmp_path: Path) -> None:
    """And a trace of its own begins."""
    async with traced(tmp_path) as router:
        heard = Heard()
        await router.subscriber("x").subscribe(">", heard)
        bad = {"traceparent": "00-xyz", "tracestate": "vendor=1"}
        event_id = await router.publisher("x").publish("order.created", b"", metadata=bad)
        await until(lambda: heard.events)
    assert {one.trace for one in rows(tmp_path)} == {event_id.replace("-", "")}
    assert "tracestate" not in heard.events[0].metadata


async def test_a_batch_is_one_append(tmp_path: Path) -> None:
    """Each of its events has its own trace; the store's part says how many were stored as one."""
    async with traced(tmp_path) as router:
        await router.publisher("x").publish_batch([EventData("a.b", b"") for _ in range(3)])
    publishes = of(rows(tmp_path), "publish")
    assert len({one.trace for one in publishes}) == 3
    assert {one.attributes["messaging.batch.message_count"] for one in publishes} == {3}


async def test_a_replay_is_a_span_that_links_to_what_it_read(tmp_path: Path) -> None:
    """Reading history does not look like handling it."""
    async with traced(tmp_path) as router:
        for _ in range(3):
            await router.publisher("x").publish("a.b", b"")
        assert len([event async for event in router.replay()]) == 3
    spans = rows(tmp_path)
    (replay,) = of(spans, "replay")
    assert replay.attributes["messaging.batch.message_count"] == 3
    assert {link["span"] for link in replay.links} == {one.span for one in of(spans, "publish")}


async def test_a_subscription_that_catches_up_says_so(tmp_path: Path) -> None:
    """Deliveries of what was published before it was there are marked, and did not wait."""
    async with traced(tmp_path) as router:
        heard = Heard()
        await router.publisher("x").publish("a.b", b"")
        await router.subscriber("x").subscribe("a.>", heard, name="late", start="earliest")
        await until(lambda: heard.events)
    (delivery,) = of(rows(tmp_path), "process")
    assert delivery.attributes["squall.replayed"] is True
    assert delivery.waited is None
