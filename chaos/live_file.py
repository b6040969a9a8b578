"""What a run says of itself while it goes on, in a file of its folder: a line a second, so that others may look."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from squall.chaos.run_folder import LIVE, VERDICT
from squall.chaos.watch import Progress
from squall.chaos.whole_file import misfit
from squall.core.clock import Clock
from squall.core.errors import StoreFileError

EVERY_S = 1.0
MAX_LINES = 2400
"""At so many every second line is dropped, and lines come half as often from then on: a run of days fits, too."""


@dataclass(frozen=True)
class Moment:
    """A moment of a run, `at_s` seconds after it began."""

    at_s: float
    progress: Progress


_MOMENT = TypeAdapter(Moment)


@contextlib.contextmanager
def live_file(
    folder: Path, clock: Clock, show: Callable[[Progress], None] | None
) -> Iterator[Callable[[Progress], None] | None]:
    """What shows a run's progress, and writes it into its folder, in a thread of its own; None where nobody watches.
    Once there is a verdict the file is gone: the history tells more."""
    if show is None:
        yield None
        return
    file = _LiveFile(folder / LIVE, clock)

    def both(progress: Progress) -> None:
        show(progress)
        file.add(progress)

    with ThreadPoolExecutor(1, thread_name_prefix="squall-live") as file.thread:
        yield both
    if (folder / VERDICT).exists():
        (folder / LIVE).unlink(missing_ok=True)


class _LiveFile:
    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._now = path, clock.monotonic_ns
        self._began_ns = self._due_ns = self._now()
        self._every_ns, self._phase = round(EVERY_S * 1e9), ""
        self._count = 0
        self._lines: list[bytes] = []
        self._failed = False
        self.thread: ThreadPoolExecutor

    def add(self, progress: Progress) -> None:
        """Have it written, where a second has passed since the last one, or a phase began."""
        now_ns = self._now()
        if now_ns < self._due_ns and progress.phase == self._phase:
            return
        self._count += 1
        if full := self._count >= MAX_LINES:
            self._count, self._every_ns = self._count // 2, self._every_ns * 2
        self._due_ns, self._phase = now_ns + self._every_ns, progress.phase
        self.thread.submit(self._write, Moment((now_ns - self._began_ns) / 1e9, progress), full)

    def _write(self, moment: Moment, full: bool) -> None:
        if self._failed:
            return
        line = _MOMENT.dump_json(moment) + b"\n"
        self._lines.append(line)
        try:
            if full:
                self._lines = self._lines[1::2]
                temporary = self._path.with_name(f"{self._path.name}.tmp-0")
                temporary.write_bytes(b"".join(self._lines))
                temporary.replace(self._path)
            else:
                with self._path.open("ab") as file:
                    file.write(line)
        except OSError as error:
            self._failed = True
            logging.getLogger("squall").warning("%s: is not written any more: %s", self._path, error)


def read_live(folder: Path) -> list[Moment]:
    """What a run has said so far; a last line that is only half there is left out. Raises StoreFileError."""
    path = folder / LIVE
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        return [_MOMENT.validate_json(line) for line in lines]
    except OSError as error:
        raise StoreFileError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValidationError as error:
        raise StoreFileError(f"{path}: is not what squall wrote ({misfit(error)})") from error
