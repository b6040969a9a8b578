"""What becomes of a publish whose connection is lost, silent, or not there: ok, fail or info, and never a guess."""

from __future__ import annotations

import asyncio
from random import Random
from uuid import uuid4

import pytest
from tests.core.world import Heard, KeptMemory, ManualStore
from tests.plugins.remote.proxied import network
from tests.plugins.serve.served import Served, until

import squall
from squall import (
    Backlog,
    Conflict,
    Context,
    EventData,
    InvalidEvent,
    Overflow,
    Plugin,
    PublishError,
    Refused,
    StoreError,
    guard,
    hookimpl,
)
from squall.core.errors import Outcome
from squall.core.event import Event
from squall.core.middleware import Middleware
from squall.plugins.remote.client import RemoteRouter

pytestmark = pytest.mark.slow  # each has a server and connections to it


async def lost(remote: RemoteRouter) -> None:
    """The client has noticed that there is no connection."""
    await until(lambda: not remote.connected)


async def test_what_waits_for_a_connection_is_sent_in_its_order_when_there_is_one() -> None:
    """Each once, under the id that its caller is given; batches stay whole."""
    async with network() as net, squall.connect(net.url) as remote:
        publisher = remote.publisher("shop")
        await net.cut()
        await lost(remote)
        singles = [asyncio.ensure_future(publisher.publish("a", n)) for n in range(20)]
        batch = asyncio.ensure_future(publisher.publish_batch([EventData("b", n) for n in range(5)]))
        last = asyncio.ensure_future(publisher.publish("c", b""))
        await asyncio.sleep(0.05)
        assert not any(one.done() for one in (*singles, batch, last))
        await net.mend()
        ids = [*await asyncio.gather(*singles), *await batch, await last]
        assert await net.stored() == ids


async def test_what_was_surely_never_sent_fails_at_its_deadline() -> None:
    """And is not stored later."""
    async with network() as net, squall.connect(net.url, deadline_s=1.5) as remote:
        await net.cut()
        await lost(remote)
        with pytest.raises(PublishError, match=r"not sent within 1\.5.* so it is not stored") as caught:
            await remote.publisher("shop").publish("a", b"")
        assert caught.value.outcome == "fail"
        await net.mend()
        await until(lambda: remote.connected)
        kept = await remote.publisher("shop").publish("b", b"")
        assert await net.stored() == [kept]


async def test_what_was_sent_and_has_no_answer_is_info_at_its_deadline() -> None:
    """Here it is stored, afterwards."""
    held = KeptMemory(ManualStore)
    async with network(held) as net, squall.connect(net.url, deadline_s=1.5) as remote:
        publishing = asyncio.ensure_future(remote.publisher("shop").publish("a", b""))
        await until(lambda: bool(manual(held).waiting))
        with pytest.raises(PublishError, match="it may have been stored") as caught:
            await publishing
        assert caught.value.outcome == "info"
        manual(held).commit()
        assert len(await net.stored()) == 1


def manual(kept: KeptMemory) -> ManualStore:
    store = kept.store
    assert isinstance(store, ManualStore)
    return store


@pytest.mark.parametrize("atomic", [False, True])
async def test_an_answer_lost_on_its_way_is_asked_for_again_and_nothing_is_stored_twice(atomic: bool) -> None:
    """The server knows the ids: the receipt says that it is a duplicate."""
    held = KeptMemory(ManualStore)
    async with network(held) as net, squall.connect(net.url) as remote:
        publisher = remote.publisher("shop")
        publishing = asyncio.ensure_future(
            publisher.publish_batch_with_receipts([EventData("a", n) for n in range(3)])
            if atomic
            else _each(publisher, 3)
        )
        await until(lambda: sum(len(events) for events, _ in manual(held).waiting) == 3)
        await net.cut()
        await lost(remote)
        manual(held).commit_all()
        manual(held).auto = True
        await net.mend()
        receipts = await publishing
        assert await net.stored() == [one.id for one in receipts]
        assert [(one.seq, one.duplicate) for one in receipts] == [(1, True), (2, True), (3, True)]


async def _each(publisher: squall.EventPublisher, n: int) -> list[squall.Receipt]:
    return list(await asyncio.gather(*(publisher.publish_with_receipt("a", number) for number in range(n))))


