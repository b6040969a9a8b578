"""The report tells what happened, whatever happened; nothing in a run becomes a part of its markup."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from random import Random
from statistics import quantiles

import pytest
from tests.chaos.check.generated import generate
from tests.chaos.check.model import FaultWindow, History, write
from tests.chaos.check.runs import FACTS, MS, clean, failed, handled
from tests.chaos.report import folders

from squall.chaos.catalogue import load_catalogue
from squall.chaos.check.expectations import EXPECTATIONS, Latency, Throughput
from squall.chaos.check.facts import RunFacts
from squall.chaos.figures import latency, passed
from squall.chaos.history import open_history
from squall.chaos.report import write_report
from squall.chaos.report.axis import Axis
from squall.chaos.report.chart import Series, latency_chart, path, rate_chart
from squall.chaos.report.meanings import MEANINGS
from squall.chaos.report.measured import Measured, measure
from squall.chaos.report.view import Window, laned, shades
from squall.chaos.report.words import figure, many, rate
from squall.chaos.run import run_scenario
from squall.chaos.scenario import load_scenario
from squall.chaos.watch import Progress
from squall.core.config import Config
from squall.core.errors import StoreFileError
from squall.core.load_driver import Answers, Generated

pytestmark = pytest.mark.slow  # whole runs

EVERY_KIND = [
    folders.valid_folder,
    folders.invalid_folder,
    folders.unknown_folder,
    folders.unfinished_folder,
    folders.empty_folder,
    folders.bare_folder,
]
HOSTILE = (
    """<script>hostile=1</script></script><img src=x onerror="hostile=1">'"&amp;{{ 7*7 }}--><svg onload=hostile=1>"""
)


class Page(HTMLParser):
    """What stands in a page: its tags, attributes, and texts outside and inside scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.texts: list[str] = []
        self.code: list[str] = []
        self._inside = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.tags[tag] += 1
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        (self.code if self._inside in ("script", "style") else self.texts).append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())


def page_of(folder: Path) -> Page:
    return Page(write_report(folder).read_text("utf-8"))


def measured(history: History, folder: Path, facts: RunFacts = FACTS) -> Measured:
    with open_history(write(history, folder / "history"), folder) as db:
        found = measure(db, facts)
    assert found is not None
    return found


def test_a_valid_run_is_told_by_its_figures(tmp_path: Path) -> None:
    """Verdict, what was judged, faults with their evidence, subscribers, environment, scenario: all with units."""
    text = page_of(folders.valid_folder(tmp_path)).text
    assert "Valid 60 acknowledged events, none lost" in text
    for told in (
        "A run by hand.",
        "Acknowledged 60 events",
        "Lost 0 events",
        "exception on handler:billing",
        "acted on 1 of 30 calls (3.33 %)",
        "0.2 to 0.5 s",
        "healed",
        "no_loss",
        "latency p99",
        "order.> · at-least-once · durable · 1 at once",
        "1 raised",
        "name: by-hand",
        "squall run scenario.yaml --seed 7",
        "Linux x86_64, 2 cores",
        "duckdb 2.0.0",
    ):
        assert told in text, told


def test_what_a_load_driver_counted_is_a_table_of_its_own(tmp_path: Path) -> None:
    """All requests, then each kind, whose name is not ours; without a driver there is none."""
    counted = (Answers(HOSTILE, 40, 0, 4.0, 0.001, 0.002, 0.003), Answers("order.paid", 60, 2, 6.0, 0.5, 0.6, 0.7))
    driver = Generated("locust 9", 20, 1, 0.5, 0.0, "", 100, 2, 10.0, 0.25, 0.35, 0.45, counted)
    history = clean(3)
    page = page_of(folders.judged_folder(tmp_path / "driven", history, facts=replace(FACTS, generated=driver)))
    rows = re.sub(r"\s+", " ", page.text).partition("What the generator counted itself")[2]
    assert "By locust 9" in rows
    assert "all 100 2 10/s 250 ms 350 ms 450 ms order.paid 60 2 6/s 500 ms 600 ms 700 ms" in rows
    assert f"{HOSTILE} 40 none 4/s 1 ms 2 ms 3 ms" in rows
    assert "generator counted" not in page_of(folders.judged_folder(tmp_path / "bench", history)).text


def test_how_to_repeat_it_names_what_was_set(tmp_path: Path) -> None:
    """Variables that the scenario's text does not have, as a shell takes them."""
    folder = folders.valid_folder(tmp_path)
    path = folder / "environment.json"
    sets = {"rate": 3000, "for": "5s", "who": "a 'b'", "number": "7"}
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), "sets": sets}), encoding="utf-8")
    command = """squall run scenario.yaml --seed 7 --set rate=3000 --set for=5s --set who='"a '"'"'b'"'"'"' """
    assert command + """--set number='"7"'""" in page_of(folder).text


