"""Routers and threads: publishing from threads without a loop, and routers that run in a thread of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from tests.core.world import (
    Heard,
    KeptMemory,
    ManualStore,
    OpensThenFails,
    World,
    event,
)

from squall import (
    ConfigError,
    Context,
    Event,
    EventData,
    EventRouter,
    InvalidEvent,
    NotRunning,
    Observer,
    Overflow,
    Plugin,
    Priority,
    PublishError,
    Query,
    StoreFileError,
    WrongThread,
    hookimpl,
)
from squall.core.config import Backlog
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin


class KeptContext(Plugin):
    """Keeps the context that its hooks are given."""

    ctx: Context | None = None

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer | None:
        self.ctx = ctx
        return None


async def test_publish_sync_works_from_any_thread() -> None:
    """Many at a time: each event is stored once, and delivered."""
    heard = Heard()
    async with World() as world:
        await world.subscriber.subscribe(">", heard)
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(8) as pool:
            ids = await asyncio.gather(
                *(loop.run_in_executor(pool, world.publisher.publish_sync, f"a.{n}", {"n": n}) for n in range(64))
            )
        await world.clock.settle()
        assert sorted(heard.ids) == sorted(ids)
        assert len(set(ids)) == 64


async def test_publish_sync_on_the_loops_own_thread_is_an_error_and_no_deadlock() -> None:
    """From a coroutine, and from a handler."""
    errors: list[BaseException] = []

    async def handle(event: Event) -> None:
        try:
            world.publisher.publish_sync("b", b"")
        except WrongThread as error:
            errors.append(error)

    async with World() as world:
        await world.subscriber.subscribe("a", handle)
        with pytest.raises(WrongThread, match=r"await publish\(…\) here instead"):
            world.publisher.publish_sync("a", b"")
        await world.publish("a")
        await world.clock.settle()
        assert len(errors) == 1
        assert (await world.router.store.counts()).events == 1


async def test_publish_sync_raises_what_publish_raises() -> None:
    """With the same outcome."""
    async with World() as world:
        with pytest.raises(InvalidEvent, match="event_type"):
            await asyncio.to_thread(world.publisher.publish_sync, "a..b", b"")


async def test_publish_sync_takes_what_publish_takes() -> None:
    """Priority, correlation id, key and metadata."""
    async with World() as world:
        await asyncio.to_thread(
            world.publisher.publish_sync,
            "a",
            {"n": 1},
            priority=Priority.HIGH,
            correlation_id="c",
            key="k",
            metadata={"region": "eu"},
        )
        (one,) = (await world.router.store.read(Query())).events
        assert (one.data, one.priority, one.correlation_id, one.key) == ({"n": 1}, Priority.HIGH, "c", "k")
        assert one.metadata["region"] == "eu"


async def test_publish_sync_without_an_answer_is_of_unknown_outcome() -> None:
    """After its time limit it says `info`: the event may have been stored, and is delivered if it was."""
    kept, heard = KeptMemory(ManualStore), Heard()
    async with World(store=kept) as world:
        await world.subscriber.subscribe(">", heard)
        with pytest.raises(PublishError, match="may have been stored") as caught:
            await asyncio.to_thread(world.publisher.publish_sync, "a", b"", timeout_s=0.01)
        assert caught.value.outcome == "info"
        kept.store.commit_all()
        await world.clock.settle()
        assert heard.types == [one.type for one in (await world.router.store.read(Query())).events]


def test_a_program_without_a_loop_has_a_router_in_a_thread() -> None:
    """It publishes, its handlers run in the router's thread, and all of it ends with the `with`."""
    heard, names = Heard(), list[str]()

    async def handle(event: Event) -> None:
        await heard(event)
        names.append(threading.current_thread().name)

    with EventRouter.in_thread() as router:
        assert router.loop is not None
        subscribing = router.subscriber("billing").subscribe(">", handle)
        asyncio.run_coroutine_threadsafe(subscribing, router.loop).result(10)
        publisher = router.publisher("shop")
        ids = [publisher.publish_sync("a", {"n": n}) for n in range(20)]
    assert heard.ids == ids
    assert set(names) == {"squall"}
    with pytest.raises(NotRunning):
        publisher.publish_sync("a", b"")
    assert "squall" not in {thread.name for thread in threading.enumerate()}


