"""What a subscription of a remote client gets, and what its words do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from tests.core.stores import KeptMemory, SlowToSettle
from tests.plugins.serve.served import Client, Served, types, until

from squall import EventRouter, Priority, VirtualClock
from squall.plugins.dedupe import DedupePlugin
from squall.plugins.memory import MemoryPlugin
from squall.plugins.retry import RetryPlugin
from squall.protos import wire_pb2 as pb


async def publish(router: EventRouter, *types: str, **more: Any) -> None:
    for one in types:
        await router.publisher("shop").publish(one, b"", **more)


async def test_no_more_comes_than_credit_was_given_for() -> None:
    """The rest waits in the router; more credit brings it."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe(credit=2)
        await publish(served.router, *"abcde")
        assert types(await client.deliveries(2)) == ["a", "b"]
        await client.synced()  # and nothing else came before the pong
        await client.send(credit=pb.Credit(sub=sub, more=2))
        assert types(await client.deliveries(2)) == ["c", "d"]
        await client.synced()
        await client.send(credit=pb.Credit(sub=sub, more=100))
        assert types(await client.deliveries(1)) == ["e"]


async def test_credit_that_was_not_used_is_kept() -> None:
    """Two events of a key and credit for two: the second waits for its key, and then is delivered."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe(credit=2)
        for name in ("first", "second"):
            served.router.intake.submit(
                served.router.intake.make("shop", name, b"", Priority.NORMAL, None, "key", None)
            )
        (first,) = await client.deliveries(1)
        await client.synced()
        await client.settle(sub, ack=[first.delivery])
        assert types(await client.deliveries(1)) == ["second"]


async def test_a_delivery_that_waits_for_credit_has_no_lease() -> None:
    """Fifty leases without credit are no attempt."""
    clock = VirtualClock()
    async with Served(clock=clock) as served, served.client() as client:
        sub = await client.subscribe(credit=0, lease_ms=100)
        await publish(served.router, "a")
        await clock.advance(5)
        assert served.router.get_metrics().failed == 0
        await client.send(credit=pb.Credit(sub=sub, more=1))
        assert types(await client.deliveries(1)) == ["a"]


async def test_no_more_is_in_flight_than_was_asked_for() -> None:
    """However much credit there is; a settlement makes room."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe(in_flight=2)
        await publish(served.router, *"abc")
        first, _ = await client.deliveries(2)
        await client.synced()
        await client.settle(sub, ack=[first.delivery])
        assert types(await client.deliveries(1)) == ["c"]


