"""What the pages say, without a browser: empty states, mistakes, filters, and what is marked."""

from __future__ import annotations

import html
import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from streamlit.testing.v1 import AppTest
from tests.chaos.check.runs import MS, clean, without
from tests.chaos.report import folders
from tests.chaos.sweep import by_hand
from tests.chaos.test_live_file import MOMENT, write
from tests.dashboards import made_runs

from squall.chaos.check.expectations import Latency, NoLoss
from squall.chaos.fault_run import FaultProgress
from squall.chaos.live_file import Moment
from squall.chaos.run_folder import LIVE, VERDICT
from squall.chaos.sweep.file import SWEEP
from squall.dashboards import flow, overview
from squall.dashboards.charts import Shading, Spec, over_time
from squall.dashboards.live_data import STALE_S
from squall.dashboards.tones import LIGHT

pytestmark = pytest.mark.slow  # each page is Streamlit's whole script


def script(runs: str, name: str) -> None:
    """What Streamlit runs: one of squall's own pages."""
    from pathlib import Path

    from squall.dashboards.app import show_page
    from squall.dashboards.pages import own_pages

    show_page(Path(runs), own_pages()[name])


def whole(runs: str) -> None:
    """What Streamlit runs: the dashboard."""
    from pathlib import Path

    from squall.dashboards.app import show

    show(Path(runs))


def opened(runs: Path, page: str, **query: str) -> AppTest:
    """The page as somebody sees it who follows such a link."""
    test = AppTest.from_function(script, args=(str(runs), page), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    test.run()
    assert not test.exception
    return test


def said(test: AppTest) -> str:
    """The texts of a page, without tags, each space one."""
    bodies = " ".join(one.proto.body for one in test.get("html"))
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]+>", " ", bodies)))


@pytest.fixture
def dead(tmp_path: Path) -> Path:
    """Runs, of which one has dead letters."""
    made_runs.by_hand(tmp_path / "runs", "dead", made_runs.dead_letter_folder)
    return tmp_path / "runs"


def test_without_runs_the_dashboard_says_how_to_make_one(tmp_path: Path) -> None:
    """On every page."""
    test = AppTest.from_function(whole, args=(str(tmp_path / "runs"),), default_timeout=60).run()
    assert "No runs yet" in said(test)
    assert "squall run first-storm" in said(test)
    assert not test.selectbox


def test_the_first_page_lists_runs_and_offers_them(dead: Path) -> None:
    """At the side, the newest first."""
    made_runs.by_hand(dead, "lossy", folders.invalid_folder)
    test = AppTest.from_function(whole, args=(str(dead),), default_timeout=60).run()
    assert "2 runs, newest first" in said(test)
    assert {name.partition("/")[0] for name in test.sidebar.selectbox[0].options} == {"dead", "lossy"}


def test_an_unknown_run_names_those_that_there_are(dead: Path) -> None:
    """And keeps who looks from nothing else."""
    assert "gone: there is no such run" in said(opened(dead, "overview", run="gone"))


@pytest.mark.parametrize(
    "file", ["environment.json", "scenario.yaml", "facts.json", "verdict.json", "history/attempt.parquet"]
)
def test_a_damaged_file_is_named(dead: Path, file: str) -> None:
    """On the run's pages; the list shows the others all the same."""
    made_runs.by_hand(dead, "lossy", folders.invalid_folder)
    next(dead.glob("dead/2*")).joinpath(file).write_bytes(b"\x00{")
    assert file.removeprefix("history/") in said(opened(dead, "overview", run="dead"))
    listed = said(opened(dead, "runs"))
    assert "unreadable" in listed
    assert "2 of 40 acknowledged events were lost" in listed


def test_dead_letters_are_filtered(dead: Path) -> None:
    """By who gave up, by type, by a part of the key, by number."""
    everything = said(opened(dead, "dead_letters", run="dead"))
    assert "1 dead letter, in the order" in everything
    assert "order.created 7" in everything
    assert "failed errors 0.115 s" in everything
    for query, found in (({"find": "7"}, True), ({"find": "8"}, False), ({"subscriber": "billing"}, True)):
        there = "order.created 7" in said(opened(dead, "dead_letters", run="dead", **query))
        assert there == found, query


