"""An event's whole path, in the order of time: what was done to it, and what acted around it meanwhile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from squall.chaos.check.evidence import HOW, Evidence, Op, Try
from squall.core.units import format_count

Kind = Literal["publish", "attempt", "settlement", "terminal", "fault", "gate", "control", "process", "lost"]

GATES = {"open": "opens: it holds all deliveries back", "half_open": "is half-open: a trial", "closed": "closes"}
SETTLED = {"ack": "settled", "nak": "given back", "term": "given up"}


@dataclass(frozen=True)
class Step:
    """One moment of a path. `faults` names those that were active then; `subscriber` is None for what concerns all."""

    time_ns: int
    kind: Kind
    text: str
    subscriber: str | None = None
    faults: tuple[str, ...] = ()


def path(
    evidence: Evidence, event: int, subscription: int | None = None, *, owed: Sequence[str] = ()
) -> tuple[Step, ...]:
    """Every step of the event, at one subscription or at all, in the order of time. `owed`: the subscribers to whom it
    never came, though it was acknowledged: then the path goes on until the process ended that kept it, if it did."""
    steps = [
        *_publishes(evidence, event),
        *_attempts(evidence, event, subscription),
        *_ends(evidence, event, subscription),
    ]
    if steps:
        times = [step.time_ns for step in steps]
        ended = max([*times, *(_gone(evidence, event) if owed else ())])
        steps += _around(evidence, event, subscription, min(times), ended)
        active = _active(evidence, ended)
        steps += [Step(ended, "lost", f"owed to {name}, never delivered", name, active) for name in owed]
    return tuple(sorted(steps, key=lambda step: step.time_ns))


def _active(evidence: Evidence, time_ns: int) -> tuple[str, ...]:
    return tuple(window.name for window in evidence.windows.values() if window.active(time_ns, time_ns))


def _gone(evidence: Evidence, event: int) -> Iterator[int]:
    """When the process ended that kept the event."""
    for op in evidence.ops.get(event, []):
        keeper = evidence.keeper_ended(op.ended) if op.outcome == "ok" and op.ended is not None else None
        if keeper is not None and keeper.exited is not None:
            yield keeper.exited


def _publishes(evidence: Evidence, event: int) -> Iterator[Step]:
    for op in evidence.ops.get(event, []):
        late_ns = op.invoked - op.intended
        waited = f", {late_ns / 1e6:,.0f} ms after it was due" if late_ns > 1_000_000 else ""
        yield Step(op.invoked, "publish", f"published{waited}", faults=_active(evidence, op.invoked))
        if op.ended is not None:
            yield Step(op.ended, "publish", outcome(op), faults=_active(evidence, op.ended))


def outcome(op: Op) -> str:
    """What a publish came to: `acknowledged (seq 58,201)`."""
    if op.outcome == "ok":
        seq = "" if op.seq is None else f" (seq {format_count(op.seq)})"
        return f"acknowledged{seq}" + (", as a duplicate" if op.duplicate else "")
    return "refused" if op.outcome == "fail" else "outcome unknown"


def _attempts(evidence: Evidence, event: int, subscription: int | None) -> Iterator[Step]:
    before: dict[int, Try] = {}
    for number in evidence.of(event, subscription):
        name = evidence.name(number.subscription)
        again = " again" if number.subscription in before else ""
        before[number.subscription] = number
        text = f"delivered{again} to {name}, attempt {number.attempt}"
        yield Step(number.begun, "attempt", text, name, _active(evidence, number.begun))
        fault = evidence.hit_during(number) if number.result != "ok" else None
        by = f" (fault {fault.name})" if fault else ""
        if number.ended is not None:
            text = f"handler {HOW[number.result]}{by}"
            yield Step(number.ended, "attempt", text, name, _active(evidence, number.ended))
        else:
            yield Step(number.begun, "attempt", f"handler {HOW[number.result]}{by}", name)
        if number.settle_invoked is not None and number.settlement is not None:
            text = SETTLED[number.settlement] + (" by the handler itself" if number.by_handler else "")
            if number.settle_ok is None:
                text += ", never confirmed"
            elif number.settle_answer == "refused":
                text += ", refused"
            yield Step(number.settle_invoked, "settlement", text, name, _active(evidence, number.settle_invoked))


def _ends(evidence: Evidence, event: int, subscription: int | None) -> Iterator[Step]:
    for end in evidence.ends.get(event, []):
        if subscription is None or end.subscription == subscription:
            name = evidence.name(end.subscription)
            text = f"listed as {end.state.replace('_', '-')} for {name} ({end.source})"
            yield Step(end.time, "terminal", text, name, _active(evidence, end.time))


def _around(evidence: Evidence, event: int, subscription: int | None, begun: int, ended: int) -> Iterator[Step]:
    yield from _faults(evidence, event, subscription, begun, ended)
    yield from _gates(evidence, event, subscription, begun, ended)
    for control in evidence.controls:
        mine = control.event in (None, event) and (subscription is None or control.subscription in (None, subscription))
        if mine and begun <= control.begun <= ended:
            whom = "all" if control.subscription is None else evidence.name(control.subscription)
            yield Step(control.begun, "control", f"{control.kind} of {whom}")
    for process in evidence.processes:
        if begun < process.started <= ended:
            yield Step(process.started, "process", f"process {process.name} started")
        if process.exited is not None and begun < process.exited <= ended:
            yield Step(process.exited, "process", f"process {process.name} exited")


def _faults(evidence: Evidence, event: int, subscription: int | None, begun: int, ended: int) -> Iterator[Step]:
    for window in evidence.windows.values():
        if window.active(begun, ended):
            what = f"fault {window.name} ({window.kind} on {window.seam})"
            yield Step(window.begun, "fault", f"{what} begins")
            if window.ended is not None and window.ended <= ended:
                yield Step(window.ended, "fault", f"{what} ends")
    for hit in evidence.hits:
        if hit.event == event and (subscription is None or hit.subscription in (None, subscription)):
            window = evidence.windows[hit.fault]
            yield Step(hit.time, "fault", f"fault {window.name} ({window.kind}) acts on it")


def _gates(evidence: Evidence, event: int, subscription: int | None, begun: int, ended: int) -> Iterator[Step]:
    """What the gates of whoever had the event did meanwhile, and which held already."""
    mine = {subscription} if subscription is not None else {t.subscription for t in evidence.of(event, None)}
    for one in evidence.gates:
        if one.subscription in mine and (begun < one.begun <= ended or one.held_ns(begun, ended)):
            name = evidence.name(one.subscription)
            text = f"{one.gate} of {name} {GATES.get(one.state, f'is {one.state}')}"
            yield Step(one.begun, "gate", text, name)


def lines(evidence: Evidence, event: int, subscription: int | None) -> tuple[str, ...]:
    """The path in a few lines for people: one for the publishes, one for each attempt, one for each end."""
    ops = evidence.ops.get(event, [])
    head = f"event {event}"
    if ops:
        key = f"  key {ops[0].key}" if ops[0].key else ""
        calls = "; ".join(_call(evidence, op) for op in ops)
        head = f"{ops[0].topic} {event}{key}  {calls}"
    found = [head] if ops else [f"{head}  never published"]
    found += [_attempt_line(evidence, one) for one in evidence.of(event, subscription)]
    found += [f"{step.text}, {evidence.at(step.time_ns)}" for step in _ends(evidence, event, subscription)]
    return tuple(found)


def _call(evidence: Evidence, op: Op) -> str:
    ended = "never returned" if op.ended is None else f"{outcome(op)} {evidence.at(op.ended)}"
    return f"published {evidence.at(op.invoked)}, {ended}"


def _attempt_line(evidence: Evidence, one: Try) -> str:
    begun = f"delivered to {evidence.name(one.subscription)}, attempt {one.attempt}, {evidence.at(one.begun)}"
    fault = evidence.hit_during(one) if one.result != "ok" else None
    by = f" (fault {fault.name})" if fault else ""
    text = f"handler {HOW[one.result]}{by}"
    done = (one.ended, 1, f"{text} {evidence.at(one.ended)}") if one.ended is not None else (1 << 62, 1, text)
    moments: list[tuple[int, int, str]] = [(one.begun, 0, begun), done]
    if one.settle_invoked is not None and one.settlement is not None:
        answer = ", refused" if one.settle_answer == "refused" else "" if one.settle_ok is not None else ", unconfirmed"
        what = f"{SETTLED[one.settlement]} {evidence.at(one.settle_invoked)}{answer}"
        moments.append((one.settle_invoked, 2, what))
    return " · ".join(text for _, _, text in sorted(moments))
