"""Ids that publishers give, over all routers of a store: stored once, whichever router is given them again."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
from uuid import uuid4

import pytest
from tests.plugins.redis.cutting import Cutting
from tests.plugins.redis.killed import id_of, live
from tests.plugins.redis.operator import Operator
from tests.plugins.redis.routers import Seen, router, until
from tests.servers import Server

from squall import Conflict, EventData, EventRouter, Query, RoutingRule, StoreError
from squall.plugins.redis.scripts import COMMIT

ID, OTHER = "6f098ad8-fcd7-43f9-8b1c-dea496a4e578", "0c0f3f9e-51c5-4a86-8f0b-6c4f4a3bb1f5"


async def payloads(of: EventRouter) -> list[bytes]:
    """All that is stored, in seq order."""
    return [event.payload async for event in of.replay(Query())]


async def test_an_id_is_recognised_by_every_router(redis_server: Server) -> None:
    """With the receipt that the other stores give, delivered once, and a conflict where it is another event's."""
    seen = Seen()
    async with router(redis_server.url) as one, router(redis_server.url) as two:
        await two.subscriber("billing").subscribe("order.>", seen)
        await one.publisher("shop").publish("order.created", b"0")
        first = await one.publisher("shop").publish_with_receipt("order.created", b"1", event_id=ID)
        for again in (two, one):
            receipt = await again.publisher("shop").publish_with_receipt("order.created", b"1", event_id=ID)
            assert receipt == first._replace(duplicate=True)
            for event_type, payload in (("order.paid", b"1"), ("order.created", b"2")):
                with pytest.raises(Conflict, match=f"event_id {ID}: another event .* nothing was stored"):
                    await again.publisher("shop").publish(event_type, payload, event_id=ID)
        batch = [EventData("order.created", b"1", event_id=ID), EventData("order.created", b"3", event_id=OTHER)]
        receipts = await two.publisher("shop").publish_batch_with_receipts(batch)
        assert [(one.seq, one.duplicate) for one in receipts] == [(2, True), (3, False)]
        assert await payloads(two) == [b"0", b"1", b"3"]
        await seen.has(3)
    assert seen.payloads == [0, 1, 3]


async def test_an_id_that_several_routers_are_given_at_the_same_moment_is_stored_once(redis_server: Server) -> None:
    """By each of them several times, alone and in batches: one is told that it was first."""
    async with router(redis_server.url) as one, router(redis_server.url) as two, router(redis_server.url) as three:
        for number in range(30):
            event_id = str(uuid4())
            data = EventData("order", b"%d" % number, event_id=event_id)
            publishers = [each.publisher("shop") for each in (one, two, three) for _ in range(2)]
            alone = [one.publish_with_receipt("order", data.payload, event_id=event_id) for one in publishers]
            batches = [one.publish_batch_with_receipts([data]) for one in publishers]
            told, in_batches = await asyncio.gather(asyncio.gather(*alone), asyncio.gather(*batches))
            told += [receipt for receipts in in_batches for receipt in receipts]
            assert sorted(receipt.duplicate for receipt in told) == [False] + [True] * 11
            assert {receipt.seq for receipt in told} == {number + 1}
        assert await payloads(three) == [b"%d" % number for number in range(30)]


async def test_a_publish_whose_answer_was_lost_is_stored_once_when_another_router_repeats_it(
    redis_server: Server,
) -> None:
    """The first one's publisher is told that nobody knows; it was stored."""
    async with (
        Cutting(redis_server.url, marks=COMMIT.sha.encode()) as way,
        router(redis_server.url) as two,
        router(way.url) as one,
    ):
        await one.publisher("shop").publish("order", b"0")
        way.swallow = True
        with pytest.raises(StoreError) as told:
            await one.publisher("shop").publish("order", b"1", event_id=ID)
        assert told.value.outcome == "info"
        receipt = await two.publisher("shop").publish_with_receipt("order", b"1", event_id=ID)
        assert (receipt.seq, receipt.duplicate) == (2, True)
        way.swallow = False
        await until(lambda: one.store._refusal is None)  # type: ignore[attr-defined]
        assert (await one.publisher("shop").publish_with_receipt("order", b"1", event_id=ID)) == receipt
        assert await payloads(two) == [b"0", b"1"]