def test_a_threshold_that_is_broken_is_told_once(tmp_path: Path) -> None:
    """By its own line: no cause says more, so none stands there."""
    page = page_of(folders.judged_folder(tmp_path, clean(40), expected=[Throughput(min=1e9)]))
    assert "Invalid" in page.text
    assert "What to do" not in page.text
    assert ("id", "violations") not in page.attributes


def test_the_latency_that_is_read_first_says_whose_it_is(tmp_path: Path) -> None:
    """Of the subscribers that are named, of the load, or of the phase there was."""
    named = folders.judged_folder(tmp_path / "a", clean(40), expected=[Latency(p99=1.0, subscribers=("billing",))])
    assert re.search(r"Latency p99 [0-9.]+ ms until handled by billing · of the load", page_of(named).text)
    steady = replace(FACTS, load=None, steady=FACTS.load)
    early = page_of(folders.judged_folder(tmp_path / "b", clean(40), expected=[Latency(p99=1.0)], facts=steady)).text
    assert re.search(r"Latency p99 [0-9.]+ ms until handled by all · of the steady phase", early)
    assert "Seconds from the first publish, counted" in early
    own = "each subscriber's own, over the whole load, faults included"
    assert own in early
    assert own.replace("each", "Beside a name: this") in early


def test_names_of_faults_do_not_lie_on_each_other() -> None:
    """Neither of those that stand before their window's end, since after it there is no room."""
    windows = laned([Window("slow", 67.8, 10.7, ""), Window("refuse", 82.1, 7.1, ""), Window("x", 92.0, 5.0, "")])
    assert [(one.late, one.lane) for one in windows] == [(False, 0), (True, 1), (False, 0)]


def test_very_many_faults_at_once_are_shaded_as_one() -> None:
    """Two at once are darker; ten would hide the lines."""
    few = [Window("a", 10.0, 20.0, "", lane=0), Window("b", 15.0, 20.0, "", lane=1)]
    assert shades(few) == tuple(few)
    many = [Window(f"f{n}", 10.0 + n, 20.0, "", lane=n) for n in range(10)] + [Window("late", 60.0, 5.0, "")]
    assert [(one.left, one.width) for one in shades(many)] == [(10.0, 29.0), (60.0, 5.0)]


def test_of_nothing_there_are_no_charts(tmp_path: Path) -> None:
    """A run that was ended before it published has its faults, and nothing to draw."""
    history = History()
    history.faults.append(FaultWindow(0, "errors", 50 * MS, 250 * MS, hits=0, passes=0))
    page = page_of(folders.judged_folder(tmp_path, history, facts=FACTS))
    assert "never bit: nothing passed" in page.text
    assert page.tags["svg"] == 0


def test_a_loss_is_told_by_its_cause(tmp_path: Path) -> None:
    """How many, why, the first one's path, and how to look on."""
    text = page_of(folders.invalid_folder(tmp_path)).text
    assert "Invalid 2 of 40 acknowledged events were lost" in text
    assert "2 violations of no_loss" in text
    assert "never delivered to billing" in text
    assert "order.created 11 key k-1 published" in text
    assert "squall why by-hand/20260101-000000-abc123 11" in text


def test_what_is_unknown_names_its_reasons(tmp_path: Path) -> None:
    """Each reason, and what to do about it."""
    text = page_of(folders.unknown_folder(tmp_path)).text
    assert "fault idle" in text
    assert "Raise its probability" in text
    assert "Unknown interrupted after 1.2 of 5s of load" in text
    assert "not healed: OSError: gone" in text
    assert "never bit: nothing passed" in text


def test_a_run_without_a_verdict_has_a_report(tmp_path: Path) -> None:
    """What was recorded until it was killed is shown."""
    text = page_of(folders.unfinished_folder(tmp_path)).text
    assert "No verdict It was ended before it was judged" in text
    assert "Acknowledged 40 events" in text
    assert "What was judged" not in text