def test_a_router_in_a_thread_may_be_as_a_file_says(tmp_path: Path) -> None:
    """Plugins, options and backlog are the file's, and a seed makes its chance repeat."""
    file = tmp_path / "squall.yaml"
    file.write_text("version: 1\nplugins:\n  - retry: {attempts: 2}\nbacklog: {max_events: 1, overflow: reject}\n")

    def drawn(seed: int) -> list[float]:
        with EventRouter.in_thread([kept := KeptContext()], seed=seed):
            assert kept.ctx is not None
            return [kept.ctx.random("weather").random() for _ in range(3)]

    async def handle(event: Event) -> None:
        raise ValueError

    with EventRouter.in_thread(config=file, seed=7) as router:
        assert router.loop is not None
        assert router.plugin(RetryPlugin).options == RetryPlugin(attempts=2).options
        assert vars(router)["_seed"] == 7
        subscribing = router.subscriber("billing").subscribe(">", handle)
        own = asyncio.run_coroutine_threadsafe(subscribing, router.loop).result(10)
        asyncio.run_coroutine_threadsafe(router.subscriber("billing").pause_subscription(own), router.loop).result(10)
        router.publisher("shop").publish_sync("a", b"")
        with pytest.raises(Overflow, match="no room for 1 more, at most 1 may wait"):
            router.publisher("shop").publish_sync("a", b"")
        asyncio.run_coroutine_threadsafe(router.subscriber("billing").unsubscribe(own), router.loop).result(10)
    assert drawn(7) == drawn(7) != drawn(8)


@pytest.mark.parametrize("besides", [{"plugins": []}, {"backlog": Backlog()}])
def test_a_router_in_a_thread_has_one_configuration(besides: dict[str, Any]) -> None:
    """A file, or plugins and backlog; not a file that something overrules silently."""
    with pytest.raises(ConfigError, match="in_thread: expected plugins and backlog, or a config"):
        EventRouter.in_thread(config="squall.yaml", **besides)


def test_an_error_in_the_program_stops_the_thread_too() -> None:
    """No thread outlives the `with`."""
    with pytest.raises(KeyError), EventRouter.in_thread():
        raise KeyError("mine")
    assert "squall" not in {thread.name for thread in threading.enumerate()}


def test_a_router_that_cannot_start_leaves_no_thread() -> None:
    """The error is the start's own."""
    with pytest.raises(StoreFileError, match="audit file"), EventRouter.in_thread([KeptMemory(OpensThenFails)]):
        pytest.fail("must not be reached")
    assert "squall" not in {thread.name for thread in threading.enumerate()}


def test_a_lazy_router_in_a_thread_takes_a_call_from_its_own_handlers_thread_for_what_it_is() -> None:
    """A handler that publishes synchronously in the router's own thread is told, not hung."""
    told = list[BaseException]()

    async def handle(event: Event) -> None:
        try:
            router.publisher("x").publish_sync("b", b"")
        except WrongThread as error:
            told.append(error)

    with EventRouter.in_thread([]) as router:
        assert router.loop is not None
        subscribing = router.subscriber("billing").subscribe("a", handle)
        asyncio.run_coroutine_threadsafe(subscribing, router.loop).result(10)
        router.publisher("shop").publish_sync("a", b"")
    assert len(told) == 1


ELSEWHERE: list[Callable[[EventRouter], Awaitable[object]]] = [
    lambda router: router.publisher("shop").publish("a", b""),
    lambda router: router.publisher("shop").publish("a", b"", event_id=str(UUID(int=7))),
    lambda router: router.publisher("shop").publish("a", b"", delay_s=1),
    lambda router: router.publisher("shop").publish_with_receipt("a", b""),
    lambda router: router.publisher("shop").publish_batch([EventData("a", b"")]),
    lambda router: router.route_event(event()),
    lambda router: router.subscriber("billing").subscribe(">", Heard(), name="billing"),
    lambda router: router.subscriber("billing").unsubscribe("x"),
    lambda router: router.subscriber("billing").detach("x"),
    lambda router: router.subscriber("billing").pause_subscription("x"),
    lambda router: router.subscriber("billing").resume_subscription("x"),
    lambda router: anext(router.replay()),
    lambda router: router.backlog("billing"),
    lambda router: router.stop(),
]


@pytest.mark.parametrize("use", ELSEWHERE)
async def test_what_is_awaited_in_another_loop_is_an_error_at_once(
    use: Callable[[EventRouter], Awaitable[object]], tmp_path: Path
) -> None:
    """Its answer would come where the router runs, and never here. Nothing is done, and the router goes on."""
    with EventRouter.in_thread([SqlitePlugin(path=str(tmp_path / "a.db"), durability="process")]) as router:
        with pytest.raises(WrongThread, match=r"another event loop .*run_coroutine_threadsafe\(…, router\.loop\)"):
            await asyncio.wait_for(use(router), 10)  # only where it hangs
        router.publisher("shop").publish_sync("b", b"")
        assert router.loop is not None
        counts = asyncio.run_coroutine_threadsafe(router.store.counts(), router.loop).result()
        assert (counts.events, router.get_metrics().subscriptions) == (1, 0)


async def test_a_replay_may_be_made_in_one_thread_and_read_in_the_routers(tmp_path: Path) -> None:
    """What counts is where it is awaited."""

    async def read(events: AsyncIterator[Event]) -> list[str]:
        return [one.type async for one in events]

    with EventRouter.in_thread([SqlitePlugin(path=str(tmp_path / "a.db"), durability="process")]) as router:
        router.publisher("shop").publish_sync("b", b"")
        assert router.loop is not None
        assert asyncio.run_coroutine_threadsafe(read(router.replay()), router.loop).result() == ["b"]
