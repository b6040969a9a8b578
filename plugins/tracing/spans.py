"""Spans, made of records: OpenTelemetry's conventions for messaging, and what squall adds to them.

https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ . The names are those of
opentelemetry-semantic-conventions, which is still unstable; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec

from squall.core.delivery import Ack, Nak, Term
from squall.core.errors import text_of
from squall.core.event import Event
from squall.plugins.tracing.context import TRACEPARENT, TraceContext, read, span_of, trace_of
from squall.plugins.tracing.records import Delivered, Hit, LetGo, Published, Receiver, Record, Replayed

Kind = Literal["internal", "client", "producer", "consumer"]
Value = str | int | float | bool
MAX_MESSAGE = 500


class Link(NamedTuple):
    """To another span: `what` says how this one follows from it, `publish` or `attempt`."""

    trace: str
    span: str
    what: str


class Note(NamedTuple):
    """An event in OpenTelemetry's sense: something at a monotonic time within a span."""

    at_ns: int
    name: str
    attributes: dict[str, Value]


class Span(msgspec.Struct, gc=False):
    """One span. Times are monotonic ns, as in a run's history; wall_ns is the begin as wall time. seq 0: not stored.
    `why` is it kept: `sampled`, or the rule; `partial`: what came before in its trace was not noted."""

    trace: str
    span: str
    parent: str | None
    name: str
    kind: Kind
    operation: str
    topic: str
    subscription: str | None
    event: str | None
    seq: int
    attempt: int
    begun_ns: int
    ended_ns: int
    wall_ns: int
    waited_ns: int | None
    error: str | None
    message: str
    why: str
    partial: bool
    attributes: dict[str, Value]
    links: Sequence[Link] = ()
    notes: Sequence[Note] = ()


