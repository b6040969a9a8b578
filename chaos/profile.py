"""A profile of a run, where it is asked for: where the time of the bench's own process went while it ran.

`profile.html` and `profile.txt` are pyinstrument's, which looks at the stack each millisecond. `profile.json` has how
late the event loop was, and how long deliveries waited beside how long their handlers took.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import msgspec

from squall.chaos.history import open_history
from squall.chaos.run_folder import PROFILE
from squall.core.clock import Clock
from squall.core.errors import ConfigError, StoreFileError

if TYPE_CHECKING:
    from pyinstrument import Profiler

TEXT, FIGURES = "profile.txt", "profile.json"
LOOK_S = 0.01


class Times(msgspec.Struct, frozen=True, omit_defaults=True):
    """Seconds; None: there were none."""

    p50_s: float | None = None
    p99_s: float | None = None
    max_s: float | None = None


class Profiled(msgspec.Struct, frozen=True):
    """A subscriber: how long its deliveries waited for their first attempt, how long its handlers took."""

    attempts: int
    waited: Times
    handled: Times


class Figures(msgspec.Struct, frozen=True):
    """What stands in profile.json."""

    loop_lag: Times
    subscribers: dict[str, Profiled]


# By subscriber: from the end of the publish to the begin of the first attempt, and of all attempts the handler's time.
_TIMES = """
SELECT n.name, count(*), quantile_disc(greatest(a.begun - p.ended, 0), [0.5, 0.99]) FILTER (a.attempt = 1),
    quantile_disc(a.ended - a.begun, [0.5, 0.99])
FROM attempt a
JOIN (SELECT DISTINCT subscription, name FROM subscription) n ON n.subscription = a.subscription
JOIN (SELECT event, min(ended) AS ended FROM publish WHERE outcome = 'ok' GROUP BY event) p ON p.event = a.event
WHERE a.ended IS NOT NULL GROUP BY n.name ORDER BY n.name
"""


def check_profiler() -> None:
    """Raises ConfigError where it is not installed: before anything is started."""
    if find_spec("pyinstrument") is None:
        raise ConfigError("--profile needs pyinstrument: pip install 'squall[profile]'")


@contextlib.asynccontextmanager
async def profiled(folder: Path, clock: Clock) -> AsyncIterator[None]:
    """Profile what is done inside, in this thread, and write it into the run's folder where that ended well. Raises
    StoreFileError when it cannot be written."""
    from pyinstrument import Profiler

    profiler = Profiler(interval=0.001, async_mode="disabled")  # the loop as a whole, whatever task it is in
    lags_ns: list[int] = []
    looking = asyncio.create_task(_look(lags_ns, clock))
    profiler.start()
    try:
        yield
    finally:
        profiler.stop()
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
    await asyncio.to_thread(_write, profiler, lags_ns, folder)


async def _look(lags_ns: list[int], clock: Clock) -> None:
    """How late the loop is, again and again."""
    while True:
        due_ns = clock.monotonic_ns() + round(LOOK_S * 1e9)
        await clock.sleep(LOOK_S)
        lags_ns.append(max(0, clock.monotonic_ns() - due_ns))


def _write(profiler: Profiler, lags_ns: Sequence[int], folder: Path) -> None:
    try:
        with open_history(folder / "history", folder) as db:
            subscribers = {
                name: Profiled(count, _quantiles(waited), _quantiles(handled))
                for name, count, waited, handled in db.execute(_TIMES).fetchall()
            }
        figures = msgspec.json.encode(Figures(_of(sorted(lags_ns)), subscribers))
        (folder / PROFILE).write_text(profiler.output_html(), encoding="utf-8")
        (folder / TEXT).write_text(profiler.output_text(unicode=True), encoding="utf-8")
        (folder / FIGURES).write_bytes(msgspec.json.format(figures, indent=2) + b"\n")
    except (OSError, duckdb.Error) as error:
        raise StoreFileError(f"{folder}: the profile cannot be written ({error})") from error


def _of(ordered_ns: Sequence[int]) -> Times:
    if not ordered_ns:
        return Times()
    last = len(ordered_ns) - 1
    return Times(ordered_ns[last // 2] / 1e9, ordered_ns[int(0.99 * last)] / 1e9, ordered_ns[last] / 1e9)


def _quantiles(found: Sequence[int] | None) -> Times:
    return Times() if found is None else Times(found[0] / 1e9, found[1] / 1e9)


def read_figures(folder: Path) -> Figures | None:
    """None where no profile was asked for. Raises StoreFileError."""
    path = folder / FIGURES
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise StoreFileError(f"{path}: is not a profile that squall wrote ({error})") from error
