"""Names of events: their number in the run, the id that a router gave them, or the trace that they are in."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb

from squall.chaos.history import open_history
from squall.chaos.spans import NUMBERED, SPANS
from squall.core.errors import ConfigError, Problem, StoreFileError

MOST_NAMED = 8
_ID = re.compile(r"[0-9a-f]{32}")

# A publish that failed has no id that the run knows: its trace is made of its number (chaos/spans.py).
_FAILED = "SELECT DISTINCT event FROM publish WHERE outcome <> 'ok' AND md5('trace' || op) = $id"
_OF_EVENT = "lower(replace(event, '-', '')) = $id"
_OF_TRACE = "trace = $id"

_EVENTS = f"""
WITH named AS (
    SELECT event, seq, any_value(topic) AS topic, any_value(key) AS key, min(begun) AS begun
    FROM read_parquet($files, union_by_name = true) WHERE seq IS NOT NULL AND {{which}} GROUP BY event, seq)
SELECT DISTINCT number FROM ({NUMBERED}) ORDER BY number
"""


def event_number(folder: Path, text: str) -> int:
    """The number of the event of a run that is called so: `514`, `58,201`, `#514`, its UUID, or the id of its trace.

    Ids and traces are known from the run's spans. An id counts as an event's before it counts as a trace's: the trace
    that an event began has the event's own digits. Raises ConfigError where no event or more than one is called so,
    StoreFileError."""
    digits = text.removeprefix("#").replace(",", "").replace("_", "")
    if digits.isascii() and digits.isdigit() and len(digits) < 19:
        return int(digits)
    name = text.strip().lower().replace("-", "")
    if not _ID.fullmatch(name):
        expected = "expected an event's number such as 514, its UUID, or a trace's 32 hexadecimal digits"
        raise _mistake(f"{expected}, got {text!r:.40}")
    found = _events(folder, name)
    if len(found) > 1:
        some = ", ".join(map(str, found[:MOST_NAMED])) + (", …" if len(found) > MOST_NAMED else "")
        raise _mistake(f"{len(found)} events are in the trace {text}: give the number of one: {some}")
    if not found:
        raise _mistake(_unknown(folder, text))
    return found[0]


def _events(folder: Path, name: str) -> list[int]:
    files = [str(path) for path in _files(folder)]
    try:
        with open_history(folder / "history") as db:
            found: list[tuple[int]] = []
            for which in (_OF_EVENT, _OF_TRACE) if files else ():
                found = found or db.execute(_EVENTS.format(which=which), {"files": files, "id": name}).fetchall()
            return [event for (event,) in found or db.execute(_FAILED, {"id": name}).fetchall()]
    except duckdb.Error as error:
        raise StoreFileError(f"{folder}: its spans or its history cannot be read ({error})") from error


def _unknown(folder: Path, text: str) -> str:
    if not _files(folder):
        return (
            f"nobody knows {text} in {folder}: it has no spans, and only those have the ids of events. Give the "
            "event's number, or run the scenario with the plugin tracing"
        )
    return (
        f"no event of {folder} has the id {text}, and no trace of its spans: an event that was not sampled, nor kept, "
        "has none. Give its number, or run the scenario with tracing: {sample: 1.0}"
    )


def _files(folder: Path) -> list[Path]:
    return sorted((folder / SPANS).glob("spans*.parquet"))


def _mistake(message: str) -> ConfigError:
    return ConfigError([Problem("EVENT", message)])
