"""What pages show is what the history holds: held against plain loops over generated histories."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest
from tests.chaos.check.generated import generate
from tests.chaos.check.model import Gate, Process, Sample, write
from tests.chaos.check.runs import DURABLE, FACTS, MS, abandoned, clean, handled
from tests.dashboards import made_runs

from squall.chaos.check.facts import RunFacts, load_facts
from squall.chaos.check.output import load_verdict
from squall.chaos.history import open_history
from squall.chaos.report.axis import axis_of
from squall.chaos.report.measured import measure
from squall.chaos.run_folder import VERDICT
from squall.dashboards import flow, over_time
from squall.dashboards.charts import Line, Plot, Shading, run_plots
from squall.dashboards.charts import over_time as draw
from squall.dashboards.own_begin import from_own_begin
from squall.dashboards.tones import LIGHT
from squall.dashboards.trace_data import ORDERS, Mark, Row, Shade, Span, Wanted, Waterfall, choose, waterfall

pytestmark = pytest.mark.slow  # generated histories, whose views are counted again


@pytest.fixture(params=range(6))
def seed(request: pytest.FixtureRequest) -> int:
    """Of a generated history."""
    number: int = request.param
    return number


def test_every_delivery_that_was_handled_is_in_the_heat_map(tmp_path: Path, seed: int) -> None:
    """And the depths end with those that handlers still have: nobody waits for what was lost."""
    generated = generate(Random(seed), subscriptions=3)
    history = generated.history
    write(history, tmp_path / "history")
    with open_history(tmp_path / "history") as db:
        axis = axis_of(db, generated.facts)
    assert axis is not None
    published = {publish.event for publish in history.publishes}
    pairs = {(a.event, a.subscription) for a in history.attempts if a.event in published}
    done = {(a.event, a.subscription) for a in history.attempts if a.result == "ok" and a.event in published}
    in_hand = {(a.event, a.subscription) for a in history.attempts if a.ended is None} & pairs
    in_hand -= done | {(t.event, t.subscription) for t in history.terminals}
    found = over_time._spread.__wrapped__(str(tmp_path), 0, axis)  # type: ignore[attr-defined]  # not what is remembered
    assert sum(count for _, _, count in found.heat.cells) == len(done)
    waiting = {depth.subscription: depth.waiting[-1] for depth in found.depths}
    assert sum(waiting.values()) == len(in_hand)


def test_what_is_lost_does_not_wait_for_ever(tmp_path: Path) -> None:
    """A handler died with event 5 at 50 ms, and nobody had it again; event 6 is in a handler's hands to the end."""
    history = clean(40)
    history.attempts[4].result, history.attempts[4].settlement = "died", None
    history.attempts[5].result, history.attempts[5].ended = None, None
    with open_history(write(history, tmp_path / "history")) as db:
        axis = axis_of(db, FACTS)
    assert axis is not None
    (depth,) = over_time._spread.__wrapped__(str(tmp_path), 0, axis).depths  # type: ignore[attr-defined]  # read anew
    assert depth.waiting[-1] == 1


def test_the_flow_counts_every_attempt_once(tmp_path: Path, seed: int) -> None:
    """By what became of the deliveries; what nobody had is there too. A refused publish is counted as that alone."""
    history = generate(Random(seed), subscriptions=3).history
    write(history, tmp_path / "history")
    found = flow._flows.__wrapped__(str(tmp_path), 0)  # type: ignore[attr-defined]  # not what is remembered
    flows = found.ways
    known = [a for a in history.attempts if a.event is not None]
    assert sum(one.attempts for one in flows) == len(known)
    assert sum(one.failed for one in flows) == sum(a.result in ("error", "timeout", "died") for a in known)
    pairs = Counter((a.event, a.subscription) for a in known)
    had = {event for event, _ in pairs}
    alone = {publish.event for publish in history.publishes if publish.outcome != "fail"} - had
    assert sum(one.total for one in flows) == len(pairs) + len(alone)
    assert sum(one.deliveries for one in flows) == len(pairs)
    assert sum(one.refused for one in found.refused) == sum(p.outcome == "fail" for p in history.publishes)
    taken = {(publish.topic, publish.event) for publish in history.publishes if publish.outcome != "fail"}
    assert sum(one.events for one in found.published) == len(taken)
    assert sum(one.calls for one in found.published) == len(history.publishes)
    assert {one.publisher for one in found.published} == {"bench"}


