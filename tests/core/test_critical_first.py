"""strict_critical: CRITICAL goes before all others, while those wait for so many of it in a row at most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.world import Heard, KeptMemory, World, event, until

from squall import EventRouter, Priority, PriorityEventQueue
from squall.core.config import Backlog
from squall.core.queue import CriticalFirst

C, H, N, L = Priority


def served(queue: PriorityEventQueue, waiting: Sequence[Priority]) -> str:
    """What a queue gives when all this waits: the first letters of the priorities, in order."""
    for priority in waiting:
        queue.put_nowait(event(priority=priority))
    return "".join(queue.get_nowait().priority.name[0] for _ in waiting)


def test_critical_goes_first_up_to_the_burst() -> None:
    """Then one of the others has its turn, and it goes first again."""
    assert served(CriticalFirst(3), [L, N, *[C] * 8]) == "CCCNCCCLCC"


def test_nobody_who_waits_means_no_limit() -> None:
    """A run of CRITICAL that nobody waits for does not count against those that come later."""
    queue = CriticalFirst(2)
    assert served(queue, [C] * 5) == "CCCCC"
    assert served(queue, [L, C, C, C]) == "CCLC"


def test_the_others_share_by_weight_among_themselves() -> None:
    """As if CRITICAL was not there: HIGH, NORMAL and LOW in proportion 4:2:1, in any seven of their turns."""
    given = served(CriticalFirst(1), [*[C] * 700, *[H] * 400, *[N] * 200, *[L] * 100])
    assert given[:1400:2] == "C" * 700
    for begin in range(0, 700 - 7, 7):
        turns = given[1:1400:2][begin : begin + 7]
        assert [turns.count(letter) for letter in "HNL"] == [4, 2, 1]


@given(
    burst=st.integers(1, 5),
    steps=st.lists(st.sampled_from([*Priority, None]), max_size=300),
)
def test_no_more_than_the_burst_in_a_row_pass_who_waits(burst: int, steps: list[Priority | None]) -> None:
    """Whatever comes and goes: nothing is lost, CRITICAL waits for one at most, and others wait for a burst at most."""
    queue, waiting, row = CriticalFirst(burst), [0, 0, 0, 0], 0
    for priority in [*steps, *[None] * len(steps)]:
        if priority is not None:
            queue.put_nowait(event(priority=priority))
            waiting[priority] += 1
            continue
        taken = queue.take()
        if taken is None:
            assert not any(waiting)
            continue
        waiting[taken.priority] -= 1
        if taken.priority is C:
            row = row + 1 if any(waiting[1:]) else 0
            assert row <= burst
        else:
            assert not waiting[C] or row == burst
            row = 0


def from_file(folder: Path) -> EventRouter:
    path = folder / "squall.yaml"
    path.write_text("version: 1\nplugins: []\nbacklog: {strict_critical: 2}\n", encoding="utf-8")
    return EventRouter.from_config(path)


@pytest.mark.parametrize(
    "make", [from_file, lambda folder: EventRouter([KeptMemory()], backlog=Backlog(strict_critical=2))]
)
@pytest.mark.parametrize("name", [None, "billing"])
async def test_it_reaches_the_running_queue(
    make: Callable[[Path], EventRouter], name: str | None, tmp_path: Path
) -> None:
    """From squall.yaml and from Python, in subscriptions with a name and without."""
    heard = Heard()
    async with make(tmp_path) as router:
        subscriber, publisher = router.subscriber("billing"), router.publisher("shop")
        own = await subscriber.subscribe(">", heard, name=name)
        await subscriber.pause_subscription(own)
        for priority in (L, H, C, C, C, C, C):
            await publisher.publish("a", b"", priority)
        await subscriber.resume_subscription(own)
        await until(lambda: len(heard.events) == 7)
    assert [one.priority for one in heard.events] == [C, C, H, C, C, L, C]


async def test_without_it_the_levels_share_by_weight() -> None:
    """The default stays what it was."""
    async with World() as world:
        own = await world.subscriber.subscribe(">", Heard())
        assert type(world.router.subscriptions.get(own).queue) is PriorityEventQueue
