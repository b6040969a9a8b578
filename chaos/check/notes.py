"""What is worth knowing of a run and changes no verdict: what was held back, refused, stood still, or never came."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from squall.chaos.check.case import ABANDONED, Case
from squall.chaos.check.counters import fits
from squall.chaos.check.diagnosis import LET_THROUGH
from squall.chaos.check.evidence import Gated, gate_states
from squall.chaos.check.facts import Span
from squall.chaos.check.generator import told
from squall.chaos.check.masks import Totals
from squall.chaos.check.publish_path import passes, stands_at
from squall.chaos.check.stalls import Silence, Stall, acknowledgement_stalls, holding
from squall.chaos.check.verdict import Cause, Note, counted, was
from squall.chaos.figures import latency
from squall.core.units import format_count

SHOWN_STALLS = 3
WORTH_NS = 100_000_000


def notes(case: Case, totals: Totals, quiet: Sequence[Silence], causes: Sequence[Cause] = ()) -> tuple[Note, ...]:
    """All of them, what explains the most first; but for what the causes tell."""
    return (
        *_processes(case),
        *_gates(case),
        *_held(case, quiet),
        *_abandoned(case, causes),
        *_refused(case),
        *_nothing_for(case, totals),
        *_stalls(case, quiet),
        *_generated(case),
    )


def seconds(case: Case, time_ns: int) -> str:
    """`29.941`: from the start of the load."""
    begun = case.facts.load.begun if case.facts.load else case.number("SELECT min(invoked) FROM publish")
    return f"{(time_ns - begun) / 1e9:.3f}"


def _processes(case: Case) -> Iterator[Note]:
    """Each time that a process ended or stood still: which, how, and when it answered again."""
    ended = case.rows(
        "SELECT name, pid, exited, exit_code, lead(pid) OVER lives, lead(answered) OVER lives FROM process "
        "WINDOW lives AS (PARTITION BY name ORDER BY started) QUALIFY exited IS NOT NULL ORDER BY exited"
    )
    for name, pid, exited, code, next_pid, answered in ended:
        how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
        text = f"{name} (pid {pid}) ended {how} at {seconds(case, exited)} s"
        if answered is not None:
            after = f"{(answered - exited) / 1e9:.3f} s later"
            text += f"; pid {next_pid} answered at {seconds(case, answered)} s, {after}"
        yield Note("process_ended", text)
    stood = case.rows(
        "SELECT p.name, p.pid, f.begun, f.ended FROM fault f JOIN process p ON f.seam = 'process:' || p.name "
        "WHERE f.kind = 'stop' AND p.started < f.begun AND coalesce(p.exited > f.begun, true) ORDER BY f.begun"
    )
    for name, pid, begun, back in stood:
        until = "" if back is None else f"; it answered again at {seconds(case, back)} s"
        yield Note("process_stood", f"{name} (pid {pid}) stood still from {seconds(case, begun)} s{until}")


def _gates(case: Case) -> Iterator[Note]:
    """Each gate that held a subscription back: how often, how long, when."""
    (last,) = case.rows("SELECT greatest(max(begun), max(ended), max(settle_ok)) FROM attempt")[0]
    until = case.facts.drain.ended if case.facts.drain else last or 0
    found: dict[tuple[int, str], list[Gated]] = {}
    for one in gate_states(case.db):
        if one.state == "open":
            found.setdefault((one.subscription, one.gate), []).append(one)
    for (number, gate), times in found.items():
        whole_s = sum(max(0, (until if one.ended is None else one.ended) - one.begun) for one in times) / 1e9
        first = times[0]
        ended = "the end" if first.ended is None else f"{seconds(case, first.ended)} s"
        often = "" if len(times) == 1 else f", {format_count(len(times))} times"
        when = f"{'first ' if often else ''}from {seconds(case, first.begun)} s to {ended}"
        name = case.subscribers[number].name if number in case.subscribers else f"subscription {number}"
        text = f"{name}'s {gate} was open for {latency(whole_s)}{often} ({when}): it held all deliveries back"
        yield Note("gate_open", text)


def loop_held(case: Case, quiet: Sequence[Silence]) -> str:
    """`billing's handler held the event loop for 2.3 s in all, …`; nothing where no handler did."""
    holds = holding(quiet)
    if holds is None or holds.sum_ns < WORTH_NS:
        return ""
    often = "in one call" if holds.count == 1 else f"in all, {latency(holds.longest_ns / 1e9)} at most in one call"
    name = case.subscribers[holds.subscription].name
    return f"{name}'s handler held the event loop for {latency(holds.sum_ns / 1e9)} {often}: nothing else ran meanwhile"


def _held(case: Case, quiet: Sequence[Silence]) -> Iterator[Note]:
    if text := loop_held(case, quiet):
        yield Note("loop_held", text)


def _abandoned(case: Case, causes: Sequence[Cause]) -> Iterator[Note]:
    """Whose handlers ignored their cancellation, and how many of them run on for good."""
    found = case.rows(
        "SELECT s.name, count(*), count(*) FILTER (a.ended IS NULL) FROM attempt a "
        f"JOIN subscriber s ON s.id = a.subscription WHERE {ABANDONED} GROUP BY s.name ORDER BY 2 DESC, 1"
    )
    told = {cause.first.subscription for cause in causes if cause.advice == LET_THROUGH}
    for name, count, left in found:
        if name not in told:
            still = f"; {format_count(left)} still ran at the end" if left else ""
            often = counted(count, "time")
            text = f"{name}'s handler ignored its cancellation {often}, and ran on after its timeout{still}"
            yield Note("abandoned", text)


def _refused(case: Case) -> Iterator[Note]:
    """Publishes that were not acknowledged."""
    found = dict(case.rows("SELECT outcome, count(*) FROM publish WHERE outcome <> 'ok' GROUP BY outcome"))
    words = [f"{format_count(found['fail'])} refused"] if "fail" in found else []
    words += [f"{format_count(found['info'])} of unknown outcome"] if "info" in found else []
    if words:
        total = case.number("SELECT count(*) FROM publish")
        yield Note("not_acknowledged", f"of {counted(total, 'publish', 'publishes')}: {', '.join(words)}")


def _nothing_for(case: Case, totals: Totals) -> Iterator[Note]:
    """Subscribers for whom there was nothing: whatever is said of them was proved by nothing."""
    delivered = {row[0] for row in case.rows("SELECT DISTINCT subscription FROM attempt")}
    for number, one in case.subscribers.items():
        if number in delivered or totals.owed.get(number):
            continue
        intervals = [interval for interval in case.intervals if interval.subscription == number]
        asked = intervals[-1].pattern
        if all(fits(case, interval) == "false" for interval in intervals):
            filters = " and its filters match" if intervals[-1].filters or intervals[-1].priority_min else " matches"
            why = f"its pattern {asked}{filters} nothing that was published"
        else:
            why = "nothing that it wants was published while it was there"
        yield Note("nothing_owed", f"nothing was owed to {one.name}, so nothing is proved of it: {why}")


def _generated(case: Case) -> Iterator[Note]:
    if text := told(case.facts):
        yield Note("generated", text)


def _stalls(case: Case, quiet: Sequence[Silence]) -> Iterator[Note]:
    """When acknowledgements stood still, and what then stood still, as far as the history tells."""
    found = acknowledgement_stalls(case, quiet)
    groups: dict[str, list[Stall]] = {}
    for one in found:
        groups.setdefault(_what_stood(case, one), []).append(one)
    for what, group in sorted(groups.items(), key=lambda item: -_sum_ns(item[1]))[:SHOWN_STALLS]:
        most = max(group, key=lambda one: one.span.ended - one.span.begun)
        longest = latency((most.span.ended - most.span.begun) / 1e9)
        often = f"{counted(len(group), 'time')}, for {longest} at most" if len(group) > 1 else f"once, for {longest}"
        when = f"at {seconds(case, most.span.begun)} s"
        yield Note("stall", f"acknowledgements stood still {often} ({when}): {what}")


def _sum_ns(stalls: Sequence[Stall]) -> int:
    return sum(one.span.ended - one.span.begun for one in stalls)


def _what_stood(case: Case, stall: Stall) -> str:
    """A stall under a fault is told apart from one under none: of ten hiccups and an outage, the outage counts."""
    faults = _faults_on_the_path(case, stall.span)
    under = f", under {', '.join(dict.fromkeys(name for _, name in faults))}" if faults else ""
    if stall.refused:
        return f"what was due was refused{under}"
    if stall.handler is not None:
        return f"{case.subscribers[stall.handler].name}'s handler held the event loop{under}"
    if stall.loop:
        return f"the whole process did nothing{under}: the machine was busy, or something held the event loop"
    if faults:
        return f"{' and '.join(dict.fromkeys(what for what, _ in faults))} did not answer{under}"
    held = [
        f"{case.subscribers[one.subscription].name}'s {one.gate}"
        for one in gate_states(case.db)
        if one.subscription in case.subscribers and one.held_ns(stall.span.begun, stall.span.ended)
    ]
    if held:
        names = ", ".join(dict.fromkeys(held))
        return f"the store did not answer, or publishes waited for room, while {names} {was(len(set(held)))} open"
    return "the store did not answer, or publishes waited for room"


def _faults_on_the_path(case: Case, span: Span) -> Sequence[tuple[str, str]]:
    """What a publish passes on its way to the acknowledgement and a fault stood at meanwhile, in words, with the
    fault's name. Whatever else a fault stands at, such as a consumer's network, holds up no publish."""
    rows = case.rows(
        f"SELECT DISTINCT name, seam FROM fault WHERE begun <= {span.ended} "
        f"AND coalesce(ended, {span.begun}) >= {span.begun} ORDER BY name, seam"
    )
    return [(stands_at(seam), name) for name, seam in rows if passes(case.claims.publish_path, seam)]