def test_each_publisher_has_what_it_published(tmp_path: Path) -> None:
    """By the name of its process; in the graph it stands before its types, and a type of its name is another node."""
    history = clean(4)
    for publish in history.publishes[:3]:
        publish.process = 1
    history.processes = [Process(1, 1, name="order.created", role="worker")]
    write(history, tmp_path / "history")
    found = flow._flows.__wrapped__(str(tmp_path), 0)  # type: ignore[attr-defined]  # not what is remembered
    assert [(one.publisher, one.events) for one in found.published] == [("order.created", 3), ("bench", 1)]
    (series,) = cast("list[Any]", flow.sankey(found.ways, found.published, LIGHT)["series"])
    assert {one["name"].rstrip("\u200b") for one in series["data"]} >= {"bench", "order.created", "billing"}
    into = [one for one in series["links"] if one["target"] == "order.created\u200b"]
    assert [(one["source"], one["value"]) for one in into] == [("order.created", 3), ("bench", 1)]
    assert {one["name"]: one["depth"] for one in series["data"]}["handled\u200b\u200b\u200b"] == 3


def test_a_waterfall_has_every_attempt_of_every_event(tmp_path: Path, seed: int) -> None:
    """Chosen in any order, each event once."""
    generated = generate(Random(seed), subscriptions=3)
    history = generated.history
    with open_history(write(history, tmp_path / "history")) as db:
        published = {publish.event for publish in history.publishes}
        for order in ORDERS:
            events = choose(db, Wanted(order, limit=100_000))
            assert len(events) == len(set(events))
            if order != "dead letters":
                assert set(events) == published
        found = waterfall(db, generated.facts, sorted(published))
    attempts = [row for row in found.rows if row.subscriber and "attempt" in row.label]
    assert len(attempts) == sum(a.event in published for a in history.attempts)
    assert all(span.begun <= span.ended for span in found.spans if span.tone == "wait")
    assert all(found.begun <= span.begun and span.ended <= found.ended for span in found.spans)


def test_what_is_owed_stays_open_to_the_end_of_the_recording(tmp_path: Path) -> None:
    """From what is last known of it; the end of the process that kept it, and the fault, are on the axis."""
    folder = made_runs.forgotten_folder(tmp_path)
    facts = load_facts(folder)
    lost = [one for finding in load_verdict(folder / VERDICT).findings for one in finding.violations]
    with open_history(folder / "history") as db:
        found = waterfall(db, facts, [16, 17], lost)
        handled = waterfall(db, facts, [16], lost)
        axis = axis_of(db, facts)
    assert axis is not None
    (bar,) = [span for span in found.spans if span.tone == "lost"]
    assert (found.rows[bar.row].event, found.rows[bar.row].subscriber) == (17, "audit")
    assert (bar.begun, bar.ended) == (171.0, axis.seconds(axis.ended_ns) * 1e3)
    assert found.ended == bar.ended
    assert [(mark.at, mark.says) for mark in found.marks] == [(250.0, "redis ended")]
    assert [shade.name for shade in found.shades] == ["killed"]
    assert found.links[-1] == (found.rows.index(Row("publish and store", 17)), 171.0, bar.row, 171.0)
    assert not handled.marks


def test_the_way_of_a_dead_letter(tmp_path: Path) -> None:
    """Three attempts that a fault failed, each linked to the one before, and its end when it was given up."""
    history = made_runs.dead_letter_history()
    with open_history(write(history, tmp_path / "history")) as db:
        assert choose(db, Wanted("dead letters")) == [7]
        assert choose(db, Wanted("most tried", limit=2)) == [7, 9]
        assert choose(db, Wanted("slowest", limit=1)) == [11]
        found = waterfall(db, RunFacts(), [7])
    labels = [row.label for row in found.rows]
    assert labels[1:] == [
        "publish and store",
        *(f"billing · attempt {n}" for n in (1, 2, 3)),
        "billing · dead lettered",
    ]
    assert [span.says for span in found.spans if span.tone == "bad"] == [
        f"attempt {n} failed (fault errors: exception): 3 ms" for n in (1, 2, 3)
    ]
    assert [(a, b) for a, _, b, _ in found.links] == [(1, 2), (2, 3), (3, 4)]
    (end,) = [span for span in found.spans if span.tone == "end"]
    assert end.begun < found.begun + 60
    assert [shade.name for shade in found.shades] == ["errors"]


