"""After any mix of what may happen, once the router is idle: the room is whole, nothing is held or remembered, and each
event that a subscription was owed is counted once, by how it ended."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID

import pytest
from tests.core.world import KeptMemory, StoreWrapper, World
from tests.fast import first

from squall import Event, EventData, EventStore, Plugin, Priority, Query, Reject, Retry, StoreError, VirtualClock
from squall.core.config import Backlog
from squall.core.dispatch import Dispatcher
from squall.core.metrics import Meter
from squall.core.plugin import Context, hookimpl
from squall.core.store import Progress
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin

STEPS = 120
ROOM = 6
KINDS: list[dict[str, Any]] = [
    {"name": "plain"},
    {"name": "keyed", "concurrency": 3, "on_retry": "block_key", "in_flight": 4},
    {"name": "once", "delivery": "at-most-once", "concurrency": 2},
    {"delivery": "at-most-once", "overflow": "block"},
    {"overflow": "reject", "concurrency": 2},
    {"overflow": "drop_new"},
    {"overflow": "dead_letter_new", "concurrency": 3},
    {"overflow": "drop_old", "concurrency": 3},
    {"overflow": "drop_lowest", "concurrency": 2, "on_retry": "block_key"},
]


class Moody(StoreWrapper):
    """Refuses appends, or settlements, while it is told to."""

    no_appends = no_settlements = False

    def append(self, events: Any) -> Awaitable[None] | None:
        if self.no_appends:
            raise StoreError("no appends today")
        return self.inner.append(events)

    def settle(self, progress: Progress) -> None:
        if not self.no_settlements:
            self.inner.settle(progress)
            return
        refused = StoreError("no settlements today")
        asyncio.get_running_loop().call_soon(lambda: progress.committed(progress.take(), refused))


class MoodyFile(Plugin):
    """The same over a file."""

    store: Any = None

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._file = SqlitePlugin(path=str(path))

    @hookimpl
    def squall_event_store(self, ctx: Context) -> EventStore:
        self.store = Moody(self._file.squall_event_store(ctx))
        return self.store  # type: ignore[no-any-return]


class Owed:
    """One subscription over all its attachments."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.options = options
        self.pattern = ">" if "concurrency" in options else "a"
        self.id = ""
        self.meters: list[Meter] = []

    async def ended(self) -> int:
        found = [await meter.read() for meter in self.meters]
        return sum(one.acked + one.dead_lettered + one.dropped + one.cancelled + one.expired for one in found)


