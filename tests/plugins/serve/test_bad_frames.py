"""Clients that break the protocol: one clear error each, nothing lost, and those beside them go on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator

import pytest
from tests.plugins.serve.served import Client, Served, closing, event, until
from websockets.exceptions import ConnectionClosed, InvalidStatus

from squall import VirtualClock
from squall.plugins.memory import MemoryPlugin
from squall.plugins.retry import RetryPlugin
from squall.plugins.serve.connection import MAX_UNSENT
from squall.protos import wire_pb2 as pb

pytestmark = pytest.mark.slow  # each has a server and connections to it


@contextlib.asynccontextmanager
async def healthy_neighbour(served: Served) -> AsyncIterator[None]:
    """A client that works before, and after what happens here."""
    async with served.client() as client:
        sub = await client.subscribe("neighbour.>")

        async def works() -> None:
            await client.send(publish=pb.Publish(request=1, events=[event("neighbour.event")]))
            frames = {(await client.next()).WhichOneof("frame") for _ in range(2)}
            assert frames == {"published", "deliveries"}
            client_acked = pb.Settle(sub=sub, ack=[client_given[0] + 1])
            client_given[0] += 1
            await client.send(settle=client_acked)
            await until(lambda: served.pending() == 0)

        client_given = [0]
        await works()
        yield
        await works()


async def closed(client: Client) -> tuple[pb.Failure, int]:
    """The failure that the client is told, and the close code that follows it."""
    failure = (await client.expect("failure")).failure
    assert failure.fatal
    return failure, await closing(client)


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (b"\xff\xff\xff", 1002, "expected a ClientFrame of squall.v1, got 3 bytes that are none"),
        (b"", 1002, "a ClientFrame that says nothing"),
        ("hello", 1003, "expected a binary message"),
        (b"\x62\x00", 1002, "a ClientFrame that says nothing"),  # a field that this server does not know
        (pb.ClientFrame(credit=pb.Credit(sub=9, more=1)).SerializeToString(), 1002, "sub 9 is no subscription"),
        (pb.ClientFrame(leave=pb.Leave(sub=0)).SerializeToString(), 1002, "sub 0 is no subscription"),
        (pb.ClientFrame(subscribe=pb.Subscribe(sub=0)).SerializeToString(), 1002, "sub: expected a number above 0"),
        (
            pb.ClientFrame(publish=pb.Publish(events=[pb.Outgoing()] * 1001)).SerializeToString(),
            1002,
            "expected at most 1000 events in a Publish, got 1001",
        ),
    ],
)
async def test_a_frame_that_breaks_the_protocol_closes_its_connection(
    message: bytes | str, code: int, text: str
) -> None:
    """With one failure that says what was expected, and the code of it."""
    async with Served() as served, healthy_neighbour(served), served.client() as client:
        await client.socket.send(message)
        failure, closing = await closed(client)
        assert text in failure.message
        assert (failure.error, closing) == ("ProtocolError", code)


async def test_a_frame_too_large_closes_its_connection() -> None:
    """The welcome says how large one may be."""
    async with Served(max_frame=100_000) as served, healthy_neighbour(served), served.client() as client:
        assert client.welcome.max_frame_bytes == 100_000
        with pytest.raises(ConnectionClosed) as caught:
            await client.publish("a", payload=bytes(100_001))
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
        assert served.router.get_metrics().published == 1  # the neighbour's


async def test_what_waits_for_a_client_that_is_cut_is_no_error_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A frame too large closes the connection under whatever is being sent: no traceback for each such client."""
    async with Served(max_frame=100_000) as served, served.client() as client:
        (connection,) = served.server.hub.connections
        await client.send(publish=pb.Publish(request=1, events=[pb.Outgoing(event=pb.Event(payload=bytes(100_001)))]))
        while connection in served.server.hub.connections:
            connection.answer(pb.ServerFrame(pong=pb.Pong(number=1)))  # so that at each turn something is on its way
            await asyncio.sleep(0)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("cut", range(1, 60, 7))
