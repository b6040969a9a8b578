"""live.jsonl: what a run says of itself while it goes on."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from tests.chaos import short_run

from squall import StoreFileError
from squall.chaos import live_file as module
from squall.chaos.catalogue import load_catalogue
from squall.chaos.live_file import live_file, read_live
from squall.chaos.run import run_scenario
from squall.chaos.run_folder import LIVE, VERDICT
from squall.chaos.scenario import load_scenario
from squall.chaos.watch import Progress
from squall.core.clock import VirtualClock
from squall.core.config import Config

MOMENT = Progress("in-process", "load", 1.0, 4.0, 100.0, 99.0, 50, 1, 40, 2, 3, None, 0.004, 0.001, (), 2)


class Told:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.at_s = 100.0

    def monotonic_ns(self) -> int:
        return round(self.at_s * 1e9)


def write(folder: Path, seconds: list[float], phases: str = "") -> list[Progress]:
    """Show a moment at each of these times, in a phase each; what was shown to who watches."""
    clock, shown = Told(), list[Progress]()
    with live_file(folder, clock, shown.append) as show:  # type: ignore[arg-type]  # nothing but its time is asked for
        assert show is not None
        for number, second in enumerate(seconds):
            clock.at_s = 100.0 + second
            phase = {"d": "drain", "c": "check"}.get(phases[number : number + 1], "load")
            show(replace(MOMENT, acknowledged=number, phase=phase))  # type: ignore[arg-type]  # a word of the vocabulary
    return shown


def test_a_line_a_second_and_one_for_each_phase(tmp_path: Path) -> None:
    """Who watches is shown everything."""
    shown = write(tmp_path, [0, 0.25, 0.5, 1.0, 1.25, 1.5], "lllldd")
    assert len(shown) == 6
    assert [(one.at_s, one.progress.acknowledged) for one in read_live(tmp_path)] == [(0.0, 0), (1.0, 3), (1.25, 4)]


def test_it_is_gone_when_there_is_a_verdict(tmp_path: Path) -> None:
    """Of a run that was killed it stays."""
    write(tmp_path, [0, 1])
    assert len(read_live(tmp_path)) == 2
    (tmp_path / VERDICT).touch()
    write(tmp_path, [0, 1])
    assert not (tmp_path / LIVE).exists()


def test_a_long_run_has_coarser_lines_and_not_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From its begin to its end, the last word always among them."""
    monkeypatch.setattr(module, "MAX_LINES", 20)
    write(tmp_path, [float(second) for second in range(500)])
    moments = read_live(tmp_path)
    assert 9 <= len(moments) < 20
    times = [one.at_s for one in moments]
    assert times == sorted(times)
    assert times[0] < 100
    assert times[-1] > 400
    assert list(tmp_path.iterdir()) == [tmp_path / LIVE]


def test_a_disk_that_refuses_stops_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is told once, and not tried again."""
    (tmp_path / LIVE).mkdir()
    with caplog.at_level(logging.WARNING, "squall"):
        assert len(write(tmp_path, [0, 1, 2])) == 3
    assert [record.getMessage() for record in caplog.records if LIVE in record.getMessage()] == [
        f"{tmp_path / LIVE}: is not written any more: [Errno 21] Is a directory: '{tmp_path / LIVE}'"
    ]


def test_half_a_line_is_left_out_and_a_foreign_one_told(tmp_path: Path) -> None:
    """A reader may come between two writes."""
    write(tmp_path, [0, 1])
    with (tmp_path / LIVE).open("a") as file:
        file.write('{"at_s": 2.0, "prog')
    assert len(read_live(tmp_path)) == 2
    (tmp_path / LIVE).write_text("what\n")
    with pytest.raises(StoreFileError, match="is not what squall wrote"):
        read_live(tmp_path)


def test_nobody_watches_nothing_is_written(tmp_path: Path) -> None:
    """As in a test that runs a scenario."""
    with live_file(tmp_path, VirtualClock(), None) as show:
        assert show is None
    assert not list(tmp_path.iterdir())


async def test_a_run_tells_of_itself_while_it_goes_on(tmp_path: Path) -> None:
    """Seen by who looks into its folder meanwhile: rates, faults, phases."""
    path = tmp_path / "short.yaml"
    path.write_text(json.dumps(short_run.scenario()), encoding="utf-8")
    seen: dict[str, int] = {}

    def look(progress: Progress) -> None:
        for file in tmp_path.glob(f"runs/short/2*/{LIVE}"):
            for moment in read_live(file.parent):
                seen[moment.progress.phase] = len(moment.progress.faults)

    config, catalogue = replace(Config(), folder=tmp_path), load_catalogue()
    scenario = load_scenario(path, known=catalogue.known(config))
    result = await run_scenario(scenario, config, catalogue, on_progress=look)
    assert seen["load"] == 1
    assert not (result.folder / LIVE).exists()
    assert (result.folder / VERDICT).exists()