class Mix:
    """A router, its subscriptions, and what a seed does with them."""

    def __init__(self, kept: Any, seed: int, clock: VirtualClock) -> None:
        self.random = Random(seed)
        self.world = World(
            RetryPlugin(None, attempts=3, base="1s", cap="1s"),
            store=kept,
            clock=clock,
            backlog=Backlog(max_events=ROOM, timeout=1.0),
        )
        self.kept, self.tasks = kept, list[asyncio.Future[Any]]()
        self.owed = [Owed(options) for options in KINDS]
        self.calm = False

    async def handle(self, event: Event) -> None:
        mood = 1.0 if self.calm else self.random.random()
        if mood < 0.4:
            await self.world.clock.sleep(self.random.choice([0.0, 0.3, 3.0]))
        if 0.3 < mood < 0.5:
            raise self.random.choice([ValueError("broken"), Reject("no"), Retry(0.2)])
        if mood < 0.05:
            await self.world.subscriber.detach(self.random.choice(self.owed[:3]).id)

    async def attach(self, one: Owed) -> None:
        subscriptions = self.world.router.subscriptions
        if one.id not in subscriptions.dispatchers:
            one.id = await self.world.subscriber.subscribe(one.pattern, self.handle, timeout_s=2.0, **one.options)
            one.meters.append(subscriptions.meter(one.id))

    def event(self) -> EventData:
        chance = self.random
        return EventData(
            chance.choice("ab"),
            b"",
            chance.choice([*Priority]),
            key=chance.choice([None, "k", "l"]),
            event_id=str(UUID(int=chance.randrange(8), version=4)) if chance.random() < 0.3 else None,
            delay_s=chance.choice([0.0, 0.0, 0.0, 0.5, 4.0]),
            ttl_s=chance.choice([None, None, None, 0.2, 3.0]),
        )

    async def step(self) -> None:  # noqa: C901  one case for each kind of step
        chance, store, world = self.random, self.kept.store, self.world
        one = chance.choice(self.owed)
        match chance.choices(range(9), [12, 2, 3, 2, 2, 2, 1, 1, 6])[0]:
            case 0:
                self.start(world.publisher.publish_batch([self.event()]))
            case 1:
                self.start(world.publisher.publish_batch([self.event() for _ in range(chance.randint(2, 4))]))
            case 2 if self.tasks:
                chance.choice(self.tasks).cancel()
            case 3 if one.id in world.router.subscriptions.dispatchers:
                await world.subscriber.pause_subscription(one.id)
            case 4 if one.id in world.router.subscriptions.dispatchers:
                await world.subscriber.resume_subscription(one.id)
            case 5 if "name" in one.options:
                if one.id in world.router.subscriptions.dispatchers:
                    self.start(world.subscriber.detach(one.id))
                else:
                    self.start(self.attach(one))
            case 6:
                store.no_appends = not store.no_appends and chance.random() < 0.5
            case 7:
                store.no_settlements = not store.no_settlements and chance.random() < 0.5
            case _:
                store.no_settlements = False
                await world.clock.advance(chance.choice([0.05, 0.5, 2.0]))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)

    def start(self, what: Any) -> None:
        self.tasks.append(asyncio.ensure_future(what))

    async def calm_down(self) -> None:
        """All is well again, and everybody is back: until nothing is to be done."""
        self.calm = True
        self.kept.store.no_appends = self.kept.store.no_settlements = False
        async with asyncio.timeout(60):
            while not await self.idle():
                await self.world.clock.advance(0.5)

    async def idle(self) -> bool:
        subscriptions = self.world.router.subscriptions
        if subscriptions._leaving or subscriptions._attaching or not all(task.done() for task in self.tasks):
            return False
        for one in self.owed:
            await self.attach(one)
            if subscriptions.get(one.id).subscription.paused:
                await self.world.subscriber.resume_subscription(one.id)
        found = [await one.meters[-1].read() for one in self.owed]
        return not any(one.pending for one in found)

    async def findings(self) -> list[str]:
        subscriptions, intake = self.world.router.subscriptions, self.world.router.intake
        found = left_over(
            "router",
            {"storing": intake.dedupe.storing, "leaving": subscriptions._leaving, "ended": subscriptions._attaching},
        )
        types = Counter(one.type for one in (await self.world.router.store.read(Query(limit=10_000))).events)
        for one in self.owed:
            own = subscriptions.get(one.id)
            label = str(one.options)
            found += left_over(label, held(own))
            if own.room != ROOM:
                found.append(f"{label}: room for {own.room} of {ROOM}")
            owed = types.total() if one.pattern == ">" else types[one.pattern]
            if (ended := await one.ended()) != owed:
                found.append(f"{label}: {owed} events were owed, {ended} have ended")
        return found


def held(own: Dispatcher) -> dict[str, Any]:
    """What a dispatcher remembers of events."""
    return {
        "queue": own.queue,
        "delayed": own.delayed,
        "failures": own.endings.failures,
        "returned": own.progress.returned,
        "expected": own.expected or (),
        "ahead": own.ahead or (),
        "keys": own.keys.in_hand() if own.keys is not None else (),
        "waiting for keys": own.keys._waiting if own.keys is not None else (),
        "running": own.workers.running,
        "unsaved": [None] * own.progress.unsaved,
    }


def left_over(label: str, what: dict[str, Any]) -> list[str]:
    return [f"{label}: {len(one)} left in {name}" for name, one in what.items() if len(one)]


async def findings(kept: Any, seed: int) -> list[str]:
    """What is wrong after a seed's steps and a calm end."""
    mix = Mix(kept, seed, VirtualClock())
    router, clock = mix.world.router, mix.world.clock
    await router.start()
    for one in mix.owed:
        await mix.attach(one)
    for _ in range(STEPS):
        await mix.step()
    await mix.calm_down()
    await asyncio.gather(*mix.tasks, return_exceptions=True)
    with contextlib.suppress(TimeoutError):  # what a file's threads are at is not over when nothing is pending
        async with asyncio.timeout(20):
            while found := await mix.findings():
                await clock.advance(0.02)
    stopping = asyncio.ensure_future(router.stop(timeout_s=1))
    while not stopping.done():  # a file's threads take their time, which is not the clock's
        await clock.advance(0.02)
    await stopping
    return found


@pytest.mark.parametrize("seed", first(4, range(20)))
async def test_an_idle_router_holds_nothing(seed: int) -> None:
    assert await findings(KeptMemory(Moody), seed) == []


@pytest.mark.parametrize("seed", range(2))
async def test_an_idle_router_over_a_file_holds_nothing(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose threads do not run by the router's clock: a detach that gives them up when that says so would tell of it,
    and what they had not taken would be delivered once more."""
    monkeypatch.setattr("squall.core.subscriptions.SAVED_WITHIN_S", 1e6)
    assert await findings(MoodyFile(tmp_path / "squall.db"), seed) == []