async def test_where_the_server_would_not_know_it_again_it_is_not_sent_again() -> None:
    """As the server itself says. Told as unknown as soon as there is a connection: nobody can know more."""
    held = KeptMemory(ManualStore, dedupe_window_s=0.0)
    async with network(held) as net, squall.connect(net.url) as remote:
        publishing = asyncio.ensure_future(remote.publisher("shop").publish("a", b""))
        await until(lambda: bool(manual(held).waiting))
        await net.cut()
        await lost(remote)
        manual(held).commit_all()
        manual(held).auto = True
        await net.mend()
        with pytest.raises(PublishError, match="not sent again") as caught:
            await publishing
        assert caught.value.outcome == "info"
        assert len(await net.stored()) == 1


async def test_a_refusal_of_what_was_sent_before_proves_nothing() -> None:
    """What was sent on the connection that is lost may yet arrive: that it failed this time is told as unknown."""
    held = KeptMemory(ManualStore)
    async with network(held) as net, squall.connect(net.url) as remote:
        publishing = asyncio.ensure_future(remote.publisher("shop").publish("a", b""))
        await until(lambda: bool(manual(held).waiting))
        await net.cut()
        await lost(remote)
        await net.mend()
        await until(lambda: remote.connected)
        while not publishing.done():
            if manual(held).waiting:
                manual(held).fail()
            await asyncio.sleep(0.01)
        with pytest.raises(StoreError) as caught:
            await publishing
        assert caught.value.outcome == "info"


@pytest.mark.parametrize("kind", ["timeout", "bandwidth"])
async def test_a_silent_connection_is_noticed_and_left(kind: str) -> None:
    """Within two heartbeats and a sweep; deliveries and publishes go on once there is another."""
    heard = Heard()
    async with network() as net, squall.connect(net.url, heartbeat_s=0.2) as remote:
        await remote.subscriber("billing").subscribe("*", heard, name="n")
        first = await remote.publisher("shop").publish("a", b"")
        async with net.silent(kind):
            waiting = asyncio.ensure_future(remote.publisher("shop").publish("b", b""))
            async with asyncio.timeout(1.5):
                await lost(remote)
            assert not waiting.done()
        second = await waiting
        assert await net.stored() == [first, second]
        await until(lambda: set(heard.ids) == {first, second})


async def test_a_quiet_connection_is_kept_by_pings() -> None:
    """Nobody publishes: that is no loss."""
    async with network() as net, squall.connect(net.url, heartbeat_s=0.2) as remote:
        connection = next(iter(net.served.server.hub.connections))
        await asyncio.sleep(1.0)
        assert connection in net.served.server.hub.connections
        assert remote.connected


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_over_any_cuts_each_publish_is_what_its_outcome_says(seed: int) -> None:
    """ok: stored once and delivered; fail: never; info: at most once. In the publisher's order."""
    random, heard, outcomes = Random(seed), Heard(), dict[str, str]()
    options = {"heartbeat_s": 0.1, "deadline_s": 0.6, "seed": seed}
    async with network() as net, squall.connect(net.url, **options) as remote:  # type: ignore[arg-type]
        await remote.subscriber("billing").subscribe("*", heard, name="n", concurrency=8)
        over = asyncio.Event()
        publishing = [asyncio.ensure_future(_publishes(remote, over, outcomes)) for _ in range(5)]
        for _ in range(6):
            await asyncio.sleep(random.uniform(0.05, 0.2))
            if random.random() < 0.4:
                await net.cut()
                await asyncio.sleep(random.uniform(0.0, 0.5))
                await net.mend()
            else:
                async with net.silent(random.choice(["timeout", "bandwidth"])):
                    await asyncio.sleep(random.uniform(0.0, 0.9))
        await until(lambda: remote.connected)
        await until(lambda: list(outcomes.values()).count("ok") > 100)  # however slow the machine is
        over.set()
        await asyncio.gather(*publishing)
        stored = await net.stored()
        ok = {one for one, outcome in outcomes.items() if outcome == "ok"}
        fail = {one for one, outcome in outcomes.items() if outcome == "fail"}
        assert len(stored) == len(set(stored))
        assert ok <= set(stored)
        assert not fail & set(stored)
        assert set(stored) <= outcomes.keys()
        await until(lambda: set(stored) <= set(heard.ids))


