"""An event's way as a graph: published, to each subscriber, each attempt, how it ended."""

from __future__ import annotations

from dataclasses import dataclass

from squall.dashboards.trace_data import LOST, WAITS, Row, Span, Waterfall

MOST = 60
"""So many ways of one event are drawn; the steps tell all."""


@dataclass(frozen=True)
class Station:
    """One attempt, or an end. `tone` is its colour, `says` what became of it."""

    name: str
    tone: str
    says: str


@dataclass(frozen=True)
class Way:
    """What one subscriber did with the event."""

    subscriber: str
    stations: tuple[Station, ...]


def ways(found: Waterfall, event: int) -> tuple[Way, ...]:
    """The ways of the event, in the order in which its subscribers first had it."""
    told = {span.row: span for span in found.spans if span.tone not in (*WAITS, "settle")}
    by_subscriber: dict[str, list[Station]] = {}
    for number, row in enumerate(found.rows):
        if row.event == event and row.subscriber is not None:
            span = told[number]
            by_subscriber.setdefault(row.subscriber, []).append(_station(row, span))
    return tuple(Way(name, tuple(stations)) for name, stations in list(by_subscriber.items())[:MOST])


def _station(row: Row, span: Span) -> Station:
    """Its says is the span's, without what its name tells and without how long it took."""
    name = row.label.rpartition(" · ")[2]
    if span.tone == "end":
        return Station(name, span.tone, span.says.partition(", ")[2])
    if span.tone == LOST:
        return Station(name, "bad", span.says.partition(", ")[2].partition(": ")[0])
    says = span.says.removeprefix(f"{name} ")
    return Station(name, span.tone, says.rpartition(": ")[0] or says)
