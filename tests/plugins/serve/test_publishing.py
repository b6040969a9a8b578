"""Publishing again, later, and for a while only: ids of publishers, delays, times to live."""

from __future__ import annotations

from uuid import uuid4

from tests.plugins.serve.served import Client, Served, event, until

from squall import VirtualClock
from squall.protos import wire_pb2 as pb

CE = {"id": "1", "source": "/shop", "type": "order.paid", "specversion": "1.0"}
BATCH = "application/cloudevents-batch+json"


async def publish(client: Client, *events: pb.Outgoing, atomic: bool = False) -> list[pb.Receipt]:
    await client.send(publish=pb.Publish(request=1, events=events, atomic=atomic))
    return list((await client.expect("published")).published.receipts)


async def test_an_event_posted_again_is_stored_once() -> None:
    """Its receipt is the first one's, and says so; other content under its id is a conflict."""
    async with Served() as served:
        first, again = await served.post(b"a", **CE), await served.post(b"a", **CE)
        assert again.json == {**first.json, "duplicate": True}
        other = await served.post(b"b", **CE)
        assert (other.status, other.json["title"], other.json["outcome"]) == (409, "Conflict", "fail")
        assert other.json["detail"].startswith("id 1: another event was published with it")
        others = await served.post([{**CE, "id": "3"}, {**CE, "data_base64": "Yg=="}], BATCH)
        assert (others.status, others.json["detail"].partition(":")[0]) == (409, "id 1")
        own = {**CE, "id": str(uuid4()), "ceid": "5"}  # an extension of the publisher's that is called so
        await served.post(b"a", **own)
        assert (await served.post(b"b", **own)).json["detail"].startswith(f"id {own['id']}: ")
        batch = [{**CE, "data_base64": "YQ=="}, {**CE, "id": "2"}]
        receipts = (await served.post(batch, BATCH)).json["receipts"]
        assert [one["duplicate"] for one in receipts] == [True, False]
        assert served.router.get_metrics().published == 3


async def test_each_event_of_a_frame_has_its_own_fate() -> None:
    """One that is wrong, one that conflicts and one that repeats are told as such; the others are stored, in order."""
    ids = [str(uuid4()) for _ in range(3)]
    async with Served() as served, served.client() as client:
        await publish(client, event("taken", ids[0]))
        receipts = await publish(
            client,
            event("first", ids[1]),
            event("taken", ids[0]),
            event("other", ids[0]),
            event("not..valid"),
            event("plain"),
            event("bad id", "not-a-uuid"),
            event("last", ids[2]),
        )
        assert [(one.outcome, one.error, one.duplicate) for one in receipts] == [
            (pb.OUTCOME_OK, "", False),
            (pb.OUTCOME_OK, "", True),
            (pb.OUTCOME_FAIL, "Conflict", False),
            (pb.OUTCOME_FAIL, "InvalidEvent", False),
            (pb.OUTCOME_OK, "", False),
            (pb.OUTCOME_FAIL, "InvalidEvent", False),
            (pb.OUTCOME_OK, "", False),
        ]
        assert [one.seq for one in receipts if one.seq] == [2, 1, 3, 4]
        assert receipts[0].id == ids[1]
        assert served.router.get_metrics().published == 4


async def test_each_priority_arrives_as_it_was_published() -> None:
    """And what says none is NORMAL."""
    async with Served() as served, served.client() as client:
        await client.subscribe()
        for given in range(5):
            await client.publish("a", priority=given)
            (got,) = await client.deliveries(1)
            assert got.event.priority == (given or pb.PRIORITY_NORMAL)


async def test_a_frame_sent_again_is_stored_once() -> None:
    """As a client does that lost its connection before the answer."""
    events = [event(f"n{number}", str(uuid4())) for number in range(20)]
    async with Served() as served:
        async with served.client() as client:
            first = await publish(client, *events)
        async with served.client() as client:
            again = await publish(client, *events)
        assert [one.seq for one in again] == [one.seq for one in first] == list(range(1, 21))
        assert all(one.duplicate for one in again)


async def test_an_atomic_frame_is_stored_whole_or_not_at_all() -> None:
    """Every event of it is told why."""
    async with Served() as served, served.client() as client:
        receipts = await publish(client, event("a"), event("not..valid"), event("c"), atomic=True)
        assert [one.error for one in receipts] == ["InvalidEvent"] * 3
        assert receipts[0].message.startswith("events[1].")
        assert served.router.get_metrics().published == 0
        receipts = await publish(client, event("a"), event("b"), atomic=True)
        assert [one.seq for one in receipts] == [1, 2]


async def test_an_event_may_be_delayed_and_may_expire() -> None:
    """By milliseconds, over both ways in."""
    clock = VirtualClock()
    async with Served(clock=clock) as served, served.client() as client:
        sub = await client.subscribe(in_flight=1)
        await publish(client, event("later", delay_ms=5000))
        await served.post(b"", **{**CE, "type": "posted"}, delayms="5000")
        await client.synced()
        await clock.advance(5.1)
        (later,) = await client.deliveries(1)
        assert later.event.type == "later"
        await served.post(b"", **{**CE, "id": "2", "type": "brief"}, ttlms="1000")
        await clock.advance(2)
        await client.settle(sub, ack=[later.delivery])
        (posted,) = await client.deliveries(1)
        assert posted.event.type == "posted"
        await client.settle(sub, ack=[posted.delivery])
        await client.synced()
        await until(lambda: served.pending() == 0)


async def test_what_cannot_be_a_delay_is_refused() -> None:
    """A negative one."""
    async with Served() as served, served.client() as client:
        (receipt,) = await publish(client, event("a", delay_ms=-1))
        assert (receipt.outcome, receipt.error) == (pb.OUTCOME_FAIL, "InvalidEvent")
        assert "delay_s: expected seconds above 0" in receipt.message