async def _publishes(remote: RemoteRouter, over: asyncio.Event, outcomes: dict[str, str]) -> None:
    publisher = remote.publisher("shop")
    while not over.is_set():
        own = str(uuid4())
        try:
            await publisher.publish("a", b"", event_id=own)
            outcomes[own] = "ok"
        except PublishError as error:
            outcomes[own] = error.outcome
        await asyncio.sleep(0.001)


async def test_a_cancelled_publish_answers_no_other() -> None:
    """A thousand cancelled at random: each of the others is given its own receipt."""
    random = Random(7)
    async with Served() as served, squall.connect(served.server.url) as remote:
        publisher = remote.publisher("shop")
        ids = [str(uuid4()) for _ in range(2000)]
        tasks = []
        for number, own in enumerate(ids):
            tasks.append(asyncio.ensure_future(publisher.publish_with_receipt("a", number, event_id=own)))
            if number % 10 == 0:
                await asyncio.sleep(0)
            if random.random() < 0.5:
                random.choice(tasks).cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        receipts = {own: end for own, end in zip(ids, ends, strict=True) if isinstance(end, squall.Receipt)}
        assert 500 < len(receipts) < 1900
        assert all(receipt.id == own for own, receipt in receipts.items())
        stored = {event.id: event.seq async for event in served.router.replay()}
        assert all(stored[own] == receipt.seq for own, receipt in receipts.items())


async def test_a_cancelled_publish_that_was_never_sent_never_is() -> None:
    """It was in the buffer still."""
    async with network() as net, squall.connect(net.url, buffer_events=1) as remote:
        await net.cut()
        await lost(remote)
        publishing = asyncio.ensure_future(remote.publisher("shop").publish("a", b""))
        await asyncio.sleep(0)
        publishing.cancel()
        await asyncio.gather(publishing, return_exceptions=True)
        kept = asyncio.ensure_future(remote.publisher("shop").publish("b", b""))  # there is room again
        await asyncio.sleep(0)
        await net.mend()
        own = await kept
        assert await net.stored() == [own]