class SpanMaker:
    """Makes spans of records, in any thread. `scrub` hides known secrets in what errors say."""

    def __init__(self, new_span: Callable[[], str], scrub: Callable[[str], str]) -> None:
        self._new_span, self._scrub = new_span, scrub

    def make(self, records: Sequence[Record], offset_ns: int) -> list[Span]:
        """The spans of all records. offset_ns: what wall time is ahead of monotonic time."""
        found: list[Span] = []
        for record in records:
            if isinstance(record, Delivered):
                found += self._delivered(record, offset_ns)
            elif isinstance(record, Published):
                found += self._published(record, offset_ns)
            elif isinstance(record, LetGo):
                found.append(self._let_go(record, offset_ns))
            else:
                found.append(self._replayed(record, offset_ns))
        return found

    def _published(self, record: Published, offset_ns: int) -> Iterator[Span]:
        event, (trace, span, _) = record.event, record.context
        begun_ns = event.published_ns
        reached = record.begun_ns > 0
        if not reached:  # its id may be published again, and its span be taken then
            span = self._new_span()
        error, message = self._error(record.error)
        attributes = _about(event, "publish", "send")
        if record.batch > 1:
            attributes["messaging.batch.message_count"] = record.batch
        if not reached:
            attributes["squall.stored"] = False
        ended_ns = record.ended_ns or max((hit.at_ns for hit in record.hits or ()), default=begun_ns)
        notes = _hits(record.hits or (), begun_ns, ended_ns)
        yield Span(
            trace, span, record.parent, f"publish {event.type}", "producer", "publish", event.type, None, event.id,
            event.seq, 0, begun_ns, ended_ns, begun_ns + offset_ns, None, error, message, "sampled", False, attributes,
            (), notes,
        )  # fmt: skip
        if reached:
            yield Span(
                trace, self._new_span(), span, f"store {event.type}", "internal", "store", event.type, None, event.id,
                event.seq, 0, record.begun_ns, record.ended_ns, record.begun_ns + offset_ns, None, error, message,
                "sampled", False, _about(event, "store", None),
            )  # fmt: skip

    def _delivered(self, record: Delivered, offset_ns: int) -> Iterator[Span]:
        attempt, receiver = record.attempt, record.receiver
        event, sampled = attempt.event, record.why is None
        origin = _origin(event)
        error, message = self._error(attempt.error)
        attributes = _about(event, "process", "process", receiver)
        attributes["squall.outcome"] = attempt.outcome
        if record.replayed:
            attributes["squall.replayed"] = True
        if not record.settled_ns:
            attributes["squall.settled"] = False
        links = [Link(origin.trace, origin.span, "publish")]
        if record.before is not None:
            links.append(Link(origin.trace, record.before, "attempt"))
        notes = list(_hits(record.hits, attempt.begun_ns, attempt.ended_ns))
        if error is not None:
            about: dict[str, Value] = {"exception.type": error, "exception.message": message}
            notes.append(Note(attempt.ended_ns, "exception", about))
        why = record.why or "sampled"
        first = attempt.attempt == 1 and event.published_ns and not record.replayed
        yield Span(
            origin.trace, record.span, origin.span if sampled else None, f"process {event.type}", "consumer",
            "process", event.type, receiver.label, event.id, event.seq, attempt.attempt, attempt.begun_ns,
            attempt.ended_ns, attempt.begun_ns + offset_ns, attempt.begun_ns - event.published_ns if first else None,
            error, message, why, not sampled, attributes, links, notes,
        )  # fmt: skip
        if record.settled_ns:
            yield self._settled(record, origin, why, offset_ns)

    def _settled(self, record: Delivered, origin: TraceContext, why: str, offset_ns: int) -> Span:
        attempt, receiver = record.attempt, record.receiver
        event, decision = attempt.event, attempt.decision
        operation = "ack" if isinstance(decision, Ack) else "nak" if isinstance(decision, Nak) else "dead_letter"
        attributes = _about(event, operation, "settle", receiver)
        error, message = None, ""
        if isinstance(decision, Nak):
            attributes["squall.delay_s"] = decision.delay_s
        elif isinstance(decision, Term):
            attributes["squall.reason"] = decision.reason
            error, message = decision.reason, self._scrub(decision.text)[:MAX_MESSAGE]
        notes = [Note(at_ns, "refused", {}) for at_ns in record.refused_ns or ()]
        return Span(
            origin.trace, self._new_span(), record.span, f"{operation} {event.type}", "client", operation, event.type,
            receiver.label, event.id, event.seq, attempt.attempt, record.invoked_ns, record.settled_ns,
            record.invoked_ns + offset_ns, None, error, message, why, record.why is not None, attributes, (), notes,
        )  # fmt: skip

    def _let_go(self, record: LetGo, offset_ns: int) -> Span:
        event, receiver, at_ns = record.event, record.receiver, record.at_ns
        origin = _origin(event)
        attributes = _about(event, "drop", "settle", receiver)
        attributes["squall.reason"] = record.why
        return Span(
            origin.trace, record.span, origin.span, f"drop {event.type}", "client", "drop", event.type,
            receiver and receiver.label, event.id, event.seq, 0, at_ns, at_ns, at_ns + offset_ns, None, record.why, "",
            "sampled", False, attributes, (Link(origin.trace, origin.span, "publish"),),
        )  # fmt: skip

    def _replayed(self, record: Replayed, offset_ns: int) -> Span:
        error, message = self._error(record.error)
        topic = record.query.pattern or ">"
        attributes: dict[str, Value] = {
            "messaging.system": "squall",
            "messaging.operation.name": "replay",
            "messaging.operation.type": "receive",
            "messaging.destination.name": topic,
            "messaging.batch.message_count": record.count,
        }
        return Span(
            record.context.trace, record.context.span, record.parent, f"replay {topic}", "client", "replay", topic,
            None, None, 0, 0, record.begun_ns, record.ended_ns, record.begun_ns + offset_ns, None, error, message,
            "sampled", False, attributes, [Link(link.trace, link.span, "publish") for link in record.links],
        )  # fmt: skip

    def _error(self, error: BaseException | None) -> tuple[str | None, str]:
        """Its type's name, and what it says without secrets."""
        if error is None:
            return None, ""
        return type(error).__qualname__, self._scrub(text_of(error))[:MAX_MESSAGE]


def _origin(event: Event) -> TraceContext:
    """The publish of the event: as its metadata says, else as its id gives."""
    found = read(event.metadata) if TRACEPARENT in event.metadata else None
    return found or TraceContext(trace_of(event.id), span_of(event.id))


def _about(event: Event, operation: str, kind: str | None, receiver: Receiver | None = None) -> dict[str, Value]:
    """OpenTelemetry's attributes of a message and of what is done with it."""
    attributes: dict[str, Value] = {
        "messaging.system": "squall",
        "messaging.operation.name": operation,
        "messaging.destination.name": event.type,
        "messaging.message.id": event.id,
        "messaging.message.conversation_id": event.correlation_id,
        "messaging.message.body.size": len(event.payload),
        "squall.priority": event.priority.name,
        "squall.seq": event.seq,
    }
    if kind is not None:
        attributes["messaging.operation.type"] = kind
    if event.key is not None:
        attributes["squall.key"] = event.key
    if receiver is None:
        attributes["messaging.client.id"] = event.source
    else:
        attributes["messaging.client.id"] = receiver.subscriber
        attributes["messaging.consumer.group.name"] = receiver.label
        attributes["messaging.destination.template"] = receiver.pattern
    return attributes


def _hits(hits: Sequence[Hit], begun_ns: int, ended_ns: int) -> Sequence[Note]:
    """Faults, as far as they acted within the span."""
    return [
        Note(hit.at_ns, "fault", {"squall.fault": hit.fault, "squall.seam": hit.seam})
        for hit in hits
        if begun_ns <= hit.at_ns <= ended_ns
    ]