async def test_a_key_has_one_delivery_in_flight() -> None:
    """Others pass it; its next comes when it is settled."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe()
        for name, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("none", None)):
            await publish(served.router, name, key=key)
        got = await client.deliveries(3)
        assert types(got) == ["a1", "b1", "none"]
        await client.settle(sub, ack=[got[0].delivery])
        assert types(await client.deliveries(1)) == ["a2"]


async def test_deliveries_of_a_turn_come_in_one_frame() -> None:
    """No frame for each event."""
    async with Served() as served, served.client() as client:
        await client.subscribe()
        for number in range(50):
            served.router.intake.submit(
                served.router.intake.make("shop", f"n{number}", b"", Priority.NORMAL, None, None, None)
            )
        frames = 0
        got: list[pb.Delivery] = []
        while len(got) < 50:
            got += (await client.expect("deliveries")).deliveries.deliveries
            frames += 1
        assert types(got) == [f"n{number}" for number in range(50)]
        assert frames <= 5


async def test_a_nak_with_a_delay_is_delivered_again_then() -> None:
    """Not before."""
    clock = VirtualClock()
    async with Served(clock=clock) as served, served.client() as client:
        sub = await client.subscribe()
        await publish(served.router, "a")
        (first,) = await client.deliveries(1)
        await client.settle(sub, nak=[pb.Nak(delivery=first.delivery, delay_ms=5000)])
        await client.synced()
        await clock.advance(4.9)
        await client.synced()
        await clock.advance(0.2)
        (again,) = await client.deliveries(1)
        assert again.event == first.event
        assert again.delivery > first.delivery


async def test_a_nak_without_a_delay_follows_the_policy() -> None:
    """Which may give up, and then knows what the remote handler raised."""
    clock = VirtualClock()
    async with Served(clock=clock) as served, served.client() as client:
        sub = await client.subscribe()
        await publish(served.router, "a")
        for _ in range(5):
            (got,) = await client.deliveries(1)
            await client.settle(sub, nak=[pb.Nak(delivery=got.delivery, error_type="CardDeclined", error="no money")])
            await client.synced()
            await clock.advance(1.1)
        (letter,) = await served.dead()
        assert (letter.reason, letter.error_type, letter.error, letter.attempts) == (
            "delivery_limit",
            "CardDeclined",
            "no money",
            5,
        )


async def test_a_handler_that_took_too_long_elsewhere_counts_as_a_timeout() -> None:
    """As one that the kernel itself stops, whatever its client calls the error."""
    clock = VirtualClock()
    async with Served(MemoryPlugin(), RetryPlugin(attempts=1), clock=clock) as served, served.client() as client:
        sub = await client.subscribe()
        for nak in (pb.Nak(error_type="Overdue", error="took 3 s"), pb.Nak()):
            await publish(served.router, "a")
            (got,) = await client.deliveries(1)
            nak.delivery, nak.timed_out = got.delivery, True
            await client.settle(sub, nak=[nak])
        await until(lambda: served.pending() == 0)
        letters = await served.dead()
        assert [(one.reason, one.error_type, one.error) for one in letters] == [
            ("timeout", "Overdue", "took 3 s"),
            ("timeout", "RemoteError", ""),
        ]


async def test_a_nak_says_nothing_and_is_tried_again() -> None:
    """Without error and delay too the policy decides."""
    clock = VirtualClock()
    async with Served(clock=clock) as served, served.client() as client:
        sub = await client.subscribe()
        await publish(served.router, "a")
        (got,) = await client.deliveries(1)
        await client.settle(sub, nak=[pb.Nak(delivery=got.delivery)])
        await client.synced()
        await clock.advance(1.1)
        await client.deliveries(1)


async def test_a_term_is_dead_lettered_with_its_reason() -> None:
    """At once."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe()
        await publish(served.router, "a")
        (got,) = await client.deliveries(1)
        await client.settle(sub, term=[pb.Term(delivery=got.delivery, reason="no such customer")])
        await until(lambda: served.pending() == 0)
        (letter,) = await served.dead()
        assert (letter.reason, letter.error) == ("rejected", "no such customer")


async def test_a_delivery_whose_lease_runs_out_is_delivered_again() -> None:
    """A late word about it is told as late, and does nothing; nothing is lost."""
    clock = VirtualClock()
    async with Served(clock=clock) as served, served.client() as client:
        sub = await client.subscribe(lease_ms=1000)
        await publish(served.router, "a")
        (lost,) = await client.deliveries(1)
        await clock.advance(3)
        (again,) = await client.deliveries(1)
        await client.settle(sub, ack=[lost.delivery])
        failure = (await client.expect("failure")).failure
        assert (failure.error, failure.sub, failure.fatal) == ("LeaseLost", sub, False)
        assert served.pending() == 1
        await client.settle(sub, ack=[again.delivery])
        await until(lambda: served.pending() == 0)


async def test_a_lease_is_renewed_by_in_progress() -> None:
    """As often as one likes."""
    clock = VirtualClock()
    async with Served(clock=clock) as served, served.client() as client:
        sub = await client.subscribe(lease_ms=1000)
        await publish(served.router, "a")
        (got,) = await client.deliveries(1)
        for _ in range(10):
            await clock.advance(0.9)
            await client.settle(sub, in_progress=[got.delivery])
            await client.synced()
        await client.settle(sub, ack=[got.delivery])
        await until(lambda: served.pending() == 0)
        assert served.router.get_metrics().failed == 0