@pytest.mark.parametrize("limits", [{"buffer_events": 3}, {"buffer_bytes": 1024}])
async def test_a_full_buffer_refuses_at_once(limits: dict[str, int]) -> None:
    """With what is there, and nothing was sent."""
    async with network() as net, squall.connect(net.url, **limits) as remote:  # type: ignore[arg-type]
        await net.cut()
        await lost(remote)
        publisher = remote.publisher("shop")
        waiting = [asyncio.ensure_future(publisher.publish("a", b"x" * 250)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(Overflow, match="3 events with") as caught:
            await publisher.publish("b", b"x" * 250)
        assert caught.value.outcome == "fail"
        await net.mend()
        ids = await asyncio.gather(*waiting)
        assert await net.stored() == ids
        assert await publisher.publish("c", b"")


async def test_the_wait_for_a_connection_counts_in_a_time_to_live_and_a_delay() -> None:
    """What is over before it could be sent is surely not stored; a delay that is over is none."""
    async with network() as net, squall.connect(net.url) as remote:
        publisher = remote.publisher("shop")
        await net.cut()
        await lost(remote)
        short = asyncio.ensure_future(publisher.publish("a", b"", ttl_s=0.1))
        long = asyncio.ensure_future(publisher.publish("b", b"", ttl_s=60, delay_s=0.1))
        await asyncio.sleep(0.3)
        await net.mend()
        with pytest.raises(PublishError, match="time to live") as caught:
            await short
        assert caught.value.outcome == "fail"
        own = await long
        assert await net.stored() == [own]
        (event,) = [event async for event in net.served.router.replay()]
        assert event.due_ns == 0
        assert 58e9 < event.expires_ns - event.time_ns < 59.8e9


class Refusing(Plugin):
    """Refuses what is called so."""

    @hookimpl
    def squall_publish_middleware(self, ctx: Context) -> list[Middleware]:
        def check(event: Event) -> None:
            if event.type == "limited":
                raise Refused("too fast", 1.5)

        return [guard(check, stage="limit")]


async def test_what_the_server_raises_is_raised_here() -> None:
    """The same classes, with what they carry."""
    served = Served(KeptMemory(), Refusing(), backlog=Backlog(max_events=1))
    async with served, squall.connect(served.server.url) as remote:
        publisher = remote.publisher("shop")
        with pytest.raises(Refused, match="too fast") as refused:
            await publisher.publish("limited", b"")
        assert (refused.value.retry_after_s, refused.value.outcome) == (1.5, "fail")
        own = await publisher.publish("a", b"1")
        again = await publisher.publish("a", b"1", event_id=str(uuid4()))
        assert own != again
        with pytest.raises(Conflict):
            await publisher.publish("a", b"2", event_id=again)
        blocked = await served.router.subscriber("other").subscribe("full", Heard(), overflow="reject")
        await served.router.subscriber("other").pause_subscription(blocked)
        await publisher.publish("full", b"")
        with pytest.raises(Overflow) as full:
            await publisher.publish("full", b"")
        assert full.value.outcome == "fail"


@pytest.mark.parametrize("outcome", ["fail", "info"])
async def test_a_store_that_fails_says_what_it_knows(outcome: Outcome) -> None:
    """And no more is made of it."""
    held = KeptMemory(ManualStore)
    async with Served(held) as served, squall.connect(served.server.url) as remote:
        publishing = asyncio.ensure_future(remote.publisher("shop").publish("a", b""))
        await until(lambda: bool(manual(held).waiting))
        manual(held).auto = outcome == "info"
        while not publishing.done():
            if manual(held).waiting:
                manual(held).fail(StoreError("the disk is gone", outcome))
            await asyncio.sleep(0.005)
        with pytest.raises(StoreError, match="the disk is gone") as caught:
            await publishing
        assert caught.value.outcome == outcome


async def test_frames_are_no_larger_than_the_server_takes() -> None:
    """Many small events go in several; one that is too large is surely not stored, and harms no other."""
    async with Served(max_frame=4096) as served, squall.connect(served.server.url) as remote:
        publisher = remote.publisher("shop")
        with pytest.raises(InvalidEvent, match="4096 bytes"):
            await publisher.publish("a", b"x" * 5000)
        with pytest.raises(InvalidEvent, match="4096 bytes"):
            await publisher.publish_batch([EventData("a", b"x" * 100)] * 100)
        assert len(await asyncio.gather(*(publisher.publish("a", b"x" * 100) for _ in range(200)))) == 200


async def test_more_publishes_than_the_server_reads_do_not_stop_settlements() -> None:
    """The store holds every answer back: acknowledgements still pass."""
    held, heard = KeptMemory(ManualStore), Heard()
    async with Served(held, publishes=4) as served, squall.connect(served.server.url) as remote:
        publisher = remote.publisher("shop")
        manual(held).auto = True
        await remote.subscriber("billing").subscribe("a", heard)
        await remote.subscriber("billing").subscribe("a", heard)
        manual(held).auto = False
        waiting = []
        for _ in range(50):
            waiting.append(asyncio.ensure_future(publisher.publish("b", b"")))
            await asyncio.sleep(0.001)
        manual(held).auto = True
        await served.router.publisher("shop").publish("a", b"")
        manual(held).auto = False
        await until(lambda: len(heard.events) == 2 and served.router.get_metrics().delivered == 2)
        manual(held).auto = True
        manual(held).commit_all()
        assert len(await asyncio.gather(*waiting)) == 50


async def test_what_was_sent_into_silence_is_sent_again_before_what_came_later() -> None:
    """In the order in which it was published, over frames and connections."""
    async with network(publishes=4) as net, squall.connect(net.url, heartbeat_s=0.2) as remote:
        publisher, publishing = remote.publisher("shop"), []
        async with net.silent("timeout"):
            for number in range(10):
                publishing.append(asyncio.ensure_future(publisher.publish("a", number)))
                await asyncio.sleep(0.005)  # a frame of its own, while the server takes more: the others wait behind
            await lost(remote)
            publishing += [asyncio.ensure_future(publisher.publish("a", number)) for number in range(10, 15)]
        ids = await asyncio.gather(*publishing)
        assert await net.stored() == ids