@pytest.mark.parametrize("make", [folders.empty_folder, folders.bare_folder])
def test_a_run_that_recorded_nothing_has_a_report(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """No charts, and no empty ones either."""
    page = page_of(make(tmp_path))
    assert "name: by-hand" in page.text
    assert page.tags["svg"] == 0
    assert page.tags["script"] == 0


@pytest.mark.parametrize("make", EVERY_KIND)
def test_the_page_refers_to_nothing_outside_itself(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    """Nothing is fetched, and a browser is told to refuse it."""
    html = write_report(make(tmp_path)).read_text("utf-8")
    page = Page(html)
    references = [value for name, value in page.attributes if name in ("src", "href", "action", "data", "srcset")]
    assert references == ["data:,"]
    assert not re.search(r"@import|url\(|https?://|fetch\(|XMLHttpRequest|import\(", "".join(page.code))
    policy = next(value for name, value in page.attributes if value.startswith("default-src"))
    assert policy.startswith("default-src 'none';")


def test_nothing_in_a_run_becomes_markup(tmp_path: Path) -> None:
    """Names, keys, errors and texts of a run stand there as they are."""
    hostile = page_of(folders.hostile_folder(tmp_path, HOSTILE))
    harmless = page_of(folders.invalid_folder(tmp_path / "harmless"))
    assert hostile.tags["script"] == harmless.tags["script"] == 2
    assert hostile.tags["img"] == 0
    assert hostile.tags["svg"] == harmless.tags["svg"]
    assert not [name for name, _ in hostile.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in hostile.text
    assert hostile.text.count(" ".join(HOSTILE.split())) >= 8


@pytest.mark.parametrize("seed", range(12))
def test_every_record_is_counted_once(tmp_path: Path, seed: int) -> None:
    """Sums over the buckets are the sums over the rows, whatever a history holds; and its report can be written."""
    generated = generate(Random(seed), subscriptions=3)
    history = generated.history
    found = measured(history, tmp_path, generated.facts)
    outcomes = Counter(publish.outcome for publish in history.publishes)
    assert sum(found.publishes.asked) == len(history.publishes)
    assert [sum(found.publishes.ok), sum(found.publishes.fail), sum(found.publishes.info)] == [
        outcomes["ok"],
        outcomes["fail"],
        outcomes["info"],
    ]
    for one in found.subscribers:
        own = [a for a in history.attempts if a.subscription == one.terms.number]
        results = Counter(a.result for a in own)
        assert sum(one.handled) == one.attempts.ok == results["ok"]
        assert sum(one.failed) == results["error"] + results["timeout"] + results["died"]
        assert one.attempts.total == len(own)
    write_report(folders.judged_folder(tmp_path / "report", history, facts=generated.facts, claims=generated.claims))


def test_latencies_are_from_the_intended_time_to_the_first_good_end(tmp_path: Path) -> None:
    """A retry's wait counts, a second delivery does not."""
    history = clean(100)
    for place, publish in enumerate(history.publishes):
        publish.intended = publish.invoked - place * MS
    history.attempts[40] = failed(41)
    history.attempts += [handled(41, begun_ms=900, attempt=2), handled(7, begun_ms=950, attempt=2)]
    found = measured(history, tmp_path).subscribers[0]
    expected = [(2 + 3 + place) / 1e3 for place in range(100)]
    expected[40] = (900 + 3 - (410 - 40)) / 1e3
    inside = sorted(seconds for place, seconds in enumerate(expected) if 10 * (place + 1) - place < 1000)
    assert found.latency is not None
    assert found.latency.max_s == pytest.approx(max(inside))
    assert found.latency.p50_s == pytest.approx(inside[(len(inside) + 1) // 2 - 1])
    assert found.latency.p99_s == pytest.approx(quantiles(inside, n=100, method="inclusive")[98], rel=0.8)
    assert found.attempts.redelivered == 2


AXIS = Axis(0, 0, 100_000_000, 4)


def test_a_line_has_a_gap_where_nothing_was_measured() -> None:
    """Nothing is drawn over it, and a lonely value is a dot."""
    drawn = path([0.0, 1.0, None, 0.5], 4, lambda value: value)
    assert drawn == "M125.0 100.00L375.0 0.00M875.0 50.00h0"


def test_a_burst_does_not_flatten_what_it_causes() -> None:
    """What was asked at once runs out of the plot; its figure still says how much it was."""
    series = [
        Series("asked", "asked", [10_000, 0, 0, 0], may_exceed=True),
        Series("acknowledged", "ok", [200, 300, 250, 250]),
    ]
    chart = rate_chart("Published", "events per second", "", series, AXIS)
    assert chart.ticks[-1].text == "4,000/s"
    assert chart.lines[0].texts[0] == "100,000/s"


def test_latencies_span_decades() -> None:
    """From two milliseconds to three seconds there are round ticks, and every value lies between the ends."""
    chart = latency_chart("Latency", "p99", "", [Series("p99", "s0", [0.002, 0.2, None, 2.9])], AXIS)
    assert [tick.text for tick in chart.ticks] == ["1 ms", "10 ms", "100 ms", "1 s"]
    heights = [float(y) for y in re.findall(r"[ML][0-9.]+ ([0-9.-]+)", chart.lines[0].path)]
    assert all(0 <= y <= 100 for y in heights)


def test_every_invariant_is_explained() -> None:
    """Who reads a report need not know the names."""
    assert set(MEANINGS) >= set(EXPECTATIONS)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("p99_inside_s", 0.0123, ("p99 inside", "12.3 ms")),
        ("recovered_s", float("inf"), ("recovered", "never")),
        ("ratio", 0.011, ("ratio", "1.1 %")),
        ("loss_rate_below", 0.00005, ("loss rate below", "0.005 %")),
        ("per_s", 1999.6, ("average", "2,000/s")),
        ("owed", 1, ("owed", "1 event")),
        ("per_event_low_bytes", -3_210.0, ("per event low", "-3.21 KB")),
        ("limit_per_hour_bytes", 1.2e9, ("limit per hour", "1.2 GB")),
        ("grew_count", -0.001, ("grew", "0")),
        ("pairs_inside", 2000, ("measured inside", "2,000 deliveries")),
    ],
)
def test_every_figure_has_its_unit(name: str, value: float, expected: tuple[str, str]) -> None:
    """The end of its name says which."""
    assert figure(name, value) == expected


def test_words() -> None:
    """Counts agree with their nouns, times have three digits."""
    assert [many(1, "delivery"), many(2, "delivery"), many(0, "key")] == ["1 delivery", "2 deliveries", "0 keys"]
    assert [rate(0.25), rate(1.5), rate(12.4), rate(9998.7)] == ["0.25/s", "1.5/s", "12/s", "9,999/s"]
    assert [latency(1234.5), latency(1.234), latency(1e-6), latency(5e-9)] == ["1,234 s", "1.23 s", "1 µs", "5 ns"]
    assert [passed(1, "handler:billing"), passed(2000, "storage:events")] == ["1 call", "2,000 calls"]
    assert [passed(1, "net:redis"), passed(2, "net:redis")] == [
        "1 connection or piece of data",
        "2 connections or pieces of data",
    ]


def test_a_damaged_folder_is_one_clear_error(tmp_path: Path) -> None:
    """Which file, and what is wrong with it; nothing is left half-written."""
    folder = folders.valid_folder(tmp_path)
    (folder / "environment.json").write_text("{}", encoding="utf-8")
    with pytest.raises(StoreFileError, match=r"environment\.json"):
        write_report(folder)
    assert not list(folder.glob("report*"))


async def test_a_run_that_is_interrupted_has_a_report(tmp_path: Path) -> None:
    """Written by the run itself, with what it was until then and why it is unknown."""
    text = "version: 1\nname: stopped\nsubscribers: {billing: {pattern: order.>}}\n"
    text += "load: {stages: [{for: 60s, rate: 200}], events: [{type: order.created}]}\n"
    (tmp_path / "stopped.yaml").write_text(text, encoding="utf-8")
    catalogue, stop = load_catalogue(), asyncio.Event()
    scenario = load_scenario(tmp_path / "stopped.yaml", known=catalogue.known(Config()))

    def interrupt(progress: Progress) -> None:
        if progress.handled:
            stop.set()

    config = replace(Config(), folder=tmp_path)
    result = await run_scenario(scenario, config, catalogue, on_progress=interrupt, stop=stop)
    assert result.interrupted
    found = Page((result.folder / "report.html").read_text("utf-8")).text
    assert "Unknown Interrupted after".lower() in found.lower()
    assert "deliveries per second" in found