def test_the_bar_of_an_abandoned_handler_ends_when_it_was_given_back(tmp_path: Path) -> None:
    """From there the next attempt is waited for, though the handler runs on for good."""
    history = clean()
    history.attempts[4] = abandoned(5)
    history.attempts.append(handled(5, begun_ms=200, attempt=2))
    with open_history(write(history, tmp_path / "history")) as db:
        found = waterfall(db, FACTS, [5])
    (bar,) = [span for span in found.spans if span.tone == "bad"]
    assert (bar.begun, bar.ended, bar.says) == (52.0, 112.0, "attempt 1 ignored its cancellation: 60 ms")
    assert found.links[-1] == (bar.row, 112.0, bar.row + 1, 200.0)


def test_all_plots_have_one_axis_of_time() -> None:
    """The heat map too, and the slider zooms the columns of its cells with it."""
    heat = over_time.Heat(60, -8, -4, ((0, -8, 3), (59, -4, 1)))
    plots = (Plot("Rates", "events/s", (Line("asked", [1.0, 2.0], "red"),)),)
    option = draw(plots, [0.0, 25.0], (-3.2, 25.0), (Shading("errors", 3.0, 5.5),), heat, LIGHT)
    axes: list[dict[str, object]] = option["xAxis"]  # type: ignore[assignment]  # as ECharts has it
    shown = [axis for axis in axes if axis.get("show", True)]
    assert [(axis["gridIndex"], axis["type"], axis["min"], axis["max"]) for axis in shown] == [
        (0, "value", -3.2, 25.0),
        (1, "value", -3.2, 25.0),
    ]
    zooms: list[dict[str, object]] = option["dataZoom"]  # type: ignore[assignment]  # as ECharts has it
    assert all(zoom["xAxisIndex"] == [0, 1, 2] for zoom in zooms)
    assert [axes[number]["gridIndex"] for number, *_ in shaded(option)] == [0, 1]
    assert {area[1:] for area in shaded(option)} == {("errors", 3.0, 5.5)}
    assert all(axes[number]["type"] == "value" for number, *_ in shaded(option)), "columns of the heat are no seconds"
    scale = cast(dict[str, Any], option["visualMap"])
    assert cast(list[dict[str, Any]], option["series"])[scale["seriesIndex"]]["type"] == "heatmap"


def shaded(option: dict[str, object]) -> list[tuple[int, str, float, float]]:
    """Each shaded window: on which axis of time, its name, from when to when."""
    return [
        (line["xAxisIndex"], begin["name"], begin["xAxis"], end["xAxis"])
        for line in cast(list[dict[str, Any]], option["series"])
        for begin, end in line.get("markArea", {"data": []})["data"]
    ]


@pytest.mark.parametrize(("every_s", "most"), [(100, 1), (40, 2), (10, 8), (1, 8)])
def test_names_of_windows_do_not_overprint_each_other(every_s: int, most: int) -> None:
    """On a phone neither: they stand under each other as far as there is room, and then are left out."""
    windows = [Shading(f"fault {at:03d}", at, at + 0.5) for at in range(5, 295, every_s)]
    option = draw((Plot("Rates", "", (Line("asked", [1.0], "red"),)),), [0.0], (0.0, 300.0), windows, None, LIGHT)
    areas = cast(list[dict[str, Any]], option["series"])[0]["markArea"]["data"]
    assert len(areas) == len(windows)
    named = [(begin["label"]["offset"][1], begin["xAxis"] + 0.25) for begin, _ in areas if begin["label"]["show"]]
    assert len({offset for offset, _ in named}) == most
    wide_s = len("fault 000") * 7 / 260 * 300
    by_lane: dict[int, list[float]] = {}
    for offset, middle in named:
        by_lane.setdefault(offset, []).append(middle)
    for middles in by_lane.values():
        assert all(after - before > wide_s - 1e-6 for before, after in pairwise(middles))


def test_a_gate_is_shaded_where_it_held_its_subscriber(tmp_path: Path) -> None:
    """In the subscriber's colour, in the plots of what it handled and of what waited for it; what was held again at
    once goes on."""
    history = clean(40, DURABLE, replace(DURABLE, subscription=1, name="audit"))
    states = [(60, "open"), (160, "half-open"), (170, "open"), (300, "closed")]
    history.gates = [Gate(at * MS, state, 1) for at, state in states]
    write(history, tmp_path / "history")
    with open_history(tmp_path / "history") as db:
        measured = measure(db, FACTS)
    assert measured is not None
    depths = over_time.Spread(None, tuple(over_time.Depth(number, (0,) * measured.axis.count) for number in range(2)))
    plots = {plot.title: plot.lines for plot in run_plots(measured, depths, LIGHT)}
    for title in ("Handled", "Waiting or in hand"):
        held = {line.name: [(one.name, one.begun_s, one.ended_s) for one in line.held] for line in plots[title]}
        assert held == {"billing": [], "audit": [("held by breaker", 0.06, 0.3)]}
    times = measured.axis.times_s()
    option = draw(run_plots(measured, depths, LIGHT), times, (0.0, 1.0), (), None, LIGHT)
    assert [window[1:] for window in shaded(option)] == [("held by breaker", 0.06, 0.3)] * 2


