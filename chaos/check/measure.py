"""Thresholds: latency, throughput, error budget; over the load, inside or outside fault windows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from squall.chaos.check.case import FOREVER, Case
from squall.chaos.check.expectations import QUANTILES, ErrorBudget, Latency, Throughput, Window
from squall.chaos.check.facts import Span
from squall.chaos.check.verdict import Finding, FindingState, Violation
from squall.chaos.figures import latency as latency_text
from squall.core.units import format_count, format_rate, format_seconds

Windows = Sequence[Span]
OUTSIDE = "outside faults, recovery included"
"""What is due once a fault is gone counts as outside, though it may wait behind what the fault has left over."""
SLOWEST = 20
"""How many of the slowest events of a latency that was missed are looked at."""


def fault_windows(case: Case) -> Windows:
    """When any fault was active: disjoint, in order."""
    merged: list[Span] = []
    for begun, ended in case.rows(f"SELECT begun, coalesce(ended, {FOREVER}) FROM fault ORDER BY begun"):
        if merged and begun <= merged[-1].ended:
            merged[-1] = Span(merged[-1].begun, max(merged[-1].ended, ended))
        else:
            merged.append(Span(begun, ended))
    return merged


def _during(windows: Windows, begun: str, ended: str) -> str:
    """SQL: the time from begun to ended touches a window."""
    touches = [f"({begun} < {w.ended} AND {ended} >= {w.begun})" for w in windows]
    return f"({' OR '.join(touches)})" if touches else "false"


def _chosen(window: Window, inside: str) -> str:
    return {"all": "true", "inside-faults": inside, "outside-faults": f"NOT {inside}"}[window]


def _of(case: Case, subscriber: str | None) -> str:
    """SQL condition on `subscription`; false where no subscriber has that name."""
    if subscriber is None:
        return "true"
    numbers = [str(number) for number, one in case.subscribers.items() if one.name == subscriber]
    return f"subscription IN ({', '.join(numbers)})" if numbers else "false"


def load_span(case: Case) -> Span:
    """The load, or all that was published where the run does not say."""
    if case.facts.load is not None:
        return case.facts.load
    low, high = case.rows("SELECT min(intended), max(greatest(intended, invoked, coalesce(ended, 0))) FROM publish")[0]
    return Span(low or 0, (high or 0) + 1)


def latency(case: Case, wanted: Latency | None, subscriber: str | None = None, span: Span | None = None) -> Finding:
    """From the intended time, or from when the subscriber joined if that is later, until a handler first ended well,
    over pairs of event and subscriber that were handled or owed. Handled inside a fault window: the time between
    touches it. What was never handled is infinite, and inside if its intended time is. `subscriber` None: all of them.
    `wanted` None: only reported."""
    windows = fault_windows(case)
    span = span or load_span(case)
    of, due = _of(case, subscriber), _due(case)
    pairs = f"""
        SELECT event, subscription, done, ((done - {due}) / 1e9)::DOUBLE AS seconds,
            {_during(windows, due, "done")} AS inside
        FROM ({_handled(of)}) WHERE intended >= {span.begun} AND intended < {span.ended}
        UNION ALL
        SELECT event, subscription, NULL, 'infinity'::DOUBLE, {_during(windows, "intended", "intended")}
        FROM ({_unhandled(of)}) WHERE intended >= {span.begun} AND intended < {span.ended}"""
    quantiles = list(QUANTILES.values())
    window = wanted.window if wanted else ("outside-faults" if windows else "all")
    group = "false" if window == "all" else "inside"
    found = {
        where: (values, total, endless)
        for where, values, total, endless in case.rows(
            f"SELECT {group}, quantile_disc(seconds, {quantiles}), count(*), count(*) FILTER (isinf(seconds)) "
            f"FROM ({pairs}) GROUP BY 1"
        )
    }
    figures: dict[str, float] = {}
    for where, (values, total, endless) in found.items():
        mark = (
            "_inside"
            if where and window != "inside-faults"
            else "_outside"
            if not where and window == "inside-faults"
            else ""
        )
        figures |= {f"{name}{mark}_s": value for name, value in zip(QUANTILES, values, strict=True)}
        figures |= {f"pairs{mark}": total, f"unhandled{mark}": endless}
    finding = _judge_latency(wanted, subscriber, window, figures)
    if wanted is not None and finding.state == "invalid":
        finding = _with_slowest(case, finding, wanted, figures, f"FROM ({pairs}) WHERE {_chosen(window, 'inside')}")
    return _with_gaps(case, finding, missing=any(figures.get(f"unhandled{mark}") for mark in ("", "_inside")))


def _due(case: Case) -> str:
    """SQL: from when an event could be delivered: when it was to be sent, or when its subscription began, if later."""
    joined: dict[int, int] = {}
    for one in case.intervals:
        joined[one.subscription] = min(one.join_invoked, joined.get(one.subscription, FOREVER))
    begun = load_span(case).begun
    late = [f"WHEN {number} THEN {joined_ns}" for number, joined_ns in joined.items() if joined_ns > begun]
    return (
        f"greatest(intended, least(done, CASE subscription {' '.join(late)} ELSE intended END))" if late else "intended"
    )


def _with_slowest(case: Case, finding: Finding, wanted: Latency, figures: Mapping[str, float], pairs: str) -> Finding:
    """With the slowest of the pairs that are over a limit which was missed."""
    limit = min(limit for name, limit in wanted.limits.items() if figures[f"{name}_s"] > limit)
    over = f"{pairs} AND seconds > {limit}"
    rows = case.rows(
        f"SELECT event, subscription, done {over} ORDER BY seconds DESC, event, subscription LIMIT {SLOWEST}"
    )
    names = {number: one.name for number, one in case.subscribers.items()}  # none while the run goes on
    violations = tuple(
        Violation("latency", "slow", event=event, subscription=names.get(number), time_ns=done)
        for event, number, done in rows
    )
    return replace(finding, count=case.number(f"SELECT count(*) {over}"), violations=violations)


def _with_gaps(case: Case, finding: Finding, *, missing: bool) -> Finding:
    """With records missing from the history, what seems never to have been handled may have been."""
    if finding.state != "invalid" or not missing or (case.publish_gap is None and case.attempt_gap is None):
        return finding
    return replace(finding, state="unknown", why_unknown="records are missing from the history: it may have been kept")


def _judge_latency(
    wanted: Latency | None, subscriber: str | None, window: Window, figures: dict[str, float]
) -> Finding:
    words = {"all": "", "outside-faults": f" {OUTSIDE}", "inside-faults": " inside faults"}[window]
    limits = wanted.limits if wanted else {}
    title = f"latency {' '.join(limits)}".strip() if wanted else "latency"
    if subscriber:
        title += f" of {subscriber}"
    if "pairs" not in figures:
        state: FindingState = "unknown" if wanted else "not judged"
        return Finding(
            "latency", state, f"nothing to measure{words}", figures, why_unknown=f"no event{words}", title=title
        )
    told = {name: _quantile(name, figures[f"{name}_s"]) for name in QUANTILES}
    parts = [f"{told[name]}{words} (limit {format_seconds(limit)})" for name, limit in limits.items()]
    parts = parts or [f"p50 {told['p50']} · p99 {told['p99']} until handled by all{',' if words else ''}{words}"]
    if "p99_inside_s" in figures:
        parts.append(f"{_quantile('p99', figures['p99_inside_s'])} inside")
    missed = [name for name, limit in limits.items() if figures[f"{name}_s"] > limit]
    state = "not judged" if wanted is None else "invalid" if missed else "valid"
    return Finding("latency", state, " · ".join(parts), figures, len(missed), title=title)


def _quantile(name: str, seconds: float) -> str:
    """`12.3 ms`; where what is never handled reaches into the quantile, that, and how much of it there is at least."""
    if not math.isinf(seconds):
        return latency_text(seconds)
    share = "some" if name == "max" else f"{100 * (1 - QUANTILES[name]):.3g} % or more"
    return f"infinite, as {share} were never handled"


def _handled(of: str) -> str:
    """SQL: pairs that were handled, by their first good end."""
    return f"""
        SELECT a.event, a.subscription, s.intended, a.ended AS done FROM attempt a JOIN sent s USING (event)
        ANTI JOIN (FROM (SELECT rid, row_number() OVER (PARTITION BY subscription, event ORDER BY ended, rid) AS place
            FROM again WHERE result = 'ok') WHERE place > 1) later ON later.rid = a.rid
        WHERE a.result = 'ok' AND {of}"""


def _unhandled(of: str) -> str:
    """SQL: owed pairs that never were."""
    return f"""
        SELECT u.event, u.subscription, s.intended FROM suspect u JOIN sent s USING (event)
        ANTI JOIN (FROM unfinished WHERE cancelled) c ON c.event = u.event AND c.subscription = u.subscription
        WHERE u.unhandled AND {of}"""


def throughput(case: Case, wanted: Throughput, subscriber: str | None = None) -> Finding:
    """Acknowledged publishes per second (or attempts of one subscriber that ended well), on average over the load."""
    span, windows = load_span(case), fault_windows(case)
    if subscriber is None:
        source = "SELECT ended FROM publish WHERE outcome = 'ok'"
    else:
        source = f"SELECT ended FROM attempt WHERE result = 'ok' AND {_of(case, subscriber)}"
    count = case.number(
        f"SELECT count(*) FROM ({source}) WHERE ended >= {span.begun} AND ended < {span.ended} "
        f"AND {_chosen(wanted.window, _during(windows, 'ended', 'ended'))}"
    )
    seconds = _duration_s(span, windows, wanted.window)
    title = f"throughput of {subscriber}" if subscriber else "throughput"
    if seconds <= 0:
        return Finding("throughput", "unknown", "no time to measure", why_unknown="the window is empty", title=title)
    rate = count / seconds
    state: FindingState = "valid" if rate >= wanted.min else "invalid"
    summary = f"{format_rate(round(rate))} (at least {format_rate(wanted.min)})"
    figures = {"per_s": rate, "events": count, "seconds": seconds}
    finding = Finding("throughput", state, summary, figures, int(state == "invalid"), title=title)
    return _with_gaps(case, finding, missing=True)


def _duration_s(span: Span, windows: Windows, window: Window) -> float:
    whole = span.ended - span.begun
    inside = sum(max(0, min(w.ended, span.ended) - max(w.begun, span.begun)) for w in windows)
    return {"all": whole, "inside-faults": inside, "outside-faults": whole - inside}[window] / 1e9


def error_budget(case: Case, wanted: ErrorBudget, subscriber: str | None = None) -> Finding:
    """Publishes of the load that were not acknowledged, or attempts of one subscriber that ended badly, as a share."""
    span, windows = load_span(case), fault_windows(case)
    if subscriber is None:
        source = "SELECT invoked AS begun, coalesce(ended, invoked) AS ended, outcome = 'ok' AS good FROM publish"
    else:
        source = (
            "SELECT begun, coalesce(ended, begun) AS ended, coalesce(result = 'ok', false) AS good "
            f"FROM attempt WHERE {_of(case, subscriber)}"
        )
    total, bad = case.rows(
        f"SELECT count(*), count(*) FILTER (NOT good) FROM ({source}) WHERE begun >= {span.begun} "
        f"AND begun < {span.ended} AND {_chosen(wanted.window, _during(windows, 'begun', 'ended'))}"
    )[0]
    title = f"error budget of {subscriber}" if subscriber else "error budget"
    if not total:
        return Finding("error_budget", "unknown", "nothing to measure", why_unknown="the window is empty", title=title)
    ratio = bad / total
    state: FindingState = "invalid" if ratio > wanted.max_ratio else "valid"
    summary = (
        f"{format_count(bad)} of {format_count(total)} failed ({100 * ratio:.2g} %, limit {100 * wanted.max_ratio:g} %)"
    )
    return Finding("error_budget", state, summary, {"ratio": ratio, "failed": bad, "total": total}, bad, title=title)