async def test_at_most_once_is_settled_before_it_is_sent() -> None:
    """There is nothing to settle, nor to deliver again."""
    async with Served() as served, served.client() as client:
        await client.subscribe(at_most_once=True)
        await publish(served.router, "a", "b")
        assert types(await client.deliveries(2)) == ["a", "b"]
        await until(lambda: served.pending() == 0)


async def test_filters_and_priorities_choose() -> None:
    """As in process."""
    async with Served() as served, served.client() as client:
        filters = json.dumps([{"metadata": {"tenant": "acme"}}]).encode()
        await client.subscribe(filters=filters, priority_min=pb.PRIORITY_HIGH)
        await publish(served.router, "low", priority=Priority.LOW, metadata={"tenant": "acme"})
        await publish(served.router, "other", priority=Priority.HIGH, metadata={"tenant": "other"})
        await publish(served.router, "right", priority=Priority.CRITICAL, metadata={"tenant": "acme"}, key="k")
        (got,) = await client.deliveries(1)
        event = got.event
        assert (event.type, event.priority, event.key) == ("right", pb.PRIORITY_CRITICAL, "k")
        assert json.loads(event.metadata) == {"tenant": "acme"}


async def test_the_past_is_delivered_from_where_it_is_asked_for() -> None:
    """From the first event kept, or from a seq."""
    async with Served() as served, served.client() as client:
        await publish(served.router, *"abc")
        await client.subscribe(earliest=True)
        assert types(await client.deliveries(3)) == ["a", "b", "c"]
        await client.subscribe(seq=3)
        assert client.subscribed.from_seq == 3
        assert types(await client.deliveries(1)) == ["c"]


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ({"pattern": "a.>.b"}, "SubscriptionError", "pattern"),
        ({"in_flight": 100_000}, "SubscriptionError", "in_flight: expected at most 1000, got 100000"),
        ({"lease_ms": 86_400_001}, "SubscriptionError", "timeout_s: expected 0.001 to 86400"),
        ({"overflow": "explode"}, "SubscriptionError", "overflow: expected one of"),
        ({"filters": b"[5]"}, "SubscriptionError", "filters"),
        ({"filters": b'[{"typ": "a"}]'}, "SubscriptionError", "did you mean 'type'?"),
        ({"priority_min": 9}, "InvalidEvent", "priority"),
        ({"subscriber_id": ""}, "InvalidEvent", "subscriber_id"),
        ({"name": ""}, "SubscriptionError", "name: expected text"),
    ],
)
async def test_what_cannot_be_subscribed_is_told(asked: dict[str, Any], error: str, message: str) -> None:
    """The connection goes on."""
    async with Served() as served, served.client() as client:
        whole = {"sub": 1, "subscriber_id": "billing", "pattern": ">", "credit": 1, **asked}
        await client.send(subscribe=pb.Subscribe(**whole))
        failure = (await client.expect("failure")).failure
        assert (failure.error, failure.sub, failure.fatal) == (error, 1, False)
        assert message in failure.message
        client._subs = 1
        await client.subscribe()
        await publish(served.router, "a")
        await client.deliveries(1)


async def test_a_connection_has_a_limit_of_subscriptions() -> None:
    """One too many is refused alone."""
    async with Served(subscriptions=2) as served, served.client() as client:
        assert client.welcome.max_subscriptions == 2
        for _ in range(2):
            await client.subscribe()
        await client.send(subscribe=pb.Subscribe(sub=3, subscriber_id="b", pattern=">"))
        assert "at most 2 subscriptions" in (await client.expect("failure")).failure.message


async def test_an_unnamed_subscription_ends_with_its_connection() -> None:
    """It leaves nothing behind."""
    async with Served() as served:
        async with served.client() as client:
            await client.subscribe()
            await publish(served.router, *"abc")
            await client.deliveries(3)
        await until(lambda: served.router.get_metrics().subscriptions == 0)
        await until(lambda: served.pending() == 0)
        assert served.router.get_metrics().cancelled == 3