def test_what_a_soak_has_sampled_is_in_the_charts(tmp_path: Path) -> None:
    """Of the process that the target was in, in plots of their own, which a run that was no soak has not."""
    history = clean(40)
    history.samples = [Sample(at * 10 * MS, at, memory=(80 + at) * 1_000_000, tasks=at) for at in range(100)]
    write(history, tmp_path / "history")
    with open_history(tmp_path / "history") as db:
        measured = measure(db, FACTS)
    assert measured is not None
    plots = {plot.title: plot.lines for plot in run_plots(measured, over_time.Spread(None, ()), LIGHT)}
    (memory,) = plots["Memory"]
    known = [value for value in memory.values if value is not None]
    assert (memory.name, known[0], known[-1]) == ("memory", 80.0, 175.0)
    assert [line.name for line in plots["Handles, threads, tasks"]] == ["handles", "threads", "tasks"]
    assert len(run_plots(replace(measured, held=()), over_time.Spread(None, ()), LIGHT)) == len(plots) - 2


def two_events() -> Waterfall:
    """Event 1 is published at 1,000 ms, five after it was due; event 2 two minutes later; a fault is active at 1."""
    found = Waterfall(995.0, 121_010.0, marks=[Mark(1_002.0, "redis ended")], shades=[Shade(990.0, 1_001.0, "errors")])
    for event, at in ((1, 1_000.0), (2, 121_000.0)):
        row = len(found.rows)
        found.rows += [Row("order", event, head=True), Row("publish", event), Row("billing", event)]
        found.spans += [Span(row + 1, at - 5, at, "wait", ""), Span(row + 1, at, at + 1, "publish", "")]
        found.spans += [Span(row + 2, at + 1, at + 3, "held", ""), Span(row + 2, at + 3, at + 10, "ok", "")]
        found.links.append((row + 1, at + 1, row + 2, at + 3))
    found.links.append((2, 1_010.0, 4, 121_000.0))
    return found


def test_several_events_can_be_counted_from_their_own_begin() -> None:
    """Their publish, not what it waited for; what was at one time of all is left out."""
    found = from_own_begin(two_events())
    assert [(one.row, one.begun, one.ended) for one in found.spans[:4]] == [
        (1, -5, 0),
        (1, 0, 1),
        (2, 1, 3),
        (2, 3, 10),
    ]
    assert [(one.row - 3, one.begun, one.ended) for one in found.spans[4:]] == [
        (one.row, one.begun, one.ended) for one in found.spans[:4]
    ]
    assert (found.begun, found.ended) == (-5, 10)
    assert found.links == [(1, 1, 2, 3), (4, 1, 5, 3)]
    assert (found.shades, found.marks) == ([], [])


def test_an_event_alone_keeps_its_faults() -> None:
    """Moved with it."""
    both = two_events()
    alone = replace(both, rows=both.rows[:3], spans=both.spans[:4], links=both.links[:1])
    found = from_own_begin(alone)
    assert (found.shades, found.marks) == ([Shade(-10, 1, "errors")], [Mark(2, "redis ended")])
    assert from_own_begin(Waterfall()) == Waterfall()


def test_a_wait_says_which_gate_held_it(tmp_path: Path) -> None:
    """For as long as it did, and no longer than until the attempt began."""
    history = clean(40, DURABLE)
    history.attempts = [handled(7, begun_ms=300) if one.event == 7 else one for one in history.attempts]
    history.gates = [Gate(time_ms * MS, state) for time_ms, state in ((50, "open"), (60, "closed"), (200, "open"))]
    write(history, tmp_path / "history")
    with open_history(tmp_path / "history") as db:
        found = waterfall(db, FACTS, [7])
    (held,) = (one for one in found.spans if one.tone == "held")
    assert (held.begun, held.ended, held.says) == (200, 300, "held by breaker: 100 ms")
    assert [one.tone for one in found.spans if one.row == held.row][:3] == ["wait", "held", "ok"]
