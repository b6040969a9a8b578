"""When events are due, and what of the load counts as offered."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random

import pytest

from squall import VirtualClock
from squall.chaos.history import HistoryWriter
from squall.chaos.load import Generator, Messages, due_times
from squall.chaos.recorder import Recorder
from squall.chaos.scenario_models import EventSection, Stage
from squall.core.target import Message, Outcome

NONCE = bytes(8)


def stage(**options: object) -> Stage:
    return Stage.model_validate({"for" if name == "seconds" else name: value for name, value in options.items()})


def test_events_are_due_by_their_rate() -> None:
    """Evenly, a growing rate ever faster, a burst at once; every event of a stage lies within it."""
    stages = [stage(seconds=2, rate=2), stage(burst=3), stage(seconds=2, rate=0, to=4), stage(seconds=1, rate=2)]
    due = list(due_times(stages))
    assert [one.at_s for one in due[:7]] == [0, 0.5, 1.0, 1.5, 2, 2, 2]
    assert [one.of_burst for one in due] == [False] * 4 + [True] * 3 + [False] * 6
    growing = [one.at_s - 2 for one in due[7:11]]
    assert growing == pytest.approx([(n / 1) ** 0.5 for n in range(4)])
    assert [one.at_s for one in due[11:]] == [4, 4.5]


def test_a_batch_is_due_when_its_first_event_would_be() -> None:
    """As many events as without, so many at a time; the last batch of a stage has what is left."""
    stages = [stage(seconds=2, rate=4, batch=3), stage(burst=5, batch=2), stage(seconds=1, rate=2)]
    due = [(one.at_s, one.batch) for one in due_times(stages)]
    assert due == [(0, 3), (0.75, 3), (1.5, 2), (2, 2), (2, 2), (2, 1), (2, None), (2.5, None)]


async def generate(folder: Path, stages: list[Stage], send_s: float, publishers: int) -> Generator:
    """A load against a target that takes `publishers` publishes at once, send_s each, in virtual time."""
    clock = VirtualClock()
    recorder = Recorder(HistoryWriter(folder / "history"), clock, NONCE)
    room = asyncio.Semaphore(publishers)

    async def send(message: Message) -> Outcome:
        async with room:
            await clock.sleep(send_s)
        return Outcome("ok", 1)

    messages = Messages([EventSection(type="order.created")], NONCE, Random(1))
    generator = Generator(recorder, messages, send)
    over = False
    await driven(clock, generator.run(stages, asyncio.Event()))
    await driven(clock, generator.finish(lambda: over))
    await recorder.close()
    return generator


async def driven(clock: VirtualClock, work: Awaitable[None], step_s: float = 0.01) -> None:
    task = asyncio.ensure_future(work)
    while not task.done():
        await clock.advance(step_s)
        await clock.settle()
    await task


@pytest.fixture
def few_publishers(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Bound the generator's own publishers, so that it can be held back by few events."""
    return lambda most: monkeypatch.setattr("squall.chaos.load.MAX_PUBLISHERS", most)


async def test_a_rate_that_is_not_kept_is_not_achieved(tmp_path: Path, few_publishers: Callable[[int], None]) -> None:
    """Twenty a second against a target that takes ten: what was begun more than a second late was not offered."""
    few_publishers(1)
    generator = await generate(tmp_path, [stage(seconds=4, rate=20)], send_s=0.1, publishers=1)
    assert generator.asked == generator.sent == 80
    assert 20 <= generator.achieved <= 40


async def test_a_burst_has_no_rate_to_keep(tmp_path: Path, few_publishers: Callable[[int], None]) -> None:
    """However long the target takes for it, it was offered, and what was due meanwhile too; not what is late later."""
    few_publishers(1)
    calm = [stage(seconds=1, rate=5), stage(burst=40), stage(seconds=6, rate=2)]
    generator = await generate(tmp_path / "calm", calm, send_s=0.1, publishers=1)
    assert generator.achieved == generator.asked == 57
    storm = [stage(burst=20), stage(seconds=6, rate=20)]
    generator = await generate(tmp_path / "storm", storm, send_s=0.1, publishers=1)
    assert generator.sent == generator.asked == 140
    assert generator.achieved < 100


async def test_a_load_that_cannot_be_kept_ends_when_it_was_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is a second late by then is asked for and not sent: half of it here, since the generator takes two
    milliseconds for each event that is due each millisecond."""
    clock = VirtualClock()
    recorder = Recorder(HistoryWriter(tmp_path / "history"), clock, NONCE)

    async def send(message: Message) -> Outcome:
        return Outcome("ok", 1)

    generator = Generator(recorder, Messages([EventSection(type="order.created")], NONCE, Random(1)), send)
    now_ns, calls = clock.monotonic_ns, itertools.count()
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now_ns() + next(calls) * 2_000_000)
    await driven(clock, generator.run([stage(seconds=10, rate=1000)], asyncio.Event()))
    assert generator.asked == 10_000
    assert generator.sent < 9_000
    assert clock.monotonic_ns() < 20e9
    await driven(clock, generator.finish(lambda: False))
    await recorder.close()
