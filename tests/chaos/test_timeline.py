"""The dry run says what will happen when, in eighty columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from squall.chaos.scenario import Known, Scenario, drain_limits, make_scenario
from squall.chaos.scenario_faults import by_seam
from squall.chaos.timeline import Timeline, render, timeline
from squall.core.fault import Fault, Handler, Storage
from squall.core.yaml_source import parse_document

EXAMPLE = Path(__file__).parent / "scenario_files" / "handler-outage.yaml"


class ExceptionFault(Fault):
    kind = Handler
    name = "exception"


class WriteError(Fault):
    kind = Storage
    name = "write-error"


def scenario(text: str) -> Scenario:
    return make_scenario(parse_document(text, "s.yaml"), known=Known(faults=by_seam([ExceptionFault, WriteError])))


def plan(text: str) -> Timeline:
    read = scenario(text)
    return timeline(read, drain_limits(read, 1.0))


def test_the_plan_holds_every_phase_stay_and_window() -> None:
    """Times, rates, counts and totals of the documented scenario."""
    found = plan(EXAMPLE.read_text())
    assert (found.steady_s, found.load_s, found.events, found.total_s, found.most_s) == (5.0, 45.0, 90_250, 50.0, 110.0)
    assert [(s.begin_s, s.end_s, s.begin_rate, s.end_rate, s.events) for s in found.stages] == [
        (0.0, 5.0, 100.0, 2000.0, 5250),
        (5.0, 45.0, 2000.0, 2000.0, 80_000),
        (45.0, 45.0, 0.0, 0.0, 5000),
    ]
    assert [(bar.kind, bar.label, bar.begin_s, bar.end_s) for bar in found.bars] == [
        ("subscriber", "billing", 0.0, 45.0),
        ("subscriber", "audit", 10.0, 40.0),
        ("fault", "outage", 15.0, 35.0),
        ("fault", "refuse", 30.0, 33.0),
    ]
    assert found.expected == ("no_loss", "order", "duplicates", "recovery", "latency")


def test_the_documented_scenario_reads_as_a_whole() -> None:
    """Bars stand where their times say, and the ending is told."""
    lines = render(plan(EXAMPLE.read_text()))
    assert lines[0] == "handler-outage  seed 42"
    assert "load 1          0s      5s   100/s to 2,000/s, 5,250 events" in lines
    assert lines[-1] == "total     90,250 events in 50s, with the drain at most 110s"
    rows = {line.split()[0]: line for line in lines if line.strip()}
    outage = rows["outage"]
    axis = next(line for line in lines if line.endswith(" 45s") and line.lstrip().startswith("0s "))
    margin = axis.index("0s")
    columns = 80 - margin
    assert outage.index("▒") == margin + round(15 / 45 * columns)
    assert outage.count("▒") == round(35 / 45 * columns) - round(15 / 45 * columns)
    assert axis.index("20s") == margin + round(20 / 45 * columns)
    assert rows["rate"].endswith("!")


SHAPES = {
    "burst alone": "stages: [{burst: 100000}]",
    "very short": "stages: [{for: 10ms, rate: 1000}]",
    "very long": "stages: [{for: 24h, rate: 0.5}, {for: 24h, rate: 0}]",
    "many stages": f"stages: [{', '.join(['{for: 1s, rate: 5, to: 3}'] * 40)}]",
}


@pytest.mark.parametrize("stages", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("width", [20, 60, 80, 200])
def test_no_line_is_wider_than_asked(stages: str, width: int) -> None:
    """Long names, texts, loads and narrow terminals; sixty columns is the least."""
    text = (
        f"version: 1\nname: {'n' * 64}\nabout: {'word ' * 60}\n"
        f"subscribers: {{{'s' * 64}: {{pattern: {'token.' * 15}end}}}}\n"
        f"load: {{{stages}, events: [{{type: {'token.' * 15}end}}]}}\n"
    )
    lines = render(plan(text), width)
    assert max(map(len, lines)) <= max(60, width)
    assert all(line == line.rstrip() for line in lines)


def test_a_window_too_short_for_a_column_still_shows() -> None:
    """A fault of a millisecond, and one that ends with the load, have a bar each."""
    text = (
        "version: 1\nname: x\nsubscribers: {a: {pattern: b}}\n"
        "load: {stages: [{for: 1h, rate: 1}], events: [{type: b}]}\n"
        "faults:\n"
        "  - {id: blink, at: 10m, for: 1ms, do: exception, on: handler:a}\n"
        "  - {id: last, at: 3599.9, do: exception, on: handler:a, probability: 0.5}\n"
    )
    lines = render(plan(text))
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert rows["blink"].count("▒") == 1
    assert rows["last"].count("▒") == 1
    assert len(rows["last"]) == 80
    assert any("exception on handler:a, 50 % of calls" in line for line in lines)
