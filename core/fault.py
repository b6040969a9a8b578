"""Faults and the seams in which they act: what a fault plugin implements, and what a target offers it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from random import Random
from typing import ClassVar

from squall.core.clock import Clock
from squall.core.options import Options

Act = Callable[[], Awaitable[None]]


class Seam:
    """A place that calls pass through. A fault that stands in it is awaited by each call before the call goes on:
    it may wait, or raise. `passes` counts the calls."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.passes = 0
        self.acts: list[Act] = []

    async def run(self) -> None:
        """Let a call pass: awaits every fault that stands here now. Skip it where `acts` is empty, but count."""
        for act in tuple(self.acts):
            await act()


class Handler(Seam):
    """The call of a subscriber's handler, named `handler:<subscriber>`."""


class Storage(Seam):
    """An append or a settlement on its way to the store, named `storage:events`."""


@dataclass(frozen=True)
class FaultContext:
    """What the runner gives a fault: time, randomness of its own, and `bites()`, which says with the fault's
    probability and seed whether it acts on this call. `hit()` counts a call that it acted on."""

    clock: Clock
    random: Random
    bites: Callable[[], bool]
    hit: Callable[[], None]


@dataclass(frozen=True)
class Evidence:
    """Did it bite? Calls that passed the seam while the fault stood in it, and those it acted on."""

    passes: int
    bitten: int


class Fault(Options):
    """A kind of fault; its fields are its options in a scenario.

    `kind` is the seam class it acts in, `name` what a scenario's `do` says, `harm` what it does to calls.
    """

    kind: ClassVar[type[Seam]]
    name: ClassVar[str]

    def inject(self, seam: Seam, ctx: FaultContext) -> AbstractAsyncContextManager[None]:
        """Entered: the fault acts. Left: it is gone. Each call it acts on is counted by ctx.hit()."""
        raise NotImplementedError