def test_refused_publishes_are_no_deliveries(tmp_path: Path) -> None:
    """They are told by themselves, and the graph has nothing of them; where all were refused, too."""
    history = clean(40)
    for event in (3, 4, 5):
        history.publishes[event - 1].outcome = "fail"
        without(history, event)
    folder = made_runs.by_hand(tmp_path / "runs", "refused", lambda root: folders.judged_folder(root, history))
    page = opened(tmp_path / "runs", "flow", run="refused")
    assert re.search(r"order\.created billing 37 37/s 0 \(0 %\) 37 handled Publishers", said(page))
    assert re.search(r"bench order\.created 37 37/s 40 Refused at the publisher", said(page))
    assert "order.created 3 7.5 % of 40" in said(page)
    found = flow._flows.__wrapped__(str(folder), 0)  # type: ignore[attr-defined]  # not what is remembered
    assert "refused" not in str(flow.sankey(found.ways, found.published, LIGHT))
    for publish in history.publishes:
        publish.outcome = "fail"
    history.attempts.clear()
    made_runs.by_hand(tmp_path / "runs", "none", lambda root: folders.judged_folder(root, history))
    told = said(opened(tmp_path / "runs", "flow", run="none"))
    assert "order.created 40 100 % of 40" in told
    assert "Deliveries" not in told


def test_a_trace_tells_every_attempt(dead: Path) -> None:
    """As a graph and step by step, without what happened around it afterwards."""
    told = said(opened(dead, "traces", run="dead", event="7"))
    assert "billing attempt 1 failed (fault errors: exception) attempt 2 failed" in told
    assert "dead lettered told by dead letters" in told
    assert "handler failed (fault errors) under errors 0.115 s +45 ms given up" in told
    lost = said(opened(dead, "traces", run="dead", event="11"))
    assert "billing owed never delivered" in lost


def test_the_trace_of_a_lost_event_tells_to_whom_it_is_owed(tmp_path: Path) -> None:
    """In the graph beside who had it, and step by step until the process ended that kept it."""
    made_runs.by_hand(tmp_path / "runs", "forgotten", made_runs.forgotten_folder)
    told = said(opened(tmp_path / "runs", "traces", run="forgotten", event="17"))
    assert "billing attempt 1 ended well audit owed never delivered" in told
    killed = "0.249 s +79 ms fault killed (kill on process:redis) begins"
    assert f"{killed} 0.250 s +80 ms process redis exited 0.250 s +80 ms owed to audit, never delivered" in told
    had = said(opened(tmp_path / "runs", "traces", run="forgotten", event="16"))
    assert "owed" not in had
    assert "process redis exited" not in had


def test_only_some_of_many_events_are_told_step_by_step(dead: Path) -> None:
    """The waterfall shows them all."""
    told = said(opened(dead, "traces", run="dead", event=",".join(str(event) for event in range(1, 9))))
    assert "The steps of the first 5 of 8 events are told" in told


def test_differences_are_marked(dead: Path) -> None:
    """States that are not the same, figures that are apart by a tenth; a run with itself has none."""
    made_runs.by_hand(dead, "lossy", folders.invalid_folder)
    told = said(opened(dead, "compare", a="dead", b="lossy"))
    assert "dead-lettered, events 1 0 \N{MINUS SIGN}100% better" in told
    assert "acknowledged, events 60 40 \N{MINUS SIGN}33%" in told
    same = said(opened(dead, "compare", a="dead", b="dead"))
    assert "0 differences marked" in same
    assert "Both ran the same text" in same


def test_what_only_one_run_expects_is_different_and_no_worse(tmp_path: Path) -> None:
    """Nor better, whichever side it is on."""
    runs = tmp_path / "runs"
    more = [NoLoss(), Latency(p99=1.0)]
    made_runs.by_hand(runs, "one", lambda root: folders.judged_folder(root, clean(40), expected=[NoLoss()]))
    made_runs.by_hand(runs, "more", lambda root: folders.judged_folder(root, clean(40), expected=more))
    for a, b, said_of in (("one", "more", "not judged there → valid"), ("more", "one", "valid → not judged there")):
        told = said(opened(runs, "compare", a=a, b=b))
        assert said_of in told
        assert "better" not in told.partition(said_of)[2].partition("Figures")[0]
        assert "worse" not in told.partition(said_of)[2].partition("Figures")[0]