async def test_what_a_killed_router_published_is_stored_once_when_another_repeats_it(redis_server: Server) -> None:
    """Acknowledged or not: where it was stored, it has its seq, and where it was not, it is stored now."""
    context = multiprocessing.get_context("spawn")
    reading, writing = context.Pipe(duplex=False)
    program = context.Process(target=live, args=(redis_server.url, writing))
    program.start()
    writing.close()
    told = b""
    while told.count(b"\n") < 100:
        told += await asyncio.to_thread(os.read, reading.fileno(), 65_536)
    program.kill()
    while more := os.read(reading.fileno(), 65_536):
        told += more
    program.join()
    reading.close()
    acknowledged = {int(number): int(seq) for number, seq in (line.split() for line in told.split(b"\n")[:-1])}
    numbers = range(max(acknowledged) + 20)
    async with router(redis_server.url) as other:
        publisher = other.publisher("shop")
        for number in numbers:
            receipt = await publisher.publish_with_receipt("order", b"%d" % number, event_id=id_of(number))
            if number in acknowledged:
                assert (receipt.seq, receipt.duplicate) == (acknowledged[number], True)
        assert sorted(map(int, await payloads(other))) == list(numbers)
    program.close()


async def test_an_id_is_forgotten_after_its_window(redis_server: Server) -> None:
    """Nothing of it stays in the server; then it is as good as new."""
    operator = Operator(redis_server.url)
    async with router(redis_server.url, dedupe_window=0.3) as one:
        publisher = one.publisher("shop")
        first = await publisher.publish_with_receipt("order", b"1", event_id=ID)
        while (await operator.say("KEYS squall:{squall}:id:*"))[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        again = await publisher.publish_with_receipt("order", b"2", event_id=ID)
        assert (first.duplicate, again.duplicate, again.seq) == (False, False, 2)
        (key,) = (await operator.say("KEYS squall:{squall}:id:*"))[0] or [b""]
        (left_ms,) = await operator.say(f"PTTL {key.decode()}") if key else [0]
        assert left_ms <= 300
    async with router(redis_server.url, dedupe_window=0) as one:
        for _ in range(2):
            assert not (await one.publisher("shop").publish_with_receipt("order", b"3", event_id=OTHER)).duplicate
    await operator.close()


async def test_a_repeated_event_is_copied_by_no_rule(redis_server: Server) -> None:
    """What rules make of an event is stored with it or not at all; that they changed it elsewhere is no conflict."""
    async with router(redis_server.url) as one, router(redis_server.url) as two:
        one.add_routing_rule(RoutingRule("order", target="routed"))
        two.add_routing_rule(RoutingRule("order", copy_to="audit"))
        for each in (one, two):
            each.add_routing_rule(RoutingRule("other", copy_to="audit"))
        await one.publisher("shop").publish("order", b"1", event_id=ID)
        batch = [EventData("order", b"1", event_id=ID), EventData("other", b"2")]
        receipts = await two.publisher("shop").publish_batch_with_receipts(batch)
        assert [receipt.duplicate for receipt in receipts] == [True, False]
        found = [(event.type, event.payload, event.own_id) async for event in two.replay(Query())]
    assert found == [("routed", b"1", True), ("other", b"2", False), ("audit", b"2", False)]


async def test_what_is_published_while_a_repeated_id_is_under_way_is_owed_to_who_subscribes_then(
    redis_server: Server,
) -> None:
    """A repeated event is given no number: the next one has it."""
    seen = Seen()
    async with router(redis_server.url) as one:
        publisher = one.publisher("shop")
        await publisher.publish("order", b"1", event_id=ID)
        repeating = asyncio.ensure_future(publisher.publish("order", b"1", event_id=ID))
        await asyncio.sleep(0)  # it is on its way
        await one.subscriber("billing").subscribe("order", seen)
        await repeating
        await publisher.publish("order", b"2")
        await seen.has(1)
    assert seen.payloads[-1] == 2
