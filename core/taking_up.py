"""What a subscription is owed from before: read through a window; and what was in hand or waiting when a durable one
was last attended is brought back."""

from __future__ import annotations

from squall.core.dispatch import Dispatcher
from squall.core.endings import Failure
from squall.core.event import Event, Priority
from squall.core.quarantine import Undecodable, quarantine, read_around
from squall.core.store import Attached, AttemptRow, Query
from squall.core.window import Window

LOAD_AT_ONCE = 500


async def open_window(dispatcher: Dispatcher, attached: Attached | None, *, shared: bool) -> None:
    """Take events in from where the subscription stands. `shared`: other routers publish to it too. Raises
    StoreError."""
    positions = [dispatcher.subscription.from_seq - 1] * len(Priority)
    for cursor in attached.cursors if attached else ():
        positions[cursor.priority] = max(positions[cursor.priority], cursor.high)
    dispatcher.progress.high = list(positions)
    window = Window(dispatcher, positions)
    dispatcher.read_through(window)
    if attached is not None:
        await _take_up(dispatcher, window, attached, shared=shared)


async def _take_up(dispatcher: Dispatcher, window: Window, attached: Attached, *, shared: bool) -> None:
    rows = {row.seq: row for row in attached.attempts}
    unread: set[int] = set()
    opened = {seq for cursor in attached.cursors for seq in cursor.open_seqs} - set(rows)
    again: list[Event] = []
    later: list[tuple[Event, float]] = []
    events, broken = await _read(dispatcher, sorted(opened | set(rows)))
    for event in events:
        row = rows.get(event.seq)
        if row is not None and not row.attempts and event.seq > dispatcher.progress.high[event.priority]:
            unread.add(event.seq)  # no cursor has passed it: it is read in its turn, and its row goes then
            dispatcher.endings.failures[event.seq] = Failure()
            continue
        dispatcher.pending += 1
        if row is None:
            dispatcher.progress.returned[event.seq] = event.priority
            again.append(event)
        else:
            later.append((event, _remember(dispatcher, event, row)))
    window.skip(set(rows) - unread)
    # What is behind it has its room; the past that a new one asks for needs none. Nothing may be delivered while it is
    # counted: what that gives back would be counted twice.
    if attached.cursors and not shared:
        dispatcher.room -= dispatcher.pending + await window.backlog()
    for event in again:
        if not dispatcher.waits(event):
            dispatcher.queue.put_nowait(event)
    for event, delay_s in later:
        if delay_s > 0:
            dispatcher.delay(event, delay_s)
        else:
            dispatcher.queue.levels[event.priority].put_back(event)
    dispatcher.endings.failures |= {
        row.seq: Failure(row.attempts, row.first_ns) for one in broken if (row := rows.get(one.event.seq)) is not None
    }
    quarantine(dispatcher, broken)  # last: what is settled from here on must know of all the others


async def _read(dispatcher: Dispatcher, seqs: list[int]) -> tuple[list[Event], list[Undecodable]]:
    """The stored events of these seqs, and those that cannot be decoded."""
    events: list[Event] = []
    broken: list[Undecodable] = []
    for begin in range(0, len(seqs), LOAD_AT_ONCE):
        query = Query(seqs=tuple(seqs[begin : begin + LOAD_AT_ONCE]), limit=LOAD_AT_ONCE)
        page, undecodable = await read_around(dispatcher.wiring.store, query)
        events += page.events
        broken += undecodable
    return events, broken


def _remember(dispatcher: Dispatcher, event: Event, row: AttemptRow) -> float:
    """What is known of an event that failed or waits for its time; returns in how many seconds it is due."""
    clock = dispatcher.wiring.clock
    wall_ns, now_ns = clock.time_ns(), clock.monotonic_ns()
    first_ns = min(row.first_ns or wall_ns, wall_ns)
    dispatcher.endings.failures[event.seq] = Failure(row.attempts, first_ns, now_ns - (wall_ns - first_ns))
    if row.attempts and dispatcher.keys is not None and dispatcher.subscription.on_retry == "block_key":
        dispatcher.keys.hold(event)
    return max(0.0, (row.due_ns - wall_ns) / 1e9)
