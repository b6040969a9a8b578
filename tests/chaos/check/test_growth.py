"""Growth, judged on half an hour of samples that are made up: leaks are found, and what looks alike is not accused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from random import Random

import pytest
from tests.chaos.check.model import FaultWindow, Process, Sample
from tests.chaos.check.runs import CLAIMS, clean, finding_of, verdict_of
from tests.fast import first

from squall.chaos.check.expectations import Growth
from squall.chaos.check.facts import RunFacts, Span
from squall.chaos.check.verdict import Finding, Verdict

pytestmark = pytest.mark.slow  # each judges histories

S = 1_000_000_000
LOAD_S, EVERY_S, RATE = 1800, 3, 1000
FACTS = RunFacts(load=Span(0, LOAD_S * S), healed_ns=LOAD_S * S, drain=Span(LOAD_S * S, (LOAD_S + 1) * S), drained=True)
MB = 1_000_000
Change = Callable[[int, Sample], None]
"""Does something to the sample that was taken so many seconds after the load began."""


def sampled(seed: int, *changes: Change) -> list[Sample]:
    """Half an hour at a thousand events a second: memory wavers by a quarter of a megabyte, from minute to minute;
    tasks come and go."""
    random = Random(f"growth:{seed}")
    found, drift = [], 0.0
    for at_s in range(0, LOAD_S, EVERY_S):
        drift = 0.95 * drift + math.sqrt(1 - 0.95**2) * random.gauss(0, 0.25 * MB)
        one = Sample(at_s * S, at_s * RATE, memory=round(80 * MB + drift), tasks=20 + random.randrange(6))
        for change in changes:
            change(at_s, one)
        found.append(one)
    return found


def judged(
    samples: list[Sample], wanted: Growth | None = None, facts: RunFacts = FACTS, most: int | None = None
) -> Verdict:
    """The verdict on a run that is fine, but for these samples; so many events at most fill its store."""
    history = clean()
    history.samples = samples
    return verdict_of(history, wanted or Growth(), claims=replace(CLAIMS, max_events=most), facts=facts)


def of(verdict: Verdict, held: str) -> Finding:
    """What was said of memory, handles, …"""
    (found,) = [one for one in verdict.findings if one.title.startswith(f"growth of {held}")]
    return found


def kept(per_event: float, from_s: int = 0, until_s: int = LOAD_S) -> Change:
    """So many bytes of memory are kept of each event that comes between these times."""

    def change(at_s: int, one: Sample) -> None:
        one.memory += round(per_event * RATE * (min(max(at_s, from_s), until_s) - from_s))

    return change


@pytest.mark.parametrize("seed", first(1, range(8)))
def test_a_leak_of_100_bytes_an_event_is_found(seed: int) -> None:
    """With how much, how sure, the limit by event and by hour, and what to do."""
    verdict = judged(sampled(seed, kept(100)))
    found = of(verdict, "memory")
    assert (verdict.state, found.state, found.count) == ("invalid", "invalid", 1)
    assert verdict.headline == f"growth of memory: {found.summary}"
    assert 90 < found.figures["per_event_low_bytes"] < 100 < found.figures["per_event_high_bytes"] < 110
    assert found.figures["per_hour_bytes"] == pytest.approx(100 * RATE * 3600, rel=0.1)
    assert found.figures["limit_per_event_bytes"] == 20
    assert "limit 20 B an event, 72 MB an hour" in found.summary
    (cause,) = [one for one in verdict.causes if one.invariant == "growth"]
    assert cause.sentence == "memory grew with the load, to its end"
    assert "tracemalloc" in cause.advice


@pytest.mark.slow  # forty times half an hour of samples
@pytest.mark.parametrize("seed", range(40))
def test_what_only_wavers_is_valid(seed: int) -> None:
    """All five, whatever the noise."""
    verdict = judged(sampled(seed))
    assert verdict.state == "valid", [(one.title, one.state, one.summary) for one in verdict.findings]


@pytest.mark.parametrize("until_s", first(1, [1400, 200, 500, 900, 1200, 1300]))
def test_a_cache_that_fills_is_no_leak(until_s: int) -> None:
    """Sooner or later: it stops. If it does so late, nobody can be sure."""
    state = of(judged(sampled(1, kept(400, until_s=until_s))), "memory").state
    assert state == ("valid" if until_s < 1000 else "unknown")


def test_a_leak_that_begins_late_is_found() -> None:
    """What goes on to the end counts."""
    assert of(judged(sampled(1, kept(200, from_s=1080))), "memory").state == "invalid"


def test_a_backlog_that_comes_and_goes_is_no_leak() -> None:
    """Twenty seconds of every minute are far above the rest."""

    def backlog(at_s: int, one: Sample) -> None:
        one.memory += 50 * MB if at_s % 60 < 20 else 0
        one.tasks = 400 if at_s % 60 < 20 else one.tasks

    assert judged(sampled(1, backlog)).state == "valid"


def test_a_store_in_memory_that_still_fills_is_unknown() -> None:
    """It keeps what it is told to, up to a bound that was not reached; nobody can tell a leak from that."""

    def keeps(at_s: int, one: Sample) -> None:
        one.kept = at_s * RATE

    memory = replace(FACTS, durability="memory")
    verdict = judged(sampled(1, kept(300), keeps), facts=memory)
    assert (verdict.state, of(verdict, "memory").code) == ("unknown", "soaked_too_little")
    assert "still filling" in verdict.headline


def filling(most: int) -> Change:
    """A store in memory is given all events, and keeps so many."""

    def change(at_s: int, one: Sample) -> None:
        one.kept = min(at_s * RATE, most)
        one.memory += 300 * one.kept

    return change


@pytest.mark.parametrize(
    ("most", "told", "advice"),
    [
        (
            5_000_000,
            "1,797,000 of 5,000,000 events; full after about 5000s",
            "--soak 170m), or bound the store to 890,000",
        ),
        (
            1_500_000,
            "1,500,000 of 1,500,000 events; full after about 25m",
            "--soak 50m), or bound the store to 890,000",
        ),
        (90_000_000, "1,797,000 of 90,000,000 events; full after about 25h", "Bound the store to 890,000 events"),
    ],
)
def test_how_many_events_fill_the_store_is_told_and_what_to_do(most: int, told: str, advice: str) -> None:
    """For how long to soak, where that is within a day, and which bound is full in time."""
    verdict = judged(sampled(1, filling(most)), facts=replace(FACTS, durability="memory"), most=most)
    (reason,) = verdict.reasons
    assert told in reason.text
    assert advice in reason.advice
    assert of(verdict, "memory").advice == reason.advice


def test_advice_about_a_store_that_fills_is_enough() -> None:
    """Who bounds it so, or soaks for so long, can be told whether something grows."""
    memory = replace(FACTS, durability="memory")
    long = of(judged(sampled(1, filling(1_300_000)), facts=memory, most=1_300_000), "memory")
    assert long.advice.startswith("Soak for longer (--soak 44m), or bound the store to 890,000 events")
    for most in (890_000, 1_300_000 * 30 // 44):  # the bound; and, of 44 minutes, what is half an hour here
        assert of(judged(sampled(1, filling(most)), facts=memory, most=most), "memory").state == "valid"


def test_that_the_store_fills_explains_what_only_wavers_too() -> None:
    """A longer soak alone would not decide it, as long as the store is not full."""

    def wavers(at_s: int, one: Sample) -> None:
        one.memory += round(60 * MB * Random(at_s).random())
        one.kept = at_s * RATE

    verdict = judged(sampled(1, wavers), Growth(memory=1), facts=replace(FACTS, durability="memory"), most=9_000_000)
    assert "of 9,000,000 events" in of(verdict, "memory").why_unknown
    assert "wavers" in of(judged(sampled(1, wavers), Growth(memory=1)), "memory").why_unknown


def test_what_a_store_on_disk_may_cache_is_no_leak_and_more_is() -> None:
    """Where few events come in half an hour, its caches fill all the time."""

    def keeps(at_s: int, one: Sample) -> None:
        one.kept = at_s * RATE

    few, more = judged(sampled(1, kept(25), keeps)), judged(sampled(1, kept(100), keeps))
    assert (few.state, of(few, "memory").code) == ("unknown", "soaked_too_little")
    assert of(more, "memory").state == "invalid"
    assert of(judged(sampled(1, kept(25))), "memory").state == "invalid", "without a store there is no excuse"


def test_a_backlog_that_grows_to_the_end_is_no_leak() -> None:
    """The load is more than the target, or the generator, can do: of that, other findings tell."""

    def behind(at_s: int, one: Sample) -> None:
        one.waiting = at_s * 100

    verdict = judged(sampled(1, kept(100), behind))
    assert (verdict.state, of(verdict, "memory").code) == ("unknown", "soaked_too_little")
    assert "a backlog was growing" in verdict.headline
    assert of(verdict, "memory").advice.startswith("Lower the rate")

    def hardly(at_s: int, one: Sample) -> None:
        one.waiting = at_s // 10

    assert of(judged(sampled(1, kept(100), hardly)), "memory").state == "invalid", "a few do not explain it"


def test_once_a_store_in_memory_is_full_a_leak_is_found() -> None:
    """And before, nothing is accused: the slope is that of afterwards."""

    def keeps(at_s: int, one: Sample) -> None:
        one.kept = min(at_s, 1000) * RATE

    memory = replace(FACTS, durability="memory")
    filling = kept(300, until_s=1000)
    assert of(judged(sampled(1, filling, keeps), facts=memory), "memory").state == "valid"
    found = of(judged(sampled(1, filling, kept(100), keeps), facts=memory), "memory")
    assert (found.state, round(found.figures["per_event_bytes"], -1)) == ("invalid", 100)


def test_what_was_before_a_faults_end_is_not_looked_at() -> None:
    """Its backlog is still there when the warm-up is over."""

    def backlog(at_s: int, one: Sample) -> None:
        one.handles += min(at_s, 1600) // 3

    history = clean()
    history.samples = sampled(1, backlog)
    history.faults = [FaultWindow(0, "outage", 0, 1600 * S)]
    assert of(verdict_of(history, Growth(), facts=FACTS), "handles").state == "valid"


def test_a_process_that_was_started_again_is_judged_by_its_longest_life() -> None:
    """The others begin anew, from nothing."""

    def restarted(at_s: int, one: Sample) -> None:
        one.pid = 1 if at_s < 600 else 2
        one.memory += (at_s if at_s < 600 else at_s - 600) * RATE * 100

    history = clean()
    history.samples = sampled(1, restarted)
    history.processes = [Process(1, 0, 600 * S, "serve", pid=1), Process(2, 600 * S, None, "serve", pid=2)]
    found = of(verdict_of(history, Growth(), facts=FACTS), "memory")
    assert (found.state, found.title) == ("invalid", "growth of memory in serve")
    assert found.figures["seconds"] == pytest.approx(1200, abs=5)


@pytest.mark.parametrize("held", ["handles", "threads", "tasks"])
@pytest.mark.parametrize("seed", first(1, range(3)))
def test_what_is_opened_and_not_closed_is_found(held: str, seed: int) -> None:
    """One a minute is enough in half an hour; a few more, once, are not."""

    def leak(at_s: int, one: Sample) -> None:
        setattr(one, held, getattr(one, held) + at_s // 60)

    def pool(at_s: int, one: Sample) -> None:
        setattr(one, held, getattr(one, held) + (4 if at_s > 1000 else 0))

    found = of(judged(sampled(seed, leak)), held)
    assert found.state == "invalid"
    assert found.figures["per_hour_count"] == pytest.approx(60, rel=0.2)
    assert of(judged(sampled(seed, pool)), held).state == "valid"


def test_a_store_is_told_of_and_judged_where_the_scenario_says_how_much() -> None:
    """It keeps events on purpose; what is too much, the scenario says."""

    def stores(at_s: int, one: Sample) -> None:
        one.store = at_s * RATE * 230

    told = of(judged(sampled(1, stores)), "store")
    assert told.state == "not judged"
    assert "230 B an event" in told.summary
    assert of(judged(sampled(1, stores), Growth(store=300)), "store").state == "valid"
    assert of(judged(sampled(1, stores), Growth(store=100)), "store").state == "invalid"


@pytest.mark.parametrize("seed", first(1, range(3)))
def test_objects_that_are_kept_are_found_long_before_memory_shows_it(seed: int) -> None:
    """One of each event; of every twentieth event is less than the limit."""

    def keeps(share: float) -> Change:
        def change(at_s: int, one: Sample) -> None:
            one.objects = 500_000 + round(share * at_s * RATE) + Random(f"{seed}:{at_s}").randrange(3000)

        return change

    found = of(judged(sampled(seed, keeps(1.0))), "objects")
    assert found.state == "invalid"
    assert found.figures["per_event_count"] == pytest.approx(1, rel=0.05)
    assert found.summary.endswith("limit 0.1 an event, 360,000 an hour")
    assert of(judged(sampled(seed, keeps(0.05))), "objects").state == "valid"


def test_limits_are_the_scenarios_to_say() -> None:
    """More may be allowed, or less."""
    assert of(judged(sampled(1, kept(100)), Growth(memory=150)), "memory").state == "valid"
    assert of(judged(sampled(1, kept(12)), Growth(memory=5)), "memory").state == "invalid"


def test_where_few_events_come_growth_is_judged_by_the_hour() -> None:
    """At ten events a second what any process gathers would look like much of each."""

    def gathers(objects: int, memory: int) -> Change:
        def change(at_s: int, one: Sample) -> None:
            one.events = at_s * 10
            one.objects, one.memory = 500_000 + at_s * objects, 80 * MB + at_s * memory

        return change

    little, much = judged(sampled(1, gathers(15, 3000))), judged(sampled(1, gathers(50, 10_000)))
    assert little.state == "valid"
    assert {of(much, held).state for held in ("memory", "objects")} == {"invalid"}
    assert of(much, "memory").summary.endswith("limit 500 B an event, 18 MB an hour")


def test_what_comes_and_goes_by_itself_is_no_growth_whatever_the_limit() -> None:
    """A few thousand objects in all: a collector's, or a buffer's."""

    def few(at_s: int, one: Sample) -> None:
        one.objects = 500_000 + at_s

    assert of(judged(sampled(1, few), Growth(objects=0)), "objects").state == "valid"


@pytest.mark.parametrize("samples", [0, 5, 12])
def test_too_few_samples_prove_nothing(samples: int) -> None:
    """The verdict is unknown, by a code of its own, and says what to do."""
    verdict = judged(sampled(1)[:: LOAD_S // EVERY_S // samples] if samples else [])
    assert verdict.state == "unknown"
    assert {reason.code for reason in verdict.reasons} == {"soaked_too_little"}


def test_nothing_is_said_of_growth_where_nobody_asked() -> None:
    """A run that is no soak has no samples."""
    assert not [one for one in verdict_of(clean()).findings if one.name == "growth"]
    assert finding_of(judged(sampled(1)), "growth").state in ("valid", "not judged")
