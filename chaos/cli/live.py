"""Live progress on stderr: redrawn on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Self

from rich.live import Live as Screen
from rich.text import Text

from squall.chaos.cli.output import console, width
from squall.chaos.layout import hanging
from squall.chaos.present_progress import Frames, plain_line
from squall.chaos.scenario import Scenario
from squall.chaos.visible import visible
from squall.chaos.watch import Progress

PLAIN_S = 5.0
FIRST_S = 1.0  # of a phase: by then there are rates to tell


class Live:
    """The progress of one run, while entered."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._frames = Frames(scenario)
        self._console = console(sys.stderr)
        self._screen: Screen | None = None
        self._told: tuple[str, int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._screen is not None:
            if error is None:
                self._screen.update(Text("\n").join(self._frames.over(width())), refresh=True)
            self._screen.stop()

    def show(self, progress: Progress) -> None:
        """A moment of the run."""
        if self._told is None:  # not earlier: a mistake that shows in set up stands alone
            self._begin()
        lines = self._frames.lines(progress, width())
        slot = (progress.phase, int(progress.phase_s / PLAIN_S) + (progress.phase_s >= FIRST_S))
        if self._screen is not None:
            self._screen.update(Text("\n").join(lines), refresh=True)
        elif slot != self._told:
            self._console.print(plain_line(progress))
        self._told = slot

    def _begin(self) -> None:
        for line in self._frames.head(width()):
            line.plain = visible(line.plain)
            self._console.print(line)
        if self._console.is_terminal:
            self._screen = Screen(
                console=self._console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
            )
            self._screen.start()

    def say(self, text: str) -> None:
        """A line that stays, above the progress."""
        for line in hanging(text, width(), indent=0, style="yellow"):
            self._console.print(line)
