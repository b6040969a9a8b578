"""Handlers for tests: they remember what they were given, and end when or as the test says."""

from __future__ import annotations

import asyncio

from squall import (
    Delivery,
    Event,
)


class Heard:
    """A handler that remembers what it was given; `fail` is raised for each event while it is set."""

    def __init__(self, fail: BaseException | None = None) -> None:
        self.events: list[Event] = []
        self.fail = fail

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        if self.fail is not None:
            raise self.fail

    @property
    def types(self) -> list[str]:
        return [one.type for one in self.events]

    @property
    def seqs(self) -> list[int]:
        return [one.seq for one in self.events]

    @property
    def ids(self) -> list[str]:
        return [one.id for one in self.events]


class Call:
    """A handler's call that waits for the test's word."""

    def __init__(self, event: Event, delivery: Delivery | None) -> None:
        self.event = event
        self.delivery = delivery
        self.word: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def finish(self) -> None:
        self.word.set_result(None)

    def fail(self, error: BaseException) -> None:
        self.word.set_exception(error)


class Held:
    """A handler whose calls each wait until the test finishes them. `stubborn` swallows cancellation."""

    def __init__(self, *, stubborn: bool = False) -> None:
        self.calls: list[Call] = []
        self.running: list[Call] = []
        self.cancelled = 0
        self.stubborn = stubborn

    async def __call__(self, event: Event) -> None:
        await self.wait(Call(event, None))

    async def by_hand(self, event: Event, delivery: Delivery) -> None:
        """The same, as a handler that settles by hand."""
        await self.wait(Call(event, delivery))

    async def wait(self, call: Call) -> None:
        self.calls.append(call)
        self.running.append(call)
        try:
            while True:
                try:
                    await asyncio.shield(call.word)
                except asyncio.CancelledError:
                    self.cancelled += 1
                    if not self.stubborn or call.word.done():
                        raise
                else:
                    return
        finally:
            self.running.remove(call)

    def finish_all(self) -> None:
        """Finish what runs, and stop being in the way of what comes."""
        for call in self.running:
            if not call.word.done():
                call.finish()

    @property
    def seqs(self) -> list[int]:
        return [call.event.seq for call in self.calls]


class FromAnswers:
    """A handler that does what a list of answers says, one a call: None is success, an error is raised."""

    def __init__(self, *answers: BaseException | None) -> None:
        self.answers = list(answers)
        self.events: list[Event] = []

    async def __call__(self, event: Event) -> None:
        self.events.append(event)
        answer = self.answers.pop(0) if self.answers else None
        if answer is not None:
            raise answer
