"""A load that a driver publishes: what it is handed when, what is withdrawn, and what counts as offered."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.test_load import NONCE, driven, stage

from squall import VirtualClock
from squall.chaos.driven import AHEAD_NS, MAX_AHEAD, Driven, DrivenLoad
from squall.chaos.history import NULL, HistoryWriter, open_history
from squall.chaos.load import Due, Messages
from squall.chaos.recorder import Recorder
from squall.chaos.scenario_models import EventSection, KeySection, Stage
from squall.core.load_driver import Generated, LoadContext, Publish
from squall.core.target import Outcome, Received

OK = Outcome("ok", 1)


class World:
    """A driver in virtual time that begins what is due, `rate` a second at most, and answers at once."""

    users = 1

    def __init__(self, folder: Path, rate: float = 1e9) -> None:
        self.clock = VirtualClock()
        self.folder, self.rate, self.failure = folder, rate, ""
        self.recorder = Recorder(HistoryWriter(folder / "history"), self.clock, NONCE)
        kinds = [EventSection(type="order.created", key=KeySection(count=3))]
        self.told = Driven(self, self.recorder, Messages(kinds, NONCE, Random(1)))
        self.load = DrivenLoad(self.told)
        self.queue: deque[Publish] = deque()
        self.handed: list[tuple[int, int]] = []
        self.most = 0

    def publish(self, due: Sequence[Publish]) -> None:
        self.queue.extend(due)
        for one in due:  # it may be delivered before it is told to have begun
            received = Received(one.message.payload, key=one.message.key)
            assert self.recorder.sent.compare(received, one.event)[0] != NULL
        now = self.clock.monotonic_ns()
        self.handed += [(one.due_ns, now) for one in due]
        self.most = max(self.most, len(self.queue))

    def withdraw(self) -> None:
        self.queue.clear()

    async def start(self, ctx: LoadContext) -> None: ...

    async def describe(self) -> str:
        return "a driver"

    async def stop(self) -> Generated | None:
        return None

    async def work(self) -> None:
        while True:
            await self.clock.sleep(0.01)
            for _ in range(min(len(self.queue), max(1, round(self.rate * 0.01)))):
                if self.queue[0].due_ns <= self.clock.monotonic_ns():
                    self.send(self.queue.popleft())

    def send(self, one: Publish) -> None:
        self.told.begun(one.event, self.clock.monotonic_ns())
        self.told.ended(one.event, self.clock.monotonic_ns(), OK)

    async def run(self, stages: list[Stage], stop: asyncio.Event | None = None) -> DrivenLoad:
        working = asyncio.create_task(self.work())
        await driven(self.clock, self.load.run(stages, stop or asyncio.Event()))
        await driven(self.clock, self.load.finish(lambda: False))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        return self.load

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        await self.recorder.close()
        with open_history(self.folder / "history") as db:
            return db.execute(sql).fetchall()


async def test_all_is_handed_over_a_little_ahead_and_recorded(tmp_path: Path) -> None:
    """In the order in which it is due; with the time at which it was due, and its key."""
    world = World(tmp_path)
    load = await world.run([stage(seconds=2, rate=100)])
    assert (load.asked, load.sent, load.achieved, load.in_flight) == (200, 200, 200, 0)
    dues = [due for due, _ in world.handed]
    assert dues == sorted(dues)
    assert all(due - now <= AHEAD_NS for due, now in world.handed)
    assert all(now <= due for due, now in world.handed[1:])
    told = await world.rows(
        "SELECT count(*), count(DISTINCT event), count(DISTINCT key), bool_and(intended <= invoked) FROM publish "
        "WHERE outcome = 'ok' AND seq = 1"
    )
    assert told == [(200, 200, 3, True)]


async def test_what_a_second_late_is_not_sent_after_the_load(tmp_path: Path) -> None:
    """It was asked for; and what is sent is not achieved where it is a second late."""
    world = World(tmp_path, rate=100)
    load = await world.run([stage(seconds=4, rate=400)])
    assert load.asked == 1600
    assert 450 <= load.sent <= 550
    assert 100 <= load.achieved < 200
    assert not world.queue
    assert load.in_flight == 0


async def test_a_burst_is_sent_whole_and_has_no_rate_to_keep(tmp_path: Path) -> None:
    """However long it takes; what was due meanwhile is excused."""
    load = await World(tmp_path, rate=500).run([stage(burst=2000), stage(seconds=1, rate=10)])
    assert (load.asked, load.sent, load.achieved) == (2010, 2010, 2010)


async def test_what_is_handed_over_is_bounded(tmp_path: Path) -> None:
    """However much is due at once."""
    world = World(tmp_path, rate=100_000)
    load = await world.run([stage(burst=3 * MAX_AHEAD)])
    assert world.most <= MAX_AHEAD
    assert await world.rows("SELECT count(*) FROM publish") == [(3 * MAX_AHEAD,)]
    assert load.sent == 3 * MAX_AHEAD


async def test_a_load_that_is_stopped_asked_only_for_what_was_due(tmp_path: Path) -> None:
    """What was handed over ahead is withdrawn, and missed by nobody."""
    world, stop = World(tmp_path), asyncio.Event()
    send = world.send

    def send_a_hundred(one: Publish) -> None:
        send(one)
        if world.load.sent == 100:
            stop.set()

    world.send = send_a_hundred  # type: ignore[method-assign]
    load = await world.run([stage(seconds=10, rate=100)], stop)
    assert len(world.handed) > 120
    assert load.sent == 100
    assert 0 <= load.asked - load.achieved <= 1
    assert not world.queue


async def test_a_driver_that_fails_ends_the_load(tmp_path: Path) -> None:
    """What it had begun has no outcome that anybody knows."""
    world = World(tmp_path)

    def send(one: Publish) -> None:
        world.told.begun(one.event, world.clock.monotonic_ns())
        world.failure = "gone"

    world.send = send  # type: ignore[method-assign]
    load = await world.run([stage(seconds=100, rate=100)])
    assert load.asked < 200
    assert world.clock.monotonic_ns() < 10e9
    assert await world.rows("SELECT outcome, ended IS NULL FROM publish LIMIT 1") == [("info", True)]


async def test_what_begins_although_it_was_withdrawn_is_recorded(tmp_path: Path) -> None:
    """The order to leave it crossed its way."""
    world = World(tmp_path)
    load = await world.run([stage(seconds=1, rate=10)])
    one = world.load._planned(Due(0.0, of_burst=False, batch=None), world.clock.monotonic_ns())
    load.withdraw()
    world.send(one)
    assert load.sent == 11
    assert await world.rows("SELECT count(*) FROM publish WHERE outcome = 'ok'") == [(11,)]
