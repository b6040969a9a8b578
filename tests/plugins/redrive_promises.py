"""What a store promises that gives dead letters back."""

from __future__ import annotations

from tests.plugins.store_bench import NOW_NS, Bench, FakeProgress, Promise, assert_dead, dead_letter

from squall.core.store import Attached, AttemptRow, Cursor, DeadLetter, Redrive

LATER_NS = NOW_NS + 1_000_000_000


def redrive(letter: DeadLetter, *, durable: bool = True) -> Redrive:
    """To give this one back, due a little later than now."""
    return Redrive(letter.subscription_id, letter.event.seq, letter.redrives, durable, LATER_NS + 5, LATER_NS)


async def _three(bench: Bench) -> tuple[FakeProgress, Attached, list[DeadLetter]]:
    events = await bench.fill(5)
    attached = await bench.attach(start="earliest")
    progress = FakeProgress(attached.id, cursors=[Cursor(2, events[4].seq)])
    letters = [dead_letter(event, attached) for event in events[:3]]
    progress.dead = [*letters]
    await bench.settle(progress)
    return progress, attached, letters


async def a_redriven_letter_is_marked_and_its_event_owed_again(bench: Bench) -> None:
    """The letter stays in its place; its event waits as one that was never tried, after reopening too."""
    _, attached, letters = await _three(bench)
    asked = [redrive(letters[1])]
    assert await bench.store.redrive(asked) == asked
    if bench.store.capabilities.durability != "memory":
        await bench.reopen()
    marked = letters[1]._replace(redrives=3, redriven_ns=LATER_NS)
    assert_dead(await bench.store.dead_letters(), [letters[0], marked, letters[2]])
    assert (await bench.store.counts()).dead_letters == 2
    again = await bench.attach()
    assert again.id == attached.id
    assert list(again.attempts) == [AttemptRow(letters[1].event.seq, 0, LATER_NS + 5, "")]


async def a_letter_is_given_back_once(bench: Bench) -> None:
    """Not again as long as it does not wait; nor as it was before it came back."""
    progress, _, letters = await _three(bench)
    asked = [redrive(letter) for letter in letters]
    assert await bench.store.redrive(asked[:2]) == asked[:2]
    assert await bench.store.redrive(asked) == asked[2:]
    seq = letters[0].event.seq
    progress.dead, progress.cleared = [letters[0]._replace(redrives=0, last_ns=LATER_NS + 9)], [seq]
    await bench.settle(progress)
    (back, *_) = await bench.store.dead_letters()
    assert (back.redrives, back.redriven_ns, back.last_ns) == (3, 0, LATER_NS + 9)
    assert seq not in {row.seq for row in (await bench.attach()).attempts}
    assert await bench.store.redrive(asked) == []
    assert await bench.store.redrive([redrive(back)]) == [redrive(back)]


async def a_settlement_that_is_written_twice_takes_no_redrive_back(bench: Bench) -> None:
    """The answer of a commit may have been lost: the same letter, written again, is no further failure."""
    progress, _, letters = await _three(bench)
    asked = [redrive(letters[0])]
    assert await bench.store.redrive(asked) == asked
    progress.dead = [letters[0]]
    await bench.settle(progress)
    (letter, *_) = await bench.store.dead_letters()
    assert (letter.redrives, letter.redriven_ns) == (3, LATER_NS)


async def what_has_ended_is_given_nothing_back(bench: Bench) -> None:
    """Its letters wait on. What an unnamed subscription gave up leaves no row."""
    _, attached, letters = await _three(bench)
    other = FakeProgress("live-1", durable=False)
    other.dead = [letters[0]._replace(subscription_id="live-1")]
    await bench.settle(other)
    (last,) = await bench.store.dead_letters("live-1")
    assert await bench.store.redrive([redrive(last)]) == []
    assert await bench.store.redrive([redrive(last, durable=False)]) == [redrive(last, durable=False)]
    assert list((await bench.attach()).attempts) == []
    await bench.store.detach(attached.id)
    assert await bench.store.redrive([redrive(letters[1])]) == []
    assert (await bench.store.counts()).dead_letters == 3


REDRIVE_PROMISES: tuple[Promise, ...] = (
    a_redriven_letter_is_marked_and_its_event_owed_again,
    a_letter_is_given_back_once,
    a_settlement_that_is_written_twice_takes_no_redrive_back,
    what_has_ended_is_given_nothing_back,
)