async def test_what_leaves_may_still_be_settled_and_gets_nothing_more() -> None:
    """Leave with end ends a named subscription for good: nothing is owed to it afterwards."""
    async with Served() as served, served.client() as client:
        sub = await client.subscribe(name="billing")
        await publish(served.router, "a")
        (got,) = await client.deliveries(1)
        await client.send(leave=pb.Leave(sub=sub, end=True))
        assert (await client.expect("left")).left.sub == sub
        await publish(served.router, "b")
        await client.settle(sub, ack=[got.delivery])
        await client.synced()
        await until(lambda: served.router.get_metrics().delivered == 1)
        await client.subscribe(name="billing", earliest=True)
        assert types(await client.deliveries(2)) == ["a", "b"]


async def settle_all(client: Client, sub: int, n: int) -> None:
    while n > 0:
        got = (await client.expect("deliveries")).deliveries.deliveries
        await client.send(credit=pb.Credit(sub=sub, more=len(got)))
        await client.settle(sub, ack=[one.delivery for one in got])
        n -= len(got)


async def test_a_slow_client_delays_nobody_else() -> None:
    """One that never settles, beside one that does."""
    async with Served() as served, served.client() as never, served.client() as client:
        await never.subscribe(credit=5)
        sub = await client.subscribe()
        settling = asyncio.ensure_future(settle_all(client, sub, 200))
        for number in range(200):
            await publish(served.router, f"n{number}")
        await settling
        assert len(await never.deliveries(5)) == 5
        await never.synced()


async def test_what_does_not_reach_the_client_costs_none_of_its_credit() -> None:
    """A layer before the handler may end deliveries by itself: of those the client knows nothing, and gives no more."""
    plugins = (MemoryPlugin(dedupe_window=0), RetryPlugin(), DedupePlugin())
    async with Served(*plugins) as served, served.client() as client:
        sub = await client.subscribe(credit=2)
        for _ in range(20):
            await publish(served.router, "a", event_id="0b6f0a6c-3c0c-4d8e-9d55-6b1d5f5c7a01")
        await publish(served.router, "b")
        (first,) = await client.deliveries(1)
        await client.settle(sub, ack=[first.delivery])
        (last,) = await client.deliveries(1)
        assert types([first, last]) == ["a", "b"]
        await client.settle(sub, ack=[last.delivery])
        await until(lambda: served.pending() == 0)
        await publish(served.router, "c")
        await client.synced()  # what was sent has used the credit up
        await client.send(credit=pb.Credit(sub=sub, more=1))
        assert types(await client.deliveries(1)) == ["c"]


async def test_a_ping_that_asks_what_is_stored_is_answered_when_the_store_has_it() -> None:
    """All that was settled before it, by a subscription that has left too; a plain one is answered meanwhile."""
    clock, kept = VirtualClock(), KeptMemory(SlowToSettle)
    async with Served(kept, RetryPlugin(), clock=clock) as served, served.client() as client:
        subs = [await client.subscribe(one, name=one) for one in "abc"]
        await publish(served.router, *"abc")
        numbers = [one.delivery for one in await client.deliveries(3)]
        kept.store.refuse = True
        await client.send(leave=pb.Leave(sub=subs[2], end=True))
        assert (await client.expect("left")).left.sub == subs[2]
        await client.settle(subs[2], ack=[numbers[2]])
        await client.send(ping=pb.Ping(number=1, stored=True))
        await client.synced()
        await client.settle(subs[0], ack=[numbers[0]])
        await client.send(ping=pb.Ping(number=2, stored=True))
        await client.settle(subs[1], nak=[pb.Nak(delivery=numbers[1], delay_ms=60_000)])
        await client.send(ping=pb.Ping(number=3, stored=True))
        for _ in range(3):
            await client.synced()  # and none of the others was answered before
        kept.store.refuse = False
        await clock.advance(1.5)  # by then they are asked for again
        assert sorted([(await client.expect("pong")).pong.number for _ in range(3)]) == [1, 2, 3]
        await client.send(ping=pb.Ping(number=4, stored=True))
        assert (await client.expect("pong")).pong.number == 4