def slow_folder(root: Path) -> Path:
    """Forty events, each handled 40 ms later than need be; none lost."""
    history = clean(40)
    for one in history.attempts:
        for moment in ("begun", "ended", "settle_invoked", "settle_ok"):
            setattr(one, moment, getattr(one, moment) + 40 * MS)
    return folders.judged_folder(root, history, expected=[NoLoss()])


def test_a_run_that_loses_is_not_called_faster(tmp_path: Path) -> None:
    """Its latencies are of what it did handle: they are told, and not judged; how many it never handled is."""
    runs = tmp_path / "runs"
    made_runs.by_hand(runs, "slow", slow_folder)
    made_runs.by_hand(runs, "lossy", folders.invalid_folder)
    made_runs.by_hand(runs, "quick", lambda root: folders.judged_folder(root, clean(40), expected=[NoLoss()]))
    lossy, quick = (said(opened(runs, "compare", a="slow", b=name)) for name in ("lossy", "quick"))
    assert "latency p99 45 ms 5 ms \N{MINUS SIGN}89% better" in quick
    assert "latency p99 45 ms 5 ms \N{MINUS SIGN}89% latency max" in lossy
    assert "never handled, deliveries 0 2 +2 worse" in lossy
    listed = said(opened(runs, "runs"))
    assert "5 ms and 2 deliveries never" in listed
    assert listed.count("never") == 1


def test_one_run_is_compared_with_nothing(tmp_path: Path) -> None:
    """It says what to do."""
    folders.valid_folder(tmp_path / "runs")
    assert "There is one run" in said(opened(tmp_path / "runs", "compare"))


def test_without_sweeps_the_page_says_how_to_make_one(dead: Path) -> None:
    """Whether one is named or not."""
    assert "No sweeps yet" in said(opened(dead, "sweeps"))
    assert "squall sweep capacity --over rate" in said(opened(dead, "sweeps", sweep="gone"))


def test_sweeps_are_listed_with_their_knees(dead: Path) -> None:
    """The newest first; one that is damaged says so, and keeps nobody from the others; one that goes on says that."""
    by_hand.sweep_folder(dead)
    by_hand.sweep_folder(dead, by_hand.begun(by_hand.sweep(scenario="longer")), "20260103-000000-abc123")
    by_hand.sweep_folder(dead, name="20260104-000000-abc123").joinpath(SWEEP).write_text("{", encoding="utf-8")
    told = said(opened(dead, "sweeps"))
    knee = (
        r"Knee found capacity over rate 2 Jan 2026, 00:00 UTC · it breaks at rate \d+ .* 95 % interval \d+ to \d+ 6 $"
    )
    assert re.search(
        r"3 sweeps, newest first.* unreadable .*is not a sweep .* Not over longer over rate .*" + knee, told
    )


def test_a_sweep_shows_its_knee_its_runs_and_what_was_not_sent(dead: Path) -> None:
    """Every run leads to its overview, but one that is no longer there; values of which nothing is known are told."""
    run = f"dead/{next(dead.glob('dead/2*')).name}"
    by_hand.sweep_folder(dead, by_hand.sweep((run, "gone/20260101-000000-abc123")))
    page = opened(dead, "sweeps", sweep=by_hand.NAME)
    told = said(page)
    assert re.search(r"Knee found It breaks at rate \d+ \(95 % interval \d+ to \d+\): latency p99", told, re.IGNORECASE)
    assert "Never broke up to 20 1 run" in told
    assert "Limit of the generator 100 could not be sent in time" in told
    assert "100 70 of 100 events (70 %)" in told
    assert "✓ 10 holds 10/s 21 ms" in told
    assert "✗ 40 breaks latency p99 40/s 900 ms" in told
    assert "? 80 unknown headline of 80" in told
    assert "gone/20260101-000000-abc123 (no longer there)" in told
    bodies = " ".join(one.proto.body for one in page.get("html"))
    assert bodies.count(f'href="overview?run={run}"') == 3
    assert len(re.findall('class="dot', bodies)) == 2 * len(by_hand.OUTCOMES)


def test_a_sweep_that_goes_on_says_so(dead: Path) -> None:
    """And shows what it has so far; a sweep that is not there names those that are."""
    by_hand.sweep_folder(dead, by_hand.begun(by_hand.sweep()))
    told = said(opened(dead, "sweeps", sweep=by_hand.NAME))
    assert "Not over" in told
    assert "load the page anew" in told
    assert "✓ 10 holds" in told
    assert f"there is no sweep 'gone' (the newest: {by_hand.NAME})" in said(opened(dead, "sweeps", sweep="gone"))