async def test_a_frame_cut_anywhere_publishes_nothing(cut: int) -> None:
    """The connection ends within it."""
    data = pb.ClientFrame(publish=pb.Publish(request=1, events=[event("order.paid")])).SerializeToString()
    mask = b"\1\2\3\4"
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))
    whole = bytes([0x82, 0x80 | len(data)]) + mask + masked
    async with Served() as served, healthy_neighbour(served):
        async with served.client() as client:
            transport = client.socket.transport
            transport.write(whole[: min(cut, len(whole) - 1)])
            transport.close()
        await until(lambda: len(served.server.hub.connections) == 1)
        assert served.router.get_metrics().published == 1


async def test_noise_closes_the_connection() -> None:
    """Bytes that are no WebSocket frames: there is no such opcode as the first has."""
    async with Served() as served, healthy_neighbour(served), served.client() as client:
        client.socket.transport.write(b"\xff" + os.urandom(127))
        with pytest.raises(ConnectionClosed):
            await client.next()
        await until(lambda: len(served.server.hub.connections) == 1)


async def test_an_ack_of_what_was_never_given_closes_the_connection() -> None:
    """What its client has in hand is given back; nothing is lost."""
    async with Served() as served, healthy_neighbour(served), served.client() as client:
        sub = await client.subscribe("order.>")
        await served.router.publisher("shop").publish("order.paid", b"")
        await client.deliveries(1)
        await client.settle(sub, ack=[99])
        failure, code = await closed(client)
        assert "delivery 99 was never given on this connection: the last is 1" in failure.message
        assert code == 1002


async def test_a_delivery_settled_twice_is_told_and_counts_once() -> None:
    """The connection goes on."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe()
        await served.router.publisher("shop").publish("a", b"")
        (got,) = await client.deliveries(1)
        await client.settle(sub, ack=[got.delivery, got.delivery])
        assert (await client.expect("failure")).failure.error == "LeaseLost"
        await until(lambda: served.pending() == 0)
        assert served.router.get_metrics().delivered == 1


async def test_a_nak_with_an_impossible_delay_closes_the_connection() -> None:
    """A negative one, or of years."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe()
        await served.router.publisher("shop").publish("a", b"")
        (got,) = await client.deliveries(1)
        await client.settle(sub, nak=[pb.Nak(delivery=got.delivery, delay_ms=-1)])
        failure, _ = await closed(client)
        assert "delay_s: expected 0 to" in failure.message


async def test_a_client_that_never_acks_holds_what_was_asked_for_and_no_more() -> None:
    """Its leases run out, the policy gives up, and nobody else waits for it."""
    clock = VirtualClock()
    retry = RetryPlugin(base=0.1, cap=0.1)
    async with Served(MemoryPlugin(), retry, clock=clock) as served, served.client() as client:
        await client.subscribe(in_flight=3, credit=1000, lease_ms=100)
        for number in range(10):
            await served.router.publisher("shop").publish(f"n{number}", b"")
        handler = next(iter(served.server.hub.connections)).subscriptions[1]
        await until(lambda: len(handler.in_hand) == 3)
        for _ in range(40):
            await clock.advance(0.25)
            assert len(handler.in_hand) <= 3
        assert [letter.reason for letter in await served.dead()] == ["timeout"] * 10
        assert served.pending() == 0


@pytest.mark.slow  # megabytes of answers
async def test_answers_do_not_pile_up_for_a_client_that_does_not_read() -> None:
    """The server stops reading it, and cuts it in the end."""
    async with (
        Served(write_timeout=1, heartbeat=600) as served,
        healthy_neighbour(served),
        served.client(max_queue=1) as client,
    ):
        client.socket.transport.pause_reading()
        (connection,) = [one for one in served.server.hub.connections if not one.subscriptions]
        wrong = pb.Publish(request=1, events=[event("not..valid")] * 100)
        data = pb.ClientFrame(publish=wrong).SerializeToString()

        async def flood() -> None:
            while True:
                await client.socket.send(data)

        flooding, most = asyncio.ensure_future(flood()), 0
        while connection in served.server.hub.connections:
            most = max(most, len(connection._answers))
            await asyncio.sleep(0)
        with pytest.raises(ConnectionClosed):
            await flooding
        assert 0 < most <= MAX_UNSENT + 1


async def test_a_client_that_is_not_for_this_protocol_is_refused_at_the_door() -> None:
    """Without the subprotocol there is no connection."""
    async with Served() as served:
        with pytest.raises(InvalidStatus) as caught:
            async with served.client(subprotocol="other.v1"):
                pass
        assert caught.value.response.status_code == 400
        assert b"squall.v1" in caught.value.response.body
