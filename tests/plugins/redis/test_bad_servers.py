"""Servers that refuse, are wrong or are not there: one clear error each, nothing lost, and all well when they heal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests import servers
from tests.plugins.redis.operator import Operator
from tests.plugins.redis.routers import until
from tests.plugins.redis_stores import redis_store
from tests.plugins.store_bench import FakeProgress, make_event
from tests.servers import Server

from squall import Event, Priority, StoreError, StoreFileError
from squall.core.store import Cursor, DurableSpec, Query
from squall.plugins.redis.store import RedisStore

HIGH = "squall:{test}:events:high"
SPEC = DurableSpec("11111111-1111-4111-8111-111111111111", "billing", "shop", ">", "{}")


class Trouble(NamedTuple):
    """What makes a server bad, what makes it well again, and what is said meanwhile."""

    name: str
    begin: Sequence[str]
    end: Sequence[str]
    says: str


TROUBLES = [
    Trouble("READONLY", ["REPLICAOF 127.0.0.1 1"], ["REPLICAOF NO ONE"], "a replica that takes no writes"),
    Trouble("OOM", ["CONFIG SET maxmemory 1"], ["CONFIG SET maxmemory 0"], "out of memory; raise its maxmemory"),
    Trouble(
        "NOAUTH",
        ["CONFIG SET requirepass secret", "CLIENT KILL TYPE normal SKIPME yes"],
        ["CONFIG SET requirepass ''"],
        "put user and password into the url",
    ),
    Trouble(
        "WRONGTYPE", [f"RENAME {HIGH} kept", f"SET {HIGH} 1"], [f"RENAME kept {HIGH}"], "somebody else uses this key"
    ),
    Trouble(
        "NOREPLICAS",
        ["CONFIG SET min-replicas-to-write 1"],
        ["CONFIG SET min-replicas-to-write 0"],
        "too few of its replicas",
    ),
]


async def store_of(url: str, on_stored: Callable[[Sequence[Event]], None], **options: Any) -> RedisStore:
    store = redis_store(url, timeout_s=0.5, **options)
    await store.open(on_stored)
    return store


async def append(store: RedisStore, index: int) -> Event:
    event = make_event(index, priority=Priority.HIGH)
    waiting = store.append([event])
    assert waiting is not None
    await waiting
    return event


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_a_server_that_refuses_is_told_and_nothing_is_lost(trouble: Trouble, redis_server: Server) -> None:
    """Appends fail, surely not stored; settlements are refused; when it heals both go on, with nothing twice."""
    announced: list[Event] = []
    operator = Operator(redis_server.url)
    store = await store_of(redis_server.url, announced.extend)
    attached = await store.attach(SPEC)
    await append(store, 0)
    await operator.say(*trouble.begin)
    with pytest.raises(StoreError, match=trouble.says) as told:
        await append(store, 1)
    assert told.value.outcome == "fail"
    progress = FakeProgress(attached.id, cursors=[Cursor(1, 1)])
    store.settle(progress)
    await until(lambda: progress.told or store._refusal)
    await operator.say(*trouble.end)
    await until(lambda: store._refusal is None)
    await append(store, 2)
    store.settle(progress)
    await until(lambda: progress.told and progress.told[-1][1] is None)
    assert [event.payload for event in announced] == [b"0", b"2"]
    assert [event.payload for event in (await store.read(Query())).events] == [b"0", b"2"]
    assert (await store.attach(SPEC)).cursors == [Cursor(1, 1)]
    await store.close()
    await operator.close()


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_a_server_that_refuses_is_told_at_the_start(trouble: Trouble, redis_server: Server) -> None:
    operator = Operator(redis_server.url)
    before = await store_of(redis_server.url, lambda events: None)
    await append(before, 0)
    await before.close()
    await operator.say(*trouble.begin)
    with pytest.raises(StoreFileError, match=trouble.says) as told:
        await store_of(redis_server.url, lambda events: None)
    assert "durability" not in str(told.value)  # which is not what is wrong
    await operator.say(*trouble.end)
    after = await store_of(redis_server.url, lambda events: None)
    assert after.next_seq == 2
    await after.close()
    await operator.close()


LOGIN = ": it refuses the login; put user and password into the url (redis://user:password@host), by env: or file: "


@pytest.mark.parametrize("durability", ["disk", "memory"])
@pytest.mark.parametrize(
    ("login", "says"),
    [
        ("", f"{LOGIN}(its answer: HELLO must be called with the client already authenticated, "),
        (":wrong@", f"{LOGIN}(its answer: invalid username-password pair or user is disabled.)"),
        ("app:right@", " answered: this user has no permissions to run the 'select' command"),
    ],
)
async def test_a_refused_login_is_told_alone(login: str, says: str, durability: str, redis_server: Server) -> None:
    """Whatever was asked for: what the server keeps is not known, and not what is wrong."""
    at = redis_server.url.removeprefix("redis://")
    operator = Operator(redis_server.url)
    await operator.say("ACL SETUSER app on >right ~* &* +@all -select", "CONFIG SET requirepass secret")
    await operator.close()
    with pytest.raises(StoreFileError) as told:
        await store_of(f"redis://{login}{at}/1", lambda events: None, durability=durability)
    assert str(told.value).startswith(f"the redis store cannot start: Redis at {at}{says}")
    assert "durability" not in str(told.value)


async def test_nobody_at_the_address(tmp_path: Path) -> None:
    at = f"127.0.0.1:{servers.free_port()}"
    with pytest.raises(StoreFileError) as told:
        await store_of(f"redis://{at}", lambda events: None)
    assert str(told.value) == (
        f"the redis store cannot start: Redis at {at} cannot be reached: Connection refused; see that it runs, and "
        "that redis.url is its address"
    )


async def test_somebody_else_at_the_address() -> None:
    """Who answers in another language, and who never answers."""

    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(-1)
        writer.close()

    for answers, says in ((web, "cannot be reached"), (silence, "no answer within 0.5 s")):
        async with await asyncio.start_server(answers, "127.0.0.1", 0) as other:
            port = other.sockets[0].getsockname()[1]
            with pytest.raises(StoreFileError, match=says):
                await store_of(f"redis://127.0.0.1:{port}", lambda events: None)


@pytest.mark.slow
async def test_a_server_that_loads_is_waited_for(tmp_path: Path) -> None:
    """At the start it is an error that says so; while running, an append waits until it has loaded."""
    slow = ("--key-load-delay", "100", "--auto-aof-rewrite-percentage", "0")
    with servers.redis_server(tmp_path / "redis", options=slow) as server:
        announced: list[Event] = []
        store = redis_store(server.url, timeout_s=10)
        await store.open(announced.extend)
        for index in range(2000):
            await append(store, index)
        await asyncio.to_thread(server.kill)
        starting = asyncio.ensure_future(asyncio.to_thread(server.start))
        waiting = asyncio.ensure_future(append(store, 2000))
        said = ""
        while "still loading" not in said:
            assert not starting.done(), f"it was never seen to load: {said}"
            with pytest.raises(StoreFileError) as told:
                await store_of(server.url, lambda events: None)
            said = str(told.value)
        await starting
        await waiting
        assert [event.seq for event in announced] == list(range(1, 2002))
        await store.close()


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("appendfsync", "everysec", "durability disk is asked for, and it keeps less"),
        ("appendonly", "no", "durability disk is asked for, and it keeps less"),
        ("no-appendfsync-on-rewrite", "yes", "durability disk is asked for, and it keeps less"),
        ("maxmemory-policy", "allkeys-lru", "set maxmemory-policy noeviction"),
        ("maxmemory-policy", "volatile-lru", "set maxmemory-policy noeviction"),  # turns and ids of publishers
    ],
)
async def test_a_server_that_keeps_less_than_is_asked_for_is_refused(
    option: str, value: str, says: str, redis_server: Server
) -> None:
    """At the start, and when it turns out after a lost connection: no receipt claims what is not done."""
    operator = Operator(redis_server.url)
    store = await store_of(redis_server.url, lambda events: None)
    await operator.say(f"CONFIG SET {option} {value}", "CLIENT KILL TYPE normal SKIPME yes")
    with pytest.raises(StoreFileError, match=says):
        await store_of(redis_server.url, lambda events: None)
    with pytest.raises(StoreError, match=says) as told:
        await append(store, 0)
    assert told.value.outcome == "fail"
    await store.close()
    if option != "maxmemory-policy":
        weaker = await store_of(redis_server.url, lambda events: None, durability="memory")
        assert weaker.capabilities.durability == "memory"
        await weaker.close()
    await operator.close()


async def test_a_server_that_does_not_say_what_it_keeps_counts_as_memory(redis_server: Server) -> None:
    operator = Operator(redis_server.url)
    await operator.say("ACL SETUSER app on >secret ~* &* +@all -config")
    url = redis_server.url.replace("redis://", "redis://app:secret@")
    with pytest.raises(StoreFileError, match="CONFIG is refused"):
        await store_of(url, lambda events: None)
    store = await store_of(url, lambda events: None, durability="memory")
    await append(store, 0)
    await store.close()
    await operator.close()


async def test_a_batch_is_not_stored_in_part_where_one_of_its_streams_is_somebody_elses(redis_server: Server) -> None:
    """A script has no way back: it looks at all its keys before it writes."""
    operator = Operator(redis_server.url)
    store = await store_of(redis_server.url, lambda events: None)
    await operator.say(f"SET {HIGH} 1")
    with pytest.raises(StoreError, match="somebody else uses this key"):
        await (store.append([make_event(0), make_event(1, priority=Priority.HIGH)]) or asyncio.sleep(0))
    await operator.say(f"DEL {HIGH}")
    assert (await store.read(Query())).events == []
    assert await store.counts() == (0, 0, 0, ())
    await store.close()
    await operator.close()
