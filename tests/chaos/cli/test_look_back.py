"""why, runs, report: what people ask of a run that is over."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from tests.chaos.cli.command import squall

from squall.chaos.check.output import load_verdict
from squall.chaos.check.verdict import Cause
from squall.chaos.history import HistoryWriter

pytestmark = pytest.mark.slow  # each looks at whole runs


def cause_of(runs: Path) -> Cause:
    (folder,) = [path for path in runs.glob("loss/*") if not path.is_symlink()]
    (cause,) = load_verdict(folder / "verdict.json").causes
    return cause


def test_why_tells_every_cause_of_the_verdict(lossy: Path) -> None:
    """How many, one sentence, the first one's path, what to do, where to look."""
    cause = cause_of(lossy)
    said = squall("why", "latest", "--runs", str(lossy))
    text = " ".join(said.out.split())
    assert said.code == 0
    assert f"{cause.count} events, one cause: settled before the handler ran, then the handler crashed" in text
    assert f"first order.created {cause.first.event} key" in text
    assert "advice billing takes each event at most once" in text
    assert f"squall why {lossy}" in text.replace(" /", " /")


@pytest.mark.parametrize("form", ["{}", "#{}", "0{}"])
def test_why_tells_one_event_in_the_order_of_time(lossy: Path, form: str) -> None:
    """The path from the publish to the end, faults that were active, cause and advice."""
    event = cause_of(lossy).first.event
    said = squall("why", "loss", form.format(event), "--runs", str(lossy))
    assert said.code == 0, said.err
    times = [float(found) for found in re.findall(r"^ +([0-9.]+) s  ", said.out, re.MULTILINE)]
    assert len(times) >= 4
    assert times == sorted(times)
    for words in ("published", "acknowledged (seq", "delivered to billing, attempt 1", "(under crash)", "advice"):
        assert words in said.out


def test_why_of_an_event_that_is_fine_says_what_became_of_it(lossy: Path) -> None:
    """Not only violations have a story."""
    said = squall("why", "loss/latest", "1", "--runs", str(lossy))
    assert "handled by billing" in said.out
    assert "advice" not in said.out


@pytest.mark.parametrize(
    ("event", "complaint"),
    [
        ("999999", "EVENT: there is no event 999999"),
        ("order.created", "EVENT: expected an event's number such as 514, its UUID, or a trace's 32"),
        ("6f098ad8-fcd7-43f9-8b1c-dea496a4e578", "it has no spans, and only those have the ids of events"),
    ],
)
def test_why_of_an_event_that_is_not_there_is_a_mistake(lossy: Path, event: str, complaint: str) -> None:
    """Exit 2, and what was expected."""
    said = squall("why", "latest", event, "--runs", str(lossy))
    assert (said.code, said.out) == (2, "")
    assert complaint in said.err


