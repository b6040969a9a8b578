"""Durable subscriptions over a restart, through a router: they go on where they stood."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from tests.plugins.store_bench import until

from squall import Attempt, Event, EventRouter, Observer, Plugin, Priority, Subscription, hookimpl
from squall.core.plugin import Context
from squall.plugins.retry import RetryPlugin
from squall.plugins.sqlite import SqlitePlugin


class Told(Observer, Plugin):
    """Every attempt that ended, as (payload, number of the attempt)."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts: list[tuple[bytes, int]] = []

    @hookimpl
    def squall_observer(self, ctx: Context) -> Observer:
        return self

    def attempted(self, subscription: Subscription, attempts: Sequence[Attempt], settle_invoked_ns: int) -> None:
        self.attempts += [(one.event.payload, one.attempt) for one in attempts]


class Run:
    """One life of a program: a router over the same file, with one durable subscription."""

    def __init__(self, path: Path, retry: RetryPlugin | None = None, **values: object) -> None:
        self.told = Told()
        self.handled: list[bytes] = []
        self.router = EventRouter([SqlitePlugin(path=str(path)), retry or RetryPlugin(), self.told])
        self._values = values

    async def start(self, handle: Callable[[Event], Awaitable[None]] | None = None) -> None:
        async def note(event: Event) -> None:
            self.handled.append(event.payload)
            if handle is not None:
                await handle(event)

        await self.router.start()
        values: dict[str, object] = {"name": "billing", "start": "earliest"} | self._values
        await self.router.subscriber("shop").subscribe("order.>", note, **values)  # type: ignore[arg-type]

    async def publish(self, *payloads: bytes, priority: Priority = Priority.NORMAL) -> None:
        publisher = self.router.publisher("shop")
        await asyncio.gather(*(publisher.publish("order.paid", payload, priority) for payload in payloads))

    async def stop(self) -> None:
        await self.router.stop(timeout_s=0)


def numbers(begin: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(begin, end)]


async def hang(event: Event) -> None:
    if event.payload in (b"2", b"5"):
        await asyncio.Event().wait()


async def test_open_seqs_below_the_high_mark_are_delivered_again(tmp_path: Path) -> None:
    """Events in hand at the stop come back, uncounted; those settled around them do not."""
    first = Run(tmp_path / "squall.db", concurrency=4)
    await first.start(hang)
    await first.publish(*numbers(0, 9))
    await until(lambda: len(first.told.attempts) == 7)
    await first.stop()
    second = Run(tmp_path / "squall.db", concurrency=4)
    await second.start()
    await second.publish(b"new")
    await until(lambda: len(second.told.attempts) == 3)
    await second.stop()
    assert sorted(second.told.attempts) == [(b"2", 1), (b"5", 1), (b"new", 1)]


async def test_attempts_go_on_being_counted_and_end_as_dead_letters(tmp_path: Path) -> None:
    """Over any number of restarts: the third failure of three is the last, and the letter stays readable."""

    async def fail(event: Event) -> None:
        raise ValueError(f"no such order: {event.payload!r}")

    path = tmp_path / "squall.db"
    for number in (1, 2, 3):
        run = Run(path, RetryPlugin(attempts=3, base="5ms", cap="5ms"))
        await run.start(fail)
        if number == 1:
            await run.publish(b"poison")
        await until(lambda: run.told.attempts != [])  # noqa: B023
        assert run.told.attempts[0] == (b"poison", number)
        await run.stop()
        if run.told.attempts[-1][1] == 3:
            break
    after = Run(path)
    await after.start()
    letters = await after.router.store.dead_letters("billing")
    await after.publish(b"new")
    await until(lambda: after.handled != [])
    await after.stop()
    assert [(letter.event.payload, letter.reason, letter.attempts) for letter in letters] == [
        (b"poison", "delivery_limit", 3)
    ]
    assert "no such order" in letters[0].error
    assert after.handled == [b"new"]


async def test_a_retry_that_is_not_due_waits_over_the_restart(tmp_path: Path) -> None:
    """Others pass it; it is not lost, and not delivered early."""

    async def fail(event: Event) -> None:
        if event.payload == b"0":
            raise ValueError

    path, slow = tmp_path / "squall.db", RetryPlugin(base="1h", cap="1h")
    first = Run(path, slow)
    await first.start(fail)
    await first.publish(*numbers(0, 5))
    await until(lambda: len(first.told.attempts) == 5)
    await first.stop()
    second = Run(path, slow)
    await second.start()
    await second.publish(b"5")
    await until(lambda: second.handled != [])
    assert second.handled == [b"5"]
    assert second.router.get_metrics().delayed == 1
    await second.stop()


async def test_a_backlog_passes_a_small_window_whole_and_in_order(tmp_path: Path) -> None:
    """Published while nobody attended: every event once, in order of each priority, then the live ones."""
    path = tmp_path / "squall.db"
    first = Run(path, in_flight=10)
    await first.start()
    await first.stop()
    writer = EventRouter([SqlitePlugin(path=str(path))])
    await writer.start()
    expected: dict[Priority, list[bytes]] = {priority: [] for priority in Priority}
    for number, payload in enumerate(numbers(0, 400)):
        priority = Priority(number * 7 % 4)
        await writer.publisher("shop").publish("order.paid", payload, priority)
        expected[priority].append(payload)
    await writer.stop()
    got: dict[Priority, list[bytes]] = {priority: [] for priority in Priority}

    async def sort(event: Event) -> None:
        got[event.priority].append(event.payload)

    second = Run(path, in_flight=10)
    await second.start(sort)
    for priority in Priority:
        await second.publish(b"live", priority=priority)
        expected[priority].append(b"live")
    await until(lambda: len(second.handled) >= 404)
    await second.stop()
    assert got == expected


async def test_a_subscription_of_one_name_is_not_moved_by_another(tmp_path: Path) -> None:
    """Two names over the same events: what one settles, the other is still owed."""
    path = tmp_path / "squall.db"
    first = Run(path)
    await first.start()
    await first.publish(*numbers(0, 5))
    await until(lambda: len(first.told.attempts) == 5)
    await first.stop()
    for expected in ([], numbers(0, 5)):
        run = Run(path, name="billing" if not expected else "audit")
        await run.start()
        await run.publish(b"new")
        await until(lambda: b"new" in run.handled)  # noqa: B023
        await run.stop()
        assert run.handled[: len(expected)] == expected
