"""`squall why` by an event's UUID, and by the id of its trace."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.chaos.cli.command import Said, squall, write

from squall.chaos.history import open_history

pytestmark = pytest.mark.slow  # a whole run

# What is refused is beyond a limit, and not under a fault: however slow the machine is, more is published than 20 at
# once and five a second, and a fault of a tenth of a second may begin and end while nothing is.
TRACED = """\
version: 1
name: traced
about: Traced, and refused from the 21st event on.
seed: 3
plugins: [{tracing: {sample: 1.0}}, {rate_limit: {rate: 5, burst: 20}}]
subscribers: {billing: {pattern: order.>}}
load:
  stages: [{for: 400ms, rate: 200}]
  events: [{type: order.created, key: {count: 10}}]
expect: [no_loss]
"""


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one traced run. Tests must not change it."""
    here = tmp_path_factory.mktemp("traced")
    said = squall("run", str(write(here / "traced.yaml", TRACED)), "--runs", str(here / "runs"))
    assert said.code in (0, 1, 3), said.err
    (folder,) = [path for path in here.glob("runs/traced/*") if not path.is_symlink()]
    return folder


def why(folder: Path, event: str, *options: str) -> Said:
    """What is said of an event of the run."""
    return squall("why", str(folder), event, *options)


def told(folder: Path, event: str) -> int:
    """The number of the event that is told of."""
    said = why(folder, event, "--json")
    assert said.code == 0, said.err
    number = json.loads(said.out)["event"]
    assert isinstance(number, int)
    return number


def test_an_event_is_found_by_its_id_and_by_its_trace(traced: Path) -> None:
    """However the id is written; what is told is of the event that the store gave the span's number to."""
    spans = pq.read_table(traced / "spans" / "spans.parquet").to_pylist()
    with open_history(traced / "history") as db:
        numbers = dict(db.execute("SELECT seq, event FROM publish WHERE seq IS NOT NULL").fetchall())
    published = [one for one in spans if one["operation"] == "publish" and one["seq"] is not None]
    for span in (published[0], published[-1]):
        expected = numbers[span["seq"]]
        for name in (span["event"], span["event"].upper(), span["event"].replace("-", ""), span["trace"]):
            assert told(traced, name) == expected, name


def test_a_publish_that_failed_is_found_by_its_trace(traced: Path) -> None:
    """The history alone knows it: no store gave it a number."""
    spans = pq.read_table(traced / "spans" / "spans.parquet").to_pylist()
    with open_history(traced / "history") as db:
        failed = dict(db.execute("SELECT md5('trace' || op), event FROM publish WHERE outcome <> 'ok'").fetchall())
    assert failed
    rebuilt = sorted({one["trace"] for one in spans} & set(failed))
    for trace in [*rebuilt[:1], min(failed), max(failed)]:
        assert told(traced, trace) == failed[trace]


def test_an_id_that_nobody_has_says_what_to_do(traced: Path) -> None:
    """Exit 2: not sampled, or of elsewhere."""
    said = why(traced, "00000000-0000-4000-8000-000000000001")
    assert (said.code, said.out) == (2, "")
    assert "EVENT: no event of" in said.err
    assert "sample: 1.0" in said.err


def test_a_trace_of_several_events_names_them(traced: Path, tmp_path: Path) -> None:
    """Rather than to tell of any of them; by its own id each is told."""
    folder = shutil.copytree(traced, tmp_path / "run")
    path = folder / "spans" / "spans.parquet"
    spans = pq.read_table(path)
    events = [one for one in dict.fromkeys(spans["event"].to_pylist()) if one][:2]
    shared = "ab" * 16
    traces = [shared if row["event"] in events else row["trace"] for row in spans.to_pylist()]
    place = spans.schema.get_field_index("trace")
    pq.write_table(spans.set_column(place, "trace", pa.array(traces)), path)
    numbers = sorted(told(folder, event) for event in events)
    said = why(folder, shared)
    assert said.code == 2
    assert f"2 events are in the trace {shared}: give the number of one: {numbers[0]}, {numbers[1]}" in said.err


def test_spans_that_are_damaged_are_one_clear_error(traced: Path, tmp_path: Path) -> None:
    """Exit 4, and whose."""
    folder = shutil.copytree(traced, tmp_path / "run")
    (folder / "spans" / "spans.parquet").write_bytes(b"garbage")
    said = why(folder, "ab" * 16)
    assert said.code == 4
    assert "spans.parquet" in said.err
    assert told(folder, "1") == 1