@pytest.mark.parametrize("content", ["", "what\n"], ids=["empty", "foreign"])
def test_a_live_file_of_no_use_takes_no_page_down(tmp_path: Path, content: str) -> None:
    """A run was killed before it had said anything, or its disk was full; that it is judged cannot be told any more."""
    folder = folders.bare_folder(tmp_path / "runs")
    made_runs.by_hand(tmp_path / "runs", "lossy", folders.invalid_folder)
    (folder / LIVE).write_text(content, encoding="utf-8")
    long_ago = time.time() - 2 * STALE_S
    os.utime(folder / LIVE, (long_ago, long_ago))
    told = said(opened(tmp_path / "runs", "runs"))
    assert "2 of 40 acknowledged events were lost" in told
    assert "is not what squall wrote" in told if content else "ended before it was judged" in told


def test_a_live_run_is_shown_until_its_verdict(tmp_path: Path) -> None:
    """Then it leads to the whole of it."""
    folder = folders.bare_folder(tmp_path / "runs")
    assert "No run goes on now" in said(opened(tmp_path / "runs", "live"))
    write(folder, [0.0, 1.0, 2.0])
    told = said(opened(tmp_path / "runs", "live"))
    assert "load and faults 1 s of 4 s · 2 s since it began" in told
    assert "2 events acknowledged" in told
    assert "2 abandoned handlers, which ignored cancellation and run on" in told
    assert "goes on now" in said(opened(tmp_path / "runs", "runs"))
    folders.valid_folder(tmp_path / "other")
    (next((tmp_path / "other").glob("*/2*")) / VERDICT).rename(folder / VERDICT)
    assert "The run is over" in said(opened(tmp_path / "runs", "live", run="by-hand"))


def test_a_run_that_was_killed_has_its_faults_shaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it said of itself while it went on, counted from its first publish: its history has them at the end."""
    folder = made_runs.by_hand(tmp_path / "runs", "killed", folders.unfinished_folder)
    short = FaultProgress("errors", "exception", "handler:billing", 1.0, "healed", -1.5, 0.5, hits=4)
    still = replace(short, id="cut", state="active", in_s=-0.5, for_s=60.0)
    moments = [
        Moment(1.0, replace(MOMENT, phase="steady", phase_s=0.75)),
        Moment(4.0, replace(MOMENT, phase="load", phase_s=2.0, faults=(short, still, replace(still, state="planned")))),
    ]
    (folder / LIVE).write_bytes(b"\n".join(TypeAdapter(Moment).dump_json(one) for one in moments) + b"\n")
    windows: list[tuple[str, float, float]] = []

    def record(plots: object, times: object, span: object, shown: Sequence[Shading], *others: object) -> Spec:
        windows.extend((one.name, one.begun_s, one.ended_s) for one in shown)
        return over_time(plots, times, span, shown, *others)  # type: ignore[arg-type]  # as the page gave it

    monkeypatch.setattr(overview, "over_time", record)
    assert "Shaded: a fault was active." in said(opened(tmp_path / "runs", "overview", run="killed"))
    assert windows == [("errors", 2.25, 2.75), ("cut", 3.25, 3.75)]
    (folder / LIVE).unlink()
    assert "Shaded" not in said(opened(tmp_path / "runs", "overview", run="killed"))


def test_steps_are_told_from_the_publish(dead: Path) -> None:
    """A quick event has all of them in one millisecond of the run."""
    told = said(opened(dead, "traces", run="dead", event="7"))
    assert "When From its publish What happened 0.065 s -5 ms fault errors" in told
    assert "0.070 s 0 published" in told
    assert re.search(r"0\.072 s \+2 ms [^.]*attempt 1", told)


def test_times_of_each_event_from_its_own_begin_are_in_the_address(dead: Path) -> None:
    """Of one alone there is no other choice."""
    page = opened(dead, "traces", run="dead", times="each from its own begin")
    (times,) = (one for one in page.selectbox if one.label == "Times")
    assert times.value == "each from its own begin"
    assert not [one for one in opened(dead, "traces", run="dead", event="7").selectbox if one.label == "Times"]