def test_why_of_a_run_that_was_killed_before_its_records_were_written_says_so(lossy: Path, tmp_path: Path) -> None:
    """Nobody knows whether there was such an event."""
    shutil.copytree(lossy, tmp_path / "runs", symlinks=True)
    (folder,) = [path for path in (tmp_path / "runs").glob("loss/*") if not path.is_symlink()]
    for name in ("verdict.json", "facts.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "history")
    words = {"name": "billing", "pattern": "order.>", "delivery": "at-least-once", "start": "new", "on_retry": "skip"}
    numbers = {"subscription": 0, "durable": False, "concurrency": 1, "join_invoked": 1}
    HistoryWriter(folder / "history").rewrite(
        "subscription", {name: [value] for name, value in (*words.items(), *numbers.items())}
    )
    said = squall("why", str(folder), "1", "--runs", str(tmp_path / "runs"))
    assert (said.code, said.out) == (2, "")
    assert "holds no records" in said.err


def test_why_for_programs(lossy: Path) -> None:
    """JSON alone on stdout: the causes, or one story."""
    causes = json.loads(squall("why", "latest", "--runs", str(lossy), "--json").out)
    event = causes[0]["first"]["event"]
    story = json.loads(squall("why", "latest", str(event), "--runs", str(lossy), "--json").out)
    assert (causes[0]["invariant"], story["event"]) == ("no_loss", event)
    assert {step["kind"] for step in story["steps"]} >= {"publish", "attempt", "settlement", "fault"}


@pytest.mark.parametrize("name", ["latest", "loss", "loss/latest"])
def test_a_run_is_found_by_each_of_its_names(lossy: Path, name: str) -> None:
    """The newest of all, the newest of a scenario."""
    assert squall("why", name, "--runs", str(lossy)).code == 0


def test_a_run_is_found_by_path_and_by_id(lossy: Path, here: Path) -> None:
    """A path needs no runs folder."""
    (folder,) = [path for path in lossy.glob("loss/*") if not path.is_symlink()]
    assert squall("why", str(folder)).code == 0
    assert squall("why", folder.name, "--runs", str(lossy)).code == 0


def test_a_run_that_is_not_there_is_a_mistake(lossy: Path, here: Path) -> None:
    """Exit 2, and what there is."""
    said = squall("why", "nope", "--runs", str(lossy))
    assert said.code == 2
    assert said.err.startswith("nope: there is no such run (the newest: loss/")
    assert "there is none in runs yet: squall run first-storm" in squall("why", "latest").err


def test_a_run_is_found_by_the_begin_of_its_name(lossy: Path, tmp_path: Path) -> None:
    """As long as no other begins so; a name that is nearly right gets the right one."""
    (folder,) = [path for path in lossy.glob("loss/*") if not path.is_symlink()]
    runs = tmp_path / "runs"
    for path in (runs / "loss" / folder.name, runs / "gain" / folder.name.replace(folder.name[-6:], "abcdef")):
        shutil.copytree(folder, path)
    assert "report.html" in squall("report", f"loss/{folder.name[:4]}", "--runs", str(runs)).out
    said = squall("report", folder.name[:4], "--runs", str(runs))
    assert said.code == 2
    assert re.search(r"^2\d+: begins the names of 2 runs \((loss|gain)/\S+, (loss|gain)/\S+\)", said.err)
    assert "lossy: there is no such run (did you mean 'loss'?)" in squall("why", "lossy", "--runs", str(runs)).err
    assert "xxx: there is no such run" in squall("why", "x" * 5000, "--runs", str(runs)).err


def test_why_of_a_run_without_verdict_still_tells_an_event(lossy: Path, tmp_path: Path) -> None:
    """A run that was killed while it was judged: its history is there."""
    shutil.copytree(lossy, tmp_path / "runs", symlinks=True)
    (verdict,) = tmp_path.glob("runs/loss/2*/verdict.json")
    verdict.unlink()
    said = squall("why", "latest", "--runs", str(tmp_path / "runs"))
    assert "has no verdict" in " ".join(said.out.split())
    assert "handled by billing" in squall("why", "latest", "1", "--runs", str(tmp_path / "runs")).out
    assert "unfinished" in squall("runs", "--runs", str(tmp_path / "runs")).out


@pytest.mark.parametrize("name", ["verdict.json", "history/publish.parquet", "history/history.json", "facts.json"])
@pytest.mark.parametrize("content", [b"", b"garbage", b"\x00" * 100])
def test_a_damaged_run_is_one_clear_error(lossy: Path, tmp_path: Path, name: str, content: bytes) -> None:
    """Exit 4, the file's name, no traceback; the list of runs goes on."""
    shutil.copytree(lossy, tmp_path / "runs", symlinks=True)
    (damaged,) = tmp_path.glob(f"runs/loss/2*/{name}")
    damaged.write_bytes(content)
    said = squall("why", "latest", "1", "--runs", str(tmp_path / "runs"))
    assert said.code == 4
    assert Path(name).name in said.err
    assert "Traceback" not in said.err
    assert squall("runs", "--runs", str(tmp_path / "runs")).code == 0


def test_runs_are_listed_newest_first(lossy: Path) -> None:
    """State, name, headline; as JSON with all that a program needs."""
    said = squall("runs", "--runs", str(lossy))
    assert re.match(r"invalid +loss/\S+  \d+ of \d+ acknowledged events were lost", said.out)
    (row,) = json.loads(squall("runs", "--runs", str(lossy), "--json").out)["runs"]
    assert (row["state"], row["seed"], row["run"].partition("/")[0]) == ("invalid", 3, "loss")


def test_no_runs_yet_says_how_to_make_one(here: Path) -> None:
    """No empty page without a next step."""
    assert squall("runs").out == "no runs yet: squall run first-storm\n"
    assert json.loads(squall("runs", "--json").out) == {"runs": []}


def test_report_prints_the_path_and_writes_it_anew_where_it_is_missing(lossy: Path, tmp_path: Path) -> None:
    """One line, so that it can be given to what opens it."""
    shutil.copytree(lossy, tmp_path / "runs", symlinks=True)
    for path in tmp_path.glob("runs/loss/2*/report.html"):
        path.unlink()
    said = squall("report", "loss", "--runs", str(tmp_path / "runs"))
    assert said.code == 0, said.err
    assert "acknowledged events were lost" in Path(said.out.rstrip("\n")).read_text("utf-8")
    assert squall("report", "--runs", str(tmp_path / "runs")).out == said.out


def test_a_run_without_verdict_has_a_report_that_says_so(lossy: Path, tmp_path: Path) -> None:
    """One that was killed: what it recorded is shown, though an older page may lie there."""
    shutil.copytree(lossy, tmp_path / "runs", symlinks=True)
    for path in tmp_path.glob("runs/loss/2*/verdict.json"):
        path.unlink()
    said = squall("report", "loss", "--runs", str(tmp_path / "runs"))
    assert said.code == 0, said.err
    assert "No verdict" in Path(said.out.rstrip("\n")).read_text("utf-8")
