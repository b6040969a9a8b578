"""A cluster of three: the keys of a store lie in one slot, whichever node is asked, and wherever the slot goes."""

from __future__ import annotations

import asyncio
from pathlib import Path

from redis.crc import key_slot
from tests import servers
from tests.plugins.redis.routers import Seen, publish, router, until
from tests.plugins.redis_stores import redis_store
from tests.plugins.store_bench import make_event
from tests.servers import Server

from squall import Event
from squall.core.store import Query
from squall.plugins.redis import RedisUrl
from squall.plugins.redis import server as redis
from squall.plugins.redis.keys import Keys


def test_all_keys_of_a_store_are_in_one_slot() -> None:
    keys = Keys("orders")
    names = [keys.head, keys.names, keys.dead, keys.died, keys.redriven, keys.given_back, keys.epoch, *keys.streams]
    names += [keys.subscription("a"), keys.lease("b"), keys.writer("c")]
    assert len({key_slot(name.encode()) for name in names}) == 1
    assert len(set(names)) == len(names)


async def test_any_node_leads_to_the_one_that_has_the_keys(redis_cluster: list[Server]) -> None:
    """Routers that know different nodes share their events, and the store's whole protocol is served."""
    seen = [Seen() for _ in redis_cluster]
    for number, node in enumerate(redis_cluster):
        async with router(node.url, name="any") as one:
            await one.subscriber("billing").subscribe("order.>", seen[number], name="billing")
            await publish(one, number, number + 10)
            await seen[number].has(2)
            assert (await one.store.counts()).events == 2 * (number + 1)
    assert [one.payloads for one in seen] == [[0, 10], [1, 11], [2, 12]]


async def test_stores_of_several_names_are_spread_over_the_nodes(redis_cluster: list[Server]) -> None:
    reached = set()
    for number in range(12):
        store = redis_store(redis_cluster[0].url, f"spread-{number}")
        await store.open(lambda events: None)
        await (store.append([make_event(number)]) or asyncio.sleep(0))
        reached.add(store._server.address)
        await store.close()
    assert reached == {f"127.0.0.1:{node.port}" for node in redis_cluster}


async def test_a_slot_that_moves_takes_its_routers_along(redis_cluster: list[Server]) -> None:
    """Appends, reads and the turn go on at the node that has the slot now."""
    announced: list[Event] = []
    store = redis_store(redis_cluster[0].url, "moving")
    await store.open(announced.extend)
    await (store.append([make_event(0)]) or asyncio.sleep(0))
    source = store._server.address
    nodes = {f"127.0.0.1:{node.port}": redis.Link(redis.Server(RedisUrl(node.url), 5.0)) for node in redis_cluster}
    target = next(address for address in nodes if address != source)
    slot = key_slot(Keys("moving").head.encode())
    ids = {address: (await link.call("CLUSTER", "MYID")).decode() for address, link in nodes.items()}
    await nodes[target].call("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
    await nodes[source].call("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
    host, port = target.split(":")
    while keys := await nodes[source].call("CLUSTER", "GETKEYSINSLOT", slot, 100):
        await nodes[source].call("MIGRATE", host, port, "", 0, 5000, "KEYS", *keys)
    for address in (target, source):
        await nodes[address].call("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
    await (store.append([make_event(1)]) or asyncio.sleep(0))
    assert store._server.address == target
    assert [event.payload for event in (await store.read(Query())).events] == [b"0", b"1"]
    await until(lambda: [event.seq for event in announced] == [1, 2])
    await store.close()
    for link in nodes.values():
        await link.close()


async def test_whoever_has_the_slot_when_its_node_is_gone_is_found(tmp_path: Path) -> None:
    """Though that was the only node in the url: the others are known since they were met."""
    with servers.redis_cluster(tmp_path / "cluster") as nodes:
        links = [redis.Link(redis.Server(RedisUrl(node.url), 5.0)) for node in nodes]
        name = next(f"n{number}" for number in range(100) if key_slot(f"n{number}".encode()) < 5000)
        slot = key_slot(name.encode())
        store = redis_store(nodes[0].url, name, timeout_s=10)
        await store.open(lambda events: None)
        await (store.append([make_event(0)]) or asyncio.sleep(0))
        assert store._server.address == f"127.0.0.1:{nodes[0].port}"
        for link in links[1:]:
            await link.call("CONFIG", "SET", "cluster-require-full-coverage", "no")
            await link.call("CLUSTER", "DELSLOTS", slot)
        await links[1].call("CLUSTER", "ADDSLOTS", slot)
        await asyncio.to_thread(nodes[0].kill)
        await (store.append([make_event(1)]) or asyncio.sleep(0))
        assert store._server.address == f"127.0.0.1:{nodes[1].port}"
        assert store.next_seq == 3
        await store.close()
        for link in links:
            await link.close()


async def test_a_node_that_restarts_is_used_again(redis_cluster: list[Server]) -> None:
    """Also by who knows only another node."""
    seen = Seen()
    async with router(redis_cluster[0].url, name="restarts", timeout=10.0) as one:
        await one.subscriber("billing").subscribe("order.>", seen, name="billing")
        await publish(one, 0)
        await seen.has(1)
        address = one.store._server.address  # type: ignore[attr-defined]
        node = next(node for node in redis_cluster if address.endswith(f":{node.port}"))
        await asyncio.to_thread(node.kill)
        waiting = asyncio.ensure_future(publish(one, 1))
        await asyncio.to_thread(node.start)
        await waiting
        await seen.has(2)
    assert list(dict.fromkeys(seen.payloads)) == [0, 1]
