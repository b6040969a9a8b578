"""Spans as a waterfall: each trace a tree, in which what handlers published in turn stands under them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from squall.chaos.figures import latency
from squall.dashboards.markup import plain
from squall.dashboards.span_reading import MAX_SPANS, Traced
from squall.dashboards.trace_data import Row, Span, Waterfall

OWN_ROW = ("publish", "process", "drop", "redrive", "replay")
"""What has a row. All else is a part of what stands there: the store's tries, settlements."""
DEEPEST = 8
"""So many levels are shown as such: a label has little room."""
DONE = {
    "publish": ("published", "publish failed"),
    "store": ("stored", "the store failed"),
    "process": ("handled", "failed"),
    "ack": ("settled", "not settled"),
    "nak": ("given back", "not given back"),
    "dead_letter": ("given up", "given up"),
    "drop": ("let go", "let go"),
    "redrive": ("redriven", "not redriven"),
    "replay": ("history read", "history not read"),
}
TONES = {"store": "settle", "process": "ok", "ack": "settle", "nak": "settle", "dead_letter": "end", "drop": "end"}
LONG = 200


@dataclass
class Node:
    """A span with a row: how deep it is in its trace, and its parts."""

    depth: int
    one: Traced
    parts: list[Traced] = field(default_factory=list)


@dataclass(frozen=True)
class Place:
    """Where a span is drawn, ms."""

    row: int
    begun: float
    ended: float


@dataclass(frozen=True)
class Line:
    """A span in words: how deep it is, when it was, what it is and what is told of it."""

    depth: int
    when: str
    name: str
    says: str
    failed: bool


def tree(spans: Sequence[Traced]) -> list[Node]:
    """The spans of one trace, in the order of a tree that is read from the top. What is in a span that is not there
    begins a tree of its own, and no circle is walked twice."""
    there = {one.span for one in spans if one.operation in OWN_ROW}
    within: dict[str | None, list[Traced]] = {}
    for one in spans:
        parent = one.parent if one.parent in there and one.parent != one.span else None
        within.setdefault(parent, []).append(one)
    found: list[Node] = []
    waiting = [(0, one) for one in reversed(within.pop(None, []))]
    while waiting:
        depth, one = waiting.pop()
        inside = within.pop(one.span, []) if one.operation in OWN_ROW else []
        found.append(Node(depth, one, [part for part in inside if part.operation not in OWN_ROW]))
        waiting += [(depth + 1, part) for part in reversed(inside) if part.operation in OWN_ROW]
    return found + [Node(0, one) for rest in within.values() for one in rest]


def waterfall(
    spans: Sequence[Traced], traces: Sequence[str], origin_ns: int, moment: Callable[[int], str]
) -> Waterfall:
    """The traces under each other, in their order, ms from the origin. `moment` tells a time as people read it."""
    found = Waterfall(cut=len(spans) >= MAX_SPANS)
    places: dict[tuple[str, str], Place] = {}
    drawn: list[tuple[Traced, Place]] = []
    by_trace: dict[str, list[Traced]] = {}
    for one in spans:
        by_trace.setdefault(one.trace, []).append(one)
    for trace in traces:
        nodes = tree(by_trace.get(trace, ()))
        if nodes:
            head = nodes[0].one
            found.rows.append(Row(f"{plain(head.topic, 60)} {moment(head.at_ns)}", trace, head=True))
        for node in nodes:
            one, row = node.one, len(found.rows)
            found.rows.append(Row("  " * min(node.depth, DEEPEST) + name(one), trace, subscriber=one.receiver))
            place = Place(row, _ms(one.at_ns, origin_ns), _ms(one.until_ns, origin_ns))
            places.setdefault((trace, one.span), place)
            drawn.append((one, place))
            for part in (one, *node.parts):
                found.spans.extend(_bars(part, row, origin_ns))
    for one, place in drawn:
        _connect(found, one, place, places)
    times = [time for bar in found.spans for time in (bar.begun, bar.ended)]
    if times:
        found.begun, found.ended = min(times), max(*times, min(times) + 0.001)
    return found


def lines(spans: Sequence[Traced], moment: Callable[[int], str]) -> Iterator[Line]:
    """One trace, told span by span."""
    for node in tree(spans):
        for part in (node.one, *node.parts):
            depth = min(node.depth + (part is not node.one), DEEPEST)
            failed = part.error is not None
            yield Line(depth, moment(part.at_ns), name(part), says(part), failed)


