"""From HTTP and WebSocket through the router to a client, and its settlement back."""

from __future__ import annotations

from tests.plugins.serve.served import Served, types, until


async def test_an_event_posted_is_delivered_and_settled_by_its_ack() -> None:
    """The receipt names what the delivery carries."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe("order.>")
        answer = await served.post(
            b'{"total": 5}', "application/json", id="1", source="/shop", type="order.paid", specversion="1.0"
        )
        assert answer.status == 200, answer
        (delivery,) = await client.deliveries(1)
        event = delivery.event
        assert (event.type, event.source, event.payload) == ("order.paid", "/shop", b'{"total": 5}')
        assert answer.json == {"id": event.id, "seq": event.seq, "durability": "memory", "duplicate": False}
        assert served.router.get_metrics().pending == 1
        await client.settle(sub, ack=[delivery.delivery])
        await until(lambda: served.router.get_metrics().pending == 0)
        assert served.router.get_metrics().delivered == 1


async def test_a_client_publishes_and_subscribes_on_one_connection() -> None:
    """In order, with a receipt an event."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe(credit=10)
        receipts = await client.publish("a", "b", "c")
        got = await client.deliveries(3)
        assert types(got) == ["a", "b", "c"]
        assert [one.id for one in receipts] == [one.event.id for one in got]
        await client.settle(sub, ack=[one.delivery for one in got])
        await until(lambda: served.router.get_metrics().pending == 0)