def name(one: Traced) -> str:
    """`publish order.created`, `billing · attempt 2`, `billing · dead letter`."""
    if one.operation in ("publish", "store", "replay"):
        return f"{one.operation} {plain(one.topic, 60)}"
    what = f"attempt {one.attempt}" if one.operation == "process" else one.operation.replace("_", " ")
    return f"{plain(one.receiver or one.topic, 40)} · {plain(what, 40)}"


def says(one: Traced) -> str:
    """What became of it, how long it took, and what else is known."""
    done = DONE.get(one.operation, (one.operation, one.operation))[one.error is not None]
    took = f" in {latency((one.until_ns - one.at_ns) / 1e9)}" if one.until_ns > one.at_ns else ""
    told = [f"{done}{took}"]
    if one.error is not None:
        told.append(f"{one.error}: {one.message}" if one.message else one.error)
    if one.operation == "publish" and one.source:
        told.append(f"by {one.source}")
    told += [text for text in _told(one.attributes) if text not in ("outcome error", f"reason {one.error}")]
    told += [text for note in one.notes if (text := _note(note))]
    if one.why not in ("", "sampled"):
        told.append(f"kept because {one.why.replace('_', ' ')}")
    if one.partial:
        told.append("what came before was not noted")
    return plain(" · ".join(plain(text, LONG) for text in told), 4 * LONG)


def _told(attributes: str | None) -> list[str]:
    """`{"squall.redriven": true, "squall.delay_s": 0.5}` as `redriven`, `delay 500 ms`."""
    try:
        found = json.loads(attributes or "{}")
    except ValueError:
        return [attributes or ""]
    if not isinstance(found, Mapping):
        return [str(found)]
    return [_worded(key, value) for key, value in found.items()]


def _worded(key: str, value: object) -> str:
    word = key.rpartition(".")[2].replace("_", " ")
    if isinstance(value, bool):
        return word if value else f"not {word}"
    if isinstance(value, int | float) and word.endswith(" s"):
        return f"{word.removesuffix(' s')} {latency(value)}"
    return f"{word} {value:.3g}" if isinstance(value, float) else f"{word} {value}"


def _note(note: Mapping[str, object]) -> str:
    """What happened within a span; the error that ended it is told elsewhere."""
    if note["name"] == "exception":
        return ""
    told = _told(str(note["attributes"] or "{}"))
    return ", ".join(told) if note["name"] == "fault" else " ".join([str(note["name"]), *told])


def _bars(one: Traced, row: int, origin_ns: int) -> Iterator[Span]:
    begun, ended = _ms(one.at_ns, origin_ns), _ms(one.until_ns, origin_ns)
    tone = TONES.get(one.operation, "publish")
    if tone == "end":
        yield Span(row, ended, ended, tone, says(one))
    else:
        yield Span(row, begun, ended, "bad" if one.error is not None else tone, says(one))
    for note in one.notes:
        if text := _note(note):
            at = _ms(one.at_ns + int(str(note["time"])) - one.begun_ns, origin_ns)
            yield Span(row, at, at, "odd", plain(text, LONG))


def _connect(found: Waterfall, one: Traced, place: Place, places: Mapping[tuple[str, str], Place]) -> None:
    """Draw what it follows from: of an attempt the redrive, the attempt before or else the publish; of a replay all
    that it read; of what a handler published the handler."""
    linked = [at for link in one.links if (at := places.get((link["trace"], link["span"]))) and at.row != place.row]
    if one.operation == "publish":
        inside = places.get((one.trace, one.parent or ""))
        if inside is not None and inside.row != place.row:
            found.links.append((inside.row, place.begun, place.row, place.begun))
        return
    came = linked if one.operation == "replay" else linked[-1:]
    found.links += [(at.row, at.ended, place.row, place.begun) for at in came]
    if one.operation != "process":
        return
    since = came[0].ended if came else place.begun - (one.waited_ns or 0) / 1e6
    if since < place.begun:
        waited = f"waited to be delivered: {latency((place.begun - since) / 1e3)}"
        found.spans.append(Span(place.row, since, place.begun, "wait", waited))


def _ms(time_ns: int, origin_ns: int) -> float:
    return round((time_ns - origin_ns) / 1e6, 6)
